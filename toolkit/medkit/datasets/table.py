"""The table of labels: a CSV file that says what each image is, where class folders cannot.

Its first column is an image's path relative to the table's folder. The others
are a column of 0 and 1 for each label, or one column with the names of an
image's labels. Columns of the names in :data:`GROUP_COLUMNS` and
:data:`SPLIT_COLUMN` say more, if there are such.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from medkit.datasets.csvfiles import CsvTable, read_csv_table
from medkit.datasets.folders import MAPPED_AWAY, LeftOut
from medkit.datasets.labels import Labels, fold
from medkit.errors import DatasetLayoutError
from medkit.wording import counted, unknown

TABLE_NAME = "labels.csv"
"""Name by which a table is found in a folder."""

LABELS_COLUMNS = ("labels", "label", "Finding Labels")
"""Names of a column that holds the names of an image's labels, between ``;`` or ``|``."""

GROUP_COLUMNS = (
    "group",
    "patient",
    "patient id",
    "patient_id",
    "patientid",
    "lesion",
    "lesion id",
    "lesion_id",
)
"""Names of a column that tells what images belong together. Case does not count."""

SPLIT_COLUMN = "split"
"""Name of a column that tells in which split an image is."""

NO_LABEL = ("", "none", "no finding")
"""What stands for no label in such a column, in small letters."""

_YES, _NO = ("1", "1.0"), ("0", "0.0", "")
"""What a column for one label may hold; pandas writes 1.0 if a cell is empty."""


@dataclass(frozen=True)
class LabelledRow:
    """An image that a table lists.

    Attributes
    ----------
    path
        The file.
    name
        Its path as the table has it, with forward slashes.
    labels
        Its labels, in the task's order.
    group, split
        What the columns for these hold; empty if there are none.
    """

    path: Path
    name: str
    labels: tuple[str, ...]
    group: str
    split: str


@dataclass(frozen=True)
class LabelsTable:
    """The content of a table of labels.

    Attributes
    ----------
    path
        The file.
    rows
        The images, as they are listed.
    left_out
        Images that the labels map leaves out.
    unused
        Names of columns that tell nothing.
    """

    path: Path
    rows: tuple[LabelledRow, ...]
    left_out: tuple[LeftOut, ...]
    unused: tuple[str, ...]

    def remarks(self) -> list[str]:
        """Return a line on the columns that are not used."""
        if not self.unused:
            return []
        return [f"{self.path.name}: columns that are not used: {', '.join(self.unused)}"]


def find_table(data: Path) -> Path | None:
    """Return the table that a path names, or that lies in the folder; ``None`` if there is none."""
    if data.is_file() and data.suffix.lower() == ".csv":
        return data
    inside = data / TABLE_NAME
    return inside if inside.is_file() else None


def read_labels_table(path: Path, labels: Labels, *, multi_label: bool = False) -> LabelsTable:
    """Read a table of labels. No image is opened.

    Parameters
    ----------
    path
        The CSV file.
    labels
        The task's labels, and other spellings of them.
    multi_label
        Whether an image may have several labels, or none.

    Raises
    ------
    DatasetLayoutError
        If the table has no row, no column of labels, or none for one of the
        labels; if a cell holds something else than it may; if an image is
        missing, named by an absolute path, listed twice, or, unless
        ``multi_label``, has not one label.
    UsageError
        If it is no CSV file; see :func:`~medkit.datasets.csvfiles.read_csv_table`.
    """
    table = read_csv_table(path)
    if not table.rows:
        raise DatasetLayoutError(f"{path} has a header and no row; expected a row for each image")
    by_label = _label_columns(table, labels)
    words = None if by_label else table.column(LABELS_COLUMNS)
    if not by_label and words is None:
        raise DatasetLayoutError(
            f"{path} has no column of labels: found {', '.join(table.columns)}; expected the "
            f"image's path first, and a column for each of {list(labels.names or ())}, or a column "
            f"{' or '.join(map(repr, LABELS_COLUMNS))}"
        )
    used = {0, words, *by_label.values()}
    group, split = (
        None if place in used else place
        for place in (table.column(GROUP_COLUMNS), table.column([SPLIT_COLUMN]))
    )
    rows: list[LabelledRow] = []
    left_out: list[LeftOut] = []
    seen: dict[str, int] = {}
    missing: list[str] = []
    for line, cells in table.rows:
        where = f"{path}, line {line}"
        name, file = _image_of(where, path.parent, cells[0])
        if name in seen:
            raise DatasetLayoutError(
                f"{where}: the image {name} stands in line {seen[name]} already; list it once"
            )
        seen[name] = line
        if not file.is_file():
            missing.append(name)
            continue
        found = (
            _ticked(where, table, cells, by_label)
            if words is None
            else _named(where, cells[words], labels)
        )
        kept = tuple(label for label in labels.names or () if label in found)
        if not multi_label and len(kept) != 1:
            if found == {""}:
                left_out.append(LeftOut(name, MAPPED_AWAY))
                continue
            raise DatasetLayoutError(
                f"{where}: the image {name} has {counted(len(kept), 'label')}; this task takes "
                "exactly one for each image"
            )
        told = ["" if place is None else cells[place] for place in (group, split)]
        rows.append(LabelledRow(file, name, kept, *told))
    if missing:
        raise DatasetLayoutError(
            f"{path}: {counted(len(missing), 'image')} of {len(table.rows):,} cannot be found, "
            f"such as {missing[0]}; paths are relative to {path.parent}"
        )
    used |= {group, split}
    unused = [name for place, name in enumerate(table.columns) if place not in used and name]
    return LabelsTable(path, tuple(rows), tuple(left_out), tuple(unused))


