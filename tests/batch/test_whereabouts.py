"""Folders that go while a run is on."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from medkit.batch.whereabouts import InputFolders
from medkit.errors import MedkitError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_folders_that_are_there_pass_and_files_are_not_looked_after(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b.png")
    whereabouts = InputFolders([tmp_path / "a", tmp_path / "b.png"], 10)
    (tmp_path / "b.png").unlink()
    whereabouts.check()


def test_a_folder_that_has_gone_or_is_empty_where_another_was_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "z/1.png")
    whereabouts = InputFolders([tmp_path / "z", tmp_path / "a"], 10)
    (tmp_path / "a").rename(tmp_path / "away")
    with pytest.raises(MedkitError, match="a has gone; once it is back, continue with --resume"):
        whereabouts.check()
    (tmp_path / "a").mkdir()
    with pytest.raises(MedkitError, match="a has gone"):
        whereabouts.check()


def test_a_folder_that_was_mounted_again_has_not_gone(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    whereabouts = InputFolders([tmp_path / "a"], 10)
    (tmp_path / "a").rename(tmp_path / "away")
    touch(tmp_path, "a/1.png")
    whereabouts.check()


def test_a_folder_whose_images_are_deleted_has_not_gone(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    whereabouts = InputFolders([tmp_path / "a"], 10)
    (tmp_path / "a/1.png").unlink()
    whereabouts.check()


def test_a_folder_that_does_not_answer_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.png")
    whereabouts, back = InputFolders([tmp_path / "a"], 0.1), Event()

    def hang(*_: Any) -> Any:
        back.wait(60)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "stat", hang)
    with pytest.raises(MedkitError, match="a has gone; once it is back, continue with --resume"):
        whereabouts.check()
    back.set()
