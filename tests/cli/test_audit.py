"""``medkit audit``: its exit status, what it shows, and the reports that it writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import medkit.datasets.audit
from auditfiles import broken, clean, copy, drawing, everything, found
from medkit.cli.app import app
from medkit.datasets.audit import PROBLEMS, REMARKS, audit_folder


def run(*arguments: Any) -> Any:
    """Run ``medkit audit`` in this process."""
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_the_command_exits_0_for_a_clean_folder_and_1_for_a_problem(tmp_path: Path) -> None:
    result = run(clean(tmp_path))
    assert result.exit_code == 0
    assert "4 images, no problem" in result.stdout
    copy(tmp_path / "cat/1.png", tmp_path / "dog/copy.png")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "label conflict: cat/1.png; dog/copy.png (cat and dog)" in result.stdout
    assert "5 images, 1 problem\n" in result.stdout


@pytest.mark.parametrize("kind", list(REMARKS))
def test_remarks_fail_the_command_only_with_strict(tmp_path: Path, kind: str) -> None:
    if kind == "duplicate":
        copy(clean(tmp_path) / "cat/1.png", tmp_path / "cat/copy.png")
    elif kind == "near duplicate":
        drawing(clean(tmp_path) / "cat/again.jpg", 0, quality=60)
    else:
        drawing(tmp_path / "train/sick/person1_virus_1.png", 0)
        drawing(tmp_path / "test/sick/person1_virus_2.png", 1)
    assert found(audit_folder(tmp_path)) == {kind: 1}
    assert run(tmp_path).exit_code == 0
    assert run(tmp_path, "--strict").exit_code == 1


def test_a_strict_command_exits_0_for_a_clean_folder(tmp_path: Path) -> None:
    assert run(clean(tmp_path), "--strict").exit_code == 0


def test_the_command_shows_counts_by_class_and_kind(tmp_path: Path) -> None:
    result = run(everything(tmp_path))
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["class", "test", "train"] in lines
    assert ["cat", "0", "3"] in lines
    assert ["dog", "3", "3"] in lines
    for meaning in {**PROBLEMS, **REMARKS}.values():
        assert [*meaning.split(), "1"] in lines


def test_the_command_shows_class_names_as_they_are(tmp_path: Path) -> None:
    drawing(tmp_path / "[red]cat/1.png", 0)
    assert re.search(r"^\[red\]cat +1$", run(tmp_path).stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_a_wrong_folder_exits_2_and_is_named(tmp_path: Path, name: str) -> None:
    broken(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / name)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("medkit: error: ")
    assert str(tmp_path / name) in line


def test_the_command_writes_the_reports_even_if_it_exits_1(tmp_path: Path) -> None:
    reports = tmp_path / "new/audit.json", tmp_path / "new/audit.html"
    result = run(everything(tmp_path / "data"), "--json", reports[0], "--html", reports[1])
    assert result.exit_code == 1
    assert json.loads(reports[0].read_text())["summary"]["split leak"] == 1
    assert "test and train" in reports[1].read_text()


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_report_that_cannot_be_written_is_refused_before_any_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    clean(tmp_path / "data")
    # A call of it would not end with exit status 2.
    monkeypatch.setattr(medkit.datasets.audit, "audit_folder", None)
    file = broken(tmp_path / "file")
    result = run(tmp_path / "data", option, file / "report")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    result = run(tmp_path / "data", option, tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path} is a folder; name a file in it" in result.stderr


def test_an_old_report_does_not_outlive_a_run_that_fails(tmp_path: Path) -> None:
    old = broken(tmp_path / "audit.json")
    (tmp_path / "data").mkdir()
    assert run(tmp_path / "data", "--json", old).exit_code == 2
    assert not old.exists()


def test_a_task_may_have_splits_of_other_names(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        drawing(tmp_path / split / "NORMAL/1.png", seed)
    result = run(tmp_path, "--task", "pneumonia")
    assert result.exit_code == 0
    assert "2 images, no problem" in result.stdout
