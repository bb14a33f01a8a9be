"""JPEG, decoded by Pillow; by imagecodecs where it has more than 8 bits or is lossless."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, cast

from PIL import JpegImagePlugin

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.formats.jpeg_deep import decode_deep, is_deep
from medkit.images.formats.jpeg_end import PADDINGS, has_all_scans, has_end, has_scan, padded
from medkit.images.formats.jpeg_segments import read_segments
from medkit.images.formats.pillow import decode_with, orientation_in
from medkit.images.formats.pillow_globals import as_pillow_comes
from medkit.images.formats.registry import Decoded, register_image_format
from medkit.images.limits import Limits
from medkit.images.notes import END_MISSING
from medkit.images.pixels import turned


@dataclass(frozen=True)
class JpegFormat:
    """JPEG of any process, the first picture."""

    name: str = "JPEG"
    extensions: tuple[str, ...] = (".jpg", ".jpeg", ".jfif")
    rule: str = ""
    facts: tuple[str, ...] = ()

    def accepts(self, head: bytes) -> bool:
        """Whether Pillow's plug-in takes a file with these first bytes."""
        return JpegImagePlugin._accept(head) is True

    def decode(self, file: BoundedFile, least_side: int | None, limits: Limits) -> Decoded:
        """Decode the first picture, upright and with 8 bits; see the input contract's rules."""
        segments = read_segments(file)
        stream, frame = cast(IO[bytes], segments.file), segments.frame

        def decode(source: IO[bytes], least: int | None) -> Decoded:
            if frame is None or not is_deep(frame):
                return decode_with(JpegImagePlugin.JpegImageFile, source, file, limits, least)
            found = decode_deep(source.read(), frame, file, limits)
            upright = turned(found.pixels, orientation_in(segments.exif))
            return Decoded(upright, (frame.width, frame.height), notes=found.notes)

        with as_pillow_comes():
            if has_end(stream, segments.file.size):
                return decode(stream, least_side)
            return _without_end(stream, least_side, decode)


def _without_end(
    stream: IO[bytes], least_side: int | None, decode: Callable[[IO[bytes], int | None], Decoded]
) -> Decoded:
    """Decode a JPEG without its end marker, if all its pixels are there.

    Raises
    ------
    ImageError
        If they are not.
    """
    content = stream.read()
    if not has_scan(content):
        return decode(io.BytesIO(content), least_side)  # the decoder says why
    if not has_all_scans(content):
        raise ImageError("ends before its pixels do")
    # At a smaller scale, libjpeg passes over coefficients that may be missing.
    first, second = (
        hashlib.sha256(decode(io.BytesIO(padded(content, padding)), None).pixels.tobytes()).digest()
        for padding in PADDINGS
    )
    if first != second:
        raise ImageError("ends before its pixels do")
    found = decode(io.BytesIO(padded(content, PADDINGS[0])), least_side)
    return replace(found, notes=(*found.notes, END_MISSING))


register_image_format(JpegFormat())
