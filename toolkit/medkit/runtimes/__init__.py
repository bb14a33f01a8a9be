"""Model files behind one interface: uint8 images in, float32 probabilities out.

Each runtime is one module that imports its library when a model is loaded,
so that classifying with LiteRT never pays for ONNX Runtime or TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medkit.bundles import CARD_NAME, MANIFEST_NAME, ModelCard, is_listed, no_card
from medkit.decisions import apply_temperature
from medkit.errors import MissingExtraError, ModelFileError, UsageError
from medkit.seal import is_sealed, is_whole

RUNTIMES = {"litert": ".tflite", "onnx": ".onnx", "openvino": ".onnx", "keras": ".keras"}
"""Words for the runtimes, and the suffix of the files that each runs: the first of a suffix is
what such a file is run on unless another is named."""

DEFAULT_RUNTIME = next(iter(RUNTIMES))
"""What the shipped files are run on: it comes with the base install."""

SUFFIXES = tuple(dict.fromkeys(RUNTIMES.values()))
"""Model files that can be loaded."""

PACKAGES = {
    "litert": "ai_edge_litert",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "keras": "tensorflow",
}
"""The package that each runtime imports."""

_BATCH = 16

MOST_THREADS = 256
"""Threads that one inference may ask for; the runtimes crash on absurd numbers."""


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
            float32, shape (n, classes), columns in the card's label order,
            calibrated by the card's temperature.

        Raises
        ------
        UsageError
            If the array is not what the card's input contract asks for.
        """

    def another(self) -> Model:
        """Return a model of the same file that another thread can use at the same time."""


def load_model(path: Path, threads: int | None = None, runtime: str | None = None) -> Model:
    """Load a model file.

    Parameters
    ----------
    path
        A ``.tflite``, ``.onnx`` or ``.keras`` file that medkit wrote.
    threads
        Threads for one inference; ``None`` leaves it to the runtime.
    runtime
        One of :data:`RUNTIMES`; ``None`` for the one that the suffix calls for.

    Raises
    ------
    UsageError
        If the suffix or the number of threads is not accepted, or the runtime
        is unknown or runs no such files.
    ModelFileError
        If the file is missing, damaged (see :func:`check_whole`) or without
        a card.
    ContractMismatchError
        If it was made for other preprocessing.
    MissingExtraError
        If its runtime is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path} is no model file; accepted: {', '.join(SUFFIXES)}")
    if runtime is not None and check_runtime(runtime) != suffix:
        fitting = ", ".join(word for word, runs in RUNTIMES.items() if runs == suffix)
        raise UsageError(f"{path} does not run on {runtime}; accepted: {fitting}")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"{threads} threads; accepted: 1 to {MOST_THREADS}")
    try:
        if not path.is_file():
            raise ModelFileError(f"no model file {path}; check the path")
        check_whole(path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    if suffix == ".tflite":
        from medkit.runtimes.litert import LiteRTModel

        return LiteRTModel(path, threads)
    if suffix == ".keras":
        from medkit.runtimes.keras import KerasModel

        return KerasModel(path, threads)
    if runtime == "openvino":
        from medkit.runtimes.openvino import OpenVINOModel

        return OpenVINOModel(path, threads)
    from medkit.runtimes.onnx import OnnxModel

    return OnnxModel(path, threads)


def check_whole(path: Path) -> None:
    """Check that a model file has the bytes that it was written with.

    Nothing of it is run before: a flipped bit can make a runtime crash, and
    takes the process with it. A Keras archive has a checksum of each member,
    which is compared when it is loaded.

    Raises
    ------
    ModelFileError
        If an exported file is damaged, or was cut short or not written by
        medkit. Files of medkit 0.1.0 have no seal, and need their manifest.
    OSError
        If it cannot be read.
    """
    if path.suffix.lower() == ".keras":
        path.open("rb").close()
    elif is_sealed(path):
        if not is_whole(path):
            raise ModelFileError(
                f"{path} is damaged or was changed: its bytes are not those of its seal; "
                "copy or export it again"
            )
    elif not is_listed(path):
        raise ModelFileError(
            f"{path} was cut short, or is no model file of medkit: it has no seal, and no "
            f"{MANIFEST_NAME} beside it lists its bytes; copy it again, or make it with: "
            "medkit export"
        )


def check_runtime(runtime: str) -> str:
    """Return the suffix that a runtime runs; raise :class:`UsageError` for an unknown word."""
    if runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}; accepted: {', '.join(RUNTIMES)}")
    return RUNTIMES[runtime]


def is_installed(runtime: str) -> bool:
    """Whether the library of a runtime is there; nothing is imported."""
    return find_spec(PACKAGES[runtime]) is not None


def models_of(path: Path, note: Callable[[str], None] = lambda text: None) -> Iterator[Model]:
    """Give an exported file on each runtime that is installed and can run it.

    The first is that of :func:`load_model`. A TFLite file is also run on
    LiteRT's own kernels, which are others than XNNPACK's, and an ONNX file on
    OpenVINO where that is installed; its reader of TFLite files refuses
    weights that are quantised by channel.

    Parameters
    ----------
    path
        The file.
    note
        Told of a further runtime that cannot run it.

    Raises
    ------
    ModelFileError
        If the first runtime cannot; and as :func:`load_model`.
    """
    yield load_model(path)
    others: list[Callable[[Path], Model]] = []
    if path.suffix.lower() == ".tflite":
        from medkit.runtimes.litert import LiteRTModel

        others.append(partial(LiteRTModel, xnnpack=False))
    elif is_installed("openvino"):
        from medkit.runtimes.openvino import OpenVINOModel

        others.append(OpenVINOModel)
    for load in others:
        try:
            model = load(path)
        except ModelFileError as error:
            note(f"left out: {error}")
        else:
            yield model


def read_card(path: Path) -> str | bytes:
    """Return the card's JSON that a model file holds, without loading the model.

    Raises
    ------
    ModelFileError
        If the file is damaged, or holds no card.
    MissingExtraError
        If the format needs a package that is absent.
    """
    suffix = path.suffix.lower()
    if suffix == ".tflite":
        from medkit.runtimes import litert

        return litert.read_card(path)
    if suffix == ".keras":
        from medkit.runtimes import keras

        return keras.read_card(path)
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("onnx", "export", "read an .onnx file's card") from None

    properties = {item.key: item.value for item in onnx.load(path).metadata_props}
    if CARD_NAME not in properties:
        raise no_card(path)
    return str(properties[CARD_NAME])


def predict_all(model: Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a model's probabilities for any number of images, a batch of memory at a time.

    Parameters
    ----------
    model
        A loaded model.
    images
        uint8, shape (n, height, width, channels), n at least 1.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, classes).
    """
    batches = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
    return np.concatenate([model.predict(batch) for batch in batches])


