"""Figures: how good a model's probabilities are, as manifests, cards and reports hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkit.errors import MedkitError
from medkit.evaluation import multilabel
from medkit.evaluation.intervals import (
    bootstrap_interval,
    calibration_interval,
    has_label,
    mean_auc_interval,
    mean_share_interval,
    share_interval,
)
from medkit.extras import require
from medkit.models.decisions import decide, marks
from medkit.models.figures import Bounds, Figures, Intervals, Metrics, ReliabilityBin
from medkit.models.points import OperatingPoint, OperatingPoints
from medkit.tasks import Task

DEDUPLICATED = "test without twins"
"""Key of the figures on the test images that lie in no training folder. Manifests hold it."""

CALIBRATION_BINS = 10
"""Bins of equal width, over 0..1, of the reliability diagram and the calibration error."""


def area_under_curve(
    task: Task, labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> float:
    """Return the ROC AUC: of the positive label, or the macro mean of one-vs-rest.

    A class without an image, or with nothing but its images, has no AUC and
    is left out of the mean.

    Raises
    ------
    MedkitError
        If no class has an AUC, or a probability is not finite.
    """
    areas = [area for area in class_areas(task, labels, probabilities).values() if area is not None]
    if not areas:
        raise MedkitError("images of one class alone have no AUC; give images of every class")
    return float(np.mean(areas))


def class_areas(
    task: Task, labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> dict[str, float | None]:
    """Return each label's ROC AUC against the rest, for a two-class task the positive one's only.

    A label without an image, or with nothing but its images, has ``None``.

    Raises
    ------
    MedkitError
        If a probability is not finite.
    MissingExtraError
        If scikit-learn or SciPy is not installed.
    """
    require("compute the AUC", "sklearn", "scipy")
    from sklearn.metrics import roc_auc_score

    if not np.isfinite(probabilities).all():
        raise MedkitError("a probability is not finite, so there is no AUC")
    return {
        task.labels[index]: float(roc_auc_score(truth, probabilities[:, index]))
        if 0 < truth.sum() < len(truth)
        else None
        for index in scored_labels(task)
        for truth in [has_label(labels, index)]
    }


def evaluate(
    task: Task,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    point: OperatingPoint,
) -> Figures:
    """Measure decisions, ranking and calibration, each with its 95 % interval.

    Parameters
    ----------
    task
        The task.
    labels
        True label indices, shape (n,), n at least 1; in a multi-label task
        0 and 1, shape (n, labels).
    probabilities
        Shape (n, classes), finite.
    point
        Turns them into decisions.

    Raises
    ------
    MedkitError
        If a probability is not finite.
    MissingExtraError
        If scikit-learn or SciPy is not installed.
    """
    areas = class_areas(task, labels, probabilities)
    decisions = decide(task, probabilities, point)
    truth, decided = marks(task, labels), marks(task, decisions)
    right = int((truth == decided).all(axis=1).sum())
    hits = _counts(truth & decided, truth)
    sensitivity = _by_label(task, hits)
    specificity = _by_label(task, _counts(~truth & ~decided, ~truth))
    if task.multi_label:
        balanced, spread_of_balanced = multilabel.balanced_interval(truth, decided)
        confusion = multilabel.outcomes(truth, decided)
    else:
        recalls = [share.value for share in sensitivity.values() if share.value is not None]
        balanced = float(np.mean(recalls))
        spread_of_balanced = mean_share_interval([item for item in hits if item[1]])
        confusion = tuple(map(tuple, (truth.T.astype(np.int64) @ decided).tolist()))
    known = [area for area in areas.values() if area is not None]
    columns = {i: i for i in scored_labels(task) if areas[task.labels[i]] is not None}
    bins = reliability_bins(labels, probabilities)
    spread = bootstrap_interval(
        labels,
        lambda drawn: calibration_error(reliability_bins(labels[drawn], probabilities[drawn])),
    )
    return Figures(
        images=len(labels),
        operating_point=point.name,
        threshold=point.threshold,
        accuracy=right / len(labels),
        balanced_accuracy=balanced,
        auc=float(np.mean(known)) if known else None,
        calibration_error=calibration_error(bins),
        sensitivity={label: share.value for label, share in sensitivity.items()},
        specificity={label: share.value for label, share in specificity.items()},
        class_auc=areas,
        confusion=confusion,
        reliability=bins,
        intervals=Intervals(
            accuracy=share_interval(right, len(labels)),
            balanced_accuracy=spread_of_balanced,
            auc=mean_auc_interval(labels, probabilities.astype(np.float64), columns)
            if columns
            else None,
            calibration_error=calibration_interval(
                [(entry.images, entry.confidence, entry.accuracy) for entry in bins], spread
            ),
            sensitivity={label: share.interval for label, share in sensitivity.items()},
            specificity={label: share.interval for label, share in specificity.items()},
        ),
        thresholds=dict(zip(task.labels, point.thresholds, strict=True))
        if point.thresholds is not None
        else None,
    )


def evaluate_points(
    task: Task,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    points: OperatingPoints,
) -> dict[str, Figures]:
    """Return :func:`evaluate` at each operating point, by its name."""
    return {name: evaluate(task, labels, probabilities, points[name]) for name in points}


def evaluate_test_split(
    task: Task,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    points: OperatingPoints,
    deduplicated: Sequence[bool],
) -> Metrics:
    """Measure the official test split, and apart from it the part that was deduplicated.

    Parameters
    ----------
    task, labels, probabilities, points
        As for :func:`evaluate_points`.
    deduplicated
        Whether no training folder holds the same bytes, for each of the n images.

    Returns
    -------
    dict
        ``test`` and, if a training folder holds a test image,
        :data:`DEDUPLICATED`; each as :func:`evaluate_points` gives it.
    """
    metrics = {"test": evaluate_points(task, labels, probabilities, points)}
    if not all(deduplicated):
        kept = np.array(deduplicated)
        metrics[DEDUPLICATED] = evaluate_points(task, labels[kept], probabilities[kept], points)
    return metrics


def reliability_bins(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> tuple[ReliabilityBin, ...]:
    """Compare the confidence in the likeliest label with how often it is right, bin by bin.

    In a multi-label task, each label of each image is compared: its
    probability with how often images have it.

    Returns
    -------
    tuple of ReliabilityBin
        Those of :data:`CALIBRATION_BINS` that hold an image.
    """
    if labels.ndim == 2:
        confidence, right = probabilities.astype(np.float64).ravel(), labels.ravel() == 1
    else:
        confidence = probabilities.max(axis=1).astype(np.float64)
        right = probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return tuple(
        ReliabilityBin(
            lower=place / CALIBRATION_BINS,
            upper=(place + 1) / CALIBRATION_BINS,
            images=int((places == place).sum()),
            confidence=float(confidence[places == place].mean()),
            accuracy=float(right[places == place].mean()),
        )
        for place in np.unique(places).tolist()
    )


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the expected calibration error (Naeini et al. 2015), 0..1.

    The mean distance of confidence and accuracy over the bins, weighted by
    their images.
    """
    total = sum(entry.images for entry in bins)
    gaps = (entry.images * abs(entry.confidence - entry.accuracy) for entry in bins)
    return sum(gaps) / total


@dataclass(frozen=True)
class _Share:
    """A share of images, 0..1, with its interval; both ``None`` of no image."""

    value: float | None
    interval: Bounds | None


def _by_label(task: Task, counts: Sequence[tuple[int, int]]) -> dict[str, _Share]:
    """Return the share of each label, from the number of its hits and of its images."""
    return {
        label: _Share(count / total, share_interval(count, total)) if total else _Share(None, None)
        for label, (count, total) in zip(task.labels, counts, strict=True)
    }


def _counts(hits: NDArray[np.bool_], of: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return, for each label, how many images are hits, and of how many."""
    return list(zip(hits.sum(axis=0).tolist(), of.sum(axis=0).tolist(), strict=True))


def scored_labels(task: Task) -> Sequence[int]:
    """Return the indices of the labels that have an AUC."""
    return range(len(task.labels)) if task.positive is None else [task.labels.index(task.positive)]
