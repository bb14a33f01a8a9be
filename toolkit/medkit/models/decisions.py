"""Decisions from a network's output: temperature, operating points, labels.

A network gives probabilities. Two choices turn them into decisions. The
temperature calibrates the probabilities. The operating point sets the
probability from which a finding is reported. Both are chosen once, on
validation images, and stored in every model file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.extras import require
from medkit.models.points import OperatingPoint, OperatingPoints
from medkit.tasks import Task

# Float32 cannot tell a probability nearer to 1 than this from 1.
_TINY = 1e-7
_COLDEST, _HOTTEST = 0.05, 20.0


def decide(
    task: Task, probabilities: NDArray[np.float32], point: OperatingPoint
) -> NDArray[np.int64]:
    """Turn probabilities, shape (n, classes), into label indices, int64 of shape (n,)."""
    if point.label is None or point.threshold is None:
        likeliest: NDArray[np.int64] = probabilities.argmax(axis=1)
        return likeliest
    index = task.labels.index(point.label)
    others = probabilities.copy()
    others[:, index] = -1
    chosen = probabilities[:, index] >= point.threshold
    return np.where(chosen, index, others.argmax(axis=1)).astype(np.int64)


def apply_temperature(
    probabilities: NDArray[np.float32], temperature: float
) -> NDArray[np.float32]:
    """Soften (above 1) or sharpen (below 1) probabilities; their order stays.

    Divides the logits, which the probabilities tell up to a constant, by
    ``temperature`` (Guo et al. 2017, On Calibration of Modern Neural Networks).

    Parameters
    ----------
    probabilities
        Shape (n, classes), rows summing to 1.
    temperature
        Above 0; 1 changes nothing, not even the last bit.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, classes). What is not finite stays so.
    """
    if temperature == 1.0:
        return probabilities
    finite = np.isfinite(probabilities)
    known = np.where(finite, probabilities, 1).astype(np.float64)
    logits = np.log(np.maximum(known, _TINY)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    scaled = powers / powers.sum(axis=1, keepdims=True)
    return np.where(finite, scaled, probabilities).astype(np.float32)


def fit_temperature(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """Find the temperature under which ``labels`` are likeliest.

    Parameters
    ----------
    labels
        True label indices, shape (n,).
    probabilities
        Shape (n, classes), at temperature 1.

    Raises
    ------
    MissingExtraError
        If SciPy is not installed.
    """
    require("calibrate probabilities", "scipy")
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(scaled[rows, labels], _TINY)).mean())

    bounds = (np.log(_COLDEST), np.log(_HOTTEST))
    # Few digits: more would only repeat the noise of the validation images.
    return round(float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)), 3)


def choose_points(
    task: Task, labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> OperatingPoints:
    """Choose the operating points on validation images.

    Both have a threshold for the task's alert label. ``balanced`` has the
    highest mean of its sensitivity and its specificity: the likeliest of nine
    labels is too seldom one that resembles several others, as melanoma does.
    ``high-sensitivity`` finds the task's ``screening_sensitivity`` of the
    alert label at least, with the highest threshold that does.

    Parameters
    ----------
    labels
        True label indices, shape (n,).
    probabilities
        Shape (n, classes), calibrated.
    """
    alert = task.labels.index(task.alert)
    scores, truth = probabilities[:, alert].astype(np.float64), labels == alert
    balanced = balanced_threshold(scores, truth)
    screening = sensitivity_threshold(scores, truth, task.screening_sensitivity)
    return {
        BALANCED: OperatingPoint(BALANCED, task.alert, balanced),
        HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, task.alert, min(screening, balanced)),
    }


def match_points(
    task: Task,
    decided: dict[str, NDArray[np.bool_]],
    points: OperatingPoints,
    probabilities: NDArray[np.float32],
) -> OperatingPoints:
    """Choose a quantised model's operating points so that it decides like its original.

    Its scores lie a little elsewhere. Chosen anew by labels, a threshold
    could jump to another place that is as good and decides otherwise; here it
    is the one at which the fewest images cross it.

    Parameters
    ----------
    task
        The task.
    decided
        Whether the original decides the operating point's label, shape (n,),
        by name of the operating point.
    points
        The original's.
    probabilities
        The quantised model's of the same images, shape (n, classes), calibrated.
    """
    matched = {}
    for name, point in points.items():
        if point.label is None:
            matched[name] = point
            continue
        scores = probabilities[:, task.labels.index(point.label)].astype(np.float64)
        matched[name] = replace(point, threshold=agreeing_threshold(scores, decided[name]))
    return matched


def agreeing_threshold(scores: NDArray[np.float64], decided: NDArray[np.bool_]) -> float:
    """Return the threshold at which the fewest images are decided otherwise.

    Of several equally good ones, the middle of the widest gap between
    neighbouring scores.

    Parameters
    ----------
    scores
        Probability of the label, shape (n,).
    decided
        Whether it should be decided, shape (n,).
    """
    levels = np.unique(np.concatenate([[0.0, 1.0], scores]))
    middles, widths = (levels[1:] + levels[:-1]) / 2, np.diff(levels)
    missed = np.searchsorted(np.sort(scores[decided]), middles)
    others = np.sort(scores[~decided])
    wrong = missed + len(others) - np.searchsorted(others, middles)
    best = np.flatnonzero(wrong == wrong.min())
    return float(middles[best[widths[best].argmax()]])


def balanced_threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the threshold with the highest mean of sensitivity and specificity.

    Of several equally good ones, the middle of the widest gap between
    neighbouring scores is taken, which leaves most room for a shift.

    Parameters
    ----------
    scores
        Probability of the label, shape (n,).
    truth
        Whether an image has the label, shape (n,); both must occur.
    """
    levels = np.unique(np.concatenate([[0.0, 1.0], scores]))
    middles, widths = (levels[1:] + levels[:-1]) / 2, np.diff(levels)
    positive, negative = np.sort(scores[truth]), np.sort(scores[~truth])
    sensitivity = 1 - np.searchsorted(positive, middles) / len(positive)
    specificity = np.searchsorted(negative, middles) / len(negative)
    quality = np.round(sensitivity + specificity, 9)
    best = np.flatnonzero(quality == quality.max())
    return float(middles[best[widths[best].argmax()]])


def sensitivity_threshold(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], sensitivity: float
) -> float:
    """Return the highest threshold at which a share ``sensitivity`` of the label is found.

    It lies halfway between the last score that must be found and the next
    lower one of any image.
    """
    positive = np.sort(scores[truth])
    missed = int(np.floor((1 - sensitivity) * len(positive) + 1e-9))
    last = positive[missed]
    below: Sequence[float] = [0.0, *scores[scores < last]]
    return float((last + max(below)) / 2)
