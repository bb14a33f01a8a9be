"""How good a set of probabilities is, as numbers that go into manifests, cards and reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.decisions import OperatingPoint, OperatingPoints, decide
from medkit.errors import MedkitError, MissingExtraError
from medkit.intervals import Interval, auc_interval, bootstrap_interval, share_interval
from medkit.tasks import Task

UNTWINNED = "test without twins"
"""Name of the part of the test split whose images lie in no training folder."""

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
    """
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError:
        raise MissingExtraError("scikit-learn", "export", "compute the AUC") from None

    if not np.isfinite(probabilities).all():
        raise MedkitError("a probability is not finite, so there is no AUC")
    return {
        task.labels[index]: float(roc_auc_score(labels == index, probabilities[:, index]))
        if 0 < (labels == index).sum() < len(labels)
        else None
        for index in scored_labels(task)
    }


def evaluate(
    task: Task,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    point: OperatingPoint,
) -> dict[str, Any]:
    """Measure decisions, ranking and calibration, each with its 95 % interval.

    Parameters
    ----------
    task
        The task.
    labels
        True label indices, shape (n,), n at least 1.
    probabilities
        Shape (n, classes), finite.
    point
        Turns them into decisions.

    Returns
    -------
    dict
        ``images``, ``operating_point`` (its name), ``threshold``,
        ``accuracy``, ``balanced_accuracy``, ``auc`` (``None`` for images of one class),
        ``calibration_error``; by label ``sensitivity``, ``specificity`` and
        ``class_auc``; ``confusion`` (rows true, columns decided);
        ``reliability`` (see :func:`reliability_bins`); and ``intervals``
        with a list of both ends under the name of each figure, or under name and label.
        All shares are 0..1; ``None`` stands where there is no image to tell.
    """
    decided = decide(task, probabilities, point)
    confusion = confusion_matrix(len(task.labels), labels, decided)
    right = int(np.trace(confusion))
    sensitivity, specificity, intervals = _by_label(task, confusion)
    recalls = [value for value in sensitivity.values() if value is not None]
    areas = class_areas(task, labels, probabilities)
    known = [area for area in areas.values() if area is not None]
    bins = reliability_bins(labels, probabilities)
    error = calibration_error(bins)
    spread = bootstrap_interval(
        labels,
        lambda drawn: calibration_error(reliability_bins(labels[drawn], probabilities[drawn])),
    )
    return {
        "images": len(labels),
        "operating_point": point.name,
        "threshold": point.threshold,
        "accuracy": right / len(labels),
        "balanced_accuracy": float(np.mean(recalls)),
        "auc": float(np.mean(known)) if known else None,
        "calibration_error": error,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "class_auc": areas,
        "confusion": confusion.tolist(),
        "reliability": bins,
        "intervals": {
            "accuracy": list(share_interval(right, len(labels))),
            "balanced_accuracy": list(
                bootstrap_interval(
                    labels, lambda drawn: _mean_recall(labels[drawn], decided[drawn])
                )
            ),
            "auc": list(_auc_interval(task, labels, probabilities)) if known else None,
            # An error is never below 0, so redrawn images have a larger one on average.
            "calibration_error": [min(spread[0], error), max(spread[1], error)],
            **intervals,
        },
    }


def evaluate_points(
    task: Task,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    points: OperatingPoints,
) -> dict[str, dict[str, Any]]:
    """Return :func:`evaluate` at each operating point, by its name."""
    return {name: evaluate(task, labels, probabilities, points[name]) for name in points}


