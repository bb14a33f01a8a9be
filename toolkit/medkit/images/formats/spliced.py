"""A file that is put together from parts of another one and from bytes."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable

from medkit.images.bounded_file import BoundedFile

Part = bytes | tuple[int, int]
"""Bytes as they are, or where a part of the file begins, and how many bytes it has."""


class SplicedFile(io.RawIOBase):
    """Parts of a file and bytes, one after the other, as a file.

    Parameters
    ----------
    file
        The file that parts are taken from. Reads of a bounded one stay so.
    parts
        The parts, in order.
    """

    def __init__(self, file: BoundedFile | SplicedFile | io.BytesIO, parts: Iterable[Part]) -> None:
        self._file, self._position = file, 0
        self._parts: list[Part] = []
        self._starts: list[int] = []
        self.size = 0
        for part in parts:
            self._parts.append(part)
            self._starts.append(self.size)
            self.size += len(part) if isinstance(part, bytes) else part[1]

    def read(self, count: int = -1, /) -> bytes:
        """Return the next ``count`` bytes, all if negative, fewer at the end."""
        rest = max(self.size - self._position, 0)
        wanted = rest if count is None or count < 0 else min(count, rest)
        found: list[bytes] = []
        while wanted > 0:
            number = bisect_right(self._starts, self._position) - 1
            piece = self._read_part(number, self._position - self._starts[number], wanted)
            if not piece:
                break
            found.append(piece)
            self._position += len(piece)
            wanted -= len(piece)
        return found[0] if len(found) == 1 else b"".join(found)

    def _read_part(self, number: int, start: int, most: int) -> bytes:
        part = self._parts[number]
        if isinstance(part, bytes):
            return part[start : start + most]
        begin, length = part
        self._file.seek(begin + start)
        return self._file.read(min(most, length - start))

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
