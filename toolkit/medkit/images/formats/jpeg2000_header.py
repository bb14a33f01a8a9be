"""The size of a JPEG 2000 codestream, as its header gives it."""

from __future__ import annotations

from typing import NamedTuple

_SIZ = b"\xff\x4f\xff\x51"
"""Start of codestream and start of the segment with the size (ISO 15444-1, A.5.1)."""


class Jpeg2000Frame(NamedTuple):
    """Size of the image in pixels, and its components."""

    width: int
    height: int
    components: int


def read_size(content: bytes) -> Jpeg2000Frame | None:
    """Return the size of the first codestream in some bytes; ``None`` if there is none."""
    place = content.find(_SIZ)
    if place < 0 or len(content) < place + 42:
        return None
    width, height, left, top = (
        int.from_bytes(content[start : start + 4]) for start in range(place + 8, place + 24, 4)
    )
    return Jpeg2000Frame(
        width - left, height - top, int.from_bytes(content[place + 40 : place + 42])
    )
