"""What the header of a JPEG, or of a JPEG inside of another file, says of its frame."""

from __future__ import annotations

from typing import NamedTuple

_FRAMES = frozenset(
    (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_BARE = (0x01, *range(0xD0, 0xD9))
"""Markers without a segment."""
_END, _START_OF_SCAN = 0xD9, 0xDA


class JpegFrame(NamedTuple):
    """The frame of a JPEG.

    Attributes
    ----------
    precision
        Bits of a sample.
    width, height
        Size in pixels.
    components
        Samples of a pixel.
    lossless
        Whether it is of the lossless process.
    """

    precision: int
    width: int
    height: int
    components: int
    lossless: bool


def read_frame(content: bytes) -> JpegFrame | None:
    """Return the first frame of a JPEG, by its beginning; ``None`` if there is none."""
    place = 2
    while 0 <= (place := content.find(b"\xff", place)) < len(content) - 9:
        marker = content[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _BARE or marker == 0:
            place += 2
        elif marker in (_END, _START_OF_SCAN):
            break
        elif marker in _FRAMES:
            height = int.from_bytes(content[place + 5 : place + 7])
            width = int.from_bytes(content[place + 7 : place + 9])
            lossless = marker in _LOSSLESS
            return JpegFrame(content[place + 4], width, height, content[place + 9], lossless)
        else:
            place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return None
