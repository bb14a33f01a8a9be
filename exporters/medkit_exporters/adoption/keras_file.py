"""Keras models that were trained elsewhere: archives and legacy HDF5 files.

Importing this module imports Keras and TensorFlow.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from medkit.errors import ModelFileError
from medkit.models.bundle import KERAS_NAME
from medkit.models.card import ModelCard
from medkit.models.formats import CARD_NAME
from medkit.models.runtimes.base import one_line
from medkit.models.runtimes.keras_layers import foreign_objects, in_todays_form
from medkit.training.archive import save_archive
from medkit_exporters.adoption.base import LOGITS, ModelFacts
from medkit_exporters.adoption.keras_facts import facts_of
from medkit_exporters.adoption.lone_network import LoneNetwork
from medkit_exporters.adoption.opening import Asked
from medkit_exporters.adoption.pixels import PixelRule
from medkit_exporters.adoption.trusted_code import classes_of

_BATCH = 32

_MEMBERS = {"config.json", f"{CARD_NAME}.json", "metadata.json", "model.weights.h5"}

WAY = (
    "accepted: networks of Keras' own layers; trust the code of another layer with "
    "--trust-code FILE.py"
)
"""What to do about a layer that is not Keras' own."""


@dataclass
class KerasNetwork:
    """A Keras network in memory; see :class:`~medkit_exporters.adoption.base.OpenedModel`."""

    path: Path
    facts: ModelFacts
    network: Any
    _compiled: Any = field(default=None, init=False, repr=False)

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the network gives, float32 of shape (n, outputs)."""
        if self._compiled is None:
            shape = [None, self.facts.height, self.facts.width, self.facts.channels]
            signature = [tf.TensorSpec(shape, tf.float32)]
            self._compiled = tf.function(
                lambda images: tf.cast(self.network(images, training=False), tf.float32),
                input_signature=signature,
            )
        parts = [
            self._compiled(values[start : start + _BATCH]).numpy()
            for start in range(0, len(values), _BATCH)
        ]
        return np.concatenate(parts)

    def write(self, folder: Path, card: ModelCard, pixels: PixelRule, ending: str) -> Path:
        """Write the network as an original, with the normalisation in front."""
        path = folder / KERAS_NAME
        save_archive(self.wrapped(card, pixels, ending), card, path)
        return path

    def wrapped(self, card: ModelCard, pixels: PixelRule, ending: str) -> Any:
        """Return the network with the normalisation in front, and probabilities at its end.

        Parameters
        ----------
        card
            Gives the shape of the input.
        pixels
            What is computed from bytes.
        ending
            ``softmax`` or ``sigmoid``: what logits get.
        """
        layers = keras.layers
        taken = keras.Input(card.contract.shape, dtype="uint8", name="medkit_pixels")
        # Red first, as the pixels come.
        order = -1 if pixels.bgr else 1
        multiply, add = (_as_few(part[::order]) for part in (pixels.multiply, pixels.add))
        values = layers.Rescaling(multiply, add, name="medkit_normalise")(taken)
        if pixels.bgr:
            # A convolution takes the normalisation into its sums, and computes in 8 bits; no
            # other plain layer swaps channels.
            swap = layers.Conv2D(3, 1, use_bias=False, trainable=False, name="medkit_blue_first")
            values = swap(values)
            swap.set_weights([np.eye(3, dtype=np.float32)[::-1].reshape(1, 1, 3, 3)])
        given = self.network(values)
        if self.facts.ending == LOGITS:
            given = layers.Activation(ending, dtype="float32", name="medkit_probabilities")(given)
        return keras.Model(taken, given, name=card.task.replace("-", "_"))


def _as_few(numbers: tuple[float, ...]) -> float | list[float]:
    """Return one number for all channels, or one for each."""
    return numbers[0] if len(set(numbers)) == 1 else list(numbers)


def open_archive(path: Path, asked: Asked) -> KerasNetwork | LoneNetwork:
    """Open a ``.keras`` archive, of this version of Keras or as far as it can an earlier one.

    Raises
    ------
    ModelFileError
        If it is damaged, holds layers that are not Keras' own, or is no classifier.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            strange = sorted(set(names) - _MEMBERS)
            if strange or "config.json" not in names:
                raise ValueError(f"it holds {strange[0]}" if strange else "it has no config.json")
            damaged = archive.testzip()
            config = json.loads(archive.read("config.json")) if damaged is None else None
    except Exception as error:
        # A damaged archive surfaces as errors of zipfile and zlib, which share no other base.
        raise ModelFileError(f"{path} is no Keras archive, or a damaged one ({error})") from error
    if damaged is not None:
        raise ModelFileError(f"{path} is a damaged Keras archive: {damaged} has another checksum")
    config = in_todays_form(config)

    def load(custom: Mapping[str, Any]) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "model.keras"
            with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
                for name in names:
                    new = json.dumps(config).encode() if name == "config.json" else None
                    target.writestr(name, source.read(name) if new is None else new)
            return keras.saving.load_model(
                copy, custom_objects=dict(custom), compile=False, safe_mode=True
            )

    return _opened(path, asked, config, load)


