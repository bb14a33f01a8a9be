"""The columns of a run."""

from __future__ import annotations

import pytest

from medkit.batch.columns import Column, columns_for, register_column
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
    ]


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="there is a column 'path' already"):
        register_column(Column("path", "text", lambda row: row.path))
