"""Pixels of any depth and colour to 8-bit grey or RGB, and on to a tensor.

These are the rules ``colour`` and ``resize`` of the input contract; see
:mod:`medkit.images.contract`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.errors import ImageError
from medkit.images.contract import InputContract

_DEPTHS = (8, 10, 12, 14, 16)
"""Bits that a scanner's samples may have."""

_BAND = 1 << 20
"""Pixels that are changed at a time, so that intermediate copies take little memory."""


def image_to_tensor(image: Image.Image, contract: InputContract) -> NDArray[np.uint8]:
    """Turn an 8-bit image into the tensor that a contract asks for.

    Parameters
    ----------
    image
        Mode ``L`` or ``RGB``, upright.
    contract
        The model's.

    Returns
    -------
    numpy.ndarray
        uint8, shape ``contract.shape``, values 0..255.
    """
    mode = "L" if contract.channels == 1 else "RGB"
    size = contract.width, contract.height
    if mode == "L":
        image = _in_mode(image, mode)
    # A grey image becomes three channels when it is small: every channel is the same.
    resized = _in_mode(image.resize(size, Image.Resampling.BILINEAR), mode)
    return np.asarray(resized, dtype=np.uint8).reshape(contract.shape)


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of any of Pillow's modes as 8-bit ``L`` or ``RGB``.

    Raises
    ------
    ImageError
        If samples are negative, not finite, or above 65535.
    """
    if image.mode.startswith(("I", "F")):
        scale = _scale(image)
        return _by_bands(image, "L", lambda band: _scaled(band, scale))
    target = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _by_bands(image, target, lambda band: _on_black(band, target))
    return _in_mode(image, target)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return an image converted, without a copy if it need not be."""
    return image if image.mode == mode else image.convert(mode)


def _by_bands(
    image: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Change an image pixel by pixel, some rows at a time."""
    if image.width * image.height <= _BAND:
        return change(image)
    changed = Image.new(mode, image.size)
    for top, band in _bands(image):
        changed.paste(change(band), (0, top))
    return changed


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Give rows of an image from the top, with the first one's number."""
    rows = max(_BAND // image.width, 1)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_black(image: Image.Image, target: str) -> Image.Image:
    rgba = image.convert("RGBA")
    flat = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
    flat.alpha_composite(rgba)
    return flat.convert(target)


def _scale(image: Image.Image) -> float:
    """Return what the deeper samples of an image are divided by."""
    accepted = "accepted: 0 to 65535, or 0.0 to 1.0"
    peak, is_float = 0.0, False
    for _, band in _bands(image):
        samples = np.asarray(band)
        is_float = samples.dtype.kind == "f"
        if not np.isfinite(samples).all() or samples.min() < 0:
            raise ImageError(f"has negative or not-finite samples; {accepted}")
        peak = max(peak, float(samples.max()))
    if is_float and peak <= 1.0:
        return 1.0
    scale = next((2.0**depth - 1 for depth in _DEPTHS if peak < 2**depth), None)
    if scale is None:
        raise ImageError(f"has samples up to {peak:g}; {accepted}")
    return scale


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.rint(values * (255.0 / scale)).astype(np.uint8))
