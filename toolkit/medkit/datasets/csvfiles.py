"""CSV files that people write, such as a table of labels: with a header, a record a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medkit.datasets.labels import fold
from medkit.errors import UsageError

_DIVIDERS = ",;\t"
"""What may divide cells. Spreadsheets of some countries write semicolons."""


@dataclass(frozen=True)
class CsvTable:
    """The rows of a CSV file.

    Attributes
    ----------
    path
        The file.
    columns
        Names of the columns, as the header has them.
    rows
        Number of the line in the file, and the cells; as many as there are
        columns.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def column(self, names: Sequence[str]) -> int | None:
        """Return the place of the first column with one of these names; case does not count."""
        wanted = [fold(name) for name in names]
        return next((i for i, name in enumerate(self.columns) if fold(name) in wanted), None)


def read_csv_table(path: Path, *, verbatim: bool = False) -> CsvTable:
    """Read a CSV file in UTF-8, with commas, semicolons or tabs. Empty lines are left out.

    Parameters
    ----------
    path
        The file.
    verbatim
        Whether medkit wrote it: cells keep their spaces, and bytes of file
        names that are no UTF-8.

    Raises
    ------
    UsageError
        If it cannot be read, has no header or a column twice, or if a row has
        another number of cells than the header.
    """
    errors = "surrogatepass" if verbatim else "strict"
    try:
        with path.open(encoding="utf-8-sig", errors=errors, newline="") as stream:
            text = stream.read()
    except UnicodeError as error:
        raise UsageError(f"{path} is no UTF-8 text; save it as CSV in UTF-8") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name a CSV file") from error
    header = text.partition("\n")[0]
    divider = max(_DIVIDERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=divider, strict=True)
    found: list[tuple[int, tuple[str, ...]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                kept = cells if verbatim else [cell.strip() for cell in cells]
                found.append((reader.line_num, tuple(kept)))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}; correct it") from error
    if not found:
        raise UsageError(f"{path} is empty; expected a header and a row for each image")
    (_, columns), *rows = found
    folded = [fold(name) for name in columns]
    twice = next((name for name in columns if name and folded.count(fold(name)) > 1), None)
    if twice is not None:
        raise UsageError(f"{path} has the column {twice!r} twice; leave one of them")
    for line, row in rows:
        if len(row) != len(columns):
            raise UsageError(
                f"{path}, line {line} has {len(row)} cells, and the header {len(columns)}; "
                "correct it"
            )
    return CsvTable(path, columns, tuple(rows))
