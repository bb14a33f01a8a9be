"""What the header of a JPEG, or of a JPEG inside of another file, says of its frame."""

from __future__ import annotations

from typing import NamedTuple

FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
"""Markers that start a frame, each for another process (ITU-T T.81, table B.1)."""
LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
"""Those of them that start a lossless one."""
BARE = (0x01, *range(0xD0, 0xD9))
"""Markers without a segment."""
END_OF_IMAGE, START_OF_SCAN = 0xD9, 0xDA


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


def frame_of(segment: bytes) -> JpegFrame | None:
    """Return the frame that a segment starts, from its marker on; ``None`` if it is cut."""
    if len(segment) < 10:
        return None
    height, width = int.from_bytes(segment[5:7]), int.from_bytes(segment[7:9])
    return JpegFrame(segment[4], width, height, segment[9], segment[1] in LOSSLESS)


def read_frame(content: bytes) -> JpegFrame | None:
    """Return the first frame of a JPEG, by its beginning; ``None`` if there is none."""
    place = 2
    while 0 <= (place := content.find(b"\xff", place)) < len(content) - 9:
        marker = content[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in BARE or marker == 0:
            place += 2
        elif marker in (END_OF_IMAGE, START_OF_SCAN):
            break
        elif marker in FRAMES:
            return frame_of(content[place : place + 10])
        else:
            place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return None
