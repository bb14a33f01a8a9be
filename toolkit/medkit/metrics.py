"""How good a set of probabilities is, as numbers that go into manifests and gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.errors import MedkitError, MissingExtraError
from medkit.tasks import Task


def decide(
    task: Task, probabilities: NDArray[np.float32], threshold: float | None
) -> NDArray[np.int64]:
    """Turn probabilities into label indices.

    Parameters
    ----------
    task
        The task.
    probabilities
        Shape (n, classes).
    threshold
        From which probability of the positive label it is chosen, for a
        two-class task; ``None`` takes the likeliest label.

    Returns
    -------
    numpy.ndarray
        int64, shape (n,).
    """
    if task.positive is None or threshold is None:
        likeliest: NDArray[np.int64] = probabilities.argmax(axis=1)
        return likeliest
    positive = task.labels.index(task.positive)
    chosen = probabilities[:, positive] >= threshold
    return np.where(chosen, positive, 1 - positive).astype(np.int64)


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
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError:
        raise MissingExtraError("scikit-learn", "export", "compute the AUC") from None

    if not np.isfinite(probabilities).all():
        raise MedkitError("a probability is not finite, so there is no AUC")
    classes = range(len(task.labels)) if task.positive is None else [_positive_index(task)]
    areas = [
        roc_auc_score(labels == index, probabilities[:, index])
        for index in classes
        if 0 < (labels == index).sum() < len(labels)
    ]
    if not areas:
        raise MedkitError("images of one class alone have no AUC; give images of every class")
    return float(np.mean(areas))


def evaluate(
    task: Task,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    threshold: float | None,
) -> dict[str, Any]:
    """Measure accuracy, AUC and per-class sensitivity.

    Parameters
    ----------
    task
        The task.
    labels
        True label indices, shape (n,).
    probabilities
        Shape (n, classes).
    threshold
        As in :func:`decide`.

    Returns
    -------
    dict
        ``images``, ``accuracy``, ``balanced_accuracy``, ``auc``,
        ``sensitivity`` by label (``None`` without images of it),
        ``confusion`` (rows true, columns decided), and for a two-class task
        ``specificity`` of the positive label. All shares are 0..1.
    """
    confusion = confusion_matrix(len(task.labels), labels, decide(task, probabilities, threshold))
    totals = confusion.sum(axis=1)
    recalls = [float(confusion[i, i] / total) if total else None for i, total in enumerate(totals)]
    result: dict[str, Any] = {
        "images": len(labels),
        "accuracy": float(np.trace(confusion) / len(labels)),
        "balanced_accuracy": float(np.mean([recall for recall in recalls if recall is not None])),
        "auc": area_under_curve(task, labels, probabilities),
        "sensitivity": dict(zip(task.labels, recalls, strict=True)),
        "confusion": confusion.tolist(),
    }
    if task.positive is not None:
        result["specificity"] = recalls[1 - _positive_index(task)]
    return result


def confusion_matrix(
    classes: int, labels: Sequence[int] | NDArray[np.int64], decided: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count images by true label (rows) and decided label (columns)."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (np.asarray(labels), decided), 1)
    return matrix


def balanced_threshold(
    task: Task, labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> float | None:
    """Choose the threshold with the highest mean of sensitivity and specificity.

    Of several equally good ones, the middle of the widest gap between
    neighbouring scores is taken, which leaves most room for a shift.

    Returns
    -------
    float or None
        ``None`` for a task that has no threshold.
    """
    if task.positive is None:
        return None
    index = _positive_index(task)
    scores = np.unique(np.concatenate([[0.0, 1.0], probabilities[:, index].astype(np.float64)]))
    middles, widths = (scores[1:] + scores[:-1]) / 2, np.diff(scores)
    positive = np.sort(probabilities[labels == index, index])
    negative = np.sort(probabilities[labels != index, index])
    sensitivity = 1 - np.searchsorted(positive, middles) / len(positive)
    specificity = np.searchsorted(negative, middles) / len(negative)
    quality = np.round(sensitivity + specificity, 9)
    best = np.flatnonzero(quality == quality.max())
    return float(middles[best[widths[best].argmax()]])


def _positive_index(task: Task) -> int:
    if task.positive is None:
        raise ValueError(f"task {task.name} has no positive label")
    return task.labels.index(task.positive)
