"""A JPEG without its end marker: whether all its pixels are there.

libjpeg fills up with grey where the data end too early, and says nothing. So
two things are looked at. The scans tell which coefficients of which component
they bring, and all must be there. And the file is decoded twice, with other
bytes in the place of what is missing: bytes behind the last pixel change
nothing; if a pixel is missing, they do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from medkit.errors import ImageError
from medkit.images.formats.jpeg_header import FRAMES, LOSSLESS

_END = b"\xff\xd9"
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_TAIL = 64
"""Bytes at the end of a file in which its end marker is looked for first."""

MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
"""What ends the data of a JPEG's scan: any marker but the ones without a segment."""

_MOST_MARKERS = 100_000
_COEFFICIENTS = 64  # of a block of 8 x 8 pixels

PADDINGS = (b"\x5a" * 512 + _END, b"\xa7" * 4096 + _END)
"""What is put in the place of missing data: two runs of other bits and lengths."""


def has_end(stream: IO[bytes], size: int) -> bool:
    """Whether an end marker closes a JPEG. The stream's position is then its start."""
    stream.seek(max(size - _TAIL, 0))
    found = _END in stream.read()
    stream.seek(0)
    if not found:
        found = any(marker == _END_OF_IMAGE for marker, _ in _segments(stream.read()))
        stream.seek(0)
    return found


def has_scan(content: bytes) -> bool:
    """Whether a JPEG's first scan has begun."""
    return any(marker == _START_OF_SCAN for marker, _ in _segments(content))


def has_all_scans(content: bytes) -> bool:
    """Whether the scans of a JPEG bring every coefficient of every component, to its last bit.

    Whether the last scan's data are there in full is not looked at.
    """
    bits_left: dict[int, list[int | None]] = {}
    lossless = False
    for marker, segment in _segments(content):
        if marker in FRAMES and not bits_left:
            lossless = marker in LOSSLESS
            bits_left = {
                number: [None] * (1 if lossless else _COEFFICIENTS) for number in segment[6::3]
            }
        elif marker == _START_OF_SCAN:
            count = segment[0] if segment else 0
            if len(segment) < 4 + 2 * count:
                return False
            first, last, precision = segment[1 + 2 * count : 4 + 2 * count]
            if lossless:  # these are the predictor and a shift of all samples
                first = last = precision = 0
            for number in segment[1 : 1 + 2 * count : 2]:
                if number in bits_left:
                    _take(bits_left[number], first, last, precision & 15)
    return bool(bits_left) and all(left == 0 for of in bits_left.values() for left in of)


def _take(bits_left: list[int | None], first: int, last: int, left: int) -> None:
    for coefficient in range(first, min(last + 1, len(bits_left))):
        bits_left[coefficient] = left


def padded(content: bytes, padding: bytes) -> bytes:
    """Return a JPEG's bytes with others behind them."""
    # An odd end byte would join the padding to a marker.
    return content.rstrip(b"\xff") + padding


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Give each marker as libjpeg finds it, and what its segment holds, up to the end marker."""
    place = 2
    for _ in range(_MOST_MARKERS):
        found = MARKER.search(content, place)
        if found is None:
            return
        marker, place = found.group()[1], found.end()
        if marker == _END_OF_IMAGE:
            yield marker, b""
            return
        length = max(int.from_bytes(content[place : place + 2]), 2)
        yield marker, content[place + 2 : place + length]
        place += length
    raise ImageError("is made of too many pieces")
