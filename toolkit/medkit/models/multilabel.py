"""Decisions of multi-label tasks, in which an image can have several labels, or none.

Each label has a probability and a threshold of its own, and probabilities do
not sum to 1. :mod:`medkit.models.decisions` calls these functions for such
tasks; nobody else needs to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medkit.defaults import BALANCED, BETWEEN_LABELS, HIGH_SENSITIVITY
from medkit.models.points import OperatingPoint, OperatingPoints
from medkit.models.thresholds import balanced_threshold, sensitivity_threshold
from medkit.tasks import Task
from medkit.wording import counted

UNMEASURED = 0.5
"""Threshold of a label for which validation images cannot tell a better one."""

# The least and the largest probability whose logit float32 tells, as far as it does: near 0 it has
# many digits, and next to 1 it has hardly any.
_LEAST, _LARGEST = 1e-37, 1 - 2**-25


def decide(probabilities: NDArray[np.float32], thresholds: Sequence[float]) -> NDArray[np.bool_]:
    """Return whether each label is decided, shape (n, labels)."""
    return np.asarray(probabilities >= np.array(thresholds, probabilities.dtype))


def joined(task: Task, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> str:
    """Return an image's labels as text; ``chosen`` has one value for each label of the task."""
    return BETWEEN_LABELS.join(
        label for label, found in zip(task.labels, chosen.tolist(), strict=True) if found
    )


def scaled(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return probabilities, shape (n, labels), whose logits were divided by a temperature."""
    known = np.clip(probabilities, _LEAST, _LARGEST)
    logits = (np.log(known) - np.log1p(-known)) / temperature
    return np.asarray(1 / (1 + np.exp(-logits)))


def choose_points(
    task: Task, truth: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> OperatingPoints:
    """Choose the operating points, as :func:`medkit.models.decisions.choose_points` says.

    Parameters
    ----------
    task
        The task.
    truth
        0 and 1, shape (n, labels).
    probabilities
        Shape (n, labels), calibrated.
    """
    balanced, screening = [], []
    for scores, found in zip(probabilities.T.astype(np.float64), truth.T == 1, strict=True):
        chosen = least = UNMEASURED
        if 0 < found.sum() < len(found):
            chosen = balanced_threshold(scores, found)
            least = sensitivity_threshold(scores, found, task.screening_sensitivity)
        balanced.append(chosen)
        screening.append(min(least, chosen))
    return {
        BALANCED: OperatingPoint(BALANCED, thresholds=tuple(balanced)),
        HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, thresholds=tuple(screening)),
    }


def unmeasured(task: Task, truth: NDArray[np.int64]) -> list[str]:
    """Return a line for each label whose threshold validation images cannot tell.

    Parameters
    ----------
    task
        A multi-label task.
    truth
        0 and 1, shape (n, labels), as :func:`choose_points` takes it.
    """
    return [
        f"{label}: {number} of {counted(len(truth), 'validation image')} "
        f"{'has' if number == 1 else 'have'} it, so its threshold stays {UNMEASURED:g}"
        for label, number in zip(task.labels, truth.sum(axis=0).tolist(), strict=True)
        if not 0 < number < len(truth)
    ]
