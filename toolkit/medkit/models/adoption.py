"""What a manifest holds of a model that was trained elsewhere: how its pixels were found."""

from __future__ import annotations

from dataclasses import dataclass

UNCALIBRATED = "nothing: uncalibrated"
"""What temperature and operating points were chosen on if there were no labelled images."""


@dataclass(frozen=True)
class MeasuredRule:
    """A pixel rule and a resize that were tried.

    Attributes
    ----------
    pixels, resize
        Names of both.
    accuracy
        Share of the images whose label was right, 0..1; in a multi-label task
        of the labels.
    loss
        Mean log loss of the true labels.
    verdict
        What it is beside the best; see
        :class:`medkit_exporters.adoption.measuring.Candidate`.
    """

    pixels: str
    resize: str
    accuracy: float
    loss: float
    verdict: str


@dataclass(frozen=True)
class Adoption:
    """How a model that was trained elsewhere was adopted.

    Attributes
    ----------
    file, sha256
        Name and hash of the file that was adopted; the hash of a folder is empty.
    pixels
        The pixel rule that went into the graph.
    calibrated
        Whether temperature and operating points were fitted to labelled images.
    images
        Number of images that measured.
    measured
        What was tried on them, the best first; empty if pixel rule and resize
        were given.
    """

    file: str
    sha256: str
    pixels: str
    calibrated: bool
    images: int = 0
    measured: tuple[MeasuredRule, ...] = ()
