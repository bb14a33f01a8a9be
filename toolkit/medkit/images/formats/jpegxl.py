"""JPEG XL, decoded by imagecodecs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.depth import NOTHING_DECLARED
from medkit.images.formats.extra import need
from medkit.images.formats.jpeg_deep import declared_by
from medkit.images.formats.pillow_limits import check_expansion, check_size
from medkit.images.formats.registry import Decoded
from medkit.images.limits import Limits
from medkit.images.notes import SEVERAL_FRAMES
from medkit.images.samples import Samples

_CODESTREAM = b"\xff\x0a"
_BOXES = (b"jxlc", b"jxlp")
_MOST_BOXES = 100

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Widths and heights to each other, by number from 1 (ISO 18181-1, D.2)."""

_HEADER = 40  # bytes that are looked at

_MEMORY = 40
"""Bytes that decoding takes for each pixel: floats of four channels, twice, and the samples."""


@dataclass(frozen=True)
class JxlHeader:
    """What a codestream begins with.

    Attributes
    ----------
    size
        Width and height in pixels.
    bits
        Bits of a sample; 0 for floats, and where it is not told.
    animated
        Whether there may be several frames.
    """

    size: tuple[int, int]
    bits: int
    animated: bool


def decode(file: BoundedFile, limits: Limits) -> Decoded:
    """Decode a JPEG XL's first frame; see :mod:`medkit.images.formats.registry`."""
    content = file.read()
    header = read_header(_codestream(content))
    if header is None:
        raise ImageError("cannot be decoded: a JPEG XL without its header")
    size = header.size
    check_size(size, limits, _MEMORY)
    check_expansion(4 * size[0] * size[1], _MEMORY * size[0] * size[1], file, limits)
    need("read JPEG XL", "imagecodecs")
    import imagecodecs

    values: Any = imagecodecs.jpegxl_decode(content, index=0)
    if sorted(values.shape[:2]) != sorted(size):  # it is upright already
        raise ImageError("a JPEG XL of another size than its header says")
    samples = np.asarray(values).reshape(*values.shape[:2], -1)
    count = samples.shape[2]
    if count > 4:
        raise ImageError(f"a JPEG XL of {count} samples; accepted: grey and RGB, and alpha")
    found = Samples(
        samples,
        1 if count < 3 else 3,
        alpha=count in (2, 4),
        declared=declared_by(header.bits) if header.bits else NOTHING_DECLARED,
    ).to_eight_bits()
    several = (SEVERAL_FRAMES,) * header.animated
    return Decoded(found.pixels, size, notes=(*found.notes, *several))


def _codestream(content: bytes) -> bytes:
    """Return the beginning of the codestream, which may lie in a box of a container."""
    place = 0
    if not content.startswith(_CODESTREAM):
        for _ in range(_MOST_BOXES):
            length, kind = (
                int.from_bytes(content[place : place + 4]),
                content[place + 4 : place + 8],
            )
            if kind in _BOXES:
                place += 8 if length != 1 else 16
                place += 4 * (kind == b"jxlp")  # the part's number
                break
            if length < 8:
                return b""
            place += length
    return content[place : place + 2 + _HEADER]


def read_header(codestream: bytes) -> JxlHeader | None:
    """Return what a codestream begins with (ISO 18181-1, D); ``None`` if it is none."""
    if len(codestream) < 2 or not codestream.startswith(_CODESTREAM):
        return None
    bits = _bits(codestream[2:].ljust(_HEADER, b"\0"))
    size = _size(bits)
    animated, depth = False, 8
    if not _number(bits, 1):  # not all as by default
        if _number(bits, 1):
            _number(bits, 3)  # orientation
            if _number(bits, 1):
                _size(bits)
            if _number(bits, 1):
                return JxlHeader(size, 0, animated=False)  # a preview, and what follows is not read
            animated = bool(_number(bits, 1))
            if animated:
                for widths in ((0, 0, 10, 30), (0, 0, 8, 10), (0, 3, 16, 32)):
                    _number(bits, widths[_number(bits, 2)])
                _number(bits, 1)
        is_float = bool(_number(bits, 1))
        choice = _number(bits, 2)
        depth = (8, 10, 12)[choice] if choice < 3 else 1 + _number(bits, 6)
        depth = 0 if is_float else depth
    return JxlHeader(size, depth, animated)


def _size(bits: Iterator[int]) -> tuple[int, int]:
    small = _number(bits, 1)
    height = _side(bits, small)
    ratio = _number(bits, 3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        return height * across // down, height
    return _side(bits, small), height


def _side(bits: Iterator[int], small: int) -> int:
    if small:
        return (_number(bits, 5) + 1) * 8
    return _number(bits, (9, 13, 18, 30)[_number(bits, 2)]) + 1


def _bits(content: bytes) -> Iterator[int]:
    """Give bits, the least significant of each byte first."""
    return (byte >> place & 1 for byte in content for place in range(8))


def _number(bits: Iterator[int], count: int) -> int:
    return sum(next(bits) << place for place in range(count))