def check_shapes(card: ModelCard, path: Path, taken: Sequence[Any], given: Sequence[Any]) -> None:
    """Check that a network takes and gives what the card in its file promises.

    Parameters
    ----------
    card, path
        The card and its file.
    taken, given
        Shapes of the network's input and output, the batch first.

    Raises
    ------
    ModelFileError
        If they are others than the input contract's and one number for each
        label, or a single score for two.
    """
    expected, labels = list(card.input_contract.shape), len(card.labels)
    counts = (1, 2) if labels == 2 else (labels,)
    if list(taken[1:]) != expected or len(given) != 2 or given[1] not in counts:
        raise ModelFileError(
            f"{path} takes images of shape {list(taken[1:])} and gives {list(given[1:])}, but its "
            f"card promises {expected} and {labels} labels; export the model again"
        )


def check_images(card: ModelCard, images: NDArray[np.uint8]) -> None:
    """Raise :class:`UsageError` unless an array fits a model's input contract.

    The runtimes would take some other shapes and compute nonsense from them.
    """
    expected = card.input_contract.shape
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[1:] != expected
        or not len(images)
    ):
        raise UsageError(
            f"images are {images.dtype} of shape {images.shape}; "
            f"accepted: uint8 of shape (n, {', '.join(map(str, expected))}), n at least 1"
        )


def finish(card: ModelCard, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn what a network computed into the probabilities that its card promises."""
    return apply_temperature(both_classes(raw), card.temperature)


def both_classes(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Complete one sigmoid score, shape (n, 1), to the probabilities of both classes, (n, 2)."""
    return np.concatenate([1 - raw, raw], axis=1) if raw.shape[1] == 1 else raw


def one_line(error: Exception) -> str:
    """Return a library's message, which may hold line breaks, as the end of one of medkit's."""
    return " ".join(str(error).split())
