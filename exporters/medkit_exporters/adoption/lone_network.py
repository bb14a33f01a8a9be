"""A network that Keras cannot load again without more than its file: it becomes an export at once.

No code is stored, so no file of the bundle needs any.
Importing this module imports TensorFlow.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from medkit.errors import ExportError
from medkit.models.card import ModelCard
from medkit.models.formats import export_name
from medkit.models.runtimes.base import one_line
from medkit_exporters.adoption.base import LOGITS, SOFTMAX, ModelFacts
from medkit_exporters.adoption.pixels import PixelRule
from medkit_exporters.formats.registry import get_exporter
from medkit_exporters.formats.tflite import convert_function

_BATCH = 32


class LoneNetwork:
    """A network in memory that is written as a TFLite file of single precision.

    Parameters
    ----------
    path
        The file that it came from.
    facts
        What it tells.
    network
        Takes float32 values (n, height, width, channels) and ``training``, and
        gives (n, outputs).
    """

    def __init__(self, path: Path, facts: ModelFacts, network: Any) -> None:
        self.path, self.facts, self._network = path, facts, network
        shape = [None, facts.height, facts.width, facts.channels]
        self._compiled = tf.function(
            lambda values: tf.cast(network(values, training=False), tf.float32),
            input_signature=[tf.TensorSpec(shape, tf.float32)],
        )

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the network gives, float32 of shape (n, outputs)."""
        starts = range(0, len(values), _BATCH)
        return np.concatenate(
            [self._compiled(values[start : start + _BATCH]).numpy() for start in starts]
        )

    def write(self, folder: Path, card: ModelCard, pixels: PixelRule, ending: str) -> Path:
        """Write the network as an export, with the normalisation in front."""
        multiply, add = (np.array(part, np.float32) for part in (pixels.multiply, pixels.add))

        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[tf.TensorSpec([None, *card.contract.shape], tf.uint8, name="pixels")]
        )
        def infer(images: Any) -> Any:
            values = tf.cast(images, tf.float32)
            if pixels.bgr:
                values = tf.reverse(values, [-1])
            given = tf.cast(self._network(values * multiply + add, training=False), tf.float32)
            if self.facts.ending != LOGITS:
                return given
            return tf.nn.softmax(given) if ending == SOFTMAX else tf.sigmoid(given)

        try:
            content = convert_function(infer)
        except Exception as error:
            # The converter raises classes that share no other base.
            raise ExportError(
                f"{self.path} cannot be converted to TFLite, and Keras cannot store it without "
                f"code: {one_line(error)[:300]}"
            ) from error
        card = replace(card, precision="fp32")
        content, _ = get_exporter("tflite").load().finalise(content, card)
        path = folder / export_name("tflite", "fp32")
        path.write_bytes(content)
        return path
