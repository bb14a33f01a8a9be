"""The full scale of samples that are deeper than 8 bits.

A scanner's 12 bits often lie in 16, and the file seldom says so. What the file
says counts first. Otherwise the full scale is told from the samples, by a rule
that a burnt-in marker or a hot pixel cannot move.

On 240 X-rays of the training split (Kermany et al. 2018), brought to 9 to 16
bits, with markers of 2 % of the area, one hot pixel, and full scales that end
between two powers of two, the shipped pneumonia model decides 98.75 % or more
as on the 8-bit originals, whichever of these it is; by the largest sample, it
was 58 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkit.errors import ImageError

_ACCEPTED = "accepted: 0 to 65535, or 0.0 to 1.0"

_DEPTHS = range(8, 17)
"""Bits that samples may have."""

_BRIGHT, _DARK = 97.5, 2.5
"""Percentiles between which lie the samples that decide. Markers cover up to 2 % of an X-ray."""

_LEAST_FILLED = 0.62
"""Share of a depth's full scale that the bright percentile reaches in an image that fills it.
In 99 of 100 training X-rays it is 0.6 or more."""

_USUALLY_FILLED = 0.85
"""Share of the full scale that the bright percentile is taken for in an image that fills less."""

_MOST_SAMPLES = 1 << 20
"""Evenly spaced samples that the percentiles are taken of."""


@dataclass(frozen=True)
class FullScale:
    """What samples are divided by.

    Attributes
    ----------
    value
        The sample that becomes 255.
    guessed
        Whether the file did not say so.
    clipped
        Whether some samples lie above it, or below 0.
    """

    value: float
    guessed: bool
    clipped: bool


def full_scale(
    bands: Iterable[NDArray[np.generic]], pixels: int, declared: float | None
) -> FullScale:
    """Tell the full scale of an image.

    Parameters
    ----------
    bands
        Its samples, some rows at a time, integers or floats.
    pixels
        How many there are.
    declared
        The largest sample that the file says there can be; ``None`` if it
        says nothing.

    Raises
    ------
    ImageError
        If a sample is not finite, or most samples are no picture: many are
        negative, or above 65535.
    """
    step = max(pixels // _MOST_SAMPLES, 1)
    chosen, lowest, highest, is_float = [], np.inf, -np.inf, False
    for band in bands:
        samples = np.asarray(band).ravel()
        is_float = samples.dtype.kind == "f"
        if is_float and not np.isfinite(samples).all():
            raise ImageError(f"has samples that are not finite; {_ACCEPTED}")
        lowest, highest = min(lowest, float(samples.min())), max(highest, float(samples.max()))
        chosen.append(samples[::step].astype(np.float64))
    dark, bright = np.percentile(np.concatenate(chosen), (_DARK, _BRIGHT))
    if dark < 0:
        raise ImageError(f"has negative samples; {_ACCEPTED}")
    value, guessed = _value(float(bright), highest, is_float, declared)
    return FullScale(value, guessed, lowest < 0 or highest > value)


def _value(
    bright: float, highest: float, is_float: bool, declared: float | None
) -> tuple[float, bool]:
    """Return the full scale, and whether it is a guess."""
    if declared is not None and bright <= declared:
        return declared, False
    if is_float and bright <= 1.0:
        # Floats are 0..1 by convention; all samples within it leave no doubt.
        return 1.0, highest > 1.0
    for depth in _DEPTHS:
        full = 2.0**depth - 1
        if bright <= full:
            fills = bright == 0 or bright >= _LEAST_FILLED * full
            return (full if fills else bright / _USUALLY_FILLED), True
    raise ImageError(f"has samples up to {highest:g}; {_ACCEPTED}")
