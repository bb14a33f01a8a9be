"""The full scale of samples that are deeper than 8 bits.

A scanner's 12 bits often lie in 16, and the file seldom says so. What the file
says counts first. Otherwise the full scale is told from the samples, by a rule
that a burnt-in marker or a hot pixel cannot move. Where even that cannot tell,
the image is refused.

The numbers below were chosen on 240 X-rays of the training split (Kermany et
al. 2018), brought to 9 to 16 bits, with markers of up to 2 % of the area, one
hot pixel, and full scales that end between two powers of two. The shipped
pneumonia model decides 98.75 % or more of them as their 8-bit originals,
whichever of these it is. If the largest sample decides, it is 58 %.
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

_DARK, _MOST, _BRIGHT = 2.5, 85.0, 97.5
"""Percentiles. The first and the last are the range that decides: markers cover up to 2 % of
an X-ray, and overshoot of a resize is as rare."""

_LEAST_FILLED = 0.62
"""Share of a depth's full scale that the bright percentile reaches in an image that fills it.
In 99 of 100 training X-rays it is 0.6 or more."""

_USUALLY_FILLED = 0.85
"""Share of the full scale that the bright percentile is taken for in an image that fills less."""

_LEAST_MOST = 0.25
"""Share of the bright percentile below which 85 % of the samples do not lie in a picture. In
600 X-rays and 600 dermoscopy images (ISIC) of the training splits it is 0.74 or more. Where it
is less, the brightest samples are no part of the picture, or most of it is empty."""

_OVERSHOOT = 0.1
"""Share of the full scale by which a resize brings samples beyond black and white."""

_MOST_SAMPLES = 1 << 20
"""Evenly spaced samples that the percentiles are taken of."""


@dataclass(frozen=True)
class Declared:
    """What a file says of its samples.

    Attributes
    ----------
    whites
        The largest sample that there can be; several in ascending order if
        the file can be read in several ways; empty if it says nothing.
    black
        The sample that is black, at most 0.
    shifted_by
        Bits below the ones that count, where they may lie at the top. If they
        are empty in all samples, the last of ``whites`` counts.
    """

    whites: tuple[float, ...] = ()
    black: float = 0.0
    shifted_by: int = 0


NOTHING_DECLARED = Declared()


@dataclass(frozen=True)
class FullScale:
    """What samples are brought to 0..255 by.

    Attributes
    ----------
    value
        The sample that becomes 255.
    guessed
        Whether the file did not say so.
    clipped
        Whether some samples lie above it, or below black.
    black
        The sample that becomes 0.
    """

    value: float
    guessed: bool
    clipped: bool
    black: float = 0.0


def full_scale(
    bands: Iterable[NDArray[np.generic]],
    pixels: int,
    declared: Declared = NOTHING_DECLARED,
) -> FullScale:
    """Tell the full scale of an image.

    Parameters
    ----------
    bands
        Its samples, some rows at a time, integers or floats.
    pixels
        How many there are.
    declared
        What the file says of them.

    Raises
    ------
    ImageError
        If a sample is not finite, if many are below black or above 65535, or
        if most lie so far below the brightest that nothing tells the full scale.
    """
    step = max(pixels // _MOST_SAMPLES, 1)
    chosen, lowest, highest, is_float = [], np.inf, -np.inf, False
    low_bits = 0
    for band in bands:
        samples = np.asarray(band)
        is_float = samples.dtype.kind == "f"
        if is_float and not np.isfinite(samples).all():
            raise ImageError(f"has samples that are not finite; {_ACCEPTED}")
        lowest, highest = min(lowest, float(samples.min())), max(highest, float(samples.max()))
        if declared.shifted_by:
            low_bits |= int(np.bitwise_or.reduce(samples, axis=None))
        by_pixel = samples.reshape(-1, samples.shape[2] if samples.ndim == 3 else 1)
        chosen.append(by_pixel[::step].ravel().astype(np.float64))
    dark, most, bright = (
        float(value)
        for value in np.percentile(np.concatenate(chosen), (_DARK, _MOST, _BRIGHT)) - declared.black
    )
    black = declared.black
    if dark < -_OVERSHOOT * max(bright, 0):
        raise ImageError(f"has negative samples; {_ACCEPTED}")
    whites = _believable(declared, bright, is_float)
    in_doubt = False
    if _is_ambiguous(declared) and bright <= whites[0]:
        is_shifted = low_bits % 2**declared.shifted_by == 0
        whites, in_doubt = whites[-1:] if is_shifted else whites, not is_shifted
    elif whites and not _is_depth(whites[0] - black):
        # A hot pixel may have set the largest sample that a file names.
        in_doubt = bright < _LEAST_FILLED * (whites[0] - black)
    value = next((white for white in whites if bright <= white - black), None)
    if value is not None:
        return FullScale(value, in_doubt, lowest < black or highest > value, black)
    if bright > 2.0 ** _DEPTHS[-1] - 1:
        raise ImageError(f"has samples up to {highest:g}; {_ACCEPTED}")
    told = _told_by(most, bright, is_float)
    if told is None:
        raise ImageError(
            f"has samples up to {highest:g}, most far below; "
            "nothing tells which of them is white; store the image with 8 bits"
        )
    # All samples of floats within 0..1 leave no doubt.
    guessed = not is_float or told != 1.0 or highest - black > 1.0
    return FullScale(told + black, guessed, lowest < black or highest > told + black, black)


def _believable(declared: Declared, bright: float, is_float: bool) -> tuple[float, ...]:
    """Return the whites that a file names and that can be its full scale.

    The tags of TIFF name the largest sample that occurs, and writers mean by
    it either that, or the largest that there can be.
    """
    ranges = [white - declared.black for white in declared.whites]
    return tuple(
        white
        for white, wide in zip(declared.whites, ranges, strict=True)
        # Floats of 0..1 keep their convention, whatever occurs in them.
        if not (is_float and white < 1.0) and (_is_depth(wide) or bright >= _LEAST_MOST * wide)
    )


def _is_depth(wide: float) -> bool:
    """Whether a range is that of all samples of some bits, or of floats."""
    return wide == 1.0 or wide + 1 in [2.0**depth for depth in _DEPTHS]


def _is_ambiguous(declared: Declared) -> bool:
    """Whether a dark picture could lie at the top of its bits, and a bright one at the bottom.

    Where the two whites differ by more than some times, no picture is so dark.
    """
    whites = declared.whites
    return declared.shifted_by > 0 and whites[0] >= _LEAST_MOST / 2 * whites[-1]


def _told_by(most: float, bright: float, is_float: bool) -> float | None:
    """Return the full scale that percentiles tell, counted from black; ``None`` if none."""
    if is_float and bright <= 1.0 + _OVERSHOOT:
        return 1.0  # floats are 0..1 by convention
    if most < _LEAST_MOST * bright:
        return None
    full = next(2.0**depth - 1 for depth in _DEPTHS if bright <= 2.0**depth - 1)
    fills = bright == 0 or bright >= _LEAST_FILLED * full
    return full if fills else bright / _USUALLY_FILLED
