"""The size and the samples of a JPEG 2000 codestream, as its header gives them."""

from __future__ import annotations

from typing import NamedTuple

_SIZ = b"\xff\x4f\xff\x51"
"""Start of codestream and start of the segment with the size (ISO 15444-1, A.5.1)."""

_FIRST_COMPONENT, _PER_COMPONENT = 42, 3
_MOST_COMPONENTS = 16


class Jpeg2000Frame(NamedTuple):
    """What a codestream holds.

    Attributes
    ----------
    width, height
        Size in pixels.
    precisions
        Bits of the samples of each component.
    signed
        Whether samples of any component are signed.
    start
        Where the codestream begins.
    """

    width: int
    height: int
    precisions: tuple[int, ...]
    signed: bool
    start: int


def read_size(content: bytes) -> Jpeg2000Frame | None:
    """Return the frame of the first codestream in some bytes; ``None`` if there is none."""
    start = content.find(_SIZ)
    first = start + _FIRST_COMPONENT
    if start < 0 or len(content) < first:
        return None
    width, height, left, top = (
        int.from_bytes(content[place : place + 4]) for place in range(start + 8, start + 24, 4)
    )
    count = min(int.from_bytes(content[first - 2 : first]), _MOST_COMPONENTS)
    depths = content[first : first + count * _PER_COMPONENT : _PER_COMPONENT]
    return Jpeg2000Frame(
        width - left,
        height - top,
        tuple((depth & 0x7F) + 1 for depth in depths),
        any(depth & 0x80 for depth in depths),
        start,
    )