def evaluate_test_split(
    task: Task,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    points: OperatingPoints,
    untwinned: Sequence[bool],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Measure the official test split, and its images without a twin in training apart.

    Parameters
    ----------
    task, labels, probabilities, points
        As for :func:`evaluate_points`.
    untwinned
        Whether an image's bytes lie in no training folder, for each of the n.

    Returns
    -------
    dict
        ``test`` and, if an image has a twin, :data:`UNTWINNED`; each as
        :func:`evaluate_points` gives it.
    """
    metrics = {"test": evaluate_points(task, labels, probabilities, points)}
    if not all(untwinned):
        alone = np.array(untwinned)
        metrics[UNTWINNED] = evaluate_points(task, labels[alone], probabilities[alone], points)
    return metrics


def confusion_matrix(
    classes: int, labels: Sequence[int] | NDArray[np.int64], decided: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count images by true label (rows) and decided label (columns)."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (np.asarray(labels), decided), 1)
    return matrix


def reliability_bins(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> list[dict[str, float]]:
    """Compare how sure the likeliest label is with how often it is right, by bins of sureness.

    Returns
    -------
    list of dict
        For each of :data:`CALIBRATION_BINS` that holds an image: ``lower``
        and ``upper`` bound, number of ``images``, their mean ``confidence``
        and their ``accuracy``.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        {
            "lower": place / CALIBRATION_BINS,
            "upper": (place + 1) / CALIBRATION_BINS,
            "images": int((places == place).sum()),
            "confidence": float(confidence[places == place].mean()),
            "accuracy": float(right[places == place].mean()),
        }
        for place in np.unique(places).tolist()
    ]


def calibration_error(bins: Sequence[dict[str, float]]) -> float:
    """Return the expected calibration error (Naeini et al. 2015), 0..1.

    The mean distance of confidence and accuracy over the bins, weighted by
    their images.
    """
    total = sum(entry["images"] for entry in bins)
    gaps = (entry["images"] * abs(entry["confidence"] - entry["accuracy"]) for entry in bins)
    return sum(gaps) / total


def _by_label(
    task: Task, confusion: NDArray[np.int64]
) -> tuple[dict[str, float | None], dict[str, float | None], dict[str, Any]]:
    """Return sensitivity, specificity and the intervals of both, by label."""
    figures: dict[str, dict[str, float | None]] = {"sensitivity": {}, "specificity": {}}
    intervals: dict[str, dict[str, list[float] | None]] = {"sensitivity": {}, "specificity": {}}
    for index, label in enumerate(task.labels):
        rest = np.delete(confusion, index, axis=0)
        counts = {
            "sensitivity": (int(confusion[index, index]), int(confusion[index].sum())),
            "specificity": (int(rest.sum() - rest[:, index].sum()), int(rest.sum())),
        }
        for name, (found, total) in counts.items():
            figures[name][label] = found / total if total else None
            intervals[name][label] = list(share_interval(found, total)) if total else None
    return figures["sensitivity"], figures["specificity"], intervals


def _mean_recall(labels: NDArray[np.int64], decided: NDArray[np.int64]) -> float:
    return float(np.mean([(decided[labels == c] == c).mean() for c in np.unique(labels)]))


def _auc_interval(
    task: Task, labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> Interval:
    """DeLong's interval for one label's AUC, the bootstrap's for a mean over labels."""
    columns = [index for index in scored_labels(task) if 0 < (labels == index).sum() < len(labels)]
    if len(columns) == 1:
        index = columns[0]
        return auc_interval(labels == index, probabilities[:, index].astype(np.float64))
    from scipy.stats import rankdata

    def macro(drawn: NDArray[np.int64]) -> float:
        # Mann and Whitney's form of the AUC, many times faster than the ROC curve's.
        ranks, truth = rankdata(probabilities[drawn], axis=0), labels[drawn]
        areas = []
        for index in columns:
            positive = truth == index
            count = int(positive.sum())
            above = ranks[positive, index].sum() - count * (count + 1) / 2
            areas.append(above / (count * (len(truth) - count)))
        return float(np.mean(areas))

    return bootstrap_interval(labels, macro)


def scored_labels(task: Task) -> Sequence[int]:
    """Return the indices of the labels that have an AUC of their own."""
    return range(len(task.labels)) if task.positive is None else [task.labels.index(task.positive)]
