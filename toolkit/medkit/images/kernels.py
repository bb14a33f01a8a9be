"""The kernels by which images are resized: those of Pillow, TensorFlow and OpenCV.

Pillow's are Pillow itself. The others are computed here, in the order and the
precision of the library, so that a model sees what it was trained on where that
library is not installed. None depends on the machine: there is no sum whose
order the processor would choose.

============================  ==================================================
function                      the library's
============================  ==================================================
:func:`tf_bilinear`           ``tf.image.resize``, ``ResizeBilinear`` with
                              half-pixel centres
:func:`tf_bilinear_antialias` ``tf.image.resize`` with ``antialias=True``,
                              ``ScaleAndTranslate`` with a triangle
:func:`opencv_linear`         ``cv2.resize`` with ``INTER_LINEAR``
:func:`opencv_area`           ``cv2.resize`` with ``INTER_AREA``
============================  ==================================================

TensorFlow's results are floats. Here they are rounded to the nearest byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.errors import ImageError
from medkit.images.resize import Side, Sides, Size, kernel_of, sides_of

_BAND = 1 << 21
"""Samples that are computed at a time, so that intermediate results take little memory."""

_LONGEST = 1 << 15
"""Pixels of a side, once padded or resized, up to which Pillow's pixels are met exactly. Longer
ones belong to strips and huge images, and could take minutes: only what is kept is made."""


def resized(image: Image.Image, rule: str, size: Size) -> Image.Image:
    """Resize an image by a rule of :mod:`medkit.images.resize`.

    Parameters
    ----------
    image
        Mode ``L`` or ``RGB``.
    rule
        One of the known rules.
    size
        Width and height of the tensor, in pixels.

    Returns
    -------
    Image.Image
        Of that size, in the mode of ``image``.

    Raises
    ------
    ImageError
        If black is put around a strip so thin that it has less than a pixel left.
    """
    sides = sides_of(rule, image.size, size)
    if any(side.length * side.full < side.region for side in sides):
        raise ImageError(
            "is a strip of {}x{} pixels: padded to the model's {}x{}, it is thinner than a pixel; "
            "crop it".format(*image.size, *size)
        )
    part = _function(kernel_of(rule).function)(image, sides)
    if part.size == size:
        return part
    whole = Image.new(image.mode, size)
    whole.paste(part, (sides[0].offset, sides[1].offset))
    return whole


@cache
def _function(name: str) -> Callable[[Image.Image, Sides], Image.Image]:
    """Return a kernel by its module and name."""
    module, _, attribute = name.partition(":")
    found: Callable[[Image.Image, Sides], Image.Image] = getattr(import_module(module), attribute)
    return found


# Pillow


def _by_pillow(resample: Image.Resampling, image: Image.Image, sides: Sides) -> Image.Image:
    """Resize by Pillow. At the borders of a region, its kernels see what lies around."""
    across, down = sides
    if across.is_plain and down.is_plain:
        box = (across.start, down.start, across.stop, down.stop)
        return image.resize((across.full, down.full), resample, box)
    # Pillow rounds to bytes between the two passes. Since version 13, it resizes down first
    # where that saves work.
    shrunk_across, shrunk_down = (side.region - side.full for side in sides)
    down_first = shrunk_down > max(2 * shrunk_across, 0)
    if max(max(side.region, side.full) for side in sides) > _LONGEST:
        down_first = image.height > image.width  # the other way would take minutes
    if down_first:
        return _across(resample, _down(resample, image, down), across)
    return _down(resample, _across(resample, image, across), down)


def _down(resample: Image.Resampling, image: Image.Image, side: Side) -> Image.Image:
    """Resize the columns of an image; see :func:`_across`."""
    turned = _across(resample, image.transpose(Image.Transpose.TRANSPOSE), side)
    return turned.transpose(Image.Transpose.TRANSPOSE)


def _across(resample: Image.Resampling, image: Image.Image, side: Side) -> Image.Image:
    """Resize along one side, some rows at a time: with the black around, all could be huge."""
    left, right = min(side.start, 0), max(side.stop, side.length)
    made = range(side.full) if side.full <= _LONGEST else side.kept
    begin, end = (
        side.start - left + side.region * at / side.full for at in (made.start, made.stop)
    )
    rows = max(_BAND // max(right - left, len(made)), 1)
    whole = Image.new(image.mode, (len(side.kept), image.height))
    for top in range(0, image.height, rows):
        high = min(rows, image.height - top)
        band = image.crop((left, top, right, top + high))
        wide = band.resize((len(made), high), resample, (begin, 0, end, high))
        first = side.kept.start - made.start
        whole.paste(wide.crop((first, 0, first + len(side.kept), high)), (0, top))
    return whole


pillow_nearest = partial(_by_pillow, Image.Resampling.NEAREST)
pillow_bilinear = partial(_by_pillow, Image.Resampling.BILINEAR)
pillow_bicubic = partial(_by_pillow, Image.Resampling.BICUBIC)


# What the others share


@dataclass(frozen=True)
class _Taps:
    """Which pixels of a side each kept pixel is made of.

    Attributes
    ----------
    index
        Pixels of the image, shape (kept, taps).
    weight
        Their weights, of the same shape. Those of black around the image are 0.
    """

    index: NDArray[np.int64]
    weight: NDArray[Any]

    @classmethod
    def of(cls, side: Side, index: NDArray[np.int64], weight: NDArray[Any]) -> _Taps:
        """Make taps of pixels of the region. Those before and after it count as its outermost."""
        place = np.clip(index, 0, side.region - 1) + side.start
        inside = (place >= 0) & (place < side.length)
        return cls(np.clip(place, 0, side.length - 1), weight * inside)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return an image's samples, shape (height, width, channels)."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def _image(samples: NDArray[Any]) -> Image.Image:
    """Return samples, shape (height, width, channels), as the nearest bytes."""
    whole = samples if samples.dtype.kind == "i" else np.rint(samples)
    found = np.clip(whole, 0, 255).astype(np.uint8)
    return Image.fromarray(found[..., 0] if found.shape[2] == 1 else found)


def _weighted(pixels: NDArray[np.uint8], across: _Taps, down: _Taps) -> NDArray[Any]:
    """Add up the pixels of all taps, across first, in the type of the weights."""
    channels = pixels.shape[2]
    found = np.zeros((len(down.index), len(across.index), channels), down.weight.dtype)
    seen = across.weight.any(axis=1)  # of a padded image, the other columns are black
    columns, shares = across.index[seen], across.weight[seen]
    wide = len(columns)
    tallest = int((down.index.max(axis=1) - down.index.min(axis=1)).max()) + 1
    rows = max(_BAND // max(tallest * wide * channels, 1), 1)
    for top in range(0, len(found), rows):
        index, weight = down.index[top : top + rows], down.weight[top : top + rows]
        first, last = int(index.min()), int(index.max())
        band = np.zeros((last - first + 1, wide, channels), across.weight.dtype)
        for tap in range(columns.shape[1]):
            taken = np.take(pixels[first : last + 1], columns[:, tap], axis=1)
            band += taken * shares[:, tap, np.newaxis]
        total = np.zeros((len(index), wide, channels), found.dtype)
        for tap in range(index.shape[1]):
            total += np.take(band, index[:, tap] - first, axis=0) * _column(weight[:, tap])
        found[top : top + rows, seen] = total
    return found


def _interpolated_across(
    pixels: NDArray[np.uint8], across: _Taps, down: _Taps
) -> Iterator[NDArray[Any]]:
    """Give what two taps across make of the rows of the first and of the second tap down."""
    for row in (0, 1):
        left, right = (
            pixels[down.index[:, row, np.newaxis], across.index[:, column]]
            * across.weight[:, column, np.newaxis]
            for column in (0, 1)
        )
        yield left + right


def _column(weights: NDArray[Any]) -> NDArray[Any]:
    """Return weights of rows so that they apply to (height, width, channels)."""
    return weights[:, np.newaxis, np.newaxis]


# TensorFlow


def tf_bilinear(image: Image.Image, sides: Sides) -> Image.Image:
    """Interpolate between two pixels each way, whatever lies between them when it shrinks."""
    across, down = map(_tf_two_taps, sides)
    above, below = _interpolated_across(_pixels(image), across, down)
    found = above * _column(down.weight[:, 0]) + below * _column(down.weight[:, 1])
    return _image(found)


def _tf_two_taps(side: Side) -> _Taps:
    kept = np.array(side.kept, np.float32)
    scale = np.float32(side.region) / np.float32(side.full)
    place = (kept + np.float32(0.5)) * scale - np.float32(0.5)
    low = np.floor(place)
    share = place - low
    index = low.astype(np.int64)
    return _Taps.of(
        side, np.stack([index, index + 1], axis=1), np.stack([1 - share, share], axis=1)
    )


def tf_bilinear_antialias(image: Image.Image, sides: Sides) -> Image.Image:
    """Weigh all pixels that a pixel covers by a triangle."""
    across, down = map(_tf_triangle, sides)
    return _image(_weighted(_pixels(image), across, down))


def _tf_triangle(side: Side) -> _Taps:
    single, half = np.float32, np.float32(0.5)
    inverse = single(1) / (single(side.full) / single(side.region))
    reach = max(inverse, single(1))
    centre = (np.array(side.kept, single) + half) * inverse
    last = side.region - 1
    start = np.clip(np.ceil(centre - reach - half), 0, last).astype(np.int64)
    stop = np.clip(np.floor(centre + reach - half), 0, last).astype(np.int64)
    index = start[:, np.newaxis] + np.arange(int((stop - start).max()) + 1)
    distance = np.abs(index.astype(single) + half - centre[:, np.newaxis]) * (single(1) / reach)
    weight = np.maximum(single(1) - distance, single(0))
    weight[index > stop[:, np.newaxis]] = 0
    return _Taps.of(side, index, weight / weight.sum(axis=1, keepdims=True, dtype=single))


# OpenCV

_UNIT = 2048
"""What a weight of 1 is in OpenCV's fixed-point numbers (``INTER_RESIZE_COEF_SCALE``)."""

