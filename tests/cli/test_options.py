"""Options that several commands take."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from medkit.cli.options import fresh_reports, write_reports
from medkit.errors import MissingExtraError, UsageError
from medkit.files import write_text


def test_an_old_report_is_gone_before_the_work_begins(tmp_path: Path) -> None:
    old = tmp_path / "a.json"
    old.write_text("old")
    with fresh_reports([None, old]):
        assert not old.exists()


@pytest.mark.parametrize("error", [UsageError("wrong"), KeyboardInterrupt()])
def test_an_old_report_does_not_outlive_a_run_that_fails(
    tmp_path: Path, error: BaseException
) -> None:
    old = tmp_path / "a.json"
    old.write_text("old")
    with pytest.raises(type(error)), fresh_reports([old]):
        raise error
    assert not old.exists()


def test_an_old_report_stays_if_a_package_is_absent(tmp_path: Path) -> None:
    old = tmp_path / "a.html"
    old.write_bytes(b"old \xff")
    with pytest.raises(MissingExtraError), fresh_reports([old]):
        raise MissingExtraError("jinja2", "report", "write a page")
    assert old.read_bytes() == b"old \xff"


def test_a_file_that_is_named_twice_is_the_one_in_the_message(tmp_path: Path) -> None:
    first, twice = tmp_path / "a", tmp_path / "b"
    with (
        pytest.raises(UsageError, match=f"{twice} is named for two reports"),
        fresh_reports([first, twice, twice]),
    ):
        pass


def test_a_report_does_not_replace_the_file_that_is_read(tmp_path: Path) -> None:
    model, link = tmp_path / "m.tflite", tmp_path / "link.json"
    model.write_text("model")
    link.symlink_to(model)
    with pytest.raises(UsageError, match="m.tflite is read; name another file"):
        fresh_reports([link], given=model).__enter__()
    assert model.read_text() == "model"


def test_a_report_behind_a_link_is_written_where_the_link_leads(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    link.symlink_to(real)
    with fresh_reports([link]):
        assert not real.exists()
        write_text(link, "new")
    assert (real.read_text(), link.is_symlink()) == ("new", True)


def test_places_that_no_report_can_take_are_refused_in_one_line(tmp_path: Path) -> None:
    circle, pipe = tmp_path / "circle", tmp_path / "pipe"
    circle.symlink_to(circle)
    os.mkfifo(pipe)
    for path in (circle, pipe, tmp_path, tmp_path / ("n" * 300)):
        with pytest.raises(UsageError) as caught:
            fresh_reports([path]).__enter__()
        assert "\n" not in str(caught.value)
    assert pipe.is_fifo()


def test_a_report_for_standard_output_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    dash, file = Path("-"), tmp_path / "b.json"
    with fresh_reports([dash, file]):
        write_reports("{}\n", [(dash, lambda found, path: write_text(path, found))])
        write_reports("{}\n", [(file, lambda found, path: write_text(path, found))])
    assert capsysbinary.readouterr().out == b"{}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_standard_output_takes_one_report() -> None:
    with pytest.raises(UsageError, match="two reports cannot both go to standard output"):
        fresh_reports([Path("-"), Path("-")]).__enter__()


def test_a_report_for_closed_standard_output_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UsageError, match="standard output is closed; name a file"):
        fresh_reports([Path("-")]).__enter__()
