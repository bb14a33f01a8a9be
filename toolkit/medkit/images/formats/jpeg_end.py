"""The scans of a JPEG and its end: whether all its pixels are there.

libjpeg fills up with grey where the data end too early, and says nothing. So
two things are looked at. The scans tell which coefficients of which component
they bring, and all must be there. And other bytes are put in the place of what
follows the data: bytes behind the last pixel change nothing; if a pixel is
missing, they do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from medkit.errors import ImageError
from medkit.images.formats.jpeg_header import END_OF_IMAGE, FRAMES, LOSSLESS, START_OF_SCAN

_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_BLOCK = 1 << 16  # bytes
_RESTART_INTERVAL = 0xDD

MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
"""What ends the data of a JPEG's scan: any marker but the ones without a segment."""

_MOST_MARKERS = 100_000
_COEFFICIENTS = 64  # of a block of 8 x 8 pixels

PADDINGS = (b"\x5a" * 512 + _END, b"\xa7" * 4096 + _END)
"""What is put in the place of missing data: two runs of other bits and lengths."""

_RESTARTING = tuple(
    b"".join(byte * 32 + bytes([0xFF, 0xD0 + number % 8]) for number in range(count)) + _END
    for byte, count in ((b"\x5a", 64), (b"\xa7", 256))
)
"""The same where the data are to have restart markers: without any, libjpeg passes over it."""

_FILLED_UP = 16
"""Zeros at the end of a file without an end marker, from which on they are no data: copies that
were interrupted have them."""


@dataclass(frozen=True)
class JpegScans:
    """What a JPEG's markers say of its scans.

    Attributes
    ----------
    count
        How many there are.
    complete
        Whether they bring every coefficient of every component, to its last
        bit. Whether the last scan's data are there in full is not looked at.
    data_end
        Where the marker stands that ends the last scan's data; ``None`` if
        none does.
    has_end
        Whether there is an end marker.
    restarts
        Whether the data have restart markers.
    """

    count: int
    complete: bool
    data_end: int | None
    has_end: bool
    restarts: bool


def only_scan_end(file: IO[bytes], first_scan: int) -> int | None:
    """Return where the end marker stands that follows a JPEG's first scan.

    Parameters
    ----------
    file
        The JPEG. Its position is then anywhere.
    first_scan
        Where its header ends.

    Returns
    -------
    int or None
        ``None`` if no scan begins there, or if another marker follows its
        data, or none.
    """
    file.seek(first_scan)
    head = file.read(4)
    if len(head) < 4 or head[:2] != _SCAN:
        return None
    place = first_scan + 2 + int.from_bytes(head[2:])
    file.seek(place)
    kept = b""  # a marker may lie across two blocks
    while block := file.read(_BLOCK):
        found = MARKER.search(kept + block)
        if found is not None:
            ended = found.group() == _END
            return place - len(kept) + found.start() if ended else None
        place, kept = place + len(block), block[-1:]
    return None


def read_scans(content: bytes) -> JpegScans:
    """Read the markers of a JPEG as libjpeg finds them.

    Raises
    ------
    ImageError
        If there are absurdly many.
    """
    bits_left: dict[int, list[int | None]] = {}
    lossless, whole, count = False, True, 0
    data_end, has_end, restarts = None, False, False
    for place, marker, segment in _segments(content):
        has_end = marker == END_OF_IMAGE
        if count and data_end is None:
            data_end = place
        if marker == _RESTART_INTERVAL:
            restarts = any(segment[:2])
        elif marker in FRAMES and not bits_left:
            lossless = marker in LOSSLESS
            bits_left = {
                number: [None] * (1 if lossless else _COEFFICIENTS) for number in segment[6::3]
            }
        elif marker == START_OF_SCAN:
            count, data_end = count + 1, None
            components = segment[0] if segment else 0
            if len(segment) < 4 + 2 * components:
                whole = False
                continue
            first, last, precision = segment[1 + 2 * components : 4 + 2 * components]
            if lossless:  # these are the predictor and a shift of all samples
                first = last = precision = 0
            for number in segment[1 : 1 + 2 * components : 2]:
                if number in bits_left:
                    _take(bits_left[number], first, last, precision & 15)
    there = bool(bits_left) and all(left == 0 for of in bits_left.values() for left in of)
    return JpegScans(count, whole and there, data_end, has_end, restarts)


def _take(bits_left: list[int | None], first: int, last: int, left: int) -> None:
    for coefficient in range(first, min(last + 1, len(bits_left))):
        bits_left[coefficient] = left


def check_last_scan(content: bytes, scans: JpegScans, samples: Callable[[bytes], bytes]) -> None:
    """Check that the last scan's data are there in full, by decoding them twice.

    Parameters
    ----------
    content
        The JPEG.
    scans
        What its markers say.
    samples
        Decodes a JPEG at its full scale: at a smaller one, libjpeg passes
        over coefficients that may be missing.

    Raises
    ------
    ImageError
        If a pixel is missing.
    """
    paddings = _RESTARTING if scans.restarts else PADDINGS
    first, second = (samples(padded(content, scans.data_end, padding)) for padding in paddings)
    if first != second:
        raise ImageError("ends before its pixels do")


def padded(content: bytes, end: int | None, padding: bytes) -> bytes:
    """Return a JPEG's bytes up to its end, with others behind them."""
    data = content[:end]
    if end is None:
        without = data.rstrip(b"\0")
        if len(data) - len(without) >= _FILLED_UP:
            # A zero behind this byte belongs to it.
            data = without + b"\0" * without.endswith(b"\xff")
    # An odd end byte would join the padding to a marker.
    return data.rstrip(b"\xff") + padding


def _segments(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Give each marker's place as libjpeg finds it, its number, and what its segment holds."""
    place = 2
    for _ in range(_MOST_MARKERS):
        found = MARKER.search(content, place)
        if found is None:
            return
        marker, place = found.group()[1], found.end()
        if marker == END_OF_IMAGE:
            yield found.start(), marker, b""
            return
        length = max(int.from_bytes(content[place : place + 2]), 2)
        yield found.start(), marker, content[place + 2 : place + length]
        place += length
    raise ImageError("is made of too many pieces")
