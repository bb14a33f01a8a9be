"""A WebP file without what no pixel depends on.

A profile, EXIF or XMP can be cut in a file whose pixels are sound; libwebp
refuses such a file as a whole.
"""

from __future__ import annotations

from typing import cast

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.formats.spliced import Part, SplicedFile

_HEADER = 12  # RIFF, a length, WEBP
_SIDE_DATA = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
"""Chunks that no pixel depends on, and their bits in the flags of the chunk VP8X."""
_USED = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")

_LARGEST_EXIF = 1 << 20  # bytes; the orientation is not worth more
_SHORTEST_VP8X = 10
_FILLED_UP = 64
"""Zeros at the end of the lossy pixels, which no encoder writes: a copy was interrupted."""


def without_side_data(file: BoundedFile) -> SplicedFile:
    """Return a WebP with its pixels, and with EXIF that is whole. Nothing else is changed."""
    kept: list[Part] = []
    file.seek(0)
    stated = 8 + int.from_bytes(file.read(8)[4:], "little")
    flags, extended, place, last = 0, None, _HEADER, min(stated, file.size)
    while place < last:
        file.seek(place)
        head = file.read(8)
        kind, length = head[:4], int.from_bytes(head[4:], "little")
        end = place + 8 + length
        whole = len(head) == 8 and end <= file.size
        if kind == b"VP8X" and extended is None and whole and length >= _SHORTEST_VP8X:
            extended = len(kept)
        if kind == b"EXIF" and whole and length <= _LARGEST_EXIF:
            flags |= _SIDE_DATA[kind]
        elif kind not in _USED:
            place = end + length % 2
            continue
        kept.append((place, min(end, file.size) - place))
        if kind == b"VP8 " and whole and length > _FILLED_UP:
            file.seek(end - _FILLED_UP)
            if not any(file.read(_FILLED_UP)):
                raise ImageError("ends before its pixels do")
        if whole and length % 2:
            kept.append(b"\0")
        place = end + length % 2
    if extended is not None:
        begin, length = cast(tuple[int, int], kept[extended])
        file.seek(begin)
        chunk = bytearray(file.read(length))
        chunk[8] = chunk[8] & ~sum(_SIDE_DATA.values()) | flags
        kept[extended] = bytes(chunk)
    size = 4 + sum(len(part) if isinstance(part, bytes) else part[1] for part in kept)
    return SplicedFile(file, (b"RIFF" + size.to_bytes(4, "little") + b"WEBP", *kept))
