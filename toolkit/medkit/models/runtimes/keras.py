"""Keras originals, the reference that exports are compared with."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.errors import ModelFileError
from medkit.extras import require
from medkit.models.card import ModelCard, no_card
from medkit.models.formats import CARD_NAME, KERAS
from medkit.models.runtimes.base import (
    both_classes,
    check_images,
    check_shapes,
    finish,
    finish_logits,
    one_line,
)
from medkit.models.runtimes.keras_layers import foreign_objects
from medkit.models.runtimes.keras_setup import import_keras
from medkit.system.quiet import native_stderr_closed

_BATCH = 64

_MEMBERS = ["config.json", f"{CARD_NAME}.json", "metadata.json", "model.weights.h5"]


class KerasModel:
    """A ``.keras`` archive loaded by Keras, in safe mode: no code from the file runs."""

    runtime = "Keras"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        self.card = ModelCard.from_json(read_card(path), path)
        self.network = load_keras(path, threads)
        check_shapes(self.card, path, self.network.input_shape, self.network.output_shape)
        # Next to 1, a probability has too few digits to be softened; an export has the logits.
        self._logits = logits_of(self.network) if self.card.temperature > 1 else None

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (n, classes) of uint8 images (n, height, width, channels)."""
        check_images(self.card, images)
        network = self.network if self._logits is None else self._logits.network
        parts = [
            np.asarray(network(images[start : start + _BATCH], training=False))
            for start in range(0, len(images), _BATCH)
        ]
        raw = np.concatenate(parts)
        if self._logits is None:
            return finish(self.card, raw)
        return finish_logits(self.card, raw, self._logits.activation)

    def another(self) -> KerasModel:
        """Return the model itself: TensorFlow may be called by several threads at once."""
        return self

    def predict_floats(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (n, classes), at temperature 1, of pixels that need not be bytes.

        Parameters
        ----------
        pixels
            float32, shape (n, height, width, channels), n at least 1.
        """
        import keras

        floats = keras.Input(self.network.input_shape[1:], dtype="float32")
        copy = keras.models.clone_model(self.network, input_tensors=floats)
        copy.set_weights(self.network.get_weights())
        return both_classes(np.asarray(copy(pixels, training=False)))


@dataclass(frozen=True)
class Logits:
    """A network that ends before its last activation, ``softmax`` or ``sigmoid``."""

    network: Any
    activation: str


def logits_of(network: Any) -> Logits | None:
    """Return a copy of a network that gives logits.

    Returns
    -------
    Logits or None
        ``None`` if the last layer is not one with a softmax or a sigmoid.
    """
    import keras

    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    last = copy
    while isinstance(last, keras.Model):
        ends = last.layers[-1:] if isinstance(last, keras.Sequential) else ()
        last = ends[0] if ends else last.outputs[0]._keras_history.operation
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    if activation not in ("softmax", "sigmoid"):
        return None
    last.activation = keras.activations.linear
    return Logits(copy, activation)


def read_card(path: Path) -> bytes:
    """Return the card's JSON from a ``.keras`` archive; raise :class:`ModelFileError` without."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(f"{CARD_NAME}.json")
    except KeyError:
        raise no_card(path) from None
    except Exception as error:
        # A damaged archive surfaces as errors of zipfile and zlib, which share no other base.
        raise ModelFileError(f"{path} is no Keras archive, or a damaged one ({error})") from error


def check_archive(path: Path) -> None:
    """Check that a ``.keras`` archive is whole, and made of nothing but layers without code.

    Raises
    ------
    ModelFileError
        If it is damaged, or names anything that could run code. Nothing of
        it has run then.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sorted(archive.namelist()) != _MEMBERS:
                raise ValueError(f"its members are not {', '.join(_MEMBERS)}")
            damaged = archive.testzip()
            config = json.loads(archive.read("config.json")) if damaged is None else None
    except Exception as error:
        # A damaged archive surfaces as errors of zipfile and zlib, which share no other base.
        raise ModelFileError(f"{path} is no Keras archive, or a damaged one ({error})") from error
    if damaged is not None:
        raise ModelFileError(f"{path} is a damaged Keras archive: {damaged} has another checksum")
    for name, module in foreign_objects(config):
        raise ModelFileError(
            f"{path} holds {name!r} of {module}, which could run code; accepted: networks of "
            "Keras' own layers, without Lambda and others that carry code"
        )


def import_tensorflow(purpose: str) -> Any:
    """Import TensorFlow, and Keras on it, without the lines that native code prints at its start.

    Parameters
    ----------
    purpose
        Purpose that needs TensorFlow, for the error.

    Raises
    ------
    MissingExtraError
        If one of them is not installed.
    MedkitError
        In the cases of :func:`medkit.models.runtimes.keras_setup.import_keras`.
    """
    require(purpose, "tensorflow", "keras")
    with native_stderr_closed():
        import_keras()
        import tensorflow
    return tensorflow


def load_keras(path: Path, threads: int | None = None) -> Any:
    """Load a Keras model for inference.

    Raises
    ------
    ModelFileError
        In the same cases as :func:`check_archive`, or if Keras refuses the file.
    MissingExtraError
        If TensorFlow is not installed.
    """
    check_archive(path)
    tf = import_tensorflow("load a .keras file")
    import keras

    if threads is not None:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        except RuntimeError as error:
            raise ModelFileError(
                "TensorFlow already runs with another number of threads; "
                "give --threads to a fresh process"
            ) from error
    try:
        with _named_as_keras_wants(path) as named:
            return keras.saving.load_model(named, compile=False, safe_mode=True)
    except Exception as error:
        # Keras passes on whatever its readers of zip, JSON and HDF5 raise.
        raise ModelFileError(f"{path} cannot be loaded by Keras: {one_line(error)}") from error


@contextmanager
def _named_as_keras_wants(path: Path) -> Iterator[Path]:
    """Give a file under a name in small letters: Keras tells archives by their suffix."""
    if path.suffix == KERAS.suffix:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"model{KERAS.suffix}"
        shutil.copyfile(path, copy)
        yield copy
