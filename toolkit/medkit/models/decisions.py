"""Decisions from a network's output: temperature, operating points, labels.

A network gives probabilities. Two choices turn them into decisions. The
temperature calibrates the probabilities. The operating point sets the
probability from which a finding is reported. Both are chosen once, on
validation images, and stored in every model file.

A task has one of two kinds. Usually one label of each image is right. In a
multi-label task each label is decided for itself; what differs then is in
:mod:`medkit.models.multilabel`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.errors import UsageError
from medkit.extras import require
from medkit.models import multilabel
from medkit.models.points import OperatingPoint, OperatingPoints
from medkit.models.thresholds import (
    agreeing_threshold,
    balanced_threshold,
    sensitivity_threshold,
)
from medkit.tasks import Task

Decisions = NDArray[np.int64] | NDArray[np.bool_]
"""Label indices, shape (n,); in a multi-label task one value for each label, shape (n, labels)."""

# Float32 cannot tell a probability nearer to 1 than this from 1.
_TINY = 1e-7
# The least probability that float32 tells from 0 with all its digits.
_LEAST = 1e-37
_COLDEST, _HOTTEST = 0.05, 20.0


def decide(task: Task, probabilities: NDArray[np.float32], point: OperatingPoint) -> Decisions:
    """Turn probabilities, shape (n, classes), into decisions.

    Returns
    -------
    numpy.ndarray
        Label indices, int64 of shape (n,); in a multi-label task whether each
        label is decided, bool of shape (n, labels).

    Raises
    ------
    UsageError
        If the operating point is one of a task of the other kind.
    """
    if task.multi_label != (point.thresholds is not None):
        one = "a threshold for each label" if task.multi_label else "one threshold at most"
        raise UsageError(f"task {task.name} needs {one}, and operating point {point} has others")
    if point.thresholds is not None:
        return multilabel.decide(probabilities, point.thresholds)
    if point.label is None or point.threshold is None:
        likeliest: NDArray[np.int64] = probabilities.argmax(axis=1)
        return likeliest
    index = task.labels.index(point.label)
    others = probabilities.copy()
    others[:, index] = -1
    chosen = probabilities[:, index] >= point.threshold
    return np.where(chosen, index, others.argmax(axis=1)).astype(np.int64)


def marks(task: Task, chosen: Decisions) -> NDArray[np.bool_]:
    """Return which labels each image has, bool of shape (n, labels).

    Parameters
    ----------
    task
        The task.
    chosen
        Decisions as :func:`decide` gives them, or the truth in the same form.
    """
    if chosen.ndim == 2:
        return chosen.astype(np.bool_)
    return np.asarray(chosen[:, np.newaxis] == np.arange(len(task.labels)))


def names_of(task: Task, chosen: Decisions) -> list[str]:
    """Return decisions, or the truth, as text: one label an image.

    In a multi-label task, an image's labels have :data:`~medkit.defaults.BETWEEN_LABELS`
    between them, in the task's order. An image without a label has an empty text.
    """
    if chosen.ndim == 2:
        return [multilabel.joined(task, row) for row in chosen]
    return [task.labels[index] for index in chosen.tolist()]


def apply_temperature(
    probabilities: NDArray[np.float32], temperature: float, *, multi_label: bool
) -> NDArray[np.float32]:
    """Soften (above 1) or sharpen (below 1) probabilities; their order stays.

    Divides the logits, which the probabilities tell up to a constant, by
    ``temperature`` (Guo et al. 2017, On Calibration of Modern Neural Networks).

    Parameters
    ----------
    probabilities
        Shape (n, classes); rows sum to 1, but for a multi-label task.
    temperature
        Above 0; 1 changes nothing, not even the last bit.
    multi_label
        Whether each label has a logit of its own.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, classes). What is not finite stays so.
    """
    if temperature == 1.0:
        return probabilities
    finite = np.isfinite(probabilities)
    known = np.where(finite, probabilities, 1).astype(np.float64)
    scaled = multilabel.scaled(known, temperature) if multi_label else _scaled(known, temperature)
    return np.where(finite, scaled, probabilities).astype(np.float32)


def _scaled(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    # Softened, a tiny probability counts: the graph of an export knows its logit.
    least = _TINY if temperature < 1 else _LEAST
    logits = np.log(np.maximum(probabilities, least)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """Find the temperature under which ``truth`` is likeliest.

    Parameters
    ----------
    truth
        True label indices, shape (n,); in a multi-label task 0 and 1, shape
        (n, labels). One temperature is then found for all labels.
    probabilities
        Shape (n, classes), at temperature 1.

    Raises
    ------
    MissingExtraError
        If SciPy is not installed.
    """
    require("calibrate probabilities", "scipy")
    from scipy.optimize import minimize_scalar

    multi_label = truth.ndim == 2
    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        temperature = float(np.exp(log_temperature))
        scaled = apply_temperature(probabilities, temperature, multi_label=multi_label)
        right = np.where(truth == 1, scaled, 1 - scaled) if multi_label else scaled[rows, truth]
        return float(-np.log(np.maximum(right, _TINY)).mean())

    bounds = (np.log(_COLDEST), np.log(_HOTTEST))
    # Few digits: more would only repeat the noise of the validation images.
    return round(float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)), 3)


def choose_points(
    task: Task, truth: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> OperatingPoints:
    """Choose the operating points on validation images.

    Both have a threshold for the task's alert label, and in a multi-label
    task for each label. ``balanced`` has the highest mean of its sensitivity
    and its specificity: the likeliest of nine labels is too seldom one that
    resembles several others, as melanoma does. ``high-sensitivity`` finds the
    task's ``screening_sensitivity`` of the label at least, with the highest
    threshold that does.

    Parameters
    ----------
    task
        The task.
    truth
        True label indices, shape (n,); in a multi-label task 0 and 1, shape
        (n, labels). There, a label that no image has, or every image, keeps
        the threshold :data:`multilabel.UNMEASURED`;
        :func:`multilabel.unmeasured` names it.
    probabilities
        Shape (n, classes), calibrated.
    """
    if task.multi_label:
        return multilabel.choose_points(task, truth, probabilities)
    alert = task.labels.index(task.alert)
    scores, found = probabilities[:, alert].astype(np.float64), truth == alert
    balanced = balanced_threshold(scores, found)
    screening = sensitivity_threshold(scores, found, task.screening_sensitivity)
    return {
        BALANCED: OperatingPoint(BALANCED, task.alert, balanced),
        HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, task.alert, min(screening, balanced)),
    }


def halfway_points(task: Task) -> OperatingPoints:
    """Return the operating point ``balanced`` of a model without validation images.

    Of two labels of which one is positive, and of the labels of a multi-label
    task, each is decided from 0.5. In every other task, the likeliest label
    is decided.
    """
    if task.multi_label:
        return {BALANCED: OperatingPoint(BALANCED, thresholds=(0.5,) * len(task.labels))}
    halfway = OperatingPoint(BALANCED, task.alert, 0.5)
    return {BALANCED: halfway if task.binary else OperatingPoint(BALANCED)}


def found_by_points(
    task: Task, probabilities: NDArray[np.float32], points: OperatingPoints
) -> dict[str, NDArray[np.bool_]]:
    """Return what the thresholds of operating points decide, by the points' names.

    Returns
    -------
    dict
        Whether the point's label is decided, shape (n,); in a multi-label
        task whether each is, shape (n, labels). A point without a threshold
        is left out.
    """
    found: dict[str, NDArray[np.bool_]] = {}
    for name, point in points.items():
        decided = decide(task, probabilities, point)
        if point.thresholds is not None:
            found[name] = decided.astype(np.bool_)
        elif point.label is not None:
            found[name] = np.asarray(decided == task.labels.index(point.label))
    return found


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
        What the original decides, as :func:`found_by_points` gives it.
    points
        The original's.
    probabilities
        The quantised model's of the same images, shape (n, classes), calibrated.
    """
    scores = probabilities.astype(np.float64)
    matched = {}
    for name, point in points.items():
        if point.thresholds is not None:
            each = zip(scores.T, decided[name].T, strict=True)
            matched[name] = replace(
                point, thresholds=tuple(agreeing_threshold(*column) for column in each)
            )
        elif point.label is not None:
            column = scores[:, task.labels.index(point.label)]
            matched[name] = replace(point, threshold=agreeing_threshold(column, decided[name]))
        else:
            matched[name] = point
    return matched
