"""JPEG 2000: 8 bits, and grey of 10 to 16, by Pillow; other depths by imagecodecs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.depth import NOTHING_DECLARED, Declared
from medkit.images.formats.extra import need
from medkit.images.formats.jpeg2000_header import Jpeg2000Frame, read_size
from medkit.images.formats.jpeg_deep import declared_by
from medkit.images.formats.pillow import decode_with
from medkit.images.formats.pillow_globals import as_pillow_comes
from medkit.images.formats.pillow_limits import check_expansion, check_size
from medkit.images.formats.registry import Decoded
from medkit.images.limits import Limits
from medkit.images.samples import Samples

_END = b"\xff\xd9"
_START_OF_DATA = b"\xff\x93"

_PLAIN_COLOURS = (16, 17)
"""Colours that need no conversion: sRGB and grey (ISO 15444-1, I.5.3.3)."""


def decode(file: BoundedFile, limits: Limits) -> Decoded:
    """Decode a JPEG 2000; see :mod:`medkit.images.formats.registry`."""
    content = file.read()
    frame = read_size(content)
    if frame is None or not frame.precisions:
        raise ImageError("cannot be decoded: a JPEG 2000 without its header")
    if frame.width <= 0 or frame.height <= 0:
        raise ImageError("cannot be decoded: a JPEG 2000 of no size")
    if content.find(_END, max(content.find(_START_OF_DATA, frame.start), frame.start)) < 0:
        # What is missing would be filled up by what comes before it.
        raise ImageError("a JPEG 2000 without its end marker, so pixels may be missing")
    deepest = max(frame.precisions)
    if _is_pillows(frame):
        from PIL import Jpeg2KImagePlugin

        with as_pillow_comes():
            plugin = Jpeg2KImagePlugin.Jpeg2KImageFile
            stream = io.BytesIO(content)
            return decode_with(plugin, stream, file, limits, declared=_shifted(deepest))
    return _by_imagecodecs(content, frame, file, limits)


def _is_pillows(frame: Jpeg2000Frame) -> bool:
    """Whether Pillow keeps the samples: fewer bits come out darker, and 9 come out wrapped."""
    depths = set(frame.precisions)
    grey = len(frame.precisions) == 1 and depths <= {*range(10, 17)}
    return not frame.signed and (depths == {8} or grey)


def _shifted(precision: int) -> Declared:
    """Return what is known of samples that Pillow has shifted to the top of 16 bits."""
    if not 8 < precision < 16:
        return NOTHING_DECLARED
    return Declared(((2.0**precision - 1) * 2 ** (16 - precision),))


def _by_imagecodecs(
    content: bytes, frame: Jpeg2000Frame, file: BoundedFile, limits: Limits
) -> Decoded:
    count, deepest = len(frame.precisions), max(frame.precisions)
    kind = f"JPEG 2000 of {count} x {deepest}-bit{' signed' * frame.signed} samples"
    if (
        count > 4
        or deepest > 16
        or len(set(frame.precisions)) > 1
        or not _is_plain(content[: frame.start])
    ):
        raise ImageError(f"a {kind}; accepted: grey and RGB, with or without alpha, up to 16 bits")
    pixels, size = frame.width * frame.height, (frame.width, frame.height)
    check_size(size, limits, 10 * count)
    check_expansion(2 * count * pixels, 10 * count * pixels, file, limits)
    need(f"read a {kind}", "imagecodecs")
    import imagecodecs

    values: Any = imagecodecs.jpeg2k_decode(content)
    if values.shape[:2] != (frame.height, frame.width):
        raise ImageError("a JPEG 2000 of another size than its header says")
    found = Samples(
        np.asarray(values).reshape(*values.shape[:2], -1),
        1 if count < 3 else 3,
        alpha=count in (2, 4),
        declared=NOTHING_DECLARED if frame.signed else declared_by(deepest),
    ).to_eight_bits()
    return Decoded(found.pixels, size, notes=found.notes)


def _is_plain(header: bytes) -> bool:
    """Whether samples are colours: those of a codestream alone, or of a file that says so."""
    place = header.find(b"colr\x01")
    return b"pclr" not in header and (
        place < 0 or int.from_bytes(header[place + 7 : place + 11]) in _PLAIN_COLOURS
    )
