"""A JPEG file without what no pixel depends on.

Profiles, comments and other programs' segments can be damaged in a file whose
pixels are sound. Decoders are given the file without them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

from medkit.images.bounded_file import BoundedFile
from medkit.images.formats.jpeg_header import (
    BARE,
    END_OF_IMAGE,
    FRAMES,
    START_OF_SCAN,
    JpegFrame,
    frame_of,
)
from medkit.images.formats.spliced import Part, SplicedFile

_APP0, _APP1, _APP2, _APP14, _APP15, _COMMENT = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
_FRAME_OF_JPEG_LS = 0xF7
_FIRST_SEGMENT = 0xC0

_EXIF = b"Exif\0\0"
_USED = {_APP0: (b"JFIF\0", 14), _APP1: (_EXIF, len(_EXIF)), _APP14: (b"Adobe", 12)}
"""What decides the colours or the orientation: how it begins, and the fewest bytes that it has."""

_PICTURES, _NUMBER_OF_PICTURES = b"MPF\0", 0xB001
"""Start of the segment that indexes the pictures of one file, and a tag of it."""

_XMP = b"http://ns.adobe.com/xap/1.0/\0"  # may hold the orientation, too
_LOOKED_AT = max(32, len(_XMP))


@dataclass(frozen=True)
class JpegSegments:
    """What matters of a JPEG.

    Attributes
    ----------
    file
        The segments that matter, as a file.
    frame
        What its header says of the frame; ``None`` if it has none.
    exif
        The first EXIF; empty if there is none.
    several
        Whether the file says that it holds more pictures.
    first_scan
        Where in ``file`` the first scan begins, or what else ends the header.
    is_jpeg_ls
        Whether the frame is of another standard (ITU-T T.87).
    """

    file: SplicedFile
    frame: JpegFrame | None
    exif: bytes
    several: bool
    first_scan: int
    is_jpeg_ls: bool


def read_segments(file: BoundedFile | io.BytesIO, size: int) -> JpegSegments:
    """Sort the segments before a JPEG's first scan. What is out of order is left as it is.

    Parameters
    ----------
    file, size
        The JPEG, and its bytes.
    """
    parts: list[Part] = []
    begin, place, frame, exif, several = 0, 2, None, b"", False
    is_jpeg_ls = False
    while place < size:
        file.seek(place)
        head = file.read(4 + _LOOKED_AT)
        if head[:2] == b"\xff\xff":  # bytes that fill up may stand before a marker
            place += len(head) - len(head.lstrip(b"\xff")) - 1 or 1
            continue
        if len(head) < 4 or head[0] != 0xFF or head[1] < _FIRST_SEGMENT:
            break
        marker, end = head[1], place + 2 + int.from_bytes(head[2:4])
        if marker in (END_OF_IMAGE, START_OF_SCAN, *BARE) or not place + 4 <= end <= size:
            break
        is_jpeg_ls = is_jpeg_ls or marker == _FRAME_OF_JPEG_LS
        if marker in FRAMES and frame is None:
            frame = frame_of(head)
        if marker == _APP2 and head[4:].startswith(_PICTURES):
            file.seek(place + 4 + len(_PICTURES))
            several = several or _count_pictures(file.read(end - place - 4 - len(_PICTURES))) > 1
        if not _is_used(marker, head[4 : end - place]):
            parts.append((begin, place - begin))
            begin = end
        elif marker == _APP1 and not exif and head[4:].startswith(_EXIF):
            file.seek(place + 4)
            exif = file.read(end - place - 4)
        place = end
    parts.append((begin, size - begin))
    spliced = SplicedFile(file, parts)
    first_scan = spliced.size - max(size - place, 0)
    return JpegSegments(spliced, frame, exif, several, first_scan, is_jpeg_ls)


def _count_pictures(index: bytes) -> int:
    """Return how many pictures the index of a multi-picture file names (CIPA DC-007, 5.2.2)."""
    order: Literal["little", "big"] = "little" if index.startswith(b"II") else "big"
    start = int.from_bytes(index[4:8], order)
    entries = int.from_bytes(index[start : start + 2], order)
    for place in range(start + 2, min(start + 2 + 12 * entries, len(index)), 12):
        if int.from_bytes(index[place : place + 2], order) == _NUMBER_OF_PICTURES:
            return int.from_bytes(index[place + 8 : place + 12], order)
    return 1


def _is_used(marker: int, content: bytes) -> bool:
    """Whether a pixel, or where it stands, depends on a segment."""
    if not (_APP0 <= marker <= _APP15 or marker == _COMMENT):
        return True
    start, fewest = _USED.get(marker, (b"", 0))
    if marker == _APP1 and content.startswith(_XMP):
        return True
    return fewest > 0 and content.startswith(start) and len(content) >= fewest
