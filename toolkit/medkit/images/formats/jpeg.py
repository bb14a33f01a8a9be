"""JPEG, decoded by Pillow; by imagecodecs where it has more than 8 bits or is lossless."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, cast

from PIL import ImageFile, JpegImagePlugin

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.formats.jpeg_deep import decode_deep, is_deep, read_deep
from medkit.images.formats.jpeg_end import (
    PADDINGS,
    check_last_scan,
    only_scan_end,
    padded,
    read_scans,
)
from medkit.images.formats.jpeg_header import JpegFrame
from medkit.images.formats.jpeg_segments import JpegSegments, read_segments
from medkit.images.formats.jpeg_watch import LastRow
from medkit.images.formats.pillow import decode_with, orientation_in
from medkit.images.formats.pillow_globals import as_pillow_comes
from medkit.images.formats.registry import Decoded, register_image_format
from medkit.images.formats.spliced import SplicedFile
from medkit.images.limits import Limits
from medkit.images.notes import END_MISSING, SEVERAL_FRAMES
from medkit.images.pixels import turned

_IN_MEMORY = 1 << 22
"""Bytes of a file that is read at once: Pillow reads a header in forty pieces."""


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
        source = io.BytesIO(file.read()) if file.size <= _IN_MEMORY else file
        segments = read_segments(source, file.size)
        if segments.is_jpeg_ls:
            raise ImageError("a JPEG-LS; accepted: JPEG; save it as PNG")
        with as_pillow_comes():
            found = _Jpeg(segments, file, limits).decode(least_side)
        return replace(found, notes=(*found.notes, *(SEVERAL_FRAMES,) * segments.several))


@dataclass(frozen=True)
class _Jpeg:
    """A JPEG whose header is known.

    Attributes
    ----------
    segments
        What its header says.
    file, limits
        The file, and limits of one image.
    """

    segments: JpegSegments
    file: BoundedFile
    limits: Limits

    def decode(self, least_side: int | None) -> Decoded:
        """Decode the picture, if all its pixels are there."""
        stream: SplicedFile | io.BytesIO = self.segments.file
        if self.file.size <= _IN_MEMORY:
            stream = io.BytesIO(stream.read())
        end = only_scan_end(cast(IO[bytes], stream), self.segments.first_scan)
        if end is not None and self._deep_frame is None:
            last_row = LastRow(stream, end)
            found = self._by_pillow(last_row.stream, least_side, last_row.watch)
            if not last_row.is_missing:
                return found
        if self.segments.frame is None:
            self.file.seek(0)
            self._by_pillow(cast(IO[bytes], self.file), least_side)  # it says what is wrong
        stream.seek(0)
        return self._decode_checked(stream.read(), least_side)

    def _decode_checked(self, content: bytes, least_side: int | None) -> Decoded:
        """Decode a JPEG whose data have to be looked at first."""
        scans = read_scans(content)
        if scans.count == 0:
            return self._by_pillow(io.BytesIO(content), least_side)  # it says why
        whole = padded(content, scans.data_end, PADDINGS[0])
        if not scans.complete:
            with suppress(OSError, SyntaxError):
                self._decode(whole, least_side)  # limits come first
            raise ImageError("ends before its pixels do")
        found = self._decode(whole, least_side)
        check_last_scan(content, scans, self._samples)
        return replace(found, notes=(*found.notes, *(END_MISSING,) * (not scans.has_end)))

    @property
    def _deep_frame(self) -> JpegFrame | None:
        """The frame, if Pillow does not decode its kind."""
        frame = self.segments.frame
        return frame if frame is not None and is_deep(frame) else None

    def _decode(self, content: bytes, least_side: int | None) -> Decoded:
        frame = self._deep_frame
        if frame is None:
            return self._by_pillow(io.BytesIO(content), least_side)
        found = decode_deep(content, frame, self.file, self.limits)
        upright = turned(found.pixels, orientation_in(self.segments.exif))
        return Decoded(upright, (frame.width, frame.height), notes=found.notes)

    def _by_pillow(
        self,
        stream: IO[bytes],
        least_side: int | None,
        watch: Callable[[ImageFile.ImageFile], None] | None = None,
    ) -> Decoded:
        plugin = JpegImagePlugin.JpegImageFile
        return decode_with(plugin, stream, self.file, self.limits, least_side, watch=watch)

    def _samples(self, content: bytes) -> bytes:
        """Return a digest of a JPEG's samples as they are stored."""
        frame = self._deep_frame
        if frame is None:
            values = self._by_pillow(io.BytesIO(content), None).pixels.tobytes()
        else:
            values = read_deep(content, frame, self.file, self.limits).tobytes()
        return hashlib.sha256(values).digest()


register_image_format(JpegFormat())