def labels_of_table(path: Path) -> tuple[str, ...]:
    """Return the labels that a table names, where no task says them.

    Returns
    -------
    tuple of str
        Those in its column of labels, in alphabetical order, or else the names
        of the columns that hold 0 and 1 only, in theirs.

    Raises
    ------
    UsageError
        If it is no CSV file.
    """
    table = read_csv_table(path)
    words = table.column(LABELS_COLUMNS)
    if words is not None:
        texts = {text for _, cells in table.rows for text in _words(cells[words])}
        return tuple(sorted(text for text in texts if text.casefold() not in NO_LABEL))
    known = {fold(name) for name in (*GROUP_COLUMNS, SPLIT_COLUMN)}
    return tuple(
        name
        for place, name in enumerate(table.columns)
        if place
        and fold(name) not in known
        and all(cells[place] in (*_YES, *_NO) for _, cells in table.rows)
    )


def _label_columns(table: CsvTable, labels: Labels) -> dict[str, int]:
    """Return the place of each label's column; none if no column has a label's name."""
    found: dict[str, int] = {}
    for place, column in enumerate(table.columns[1:], start=1):
        label = labels.label_of(column)
        if label and label in found:
            raise DatasetLayoutError(
                f"{table.path} has the columns {table.columns[found[label]]!r} and {column!r} for "
                f"{label}; leave one of them"
            )
        if label:
            found[label] = place
    missing = [label for label in labels.names or () if label not in found]
    if not found or (missing and table.column(LABELS_COLUMNS) is not None):
        return {}
    if missing:
        raise DatasetLayoutError(
            f"{table.path} has no column for {', '.join(missing)}; expected one for each of "
            f"{list(labels.names or ())}, with 0 and 1"
        )
    return found


def _image_of(where: str, folder: Path, text: str) -> tuple[str, Path]:
    """Return an image's name and its file."""
    if not text:
        raise DatasetLayoutError(f"{where}: the first column, the image's path, is empty; fill it")
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute():
        raise DatasetLayoutError(
            f"{where}: {text} is an absolute path; write it relative to {folder}"
        )
    file = folder / text
    if "\\" in text and not file.is_file():
        file = folder / PureWindowsPath(text).as_posix()
    return file.relative_to(folder).as_posix(), file


def _ticked(
    where: str, table: CsvTable, cells: Sequence[str], by_label: dict[str, int]
) -> set[str]:
    """Return the labels whose columns hold a 1."""
    found = set()
    for label, place in by_label.items():
        if cells[place] in _YES:
            found.add(label)
        elif cells[place] not in _NO:
            raise DatasetLayoutError(
                f"{where}: {table.columns[place]} is {cells[place]!r}; accepted: 1, 0, or an empty "
                "cell for 0"
            )
    return found


def _named(where: str, cell: str, labels: Labels) -> set[str]:
    """Return the labels that a cell names; empty for one that the labels map leaves out."""
    found = set()
    for word in _words(cell):
        label = labels.label_of(word)
        if label is not None:
            found.add(label)
        elif word.casefold() not in NO_LABEL:
            message = unknown("label", word, labels.names or ())
            raise DatasetLayoutError(f"{where}: {message}")
    return found


def _words(cell: str) -> list[str]:
    return [word.strip() for word in re.split(r"[;|]", cell)]
