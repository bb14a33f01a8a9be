"""Model files behind one interface: uint8 images in, float32 probabilities out.

Each runtime is one module that imports its library when a model is loaded,
so that classifying with LiteRT never pays for ONNX Runtime or TensorFlow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medkit.bundles import ModelCard
from medkit.errors import ModelFileError

SUFFIXES = (".tflite", ".onnx", ".keras")
"""Model files that can be loaded."""


class Model(Protocol):
    """A loaded model.

    Attributes
    ----------
    path
        The file it came from.
    card
        What the file says of itself.
    runtime
        Name of the library that computes.
    """

    path: Path
    card: ModelCard
    runtime: str

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities.

        Parameters
        ----------
        images
            uint8, shape (n, height, width, channels), n at least 1.

        Returns
        -------
        numpy.ndarray
            float32, shape (n, classes), columns in the card's label order.
        """


def load_model(path: Path, threads: int | None = None) -> Model:
    """Load a model file with the runtime that its suffix calls for.

    Parameters
    ----------
    path
        A ``.tflite``, ``.onnx`` or ``.keras`` file that medkit wrote.
    threads
        Threads for one inference; ``None`` leaves it to the runtime.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, of another kind or without a card.
    ContractMismatchError
        If it was made for other preprocessing.
    MissingExtraError
        If its runtime is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise ModelFileError(f"{path} is no model file; accepted: {', '.join(SUFFIXES)}")
    try:
        if not path.is_file():
            raise ModelFileError(f"no model file {path}")
        path.open("rb").close()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix == ".tflite":
        from medkit.runtimes.litert import LiteRTModel

        return LiteRTModel(path, threads)
    if path.suffix == ".onnx":
        from medkit.runtimes.onnx import OnnxModel

        return OnnxModel(path, threads)
    from medkit.runtimes.keras import KerasModel

    return KerasModel(path, threads)


def both_classes(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Complete one sigmoid score, shape (n, 1), to the probabilities of both classes, (n, 2)."""
    return np.concatenate([1 - raw, raw], axis=1) if raw.shape[1] == 1 else raw


def one_line(error: Exception) -> str:
    """Return a library's message, which may hold line breaks, as the end of one of medkit's."""
    return " ".join(str(error).split())
