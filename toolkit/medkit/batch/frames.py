"""Rows as a table of pandas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from medkit.batch.columns import columns_for
from medkit.batch.rows import Row
from medkit.extras import require

if TYPE_CHECKING:
    import pandas


def to_frame(rows: Iterable[Row]) -> pandas.DataFrame:
    """Return rows as a flat table, with the columns that a CSV has.

    Parameters
    ----------
    rows
        The rows, such as :func:`medkit.predict_paths` gives. They are read to
        their end.

    Returns
    -------
    pandas.DataFrame
        One line for each row, in their order. ``confidence`` and each label's
        probability (``p_NORMAL``, ...) are floats, ``NaN`` where there is
        none; the others are texts, ``None`` where there is none. Notes are
        one text, with ``;`` between two. A label has a column if its task
        has decided at least one row. ``path`` is the name as Python has it,
        so that :func:`medkit.path_from_csv` is not needed.

    Raises
    ------
    MissingExtraError
        If pandas is not installed. No row is read then.
    """
    require("make a table of rows", "pandas")
    import pandas

    held = list(rows)
    labels = {row.task: tuple(row.probabilities) for row in held if row.probabilities}
    columns = columns_for([label for task in sorted(labels) for label in labels[task]])
    return pandas.DataFrame(
        {
            column.name: pandas.Series(
                [column.of(row) for row in held],
                dtype="float64" if column.kind == "number" else "object",
            )
            for column in columns
        }
    )
