"""A loaded model, whatever computes it: uint8 images in, float32 probabilities out.

What describes a model file and its runtime is apart from the loaded model:
see :mod:`medkit.models.runtimes.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medkit.errors import ModelFileError, UsageError
from medkit.models.card import ModelCard
from medkit.models.decisions import apply_temperature

_BATCH = 16
"""Images in one inference of :func:`predict_all`."""


class Model(Protocol):
    """A loaded model.

    Attributes
    ----------
    path
        The file it came from.
    card
        Card of the model file.
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


def one_by_one(
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]], images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Run a network whose graph takes a batch of one only on each image, (n, ...)."""
    return np.concatenate([run(image[np.newaxis]) for image in images])


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
        label, or a single score for two of which one is right.
    """
    expected, labels = list(card.contract.shape), len(card.labels)
    counts = (1, 2) if labels == 2 and not card.multi_label else (labels,)
    if list(taken[1:]) != expected or len(given) != 2 or given[1] not in counts:
        raise ModelFileError(
            f"{path} takes images of shape {list(taken[1:])} and gives {list(given[1:])}, but its "
            f"card promises {expected} and {labels} labels; export the model again"
        )


def check_images(card: ModelCard, images: NDArray[np.uint8]) -> None:
    """Raise :class:`UsageError` unless an array fits a model's input contract.

    The runtimes would take some other shapes and compute nonsense from them.
    """
    expected = card.contract.shape
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
    return apply_temperature(both_classes(raw), card.temperature, multi_label=card.multi_label)


def finish_logits(
    card: ModelCard, logits: NDArray[np.float32], activation: str
) -> NDArray[np.float32]:
    """Turn logits into the probabilities that a card promises, as the graph of an export does.

    Parameters
    ----------
    card
        The card.
    logits
        Shape (n, outputs).
    activation
        The network's last one, ``softmax`` or ``sigmoid``.
    """
    scaled = logits.astype(np.float64) / card.temperature
    if activation == "sigmoid" and scaled.shape[1] == 1:
        scaled = np.concatenate([-scaled, scaled], axis=1)
    return activate(scaled, activation)


def activate(logits: NDArray[np.floating], activation: str) -> NDArray[np.float32]:
    """Return ``softmax`` or ``sigmoid`` of logits, computed in double precision."""
    wide = logits.astype(np.float64)
    if activation == "sigmoid":
        return np.asarray(np.exp(-np.logaddexp(0, -wide)), np.float32)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def both_classes(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Complete one sigmoid score, shape (n, 1), to the probabilities of both classes, (n, 2)."""
    return np.concatenate([1 - raw, raw], axis=1) if raw.shape[1] == 1 else raw


def one_line(error: Exception) -> str:
    """Return a library's message, which may hold line breaks, as the end of one of medkit's."""
    return " ".join(str(error).split())
