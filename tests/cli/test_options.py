"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkit.cli.options import fresh_reports
from medkit.errors import MissingExtraError, UsageError


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
