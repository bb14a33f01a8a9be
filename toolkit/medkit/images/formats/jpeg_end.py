"""A JPEG without its end marker: whether all its pixels are there.

libjpeg fills up with grey where the data end too early, and says nothing. So
a file without an end marker is decoded twice, with other bytes in the place of
what is missing. Bytes behind the last pixel change nothing; if a pixel is
missing, they do.
"""

from __future__ import annotations

import io

from medkit.images.bounded_file import BoundedFile

_END = b"\xff\xd9"
_START_OF_SCAN = b"\xff\xda"
_TAIL = 64
"""Bytes at the end of a file in which its end marker is looked for first."""

PADDINGS = (b"\x5a" * 512 + _END, b"\xa7" * 4096 + _END)
"""What is put in the place of missing data: two runs of other bits and lengths."""


def has_end(file: BoundedFile) -> bool:
    """Whether an end marker follows a JPEG's first scan. The file's position is kept."""
    position = file.tell()
    file.seek(max(file.size - _TAIL, 0))
    found = _END in file.read()
    if not found:
        file.seek(0)
        content = file.read()
        found = content.rfind(_END) > content.find(_START_OF_SCAN) >= 0
    file.seek(position)
    return found


def padded(file: BoundedFile, padding: bytes) -> io.BytesIO:
    """Return a JPEG's bytes with others behind them."""
    file.seek(0)
    # An odd end byte would join the padding to a marker.
    return io.BytesIO(file.read().rstrip(b"\xff") + padding)
