"""The common part of CSV and JSON Lines: a row is a line, and reaches the disk."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any, Protocol

from medkit.batch.outputs.registry import Recovered, WithoutErrors
from medkit.batch.rows import OK, SKIPPED, Row
from medkit.defaults import STDOUT
from medkit.errors import MedkitError, UsageError
from medkit.files import output_errors

_SAVE_EVERY = 5.0
"""Seconds between two times that rows are saved to the disk: what a power cut may cost at most."""


class Stream(Protocol):
    """The stream that lines are written to."""

    def write(self, content: bytes, /) -> object:
        """Take bytes."""

    def flush(self) -> None:
        """Pass them on."""


class LineSink:
    """Writes each row as a line, through to the operating system at once."""

    def __init__(self, stream: Stream, name: str, to_line: Callable[[Row], str]) -> None:
        self._stream, self._name, self._to_line = stream, name, to_line

    def write(self, row: Row) -> None:
        """Write one row; see :class:`medkit.batch.outputs.registry.RowSink`."""
        self.write_line(self._to_line(row))

    def write_line(self, line: str) -> None:
        """Write a line that is no row, such as a header."""
        with output_errors(self._name):
            self._stream.write(line.encode())
            self._stream.flush()


@contextmanager
def open_lines(path: Path, to_line: Callable[[Row], str], *, append: bool) -> Iterator[LineSink]:
    """Open a file, or with the path ``-`` standard output, for rows as lines.

    Raises
    ------
    MedkitError
        If the file cannot be opened or written.
    BrokenPipeError
        If standard output's reader has gone. The last row may then still
        lie in ``sys.stdout``, whose flush at exit would fail again: a
        command line points file descriptor 1 at ``os.devnull`` first.
    """
    if str(path) == STDOUT:
        sys.stdout.flush()
        yield LineSink(sys.stdout.buffer, "standard output", to_line)
        return
    with output_errors(str(path)):
        stream = _SavedFile(path, "ab" if append else "wb")
    try:
        yield LineSink(stream, str(path), to_line)
    finally:
        with output_errors(str(path)):
            stream.close()


def recover_lines(
    path: Path, header: bytes, values_of: Callable[[bytes], Mapping[str, Any]]
) -> Recovered:
    """Cut a torn last line off a file, and tell which rows are left.

    Parameters
    ----------
    path
        The file.
    header
        Header that the file begins with; empty if the first line is a row.
    values_of
        Returns the values of a row's line by column name, ``path`` as Python
        has it; raises :class:`ValueError` for a line that is no row.

    Raises
    ------
    UsageError
        If the file does not begin with the header, or a line is no row.
    MedkitError
        If the file cannot be read or cut.
    """
    counts: Counter[tuple[str, str]] = Counter()
    rows = errors = skipped = end = 0
    try:
        for place, values in _records(path, header, values_of):
            end = place
            if values is None:
                continue
            rows += 1
            errors += _has_failed(values)
            skipped += values["status"] == SKIPPED
            if values["status"] == OK:
                counts[values["task"], values["label"] or ""] += 1
        os.truncate(path, end)
    except OSError as error:
        raise MedkitError(
            f"{path} cannot be continued: {error.strerror}; name another output"
        ) from error

    def names(failed: bool | None = None) -> Iterator[str]:
        for _, values in _records(path, header, values_of):
            if values is not None and failed in (None, _has_failed(values)):
                yield values["path"]

    def copy(target: Path) -> None:
        start = 0
        with path.open("rb") as stream, target.open("wb") as copied:
            for stop, values in _records(path, header, values_of):
                line = stream.read(stop - start)
                start = stop
                if values is None or not _has_failed(values):
                    copied.write(line)

    kept = WithoutErrors(partial(names, failed=False), partial(names, failed=True), copy)
    return Recovered(rows, counts, errors, names, skipped, kept)


def _has_failed(values: Mapping[str, Any]) -> bool:
    return values["status"] not in (OK, SKIPPED)


def _records(
    path: Path, header: bytes, values_of: Callable[[bytes], Mapping[str, Any]]
) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    """Give where each complete line ends, with its values; the header has none."""
    end = 0
    with path.open("rb") as stream:
        for line in stream:  # a row is a line, whatever a file is called
            # Torn by a kill, or room that a power cut left for rows that never reached the disk.
            if not line.endswith(b"\n") or b"\0" in line:
                return
            is_header = bool(header) and end == 0
            end += len(line)
            if not is_header:
                yield end, _checked(path, line, values_of)
            elif line == header:
                yield end, None
            else:
                raise UsageError(
                    f"{path} does not begin with the columns of this run; name another output, "
                    "or replace it with --overwrite"
                )


def _checked(
    path: Path, line: bytes, values_of: Callable[[bytes], Mapping[str, Any]]
) -> Mapping[str, Any]:
    try:
        values = values_of(line)
        for name in ("path", "status", "task", "label"):
            values[name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path} holds a row that medkit did not write ({line[:60]!r}); name another output, "
            "or replace it with --overwrite"
        ) from error
    return values


class _SavedFile:
    """A file that stays where it was opened, and whose bytes reach the disk."""

    def __init__(self, path: Path, mode: str) -> None:
        self._path = path
        self._file = path.open(mode)
        opened = os.fstat(self._file.fileno())
        self._is_file = S_ISREG(opened.st_mode)
        # Some network folders number a file anew each time that they are asked.
        self._opened = opened if os.path.samestat(opened, path.stat()) else None
        self._saved = time.monotonic()

    def write(self, content: bytes) -> object:
        return self._file.write(content)

    def flush(self) -> None:
        """Hand what was written to the system, and now and then to the disk.

        Raises
        ------
        OSError
            If that fails, or the file is no longer where it was.
        """
        self._file.flush()
        there = self._path.stat()
        if self._opened is not None and not os.path.samestat(there, self._opened):
            raise FileNotFoundError(errno.ENOENT, "it was replaced meanwhile")
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self._save()

    def close(self) -> None:
        try:
            self._file.flush()
            self._save()
        finally:
            self._file.close()

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self._is_file:
            os.fsync(self._file.fileno())
