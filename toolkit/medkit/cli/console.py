"""The consoles for people, and how tables and names are shown on them.

What a command is asked for goes to standard output; progress and remarks go
to standard error. A stream that is no terminal gets plain text, without
colours or control codes, in lines of any length.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medkit.cli.options import is_stdout, stdout_errors
from medkit.errors import UsageError

DISCLAIMER = "Research software: a prediction is not a diagnosis."

_UNBOUNDED = 100_000
"""Columns of a file or a pipe: nothing is wrapped there, and nothing is cut off."""


class _Console(Console):
    """A console that colours and animates on a terminal only.

    rich alone takes ``FORCE_COLOR`` and the like for a terminal, and would animate a log.
    """

    def __init__(self, stream: IO[str] | None, *, stderr: bool) -> None:
        if stream is not None and stream.isatty():
            super().__init__(stderr=stderr, highlight=False, force_terminal=True)
            return
        super().__init__(
            stderr=stderr,
            highlight=False,
            force_terminal=False,
            force_interactive=False,
            width=_UNBOUNDED,
        )

    def on_broken_pipe(self) -> None:
        """Raise the error, which the command line turns into its exit status."""
        raise  # noqa: PLE0704 - rich calls this while it handles the error


class _ResultConsole(_Console):
    """The console on standard output."""

    def print(self, *things: Any, **how: Any) -> None:
        """Show things; a full disk is an error of medkit's."""
        with stdout_errors():
            super().print(*things, **how)


def stderr_console() -> Console:
    """Return the console for progress, remarks, and what a command did."""
    return _Console(sys.stderr, stderr=True)


def result_console(*reports: Path | None) -> Console:
    """Return the console for what a command is asked for: standard output.

    Parameters
    ----------
    reports
        Files that are written as well. If one is ``-``, standard output is its
        alone, and the console is that of standard error.

    Raises
    ------
    UsageError
        If standard output is closed.
    """
    if any(is_stdout(report) for report in reports):
        return stderr_console()
    if sys.stdout is None:
        raise UsageError("standard output is closed; leave it open, or send it to a file")
    # A name that the terminal's encoding lacks is no reason to fail.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return _ResultConsole(sys.stdout, stderr=False)


def table(*left: str, right: tuple[str, ...]) -> Table:
    """Return an empty table without a frame. :func:`show_table` shows it."""
    empty = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in left:
        empty.add_column(name, no_wrap=True)
    for name in right:
        empty.add_column(name, justify="right", no_wrap=True)
    return empty


def show_table(console: Console, shown: Table) -> None:
    """Show a table with every cell in full.

    If it is too wide for the console, each row becomes a few lines: its first
    cell, and below it the others with the names of their columns.
    """
    unbounded = console.options.update_width(_UNBOUNDED)
    if console.measure(shown, options=unbounded).maximum <= console.width:
        console.print(shown)
        return
    for line in _stacked(shown):
        console.print(line, soft_wrap=True)


def _stacked(shown: Table) -> Iterator[str]:
    """Give the rows of a table, one cell a line."""
    first, *others = shown.columns
    width = max(len(str(column.header)) for column in others)
    for index, name in enumerate(first.cells):
        yield f"[bold]{name}[/]"
        for column in others:
            yield f"  {column.header!s:{width}}  {list(column.cells)[index]}"


def visible(text: str) -> str:
    """Return a name as it can be shown: no markup, and control characters as escapes."""
    shown = (
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
    return escape("".join(shown))


def spread(value: float | None, interval: Any, digits: int = 4) -> tuple[str, str]:
    """Return a figure and its interval as text."""
    if value is None:
        return ("-", "-")
    if interval is None:
        return (f"{value:.{digits}f}", "-")
    return (f"{value:.{digits}f}", f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}")


def duration(seconds: float) -> str:
    """Return a duration as minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def megabytes(count: int | None) -> str:
    """Return a number of bytes in megabytes, or a dash."""
    return "-" if count is None else f"{count / 1e6:,.0f} MB"
