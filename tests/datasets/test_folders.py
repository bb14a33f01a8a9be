"""The reader of labelled folders: what is measured, what is left out, what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafiles import picture
from medkit.datasets.folders import LeftOut, is_image, read_labelled_folder, summed_up
from medkit.datasets.labels import Labels
from medkit.errors import DatasetLayoutError

LABELS = Labels(("cat", "dog"))


def test_images_come_by_label_and_then_by_name(tmp_path: Path) -> None:
    for seed, name in enumerate(("dog/a.png", "Cat/b.png", "cat/p1/c.png", "cat/d.png")):
        picture(tmp_path / name, seed)
    found = read_labelled_folder(tmp_path, LABELS)
    assert [(file.name, file.label, file.inside) for file in found.files] == [
        ("Cat/b.png", "cat", "b.png"),
        ("cat/d.png", "cat", "d.png"),
        ("cat/p1/c.png", "cat", "p1/c.png"),
        ("dog/a.png", "dog", "a.png"),
    ]
    assert [file.subfolder for file in found.files] == ["", "", "p1", ""]
    assert found.left_out == ()


def test_links_to_folders_are_followed_and_end(tmp_path: Path) -> None:
    picture(tmp_path / "away/a.png", 0)
    picture(tmp_path / "data/cat/b.png", 1)
    (tmp_path / "data/cat/linked").symlink_to(tmp_path / "away")
    (tmp_path / "data/cat/circle").symlink_to(tmp_path / "data/cat")
    (tmp_path / "data/dog").symlink_to(tmp_path / "away")
    found = read_labelled_folder(tmp_path / "data", LABELS)
    assert [file.name for file in found.files] == ["cat/b.png", "cat/linked/a.png", "dog/a.png"]


def test_a_link_that_leads_nowhere_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/gone.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "cat/gone").symlink_to(tmp_path / "gone")
    assert [f.name for f in read_labelled_folder(tmp_path, LABELS).files] == ["cat/gone.png"]


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert not is_image(tmp_path / "pipe.png")


def test_a_folder_of_no_class_without_an_image_is_no_matter(tmp_path: Path) -> None:
    picture(tmp_path / "cat/a.png", 0)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/figures.json").write_text("{}")
    assert len(read_labelled_folder(tmp_path, LABELS).files) == 1
    picture(tmp_path / "results/deeper/a.png", 0)
    with pytest.raises(DatasetLayoutError, match=r"no class of the task: \['results'\]"):
        read_labelled_folder(tmp_path, LABELS)


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self.name == "cat":
            raise PermissionError(13, "Permission denied")
        return listing(self)

    (tmp_path / "cat").mkdir()
    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DatasetLayoutError, match="cat cannot be read: Permission denied; name"):
        read_labelled_folder(tmp_path, LABELS)


def test_each_reason_has_one_line() -> None:
    given = [LeftOut("a.png", "here"), LeftOut("b.png", "there"), LeftOut("c.png", "here")]
    assert summed_up(given) == [
        "left out: 2 images here, such as a.png",
        "left out: 1 image there: b.png",
    ]
