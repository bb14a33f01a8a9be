"""The columns of a table of rows, in their order, whatever format they are written in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from medkit.batch.rows import Row
from medkit.errors import MedkitError
from medkit.images.notes import joined

Value = str | float | None

_OF_LABEL = "p_"
"""Beginning of the name of each column with a label's probability."""

_DIGITS = 6
"""Decimals of a probability: more than any model is good for."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name
        Heading of the column.
    kind
        ``path`` for the name of a file, ``text`` or ``number``. ``words`` are
        text of medkit's own, which outputs need not guard against.
    of
        Returns a row's value; ``None`` for an empty field.
    """

    name: str
    kind: Literal["path", "text", "number", "words"]
    of: Callable[[Row], Value]


_ADDED: list[Column] = []


def register_column(added: Column) -> None:
    """Put a column behind those that there are.

    Raises
    ------
    ValueError
        If its name is taken, or begins as those of probabilities do.
    """
    if added.name in (column.name for column in columns_for(())):
        raise ValueError(f"there is a column {added.name!r} already; choose another name")
    if added.name.startswith(_OF_LABEL):
        raise ValueError(
            f"the column {added.name!r} could be that of a label's probability; choose a name that "
            f"does not begin with {_OF_LABEL}"
        )
    _ADDED.append(replace(added, of=_guarded(added)))


def _guarded(added: Column) -> Callable[[Row], Value]:
    """Return the function of an added column, which fails in one line and gives plain values."""

    def value_of(row: Row) -> Value:
        try:
            value = added.of(row)
            # A number of NumPy's becomes one of Python's.
            value = value.item() if isinstance(value, np.generic) else value
            if value is None or isinstance(value, str | int):
                return value
            number = float(value)
        except Exception as error:
            raise MedkitError(
                f"the column {added.name!r} fails for {row.path} "
                f"({type(error).__name__}: {error}); correct its plug-in, or leave it out"
            ) from error
        return number if math.isfinite(number) else None

    return value_of


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
        Column("notes", "words", lambda row: joined(row.notes) or None),
        *_ADDED,
    )


def _probability(label: str) -> Column:
    name = f"{_OF_LABEL}{label.replace(' ', '_')}"
    return Column(name, "number", lambda row: _rounded(row.probabilities.get(label)))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), _DIGITS)
