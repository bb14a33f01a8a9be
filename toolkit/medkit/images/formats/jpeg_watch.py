"""Whether the data of a JPEG's only scan bring all its pixels, seen while it is decoded.

libjpeg fills up with grey what is missing before an end marker, and says
nothing. So the end marker is held back. When the decoder asks for it, the last
row must have been written; otherwise the data ended before the pixels did.
"""

from __future__ import annotations

import io
import random

from PIL import Image, ImageFile

_END = b"\xff\xd9"

_LOOKED_AHEAD = b"\x5a" * 12
"""Bytes in the place of the end marker: libjpeg looks at some before it decodes the last block."""


class WatchedJpeg(io.RawIOBase):
    """A JPEG of one scan, as a stream for Pillow.

    Parameters
    ----------
    file
        The JPEG.
    end
        Where its end marker stands.

    Attributes
    ----------
    ended_early
        Whether the last row was not written. In a narrow picture, it may
        also be a row that happens to be the mark.
    """

    def __init__(self, file: io.RawIOBase | io.BytesIO, end: int) -> None:
        self._file, self._end, self._position = file, end, 0
        self._image: ImageFile.ImageFile | None = None
        self._mark = b""
        self.ended_early = False

    def watch(self, image: ImageFile.ImageFile) -> None:
        """Put a mark where the last row of an image that is about to be decoded will be."""
        image.load_prepare()
        width, height = image.size
        self._mark = random.Random(0).randbytes(width * len(image.getbands()))
        row = Image.frombytes(image.mode, (width, 1), self._mark)
        image.im.paste(row.im, (0, height - 1, width, height))
        self._image = image

    def read(self, count: int = -1, /) -> bytes:
        """Return the next bytes; behind the data, some others and then the end marker."""
        size = self._end + len(_LOOKED_AHEAD)
        if self._position >= size:
            return self._at_the_end()
        if self._position >= self._end:
            found = _LOOKED_AHEAD[self._position - self._end :]
            found = found[:count] if count >= 0 else found
        else:
            self._file.seek(self._position)
            rest = self._end - self._position
            found = self._file.read(min(count, rest) if count >= 0 else rest) or b""
        self._position += len(found)
        return found

    def _at_the_end(self) -> bytes:
        if self._image is None:
            return b""
        width, height = self._image.size
        row = Image.new(self._image.mode, (width, 1))
        row.im.paste(self._image.im.crop((0, height - 1, width, height)), (0, 0, width, 1))
        self.ended_early = row.tobytes() == self._mark
        self._image = None
        return _END

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to an offset, and return it as counted from the start."""
        size = self._end + len(_LOOKED_AHEAD)
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        """Return the offset."""
        return self._position

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can be sought in: yes."""
        return True
