"""The Keras original as the exporters take it apart.

Importing this module imports Keras and TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from medkit.errors import ExportError
from medkit.models.card import ModelCard
from medkit.models.runtimes.keras import load_keras, read_card
from medkit.tasks import TOML_NAME
from medkit.wording import counted
from medkit_exporters.quantize.network import activation_of, copy_network, ending_of, flat


@dataclass(frozen=True)
class Source:
    """A Keras original, opened for conversion.

    Attributes
    ----------
    path
        The ``.keras`` file; ``None`` for a network in memory.
    card
        Card of the original.
    model
        The model: uint8 pixels (n, height, width, channels) to float32
        probabilities, (n, 1) from a sigmoid or (n, classes) from a softmax; of
        a multi-label task (n, labels) from sigmoids.
    """

    path: Path | None
    card: ModelCard
    model: Any

    @property
    def activation(self) -> str:
        """The name of the last layer's activation, ``sigmoid`` or ``softmax``."""
        return activation_of(self._last)

    def check_ending(self) -> None:
        """Raise :class:`ExportError` unless the network ends in probabilities of its labels."""
        _ = self._last

    def check_kind(self) -> None:
        """Raise :class:`ExportError` unless the last units decide labels as the card says."""
        last, labels = self._last, len(self.card.labels)
        activation = activation_of(last)
        if self.card.multi_label:
            fits = (activation, last.units) == ("sigmoid", labels)
        else:
            fits = activation == "softmax" or last.units == 1
        if not fits:
            kind = "a multi-label task" if self.card.multi_label else "one label an image"
            raise ExportError(
                f"{self._where} ends in {counted(last.units, activation + ' unit')}, which do not "
                f"decide {labels} labels of {kind}; correct multi_label in its {TOML_NAME}"
            )

    @property
    def _last(self) -> Any:
        return ending_of(flat(self.model), self._where)

    @property
    def _where(self) -> str:
        return "the network" if self.path is None else str(self.path)

    def function(self, *, float_pixels: bool, logits: bool) -> Any:
        """Return the model as a TensorFlow function with a free batch size.

        Parameters
        ----------
        float_pixels
            Take pixels as float32, still 0..255, instead of uint8: the
            quantisers calibrate and then replace a floating-point input.
        logits
            End before the last activation, which is then not quantised.

        Returns
        -------
        tensorflow.types.experimental.PolymorphicFunction
            The function, with one input ``pixels``.
        """
        model = _with_float_input(self.model) if float_pixels else flat(self.model)
        if logits:
            model = _without_activation(model)
        dtype = tf.float32 if float_pixels else tf.uint8
        shape = [None, *self.model.input_shape[1:]]

        @tf.function(input_signature=[tf.TensorSpec(shape, dtype, name="pixels")])  # type: ignore[untyped-decorator]
        def infer(pixels: Any) -> Any:
            return model(pixels, training=False)

        return infer


def open_source(path: Path) -> Source:
    """Open a Keras original for conversion.

    Raises
    ------
    ModelFileError
        If the file is no original of this version of medkit.
    ExportError
        If the network does not end in a dense sigmoid or softmax layer that
        fits its card.
    """
    card = ModelCard.from_json(read_card(path), path)
    source = Source(path, card, load_keras(path))
    source.check_kind()
    return source


def _with_float_input(model: Any) -> Any:
    """Copy a model so that it takes its pixels as float32."""
    pixels = keras.Input(model.input_shape[1:], dtype="float32", name="pixels")
    return copy_network(model, input_tensors=pixels)


def _without_activation(model: Any) -> Any:
    model = flat(model)
    last = ending_of(model, "the network")
    logits = keras.layers.Dense(last.units, use_bias=last.use_bias, name="logits")
    ending = keras.Model(model.input, logits(last.input))
    logits.set_weights(last.get_weights())
    return ending
