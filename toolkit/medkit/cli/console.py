"""The console for people, and how tables and names are shown on it: all on standard error.

Standard output stays clean for ``--out -``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

DISCLAIMER = "Research software: a prediction is not a diagnosis."


def stderr_console() -> Console:
    """Return the console that everything for people goes to."""
    return Console(stderr=True, highlight=False)


def noting(console: Console, status: Any) -> Callable[[str], None]:
    """Return what shows a step: in the spinner on a terminal, else as a line."""
    show = status.update if console.is_terminal else console.print
    return lambda text: show(escape(text))


def table(*left: str, right: tuple[str, ...]) -> Table:
    """Return an empty table that fits 80 columns: no frame, no wrapped cell."""
    empty = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in left:
        empty.add_column(name, no_wrap=True)
    for name in right:
        empty.add_column(name, justify="right", no_wrap=True)
    return empty


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