_LEAST_SHARE = 1e-3
"""Share of a pixel up to which OpenCV's average leaves it out."""


def opencv_linear(image: Image.Image, sides: Sides) -> Image.Image:
    """Interpolate as :func:`tf_bilinear`, in OpenCV's fixed-point numbers."""
    return _fixed_point(image, sides, _opencv_place)


_Places = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Where kept pixels lie: the pixel of the region before, and the share of the one after."""


def _opencv_place(side: Side) -> _Places:
    place = ((np.array(side.kept) + 0.5) * _opencv_scale(side) - 0.5).astype(np.float32)
    low = np.floor(place)
    return low.astype(np.int64), place - low


def _opencv_scale(side: Side) -> float:
    """Return pixels of the region for a resized one, rounded as in OpenCV."""
    return 1 / (side.full / side.region)


def _fixed_point(
    image: Image.Image, sides: Sides, place_of: Callable[[Side], _Places]
) -> Image.Image:
    """Interpolate in whole numbers between the pixels that ``place_of`` tells."""
    index, share = place_of(sides[0])
    # OpenCV gives all weight to one pixel at the edges across, and not down: roundings differ.
    last = sides[0].region - 1
    share = np.where((index < 0) | (index >= last), np.float32(0), share)
    across = _opencv_taps(sides[0], np.clip(index, 0, last), share)
    down = _opencv_taps(sides[1], *place_of(sides[1]))
    lines = _interpolated_across(_pixels(image), across, down)
    above, below = (
        ((line >> 4) * _column(down.weight[:, row])) >> 16 for row, line in enumerate(lines)
    )
    return _image((above + below + 2) >> 2)


def _opencv_taps(side: Side, index: NDArray[np.int64], share: NDArray[np.float32]) -> _Taps:
    """Return taps with weights in whole numbers."""
    weight = np.stack([np.float32(1) - share, share], axis=1) * np.float32(_UNIT)
    taken = np.stack([index, index + 1], axis=1)
    return _Taps.of(side, taken, np.rint(weight).astype(np.int32))


def opencv_area(image: Image.Image, sides: Sides) -> Image.Image:
    """Average the area that a pixel covers; interpolate if a side becomes longer."""
    scales = [_opencv_scale(side) for side in sides]
    if min(scales) < 1:
        return _fixed_point(image, sides, _opencv_area_place)
    pixels = _pixels(image)
    if all(abs(scale - round(scale)) < np.finfo(float).eps for scale in scales):
        found = _weighted(pixels, *map(_opencv_blocks, sides))
        area = math.prod(map(round, scales))
        if all(round(scale) == 2 for scale in scales):
            return _image((found.astype(np.int64) + 2) >> 2)
        return _image(found.astype(np.float32) * (np.float32(1) / np.float32(area)))
    return _image(_weighted(pixels, *map(_opencv_area_taps, sides)))


def _opencv_area_place(side: Side) -> _Places:
    kept = np.array(side.kept)
    index = np.floor(kept * _opencv_scale(side)).astype(np.int64)
    share = ((kept + 1) - (index + 1) * (side.full / side.region)).astype(np.float32)
    return index, np.where(share <= 0, np.float32(0), share - np.floor(share))


def _opencv_blocks(side: Side) -> _Taps:
    """Return taps of the pixels of whole blocks, with the weight 1: sums are exact in float64."""
    size = round(_opencv_scale(side))
    index = np.array(side.kept)[:, np.newaxis] * size + np.arange(size)
    return _Taps.of(side, index, np.ones(index.shape))


def _opencv_area_taps(side: Side) -> _Taps:
    """Return the pixels that each covers, with the covered share of the first and the last."""
    scale = _opencv_scale(side)
    begin = np.array(side.kept) * scale
    end = begin + scale
    cell = np.minimum(scale, side.region - begin)
    stop = np.minimum(np.floor(end), side.region - 1)
    start = np.minimum(np.ceil(begin), stop)
    before, after = start - begin, np.minimum(np.minimum(end - stop, 1.0), cell)
    index = start[:, np.newaxis].astype(np.int64) + np.arange(-1, math.ceil(scale) + 1)
    weight = np.where(index < stop[:, np.newaxis], 1.0, 0.0)
    weight[:, 0] = np.where(before > _LEAST_SHARE, before, 0)
    weight[index == stop[:, np.newaxis]] = np.where(end - stop > _LEAST_SHARE, after, 0)
    return _Taps.of(side, index, (weight / cell[:, np.newaxis]).astype(np.float32))
