"""Lists of paths: a path a line, or each ended by a zero byte as ``find -print0`` writes them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import cast

from medkit.defaults import STDIN
from medkit.errors import UsageError

_BLOCK = 1 << 16

_MARK = b"\xef\xbb\xbf"
"""The byte order mark that some editors put before UTF-8."""

_LONGEST = 1 << 16
"""Bytes of a path that are too many for any system: what holds them is no list."""


def check_list(path: Path) -> None:
    """Raise :class:`UsageError` unless a list can be read and is one; ``-`` is not looked at."""
    if str(path) != STDIN:
        next(read_list(path), None)
    elif sys.stdin is None:
        raise UsageError("standard input is closed; name a file with the list")


def read_list(path: Path) -> Iterator[str]:
    """Give the paths of a list one by one, as they stand there.

    Parameters
    ----------
    path
        The list, or ``-`` for standard input. If the first block that is read
        holds a zero byte, zero bytes separate the paths; else line ends do.
        Lines that are empty or hold only spaces are left out. A carriage
        return before a line end belongs to the line end, and a byte order
        mark is no part of the first path.

    Raises
    ------
    UsageError
        If the list cannot be read, or is none.
    """
    with _opened(path) as stream:
        entries = _entries(stream)
        first, separator = next(entries)
        if first.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UsageError(f"the list {_called(path)} is UTF-16; save it as UTF-8")
        for entry in chain([first.removeprefix(_MARK)], (entry for entry, _ in entries)):
            if len(entry) > _LONGEST or b"\0" in entry:
                raise UsageError(
                    f"the list {_called(path)} is no list of paths; accepted: a path a line, or "
                    "paths that zero bytes separate"
                )
            plain = entry if separator == b"\0" else entry.removesuffix(b"\r")
            if plain.strip():
                yield os.fsdecode(plain)


def _entries(stream: BufferedReader) -> Iterator[tuple[bytes, bytes]]:
    """Give what stands between separators, each with the separator; at least one entry."""
    rest = b""
    while not re.search(rb"[\n\0]", rest) and len(rest) <= _LONGEST:
        block = stream.read1(_BLOCK)
        if not block:
            break
        rest += block
    separator = b"\0" if b"\0" in rest else b"\n"
    while True:
        *whole, rest = rest.split(separator)
        for entry in whole:
            yield entry, separator
        # A path is given when it has come, and not when the next one has.
        block = stream.read1(_BLOCK) if len(rest) <= _LONGEST else b""
        if not block:
            yield rest, separator
            return
        rest += block


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    if str(path) == STDIN:
        yield cast(BufferedReader, sys.stdin.buffer)
        return
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise UsageError(
            f"the list {path} cannot be read: {error.strerror}; check the path"
        ) from error


def _called(path: Path) -> str:
    return "on standard input" if str(path) == STDIN else str(path)
