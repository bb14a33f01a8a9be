"""A PNG file without what no pixel depends on, and what it says of its depth.

Profiles, text and gamma can be damaged, or larger than Pillow accepts, in a
file whose pixels are sound. Pillow is given the file without these chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

from medkit.images.bounded_file import BoundedFile
from medkit.images.formats.spliced import SplicedFile

_SIGNATURE = 8
_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"eXIf")
"""Chunks that decide pixels, frames or the orientation."""

_LARGEST_EXIF = 1 << 20  # bytes; the orientation is not worth more


@dataclass(frozen=True)
class PngChunks:
    """What matters of a PNG.

    Attributes
    ----------
    file
        The chunks that matter, as a file.
    significant_bits
        Bits of the original samples, where the file says so (chunk sBIT).
    """

    file: SplicedFile
    significant_bits: int | None


def read_chunks(file: BoundedFile) -> PngChunks:
    """Sort a PNG's chunks. What follows a chunk that ends early is left for the decoder."""
    segments, bits, place = [(0, _SIGNATURE)], None, _SIGNATURE
    while place < file.size:
        file.seek(place)
        head = file.read(8)
        kind, end = head[4:], place + 12 + int.from_bytes(head[:4])
        if kind == b"sBIT" and end <= file.size:
            bits = max(file.read(min(int.from_bytes(head[:4]), 4)), default=None)
        if kind in _KEPT and not (kind == b"eXIf" and end - place > _LARGEST_EXIF):
            segments.append((place, min(end, file.size) - place))
        elif not kind.isalpha() or end > file.size:
            segments.append((place, file.size - place))  # no chunk: the decoder says why
            break
        if kind == b"IEND":
            break
        place = end
    return PngChunks(SplicedFile(file, segments), bits)
