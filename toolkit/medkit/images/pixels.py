"""Pixels of any depth and colour to 8-bit grey or RGB, and on to a tensor.

These are the rules ``colour`` and ``resize`` of the input contract; see
:mod:`medkit.images.contract`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.errors import ImageError
from medkit.images.contract import InputContract
from medkit.images.depth import NOTHING_DECLARED, Declared, FullScale, full_scale
from medkit.images.kernels import resized
from medkit.images.notes import ALPHA_IGNORED, DEPTH_CLIPPED, DEPTH_GUESSED

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How an image becomes upright, by its EXIF orientation (EXIF 3.0, 4.6.5.1)."""

_LEAST_ALPHA, _LEAST_VISIBLE = 8, 0.025
"""Alpha of 255 from which a pixel is visible, and the share of pixels that must be. Below, the
answer would be about black: then alpha is not meant."""

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
    found = _in_mode(resized(image, contract.resize, size), mode)
    return np.asarray(found, dtype=np.uint8).reshape(contract.shape)


@dataclass(frozen=True)
class EightBits:
    """An image in 8 bits, and what is to be said of the way there."""

    pixels: Image.Image
    notes: tuple[str, ...] = ()


def turned(image: Image.Image, orientation: object) -> Image.Image:
    """Return an image upright, by its EXIF orientation; what is no such number does nothing."""
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def to_eight_bits(image: Image.Image, declared: Declared = NOTHING_DECLARED) -> EightBits:
    """Return an image of any of Pillow's modes as 8-bit ``L`` or ``RGB``.

    Parameters
    ----------
    image
        The image.
    declared
        What the file says of its samples, if they have more than 8 bits.

    Raises
    ------
    ImageError
        As :func:`medkit.images.depth.full_scale`.
    """
    if image.mode.startswith(("I", "F")):
        return _from_deeper(image, declared)
    target = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        if not _is_visible(image):
            return EightBits(_without_alpha(image, target), (ALPHA_IGNORED,))
        return EightBits(_by_bands(image, target, lambda band: _on_black(band, target)))
    return EightBits(_in_mode(image, target))


def _from_deeper(image: Image.Image, declared: Declared) -> EightBits:
    """Bring samples of more than 8 bits to 8."""
    bands = (np.asarray(band) for _, band in _bands(image))
    scale = full_scale(bands, image.width * image.height, declared)
    notes = (DEPTH_GUESSED,) * scale.guessed + (DEPTH_CLIPPED,) * scale.clipped

    def shown(band: Image.Image) -> Image.Image:
        return Image.fromarray(scaled(np.asarray(band), scale))

    return EightBits(_by_bands(image, "L", shown), notes)


def _is_visible(image: Image.Image) -> bool:
    """Whether alpha lets any picture be seen: more than a few pixels, and more than a trace."""
    seen = 0
    for _, band in _bands(image):
        if "A" in band.getbands() or "a" in band.getbands():
            alpha = band.getchannel(len(band.getbands()) - 1)
        else:
            alpha = band.convert("RGBA").getchannel("A")
        seen += sum(alpha.histogram()[_LEAST_ALPHA:])
    return seen > _LEAST_VISIBLE * image.width * image.height


def _without_alpha(image: Image.Image, target: str) -> Image.Image:
    """Return the colours of an image whose alpha is not meant."""
    if image.mode in ("La", "RGBa"):
        # Colours that were multiplied by an alpha of zero are gone.
        raise ImageError("is wholly transparent, and its colours were multiplied by that")
    if image.mode in ("LA", "RGBA"):
        colours = [image.getchannel(name) for name in image.getbands()[:-1]]
        return Image.merge(target, colours) if len(colours) > 1 else colours[0]
    plain = image.copy()
    plain.info.pop("transparency", None)
    return plain.convert(target)


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


def scaled(values: NDArray[np.generic], scale: FullScale) -> NDArray[np.uint8]:
    """Return samples as bytes: black becomes 0, white 255, and what lies outside is clipped."""
    wide = (values.astype(np.float64) - scale.black) * (255.0 / (scale.value - scale.black))
    return np.rint(np.clip(wide, 0, 255)).astype(np.uint8)
