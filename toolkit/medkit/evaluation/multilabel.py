"""Figures of multi-label tasks, in which an image can have several labels, or none.

What a label's sensitivity, specificity and AUC are is the same in every task.
Here is what differs: an image is right if all its labels are, and means are
taken over the labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medkit.evaluation.intervals import Interval, mean_interval

Bits = NDArray[np.bool_]
"""Whether each image has each label, or each label is decided; shape (n, labels)."""


def outcomes(truth: Bits, decided: Bits) -> tuple[tuple[int, ...], ...]:
    """Count, for each label, what became of it; see :data:`medkit.models.figures.OUTCOMES`."""
    kinds = (truth & decided, truth & ~decided, ~truth & decided, ~truth & ~decided)
    return tuple(map(tuple, np.stack([kind.sum(axis=0) for kind in kinds], axis=1).tolist()))


def both_sides(truth: Bits) -> Bits:
    """Return which labels have an image that has them and one that has not, shape (labels,)."""
    return np.asarray(truth.any(axis=0) & ~truth.all(axis=0))


def balanced_weights(truth: Bits) -> NDArray[np.float64]:
    """Return by how much the balanced accuracy changes when a label of an image turns.

    Returns
    -------
    numpy.ndarray
        Shape (n, labels). The balanced accuracy is their sum over what is
        decided right. Labels without both sides weigh nothing, unless all are
        without.
    """
    measured, sides = both_sides(truth), 2
    if not measured.any():
        measured, sides = np.ones_like(measured), 1
    sizes = np.where(truth, truth.sum(axis=0), (~truth).sum(axis=0))
    return np.asarray(measured / (sides * int(measured.sum()) * sizes))


def sensitivity_weights(truth: Bits, alert: int | None) -> NDArray[np.float64]:
    """Return by how much the sensitivity changes when a label of an image turns.

    Parameters
    ----------
    truth
        The true labels.
    alert
        Index of the label whose sensitivity counts; ``None`` for the mean
        sensitivity of all labels that an image has.

    Returns
    -------
    numpy.ndarray
        Shape (n, labels). The sensitivity is their sum over what is decided right.
    """
    shown = truth if alert is None else truth & (np.arange(truth.shape[1]) == alert)
    labels = int(shown.any(axis=0).sum())
    return np.asarray(shown / (max(labels, 1) * np.maximum(shown.sum(axis=0), 1)))


def balanced_interval(truth: Bits, decided: Bits) -> tuple[float, Interval]:
    """Return the balanced accuracy, and its 95 % interval.

    A label that is decided right or wrong in an image counts with its weight.
    Labels of the same image may be right and wrong together, so their
    distances from the mean are added before they are squared.
    """
    weights = balanced_weights(truth)
    right = truth == decided
    value = float((weights * right).sum())
    distances = np.zeros(len(truth))
    for side in (truth, ~truth):
        count = np.maximum(side.sum(axis=0), 1)
        share = (right & side).sum(axis=0) / count
        scale = np.sqrt(count / np.maximum(count - 1, 1))
        distances += (np.where(side, weights * (right - share), 0.0) * scale).sum(axis=1)
    # Labels of the same images tell no more than as many images.
    most = min(1 / float(np.square(weights).sum()), len(truth))
    return value, mean_interval(value, float(np.square(distances).sum()), most)


def mean_over(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is known; ``None`` of nothing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
