"""The output formats that are known, and what each must be able to do."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from medkit.batch.columns import Column
from medkit.batch.rows import Row
from medkit.defaults import STDOUT
from medkit.errors import UsageError
from medkit.registry import Registry


class RowSink(Protocol):
    """An open output."""

    def write(self, row: Row) -> None:
        """Write one row, through to the operating system.

        Raises
        ------
        BrokenPipeError
            If standard output's reader has gone.
        MedkitError
            If the row cannot be written, as on a full disk.
        """


@dataclass(frozen=True)
class Recovered:
    """The rows that an output already holds.

    Attributes
    ----------
    rows
        Complete rows.
    counts
        Images by task and label.
    errors
        Rows of images that could not be classified.
    names
        Function that yields the names in the rows, in order, as Python strings.
    skipped
        Rows of what was passed over.
    without_errors
        The rows without those that have an error; ``None`` if the output
        cannot tell.
    """

    rows: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: int = 0
    names: Callable[[], Iterator[str]] = lambda: iter(())
    skipped: int = 0
    without_errors: WithoutErrors | None = None


@dataclass(frozen=True)
class WithoutErrors:
    """The rows that an output keeps when those with an error are tried again.

    Attributes
    ----------
    names
        Function that yields the names in the rows that are kept, in order.
    failed
        Function that yields the names in the others.
    copy
        Function that writes the rows that are kept to another file.
    """

    names: Callable[[], Iterator[str]]
    failed: Callable[[], Iterator[str]]
    copy: Callable[[Path], None]


class OutputFormat(Protocol):
    """A format of output files: it writes rows, and reads them when a run is continued.

    Attributes
    ----------
    suffix
        Suffix of such files, in small letters.
    """

    suffix: str

    def open(
        self, path: Path, columns: Sequence[Column], *, append: bool
    ) -> AbstractContextManager[RowSink]:
        """Open a file for rows.

        Parameters
        ----------
        path
            The file.
        columns
            Columns of a row.
        append
            Keep the rows that are there, else begin with an empty file.
        """

    def recover(self, path: Path, columns: Sequence[Column]) -> Recovered:
        """Cut off a torn end, and tell which rows are left.

        Raises
        ------
        UsageError
            If the file is none of a run with these columns.
        MedkitError
            If it cannot be read or cut.
        """


_OUTPUTS: Registry[OutputFormat] = Registry(
    "output with the suffix",
    attrgetter("suffix"),
    ("medkit.batch.outputs.csv", "medkit.batch.outputs.jsonl"),
)


def register_output(added: OutputFormat) -> None:
    """Register an output. Raise :class:`ValueError` if its suffix is taken."""
    _OUTPUTS.add(added)


def outputs() -> dict[str, OutputFormat]:
    """Return every known output by its suffix."""
    return _OUTPUTS.all()


def output_for(out: str | Path) -> OutputFormat:
    """Return the format of an output.

    Parameters
    ----------
    out
        A path, or ``-``, which is CSV on standard output. Nothing is written.

    Raises
    ------
    UsageError
        If it cannot name an output.
    """
    known = outputs()
    if str(out) == STDOUT:
        if sys.stdout is None:
            raise UsageError("standard output is closed; name a file instead")
        return known[".csv"]
    path = Path(out)
    try:
        is_folder, has_parent = path.is_dir(), path.parent.is_dir()
        path.exists()
    except OSError as error:
        raise UsageError(f"output {path} cannot be used: {error.strerror}; name another") from error
    if is_folder:
        raise UsageError(f"output {path} is a folder; name a file in it, such as results.csv")
    if path.suffix.lower() not in known:
        raise UsageError(
            f"output {path} has an unknown suffix; accepted: {', '.join(known)}, "
            f"or {STDOUT} for CSV on standard output"
        )
    if not has_parent:
        raise UsageError(f"folder {path.parent} of the output does not exist; create it first")
    return known[path.suffix.lower()]
