"""The columns of a table of rows, in their order, whatever format they are written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from medkit.batch.rows import Row

Value = str | float | None

_DIGITS = 6
"""Decimals of a probability: more than any model is good for."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name
        Its heading.
    kind
        ``path`` for the name of a file, ``text`` or ``number``.
    of
        Returns a row's value; ``None`` for an empty field.
    """

    name: str
    kind: Literal["path", "text", "number"]
    of: Callable[[Row], Value]


_ADDED: list[Column] = []


def register_column(added: Column) -> None:
    """Put a column behind those that there are; raise :class:`ValueError` for a known name."""
    if added.name in (column.name for column in columns_for(())):
        raise ValueError(f"there is a column {added.name!r} already")
    _ADDED.append(added)


def added_columns() -> tuple[str, ...]:
    """Return the names of the columns that were registered."""
    return tuple(column.name for column in _ADDED)


def columns_for(labels: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of a run in which ``labels`` can occur."""
    return (
        Column("path", "path", lambda row: row.path),
        Column("status", "text", lambda row: row.status),
        Column("task", "text", lambda row: row.task or None),
        Column("label", "text", lambda row: row.label or None),
        Column("confidence", "number", lambda row: _rounded(row.confidence)),
        *(_probability(label) for label in labels),
        Column("error", "text", lambda row: row.error or None),
        *_ADDED,
    )


def _probability(label: str) -> Column:
    name = f"p_{label.replace(' ', '_')}"
    return Column(name, "number", lambda row: _rounded(row.probabilities.get(label)))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), _DIGITS)
