"""The columns of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medkit.batch import columns
from medkit.batch.columns import Column, columns_for, register_column
from medkit.batch.rows import Row
from rowfiles import LABELS


def test_columns_name_each_label_with_underscores() -> None:
    assert [column.name for column in columns_for(LABELS)] == [
        "path",
        "status",
        "task",
        "label",
        "confidence",
        "p_NORMAL",
        "p_basal_cell_carcinoma",
        "error",
        "notes",
    ]


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="there is a column 'path' already"):
        register_column(Column("path", "text", lambda row: row.path))


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (12345678901234567, 12345678901234567),
        (True, True),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        ("text", "text"),
        (None, None),
        (float("nan"), None),
        (np.float64("inf"), None),
    ],
)
def test_an_added_column_gives_plain_values(
    monkeypatch: pytest.MonkeyPatch, given: Any, value: Any
) -> None:
    monkeypatch.setattr(columns, "_ADDED", [])
    register_column(Column("mine", "number", lambda row: given))
    found = columns_for(())[-1].of(Row("a.png", "ok"))
    assert found == value
    assert type(found) is type(value)


def test_a_name_that_a_label_could_have_is_refused() -> None:
    with pytest.raises(ValueError, match="does not begin with p_"):
        register_column(Column("p_NORMAL", "text", lambda row: row.path))
