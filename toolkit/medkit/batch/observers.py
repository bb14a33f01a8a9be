"""Observers of a run: what is told of its progress, and a line that shows it.

Nothing is shown unless it is asked for.
"""

from __future__ import annotations

import sys
import time
from typing import Protocol, TextIO

from medkit.batch.rows import ERROR, Row

_SHOWN_EVERY = 0.5
"""Seconds between two changes of the line."""


class Observer(Protocol):
    """An observer of progress. It is called in the thread that asked for the rows."""

    def kept(self, count: int) -> None:
        """Take the number of rows kept from an earlier run; before any row, if there are any."""

    def total(self, count: int) -> None:
        """Take the number of rows, kept ones included; at most one call, between any two rows."""

    def row(self, row: Row) -> None:
        """Take a row that is new; if rows are written, it has just been."""

    def end(self) -> None:
        """Take note that the run has ended, in whatever way."""


class Silent:
    """An observer that takes no notice."""

    def kept(self, count: int) -> None:
        """Take the number of rows kept from an earlier run."""

    def total(self, count: int) -> None:
        """Take the number of rows."""

    def row(self, row: Row) -> None:
        """Take a row."""

    def end(self) -> None:
        """Take note of the end."""


class ProgressLine:
    """Shows the progress of a run in one line of plain text, also in a notebook.

    Give it to :func:`medkit.classify_files` or :func:`medkit.predict_paths`.
    The line is written over twice a second, and stays when the run ends.

    Parameters
    ----------
    stream
        Where the line is written; ``None`` for standard error, which a
        notebook shows below the cell.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._kept = self._new = self._errors = self._width = 0
        self._total: int | None = None
        self._started = time.monotonic()
        self._shown = 0.0

    def kept(self, count: int) -> None:
        """Take the number of rows kept from an earlier run."""
        self._kept = count

    def total(self, count: int) -> None:
        """Take the number of rows, kept ones included."""
        self._total = count

    def row(self, row: Row) -> None:
        """Count a row."""
        self._new += 1
        self._errors += row.status == ERROR
        if time.monotonic() - self._shown >= _SHOWN_EVERY:
            self._show()

    def end(self) -> None:
        """Show the last count, and leave it."""
        self._show("\n")
        self._width = 0

    def _show(self, ending: str = "") -> None:
        self._shown = time.monotonic()
        done = f"{self._kept + self._new:,}"
        of = "" if self._total is None else f" of {self._total:,}"
        rate = self._new / max(self._shown - self._started, 1e-6)
        errors = f", {self._errors:,} with an error" if self._errors else ""
        text = f"{done}{of} images{errors}, {rate:,.0f} images/s"
        self._width = max(self._width, len(text))
        stream = self._stream or sys.stderr
        if stream is not None:
            stream.write(f"\r{text:<{self._width}}{ending}")
            stream.flush()
