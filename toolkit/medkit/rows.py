"""The table that classification writes: one row an input, as CSV or JSON Lines."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Protocol

from medkit.errors import MedkitError, UsageError
from medkit.images import EXTENSIONS

STDOUT = "-"
"""The output that means CSV on standard output."""

SUFFIXES = (".csv", ".jsonl")
"""Suffixes of an output file, which decide its format."""

_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")
"""What makes a spreadsheet take a cell for a formula, full-width signs included; and the mark
against it, so that a name that begins with the mark itself can be told."""

_ESCAPED = re.compile(
    r"(\\*)([\x00-\x1f\x7f;|\ud800-\udfff]| (?=[=+\-@\uff1d\uff0b\uff0d\uff20]))"
    r"|(\\+)(?=u[0-9a-f]{4})"
)
_ESCAPE = re.compile(r"(\\+)u([0-9a-f]{4})")
"""Characters that are no UTF-8, that spreadsheets drop or change, or that one may be told to split
lines at, whatever is quoted: what follows could be a formula. And how they are written."""

_SAVE_EVERY = 5.0
"""Seconds between two times that rows are saved to the disk: what a power cut may cost at most."""

_DIGITS = 6
"""Decimals of a probability: more than any model is good for."""


@dataclass(frozen=True)
class Row:
    """What came of one input.

    Attributes
    ----------
    path
        Its name, as :func:`medkit.listing.walk` gives it.
    status
        ``ok`` or ``error``.
    task
        The task whose model was used; empty where none was chosen.
    label
        The label decided on; empty after an error.
    confidence
        Probability of that label, 0..1.
    probabilities
        Probability of each label of the task, 0..1; empty after an error.
    error
        What went wrong, in one line; empty if nothing did.
    """

    path: str
    status: str
    task: str = ""
    label: str = ""
    confidence: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str = ""


def columns(labels: Sequence[str]) -> list[str]:
    """Return the column names for a run in which ``labels`` can occur."""
    probabilities = (f"p_{label.replace(' ', '_')}" for label in labels)
    return ["path", "status", "task", "label", "confidence", *probabilities, "error"]


def header_of(out: Path, labels: Sequence[str]) -> bytes:
    """Return the bytes that a file begins with: nothing for JSON Lines."""
    if out.suffix.lower() != ".csv":
        return b""
    return _as_csv(columns(labels)).encode()


def as_written(out: Path, name: str) -> str:
    """Return an image's name as a reader finds it in an output."""
    return _path_cell(name) if out.suffix.lower() == ".csv" else name


def path_from_csv(cell: str) -> str:
    r"""Return the name of a file from its cell in the column ``path`` of a CSV.

    Parameters
    ----------
    cell
        As a reader of CSV gives it.

    Returns
    -------
    str
        The name as Python has it: a byte that is not UTF-8 is a lone
        surrogate, and :func:`os.fsencode` gives the bytes.
    """

    def unescape(found: re.Match[str]) -> str:
        count, number = len(found[1]), found[2]
        half = "\\" * (count // 2)
        return half + (chr(int(number, 16)) if count % 2 else f"u{number}")

    return _ESCAPE.sub(unescape, cell.removeprefix("'"))


def check_output(out: str | Path) -> None:
    """Raise :class:`UsageError` unless ``out`` can name an output; nothing is written."""
    if str(out) == STDOUT:
        if sys.stdout is None:
            raise UsageError("standard output is closed; name a file instead")
        return
    path = Path(out)
    try:
        is_folder, has_parent = path.is_dir(), path.parent.is_dir()
        path.exists()
    except OSError as error:
        raise UsageError(f"output {path} cannot be used: {error.strerror}; name another") from error
    if is_folder:
        raise UsageError(f"output {path} is a folder; name a file in it, such as results.csv")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"output {path} has an unknown suffix; accepted: {', '.join(SUFFIXES)}, "
            f"or {STDOUT} for CSV on standard output"
        )
    if not has_parent:
        raise UsageError(f"folder {path.parent} of the output does not exist; create it first")


class Stream(Protocol):
    """What rows are written to."""

    def write(self, content: bytes, /) -> object:
        """Take bytes."""

    def flush(self) -> None:
        """Pass them on."""


