"""Reads of an image file that are counted, and that fail when they cost too much."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from medkit.errors import ImageError
from medkit.images.limits import Clock, Limits

_MOST_READS = 1_000_000
"""Reads of a file, each of which is a step of a decoder written in Python: a second's worth.
A file that takes more is made of empty pieces, or is filled with junk between its pieces."""

_MOST_REREADING, _REREADING_ROOM = 4, 1 << 20
"""How often the bytes of a file may be read, and how many bytes are free on top. Formats that
refer to their parts by offset can refer to the same part a million times."""


class BoundedFile(io.RawIOBase):
    """A file whose reads are counted, and fail when they cost too much.

    Its length stays what it was when it was opened. It has no descriptor, so
    that no decoder reads past it.
    """

    def __init__(self, stream: IO[bytes], size: int, limits: Limits, clock: Clock) -> None:
        self.size = size
        self._stream, self._clock = stream, clock
        self._position = self._reads = self._bytes = 0
        if size > limits.megabytes * 1e6:
            raise ImageError(
                f"has {size / 1e6:,.1f} megabytes; accepted: up to {limits.megabytes:,g}"
            )

    def read(self, count: int = -1, /) -> bytes:
        """Return the next ``count`` bytes, all if negative, fewer at the end."""
        self._clock.check()
        rest = max(self.size - self._position, 0)
        wanted = rest if count is None or count < 0 else min(count, rest)
        self._reads += 1
        self._bytes += wanted
        if self._reads > _MOST_READS:
            raise ImageError("is made of too many pieces")
        if self._bytes > _MOST_REREADING * self.size + _REREADING_ROOM:
            raise ImageError("refers to the same bytes too often")
        content = self._stream.read(wanted)
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to an offset, and return it as counted from the start."""
        if whence == io.SEEK_END:
            offset, whence = self.size + offset, io.SEEK_SET
        self._position = self._stream.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        """Return the offset."""
        return self._position

    def readable(self) -> bool:
        """Whether the file can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether the file can be sought in: always."""
        return True


@contextmanager
def bounded(
    source: Path | IO[bytes], limits: Limits, clock: Clock | None = None
) -> Iterator[BoundedFile]:
    """Open a regular file, or take a stream, for reads within limits.

    Nothing else is opened: what was a file when a folder was listed may be a
    pipe by now, which would keep its reader waiting forever.

    Raises
    ------
    ImageError
        If it is no regular file, or has too many bytes.
    OSError
        If it cannot be opened.
    """
    clock = clock or Clock(limits)
    if not isinstance(source, Path):
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        yield BoundedFile(source, size, limits, clock)
        return
    with open(source, "rb", opener=open_without_waiting) as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("is no regular file")
        yield BoundedFile(stream, found.st_size, limits, clock)


def open_without_waiting(path: str, flags: int) -> int:
    """Open a file as :func:`open` does, but for a pipe, which would wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
