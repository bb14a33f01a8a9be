"""Whether the data of a JPEG's only scan bring all its pixels, seen while it is decoded.

libjpeg fills up with grey what is missing before an end marker, and says
nothing. So the end marker is held back. When the decoder asks for it, the last
row must have been written; otherwise the data ended before the pixels did.
"""

from __future__ import annotations

import io
import random
from typing import IO, cast

from PIL import Image, ImageFile

from medkit.images.formats.spliced import SplicedFile

_END = b"\xff\xd9"

_LOOKED_AHEAD = b"\x5a" * 12
"""Bytes in the place of the end marker: libjpeg looks at some before it decodes the last block."""


class LastRow:
    """Watches the last row of a JPEG of one scan.

    Parameters
    ----------
    file
        The JPEG.
    end
        Where its data end.

    Attributes
    ----------
    stream
        What Pillow is to open. It has no end marker.
    is_missing
        Whether the row was not written. In a narrow picture, it may also be a
        row that happens to be the mark.
    """

    def __init__(self, file: SplicedFile | io.BytesIO, end: int) -> None:
        if isinstance(file, io.BytesIO):
            content = file.getbuffer()[:end]
            self.stream = cast(IO[bytes], io.BytesIO(b"".join((content, _LOOKED_AHEAD))))
        else:
            self.stream = cast(IO[bytes], SplicedFile(file, ((0, end), _LOOKED_AHEAD)))
        self._image: ImageFile.ImageFile | None = None
        self._mark = b""
        self.is_missing = False

    def watch(self, image: ImageFile.ImageFile) -> None:
        """Put a mark where the last row of an image that is about to be decoded will be."""
        image.load_prepare()
        width, height = image.size
        self._mark = random.Random(0).randbytes(width * len(image.getbands()))
        row = Image.frombytes(image.mode, (width, 1), self._mark)
        image.im.paste(row.im, (0, height - 1, width, height))
        self._image = image
        setattr(image, "load_read", self._read)  # noqa: B010 - the class has a method of the name

    def _read(self, count: int) -> bytes:
        """Return the next bytes; behind the last one, the end marker."""
        found = self.stream.read(count)
        if found or self._image is None:
            return found
        width, height = self._image.size
        row = Image.new(self._image.mode, (width, 1))
        row.im.paste(self._image.im.crop((0, height - 1, width, height)), (0, 0, width, 1))
        self.is_missing = row.tobytes() == self._mark
        self._image = None
        return _END
