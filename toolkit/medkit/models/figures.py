"""The figures of a model on one set of labelled images, as manifests hold them.

They are computed in :mod:`medkit.evaluation.metrics`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

OUTCOMES = ("found", "missed", "false alarm", "spared")
"""What can become of a label of a multi-label task in an image: it has the label and it is
decided or not; or it has it not, and it is decided or not."""

Bounds = tuple[float, ...]
"""Both ends of a 95 % interval."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Images of about the same confidence.

    In a multi-label task each label of an image counts as an image, its
    probability is the confidence, and it is right if the image has the label.

    Attributes
    ----------
    lower, upper
        Ends of the bin, 0..1.
    images
        Number of images in the bin.
    confidence
        Their mean confidence, 0..1.
    accuracy
        The share of them that is decided right, 0..1.
    """

    lower: float
    upper: float
    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Intervals:
    """The 95 % interval of each figure; ``None`` where the figure is ``None``."""

    accuracy: Bounds
    balanced_accuracy: Bounds | None
    auc: Bounds | None
    calibration_error: Bounds | None
    sensitivity: dict[str, Bounds | None]
    specificity: dict[str, Bounds | None]


@dataclass(frozen=True)
class Figures:
    """Decisions, ranking and calibration at one operating point.

    Attributes
    ----------
    images
        Number of images that were measured.
    operating_point, threshold
        Name and threshold of the operating point; no threshold takes the
        likeliest label, or is a multi-label task, which has ``thresholds``.
    accuracy
        Share of images that are decided right, 0..1; in a multi-label task,
        in all their labels.
    balanced_accuracy
        Mean sensitivity of the labels, 0..1; in a multi-label task, the mean
        of sensitivity and specificity of the labels that have both.
    auc
        AUC of the positive label, or the mean AUC of the labels; ``None`` for
        images of one class.
    calibration_error
        Expected calibration error, 0..1; ``None`` where only decisions are known.
    sensitivity, specificity, class_auc
        Figure of each label, 0..1; ``None`` where no image tells.
    confusion
        Counts: rows are true labels, columns decided ones. In a multi-label
        task, rows are labels, and columns are :data:`OUTCOMES`.
    reliability
        The bins that hold an image.
    intervals
        Intervals of these figures.
    thresholds
        Threshold of each label of a multi-label task; ``None`` in every other task.
    """

    images: int
    operating_point: str
    threshold: float | None
    accuracy: float
    balanced_accuracy: float
    auc: float | None
    calibration_error: float | None
    sensitivity: dict[str, float | None]
    specificity: dict[str, float | None]
    class_auc: dict[str, float | None]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[ReliabilityBin, ...]
    intervals: Intervals
    thresholds: dict[str, float] | None = None

    def images_of(self, place: int) -> int:
        """Return how many images have a label, by its place among the task's labels."""
        row = self.confusion[place]
        return sum(row if self.thresholds is None else row[:2])

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON; without thresholds where there are none."""
        stored = asdict(self)
        if self.thresholds is None:
            del stored["thresholds"]
        return stored


Metrics = dict[str, dict[str, Figures]]
"""Figures by split and name of the operating point."""


def stored_metrics(metrics: Metrics) -> dict[str, Any]:
    """Return metrics as manifests hold them."""
    return {
        split: {name: figures.to_dict() for name, figures in points.items()}
        for split, points in metrics.items()
    }
