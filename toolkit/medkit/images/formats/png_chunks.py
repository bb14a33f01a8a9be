"""A PNG file without what no pixel depends on, and what it says of its depth.

Profiles, text and gamma can be damaged, or larger than Pillow accepts, in a
file whose pixels are sound. Pillow is given the file without these chunks.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from dataclasses import dataclass

from medkit.images.bounded_file import BoundedFile

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


class SplicedFile(io.RawIOBase):
    """Parts of a file, one after the other.

    Parameters
    ----------
    file
        The file.
    segments
        Where each part begins, and how many bytes it has.
    """

    def __init__(self, file: BoundedFile, segments: list[tuple[int, int]]) -> None:
        self._file, self._segments = file, segments
        self._starts, total = [], 0
        for _, length in segments:
            self._starts.append(total)
            total += length
        self.size, self._position = total, 0

    def read(self, count: int = -1, /) -> bytes:
        """Return the next ``count`` bytes, all if negative, fewer at the end."""
        rest = max(self.size - self._position, 0)
        wanted = rest if count is None or count < 0 else min(count, rest)
        parts = []
        while wanted > 0:
            number = bisect_right(self._starts, self._position) - 1
            begin, length = self._segments[number]
            inside = self._position - self._starts[number]
            self._file.seek(begin + inside)
            part = self._file.read(min(wanted, length - inside))
            if not part:
                break
            parts.append(part)
            self._position += len(part)
            wanted -= len(part)
        return b"".join(parts)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to an offset, and return it as counted from the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        """Return the offset."""
        return self._position

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can be sought in: yes."""
        return True