class RowWriter:
    r"""Writes rows to a binary stream, each one through to the operating system at once.

    The bytes are UTF-8 with ``\n`` line ends on every platform. In JSON
    Lines, a byte of a file name that is not UTF-8 is the escape ``\udcXX``,
    which gives back Python's name of the file.

    A CSV goes through spreadsheets, which run formulas, and drop or split at
    what they do not show. There, such a byte, a control character, ``;``,
    ``|`` and a space before a sign that begins a formula are the text
    ``\uXXXX``; backslashes before it, or before what a name has that looks
    like it, are doubled. A text that begins with ``=``, ``+``, ``-``, ``@``,
    one of these in full width, or ``'`` has a ``'`` before it, as has every
    name without an image's suffix. :func:`path_from_csv` gives back the name.
    """

    def __init__(
        self,
        stream: Stream,
        name: str,
        labels: Sequence[str],
        to_line: Callable[[dict[str, object]], str],
        append: bool = False,
    ) -> None:
        self._stream = stream
        self._name = name
        self._labels = labels
        self._columns = columns(labels)
        self._to_line = to_line
        if to_line is _csv_line and not append:
            self._write(_as_csv(self._columns))

    def write(self, row: Row) -> None:
        """Write one row.

        Raises
        ------
        BrokenPipeError
            If standard output's reader has gone.
        MedkitError
            If the row cannot be written, as on a full disk.
        """
        probabilities = (row.probabilities.get(label) for label in self._labels)
        values = [
            row.path,
            row.status,
            row.task or None,
            row.label or None,
            _rounded(row.confidence),
            *map(_rounded, probabilities),
            row.error or None,
        ]
        self._write(self._to_line(dict(zip(self._columns, values, strict=True))))

    def _write(self, line: str) -> None:
        with output_errors(self._name):
            self._stream.write(line.encode())
            self._stream.flush()


@contextmanager
def open_writer(
    out: str | Path, labels: Sequence[str], *, append: bool = False
) -> Iterator[RowWriter]:
    """Open an output for rows, replacing a file that is there.

    Parameters
    ----------
    out
        A ``.csv`` or ``.jsonl`` file, or ``-`` for CSV on standard output.
        An object of JSON Lines has the keys of the CSV, with null for an
        empty field.
    labels
        Every label that can occur, in the order of the columns.
    append
        Keep the rows of a file that is there, and write after them.

    Raises
    ------
    UsageError
        As :func:`check_output`.
    MedkitError
        If the file cannot be opened or written.
    BrokenPipeError
        If standard output's reader has gone. The last row may then still
        lie in ``sys.stdout``, whose flush at exit would fail again: a
        command line points file descriptor 1 at ``os.devnull`` first.
    """
    check_output(out)
    if str(out) == STDOUT:
        sys.stdout.flush()
        yield RowWriter(sys.stdout.buffer, "standard output", labels, _csv_line)
        return
    path = Path(out)
    with output_errors(str(path)):
        stream = _Output(path, "ab" if append else "wb")
    try:
        to_line = _csv_line if path.suffix.lower() == ".csv" else _json_line
        yield RowWriter(stream, str(path), labels, to_line, append)
    finally:
        with output_errors(str(path)):
            stream.close()


class _Output:
    """A file that rows go to: it is where it was, and what was written reaches the disk."""

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


def _csv_line(values: dict[str, object]) -> str:
    cells = {name: _cell(x) if isinstance(x, str) else x for name, x in values.items()}
    return _as_csv([*(cells | {"path": _path_cell(str(values["path"]))}).values()])


def _as_csv(cells: Sequence[object]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _path_cell(name: str) -> str:
    """Return a name as a cell that comes out of a spreadsheet as it went in."""
    cell = _cell(name)
    # Without a suffix, "007" is a number to a spreadsheet, "May-20" a date, "NA" nothing.
    is_image = name.lower().endswith(tuple(EXTENSIONS))
    return cell if is_image or cell.startswith("'") else f"'{cell}"


def _cell(text: str) -> str:
    """Return a text as a cell that no spreadsheet runs, and that is UTF-8."""

    def escape(found: re.Match[str]) -> str:
        # Backslashes before an escape, or before what looks like one, are doubled.
        return f"{found[1] * 2}\\u{ord(found[2]):04x}" if found[2] else found[3] * 2

    text = _ESCAPED.sub(escape, text)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _json_line(values: dict[str, object]) -> str:
    return json.dumps(values) + "\n"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), _DIGITS)


@contextmanager
def output_errors(name: str) -> Iterator[None]:
    """Turn what the operating system says of an output into one of medkit's errors."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise MedkitError(
            f"{name} cannot be written: {error.strerror}; put that right and continue with "
            "--resume, or name another output"
        ) from error
