"""The line that shows the progress of a run, for instance in a notebook."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from fakemodels import Models, grey, options
from medkit.batch.observers import ProgressLine
from medkit.batch.rows import Row
from medkit.batch.run import classify_files, predict_paths


def test_the_line_counts_kept_rows_new_rows_and_errors() -> None:
    shown = io.StringIO()
    line = ProgressLine(shown)
    line.kept(1000)
    line.total(1003)
    line.row(Row("a.png", "ok"))
    line.row(Row("b.png", "error", error="file not found"))
    line.row(Row("c.txt", "skipped", error="a hidden file"))
    line.end()
    text = shown.getvalue()
    assert text.startswith("\r1,001 of 1,003 images, ")
    assert "\r1,003 of 1,003 images, 1 with an error, " in text
    assert text.endswith(" images/s\n")
    assert text.count("\n") == 1


def test_rows_and_their_number_are_shown_where_rows_are_asked_for(
    tmp_path: Path, models: Models
) -> None:
    for index in range(3):
        grey(tmp_path / f"{index}.png", index)
    shown = io.StringIO()
    assert len(list(predict_paths(options(tmp_path), ProgressLine(shown)))) == 3
    assert "\r3" in shown.getvalue()
    assert shown.getvalue().endswith(" images/s\n")


def test_nothing_is_shown_unless_it_is_asked_for(
    tmp_path: Path, models: Models, capfd: pytest.CaptureFixture[str]
) -> None:
    grey(tmp_path / "a.png", 1)
    list(predict_paths(options(tmp_path)))
    models.clear()
    classify_files(options(tmp_path, out=tmp_path / "o.csv"))
    assert capfd.readouterr() == ("", "")


def test_a_run_that_fails_ends_its_line(tmp_path: Path, models: Models) -> None:
    grey(tmp_path / "a.png", 1)
    shown = io.StringIO()

    class Interrupted(ProgressLine):
        def row(self, row: Row) -> None:
            super().row(row)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify_files(options(tmp_path, out=tmp_path / "o.csv"), Interrupted(shown))
    assert shown.getvalue().endswith(" images/s\n")
