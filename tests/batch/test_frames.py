"""Rows as a table of pandas."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fakemodels import Models, broken, coloured, grey, options
from medkit.batch.frames import to_frame
from medkit.batch.outputs.csv import path_from_csv
from medkit.batch.rows import Row
from medkit.batch.run import classify_files, predict_paths
from medkit.errors import MissingExtraError


def test_a_table_is_what_pandas_reads_from_the_csv_of_the_same_run(
    tmp_path: Path, models: Models
) -> None:
    import pandas

    folder = tmp_path / "scans"
    folder.mkdir()
    coloured(folder / "=skin.png", 150)
    grey(folder / "xray.png", 90, (50, 10))
    broken(folder / "broken.png")
    classify_files(options(folder, out=tmp_path / "o.csv"))
    models.clear()
    table = to_frame(predict_paths(options(folder)))
    read = pandas.read_csv(tmp_path / "o.csv", dtype={"notes": "object"})
    read["path"] = read["path"].map(path_from_csv)
    assert list(table.columns) == list(read.columns)
    with_none = [each.astype(object).where(each.notna(), None) for each in (table, read)]
    assert with_none[0].to_dict("records") == with_none[1].to_dict("records")
    assert table["p_NORMAL"].dtype == table["confidence"].dtype == "float64"
    assert list(table["notes"])[2] == "task guessed;shape unusual"


def test_a_table_without_rows_has_its_columns() -> None:
    assert list(to_frame([]).columns)[:5] == ["path", "status", "task", "label", "confidence"]


def test_without_pandas_no_row_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = iter([Row("a.png", "ok")])
    with pytest.raises(MissingExtraError, match=r'pip install "medkit-edge\[pandas\]"'):
        to_frame(rows)
    assert len(list(rows)) == 1
