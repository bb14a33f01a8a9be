"""The figures of a model on one set of labelled images, as manifests hold them.

They are computed in :mod:`medkit.evaluation.metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass

Bounds = tuple[float, ...]
"""Both ends of a 95 % interval."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Images of about the same confidence.

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
        likeliest label.
    accuracy, balanced_accuracy
        0..1.
    auc
        AUC of the positive label, or the mean AUC of the labels; ``None`` for
        images of one class.
    calibration_error
        Expected calibration error, 0..1; ``None`` where only decisions are known.
    sensitivity, specificity, class_auc
        Figure of each label, 0..1; ``None`` where no image tells.
    confusion
        Counts: rows are true labels, columns decided ones.
    reliability
        The bins that hold an image.
    intervals
        Intervals of these figures.
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


Metrics = dict[str, dict[str, Figures]]
"""Figures by split and name of the operating point."""
