"""Samples of any depth, as a file stores them, to 8-bit grey or RGB.

Pillow has no images of deep samples with several colours or with alpha, so
such samples come as arrays. What becomes of them is what becomes of an image
in :mod:`medkit.images.pixels`: the rule ``colour`` of the input contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.errors import ImageError
from medkit.images.depth import NOTHING_DECLARED, Declared, FullScale, full_scale
from medkit.images.notes import ALPHA_IGNORED, DEPTH_CLIPPED, DEPTH_GUESSED
from medkit.images.pixels import EightBits, scaled, to_eight_bits

_BAND = 1 << 20
"""Samples that are changed at a time, so that intermediate copies take little memory."""

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}

Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """The samples of an image.

    Attributes
    ----------
    values
        Shape (rows, columns, samples), integers or floats. The colours come
        first, then alpha; further samples are passed over.
    colours
        1 for grey, 3 for RGB, 4 for CMYK.
    alpha
        Whether alpha follows the colours.
    premultiplied
        Whether the colours were multiplied by it.
    declared
        What the file says of the samples.
    zero_is_white
        Whether samples count darkness.
    """

    values: Array
    colours: int
    alpha: bool = False
    premultiplied: bool = False
    declared: Declared = NOTHING_DECLARED
    zero_is_white: bool = False

    def to_eight_bits(self) -> EightBits:
        """Return the image as 8-bit ``L`` or ``RGB``, and what is to be said of the way there.

        Raises
        ------
        ImageError
            As :func:`medkit.images.depth.full_scale`. Also if samples count
            darkness down from a value that the file does not tell, and if
            all colours were multiplied by an alpha of zero.
        """
        values = self.values[..., : self.colours]
        alpha = self.values[..., self.colours : self.colours + 1]
        scale, notes = self._scale(values)

        def shown(band: Array) -> NDArray[np.uint8]:
            levels = (
                scale.black + scale.value - band.astype(np.float64) if self.zero_is_white else band
            )
            return scaled(levels, scale)

        image = _by_bands(values, "CMYK" if self.colours == 4 else _MODES[self.colours], shown)
        if self.colours == 4:
            image = to_eight_bits(image).pixels
        if self.alpha:
            if not self.premultiplied:
                opaque = _opaque(alpha, self.declared, scale.value)
                image.putalpha(_by_bands(alpha, "L", lambda band: scaled(band, opaque)))
            elif not any(band.any() for band in _bands(alpha)):
                if not any(band.any() for band in _bands(values)):
                    raise ImageError(
                        "is wholly transparent, and its colours were multiplied by that"
                    )
                notes = (*notes, ALPHA_IGNORED)
            # Otherwise the colours are already those that lie on black.
        found = to_eight_bits(image)
        return EightBits(found.pixels, (*notes, *found.notes))

    def _scale(self, values: Array) -> tuple[FullScale, tuple[str, ...]]:
        """Return the full scale of the colours, and notes on it."""
        declared = self.declared
        refusal = "a TIFF of more than 8 bits whose zero means white; invert it"
        if self.zero_is_white and not declared.whites:
            raise ImageError(refusal)
        if self.colours == 4 and not declared.whites:
            # What tells the full scale of light from bright samples says nothing of ink.
            most = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
            declared = Declared((most,))
        if values.dtype == np.uint8:
            white = declared.whites[0] if declared.whites else 255.0
            return FullScale(white, guessed=False, clipped=False), ()
        if self.alpha and self.premultiplied and not declared.whites:
            # No colour is brighter than the alpha that it was multiplied by.
            alpha = self.values[..., self.colours : self.colours + 1]
            declared = Declared((_opaque(alpha, declared, 0.0).value,))
        found = full_scale(_bands(values), values.shape[0] * values.shape[1], declared)
        if self.zero_is_white and found.guessed:
            raise ImageError(refusal)  # the file names a white that its samples exceed
        return found, (DEPTH_GUESSED,) * found.guessed + (DEPTH_CLIPPED,) * found.clipped


def _opaque(alpha: Array, declared: Declared, white: float) -> FullScale:
    """Return the alpha of an opaque pixel: the largest number of the depth that the image has.

    It is the smallest that holds all alpha and the full scale of the colours.
    """
    most = max(float(band.max()) for band in _bands(alpha))
    if not np.isfinite(most):
        raise ImageError("has alpha that is not finite; accepted: 0.0 to 1.0")
    if alpha.dtype.kind == "f":
        depths: tuple[float, ...] = (1.0,)
    else:
        depths = tuple(2.0**bits - 1 for bits in range(8, 17))
        most = max(most, min(white, depths[-1]))
    opaque = next((full for full in (*declared.whites, *depths) if most <= full), most)
    return FullScale(max(opaque, 1.0), guessed=False, clipped=False)


def _bands(values: Array) -> Iterator[Array]:
    """Give rows from the top."""
    rows = max(_BAND // (values.shape[1] * values.shape[2]), 1)
    for top in range(0, values.shape[0], rows):
        yield values[top : top + rows]


def _by_bands(
    values: Array, mode: str, change: Callable[[Array], NDArray[np.uint8]]
) -> Image.Image:
    """Return an image of changed samples, some rows at a time."""
    image, top = Image.new(mode, (values.shape[1], values.shape[0])), 0
    for band in _bands(values):
        changed = np.ascontiguousarray(change(band))
        flat = changed[..., 0] if changed.shape[2] == 1 else changed
        image.paste(Image.frombytes(mode, (flat.shape[1], flat.shape[0]), flat.tobytes()), (0, top))
        top += band.shape[0]
    return image