def open_hdf5(path: Path, asked: Asked) -> KerasNetwork | LoneNetwork:
    """Open an HDF5 file that Keras wrote before its archives.

    Raises
    ------
    ModelFileError
        As for :func:`open_archive`, and if it holds weights alone.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            stored = file.attrs.get("model_config")
            if stored is None:
                raise ModelFileError(
                    f"{path} holds weights alone; accepted: a whole model, as model.save writes "
                    "it; build the network in Python, load these weights, and save it"
                )
            config = json.loads(stored)
    except ModelFileError:
        raise
    except Exception as error:
        # h5py passes on what HDF5 says as OSError, KeyError or RuntimeError.
        raise ModelFileError(
            f"{path} is no HDF5 file, or a damaged one ({one_line(error)})"
        ) from error

    def load(custom: Mapping[str, Any]) -> Any:
        from keras.src.legacy.saving.legacy_h5_format import load_model_from_hdf5

        with h5py.File(path) as file:
            return load_model_from_hdf5(
                file, custom_objects=dict(custom), compile=False, safe_mode=True
            )

    return _opened(path, asked, config, load, legacy=True)


def _opened(
    path: Path,
    asked: Asked,
    config: Any,
    load: Callable[[Mapping[str, Any]], Any],
    *,
    legacy: bool = False,
) -> KerasNetwork | LoneNetwork:
    """Check a configuration, load the network, and read what it tells."""
    foreign = dict(foreign_objects(config, legacy=legacy))
    custom: Mapping[str, Any] = {}
    if foreign and asked.trust_code is not None:
        custom = classes_of(asked.trust_code)
    for registered, module in foreign.items():
        name = registered.rpartition(">")[2]  # a package of the user's may stand before it
        if name not in custom:
            where = f"; {asked.trust_code} does not define it" if asked.trust_code else ""
            of = "" if module == "None" else f" of {module}"
            raise ModelFileError(f"{path} holds {name!r}{of}, which could run code{where}; {WAY}")
    try:
        network = load(custom)
    except Exception as error:
        # Keras passes on whatever its readers of zip, JSON and HDF5 raise.
        raise ModelFileError(
            f"{path} cannot be loaded by Keras {keras.__version__}: {one_line(error)[:300]}; save "
            "it again with the version that made it, as .keras"
        ) from error
    facts = facts_of(network, path, asked.size)
    if custom:
        remark = (
            "its own layers are not stored: it becomes a TFLite file of single precision, which "
            "cannot be exported to 8 bits"
        )
        return LoneNetwork(path, replace(facts, remarks=(remark,)), network)
    return KerasNetwork(path, facts, network)
