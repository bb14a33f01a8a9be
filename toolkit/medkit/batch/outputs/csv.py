r"""Rows as CSV: UTF-8 with ``\n`` line ends on every platform.

A CSV goes through spreadsheets, which run formulas, and drop or split at what
they do not show. A byte of a name that is not UTF-8, a control character,
``;``, ``|`` and a space before a sign that begins a formula are therefore the
text ``\uXXXX``; backslashes before it, or before what a name has that looks
like it, are doubled. Other texts, such as an error, are written for people: in
them ``;`` stays before a word, with which no formula begins. A text that
begins with ``=``, ``+``, ``-``, ``@``, one of these in full width, or ``'``
has a ``'`` before it, as has every name without an image's suffix.
:func:`path_from_csv` gives back the name.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medkit.batch.columns import Column, Value
from medkit.batch.outputs.lines import LineSink, open_lines, recover_lines
from medkit.batch.outputs.registry import Recovered, register_output
from medkit.batch.rows import Row
from medkit.images.formats.registry import extensions

_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")
"""What makes a spreadsheet take a cell for a formula, full-width signs included; and the mark
against it, so that a name that begins with the mark itself can be told."""

_SIGN = r"[=+\-@\uff1d\uff0b\uff0d\uff20]"
"""What begins a formula, as a pattern."""


def _escaped(semicolon: str) -> re.Pattern[str]:
    """Return a pattern of what is escaped in a text, and with it ``semicolon``."""
    characters = rf"[\x00-\x1f\x7f|\ud800-\udfff]|{semicolon}| (?={_SIGN})"
    return re.compile(rf"(\\*)({characters})|(\\+)(?=u[0-9a-f]{{4}})")


_IN_NAMES, _IN_TEXTS = _escaped(";"), _escaped(r";(?! ?\w)")
"""Characters that are not UTF-8, that spreadsheets drop or change, or at which a spreadsheet may
be told to split lines, whatever is quoted: a formula could follow."""

_ESCAPE = re.compile(r"(\\+)u([0-9a-f]{4})")
"""How these characters are written."""


class CsvOutput:
    """Rows as CSV, with a header.

    Parameters
    ----------
    excel
        Begin the file with a byte order mark. Excel takes a file without one
        for text in the code page of its country.
    """

    suffix = ".csv"

    def __init__(self, *, excel: bool = False) -> None:
        self._mark = "\ufeff" if excel else ""

    @contextmanager
    def open(self, path: Path, columns: Sequence[Column], *, append: bool) -> Iterator[LineSink]:
        """Open a file for rows, or with the path ``-`` standard output."""

        def to_line(row: Row) -> str:
            return _as_csv([_cell_of(column, column.of(row)) for column in columns])

        with open_lines(path, to_line, append=append) as sink:
            if not append:
                sink.write_line(self._mark + _header(columns))
            yield sink

    def recover(self, path: Path, columns: Sequence[Column]) -> Recovered:
        """Cut off a torn end, and tell which rows are left."""
        names = [column.name for column in columns]

        def values_of(line: bytes) -> dict[str, Any]:
            try:
                (cells,) = csv.reader([line.decode("utf-8").removesuffix("\n")])
            except csv.Error as error:
                raise ValueError(str(error)) from error
            values = dict(zip(names, cells, strict=True))
            return {**values, "path": path_from_csv(values["path"])}

        return recover_lines(path, (self._mark + _header(columns)).encode(), values_of)


def path_from_csv(cell: str) -> str:
    r"""Return the name of a file from its cell in the column ``path`` of a CSV.

    Parameters
    ----------
    cell
        Text of the cell, as a CSV reader returns it.

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


def _header(columns: Sequence[Column]) -> str:
    return _as_csv([column.name for column in columns])


def _as_csv(cells: Sequence[object]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _cell_of(column: Column, value: Value) -> Value:
    if not isinstance(value, str) or column.kind == "words":
        return value
    return _path_cell(value) if column.kind == "path" else _cell(value)


def _path_cell(name: str) -> str:
    """Return a name as a cell that comes out of a spreadsheet as it went in."""
    cell = _cell(name, _IN_NAMES)
    # Without a suffix, "007" is a number to a spreadsheet, "May-20" a date, "NA" nothing.
    is_image = name.lower().endswith(tuple(extensions()))
    return cell if is_image or cell.startswith("'") else f"'{cell}"


def _cell(text: str, escaped: re.Pattern[str] = _IN_TEXTS) -> str:
    """Return a text as a cell that no spreadsheet runs, and that is UTF-8."""

    def escape(found: re.Match[str]) -> str:
        # Backslashes before an escape, or before what looks like one, are doubled.
        return f"{found[1] * 2}\\u{ord(found[2]):04x}" if found[2] else found[3] * 2

    text = escaped.sub(escape, text)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


register_output(CsvOutput())
