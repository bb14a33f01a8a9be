"""What a manifest holds of a model that was trained elsewhere: how its pixels were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

UNCALIBRATED = "nothing: uncalibrated"
"""What temperature and operating points were chosen on if there were no labelled images."""


BEST, ALIKE, SAME, UNFIT, WORSE = "best", "alike", "same", "unfit", "worse"
"""What a rule is beside the best: within the noise of it; the very same pixels as one that is as
good or better; as good once it has another temperature, and much too sure or unsure as it is; or
worse."""

_SHOWN = 8
"""Rules that a table shows, beside those that are not worse and the best of each pixel rule."""


@dataclass(frozen=True)
class MeasuredRule:
    """A pixel rule and a resize that were tried.

    Attributes
    ----------
    pixels, resize
        Names of both.
    accuracy
        Share of the images whose likeliest label is right; in a multi-label
        task, of the labels that 0.5 decides right. 0..1.
    loss
        Mean log loss of the true labels, under the temperature that suits the
        rule best: so it does not count how sure a model is of itself.
    verdict
        :data:`BEST`, :data:`ALIKE`, :data:`SAME`, :data:`UNFIT` or :data:`WORSE`.
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


def worth_showing(measured: Sequence[MeasuredRule]) -> list[MeasuredRule]:
    """Return the rules for a table: the first, those like the best, and each pixel rule's best.

    Of several that make the same pixels, only the first is among them.

    Parameters
    ----------
    measured
        The rules, the best first.
    """
    shown, pixels = [], set()
    for place, each in enumerate(measured):
        told = each.verdict in (BEST, ALIKE)
        if each.verdict != SAME and (place < _SHOWN or told or each.pixels not in pixels):
            shown.append(each)
        pixels.add(each.pixels)
    return shown
