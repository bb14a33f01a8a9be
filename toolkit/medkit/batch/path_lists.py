"""Lists of paths: a path a line, or each ended by a zero byte as ``find -print0`` writes them."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from threading import Event
from typing import cast

from medkit.defaults import STDIN
from medkit.errors import UsageError
from medkit.images.recognition import begins_as_image

_BLOCK = 1 << 16

_MARK = b"\xef\xbb\xbf"
"""The byte order mark that some editors put before UTF-8."""

_LONGEST = 1 << 16
"""Bytes of a path that are too many for any system: what holds them is no list."""

_PATIENCE = 0.1
"""Seconds after which a run that waits for a path looks whether it is to end."""

_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
"""Characters that no line of a list holds, but for the carriage return at its end."""


def is_stream(path: Path) -> bool:
    """Whether a list can be read only once: standard input, a pipe, or what a shell makes of one.

    A shell gives ``<(...)`` a name in ``/dev``, and so has standard input. On
    some systems such a file is read on from where the last reader stopped.
    """
    if str(path) == STDIN:
        return True
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
    return not is_file or path.absolute().parts[1:2] == ("dev",)


def check_list(path: Path) -> None:
    """Raise :class:`UsageError` unless a list can be read, and is one.

    What can be read only once is not read, but only looked at.
    """
    if str(path) == STDIN:
        if sys.stdin is None:
            raise UsageError("standard input is closed; name a file with the list")
    elif path.is_dir() or not is_stream(path):
        next(read_list(path), None)


def read_list(path: Path, stop: Event | None = None) -> Iterator[str]:
    """Give the paths of a list one by one, as they stand there.

    Parameters
    ----------
    path
        The list, or ``-`` for standard input. If the first block that is read
        holds a zero byte, zero bytes separate the paths; else line ends do.
        Lines that are empty or hold only spaces are left out. A carriage
        return before a line end belongs to the line end, and a byte order
        mark is no part of the first path.
    stop
        Set by another thread or a signal's handler, it ends the waiting for
        more of a list that comes slowly.

    Raises
    ------
    UsageError
        If the list cannot be read, or its beginning shows that it is none.
    """
    with _opened(path) as stream:
        beginning = _beginning(stream, stop)
        separator = b"\0" if b"\0" in beginning else b"\n"
        _check_beginning(beginning, separator, _called(path))
        for entry in _entries(beginning.removeprefix(_MARK), separator, stream, stop):
            if len(entry) > _LONGEST or b"\0" in entry:
                raise _no_list(_called(path))
            plain = entry if separator == b"\0" else entry.removesuffix(b"\r")
            if plain.strip():
                yield os.fsdecode(plain)


def _beginning(stream: BufferedReader, stop: Event | None) -> bytes:
    """Read until the first separator has come."""
    read = b""
    while not re.search(rb"[\n\0]", read) and len(read) <= _LONGEST:
        block = _next_block(stream, stop)
        if not block:
            break
        read += block
    return read


def _check_beginning(beginning: bytes, separator: bytes, called: str) -> None:
    """Raise :class:`UsageError` if a file begins as no list of paths does.

    Paths made of such a file would be garbage at best. Of text in UTF-16,
    where each letter has a zero byte, one of them would be ``/``.
    """
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"the list {called} is UTF-16; save it as UTF-8")
    if begins_as_image(beginning):
        raise UsageError(f"the list {called} is an image; give it without --from-file")
    *entries, _ = beginning.split(separator)
    if separator == b"\0":
        if _are_letters(entries):
            raise UsageError(f"the list {called} looks like UTF-16; save it as UTF-8")
        if b"" in entries or any(map(_is_garbage, entries)):
            raise _no_list(called)
    elif _CONTROL.search(beginning.replace(b"\r\n", b"").removesuffix(b"\r")):
        raise UsageError(
            f"the list {called} holds control characters; accepted: a path a line, or paths that "
            "zero bytes separate, as find -print0 writes them"
        )


def _are_letters(entries: Sequence[bytes]) -> bool:
    """Whether zero bytes stand between letters, and not between paths.

    Folders may be called ``0`` and ``1``, but a text has dots or line ends as well.
    """
    single = [entry for entry in entries if len(entry) == 1]
    return len(single) > max(1, len(entries) / 2) and any(entry in b"./\\\r\n" for entry in single)


def _is_garbage(entry: bytes) -> bool:
    """Whether an entry is neither text nor printable: a name may be one of these, but not both."""
    if not _CONTROL.search(entry):
        return False
    try:
        entry.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _no_list(called: str) -> UsageError:
    return UsageError(
        f"the list {called} is no list of paths; accepted: a path a line, or paths that zero "
        "bytes separate"
    )


def _entries(
    beginning: bytes, separator: bytes, stream: BufferedReader, stop: Event | None
) -> Iterator[bytes]:
    """Give what stands between separators."""
    rest = beginning
    while True:
        *whole, rest = rest.split(separator)
        yield from whole
        # A path is given when it has come, and not when the next one has.
        block = _next_block(stream, stop) if len(rest) <= _LONGEST else b""
        if block is None:
            return  # the rest is half a path
        if not block:
            yield rest
            return
        rest += block


def _next_block(stream: BufferedReader, stop: Event | None) -> bytes | None:
    """Return what has come of a list, or ``None`` if ``stop`` is set before anything has."""
    if stop is not None:
        from select import select

        with suppress(OSError, ValueError):  # on Windows, none but a socket can be waited for
            while not select([stream], [], [], _PATIENCE)[0]:
                if stop.is_set():
                    return None
    return stream.read1(_BLOCK)


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
