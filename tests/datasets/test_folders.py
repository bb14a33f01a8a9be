"""The reader of labelled folders: what is measured, what is left out, what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafiles import picture
from medkit.datasets.entries import is_image
from medkit.datasets.folders import LabelledFile, LeftOut, read_labelled_folder, summed_up
from medkit.datasets.labels import Labels
from medkit.errors import DatasetLayoutError
from medkit.images import recognition

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


def refusal(root: Path, labels: Labels = LABELS) -> str:
    """Return why a labelled folder is refused."""
    with pytest.raises(DatasetLayoutError) as caught:
        read_labelled_folder(root, labels)
    return str(caught.value)


def test_links_to_folders_are_followed_and_end(tmp_path: Path) -> None:
    picture(tmp_path / "away/a.png", 0)
    picture(tmp_path / "data/cat/b.png", 1)
    (tmp_path / "data/cat/linked").symlink_to(tmp_path / "away")
    (tmp_path / "data/cat/circle").symlink_to(tmp_path / "data/cat")
    found = read_labelled_folder(tmp_path / "data", LABELS)
    assert [file.name for file in found.files] == ["cat/b.png", "cat/linked/a.png"]


def test_a_link_to_the_folder_of_another_class_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "cat/a.png", 0)
    picture(tmp_path / "dog/b.png", 1)
    (tmp_path / "cat/more").symlink_to("../dog")
    assert "are the same folder by a link" in refusal(tmp_path)


def test_an_image_behind_a_link_to_a_folder_counts_once(tmp_path: Path) -> None:
    picture(tmp_path / "cat/p2/a.png", 0)
    (tmp_path / "cat/p1").symlink_to("p2")
    found = read_labelled_folder(tmp_path, LABELS)
    assert [file.name for file in found.files] == ["cat/p2/a.png"]
    assert found.remarks()[1:] == [
        "left out: 1 image behind links to images that are read elsewhere: cat/p1/a.png"
    ]


def test_a_file_under_two_labels_by_a_link_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "cat/a.png", 0)
    picture(tmp_path / "dog/b.png", 1)
    (tmp_path / "cat/again.png").symlink_to("a.png")
    (tmp_path / "dog/same.png").symlink_to("../cat/a.png")
    found = read_labelled_folder(tmp_path, LABELS)
    assert [file.name for file in found.files] == ["cat/a.png", "dog/b.png", "dog/same.png"]
    assert found.twice == ("cat/a.png", "dog/same.png")
    assert [each.name for each in found.left_out] == ["cat/again.png"]


def test_an_image_link_that_leads_nowhere_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/gone.png").symlink_to(tmp_path / "gone.png")
    assert [f.name for f in read_labelled_folder(tmp_path, LABELS).files] == ["cat/gone.png"]


@pytest.mark.parametrize("place", ["cat", "dog/patient7"])
def test_a_folder_link_that_leads_nowhere_is_refused(tmp_path: Path, place: str) -> None:
    picture(tmp_path / "dog/a.png", 0)
    (tmp_path / place).symlink_to("nowhere")
    assert f"{place} is a link that leads nowhere, so the images" in refusal(tmp_path)


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "cat/a.png", 0)
    for name in ("cat/a.svg", "cat/p1/b.SVG", "dog/c.dcm", "dog/.hidden", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"0")
    found = read_labelled_folder(tmp_path, LABELS)
    assert found.remarks() == ["passed over: 2 .svg, 1 hidden, 1 .dcm, 1 .txt"]


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert not is_image(tmp_path / "pipe.png")


def test_a_folder_of_no_class_without_an_image_is_no_matter(tmp_path: Path) -> None:
    picture(tmp_path / "cat/a.png", 0)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/figures.json").write_text("{}")
    found = read_labelled_folder(tmp_path, LABELS)
    assert (len(found.files), found.remarks()) == (1, ["passed over: 1 .json"])
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


@pytest.mark.parametrize(
    ("inside", "patient"),
    [
        ("a.png", ""),
        ("pat1/a.png", "pat1"),
        ("pat1/2021/a.png", "pat1"),
        ("2021/pat1/a.png", "pat1"),
        ("2021-03-04/pat1/left/a.png", "pat1"),
        ("2021/2021-03/a.png", "2021/2021-03"),
        ("cat/a.png", ""),
        ("Cat/pat1/a.png", "pat1"),
    ],
)
def test_the_patient_is_the_first_folder_that_is_no_date(inside: str, patient: str) -> None:
    assert LabelledFile(Path("cat", inside), f"cat/{inside}", "cat", inside).subfolder == patient


def test_each_reason_has_one_line() -> None:
    given = [LeftOut("a.png", "here"), LeftOut("b.png", "there"), LeftOut("c.png", "here")]
    assert summed_up(given) == [
        "left out: 2 images here, such as a.png",
        "left out: 1 image there: b.png",
    ]


def test_a_folder_below_a_class_folder_can_be_left_out(tmp_path: Path) -> None:
    picture(tmp_path / "cat/a.png", 0)
    picture(tmp_path / "cat/Old/b.png", 1)
    found = read_labelled_folder(tmp_path, Labels(("cat", "dog"), {"old": ""}))
    assert [file.name for file in found.files] == ["cat/a.png"]
    assert found.remarks() == [
        "left out: 1 image in folders that the labels map leaves out: cat/Old/b.png"
    ]


def test_a_split_in_a_class_folder_is_refused_with_how_to_lay_it_out(tmp_path: Path) -> None:
    picture(tmp_path / "cat/train/a.png", 0)
    assert refusal(tmp_path).endswith("lay the images out as SPLIT/CLASS/IMAGE")


def test_an_unknown_folder_with_links_to_images_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "data/cat/a.png", 0)
    picture(tmp_path / "away/b.png", 1)
    (tmp_path / "data/UNKNOWN").mkdir()
    (tmp_path / "data/UNKNOWN/p1").symlink_to(tmp_path / "away")
    assert "no class of the task: ['UNKNOWN']" in refusal(tmp_path / "data")


def test_a_folder_that_can_be_listed_and_not_entered_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "cat/p1/a.png", 0)
    status = Path.stat

    def stat(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self.parent.name == "p1":
            raise PermissionError(13, "Permission denied")
        return status(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    assert "p1 cannot be read: Permission denied; name" in refusal(tmp_path)


def test_a_file_that_cannot_be_opened_counts_as_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It then fails when it is read, and is not passed over."""
    (tmp_path / "notes").write_text("no image")
    assert not is_image(tmp_path / "notes")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(recognition, "open_without_waiting", refuse)
    assert is_image(tmp_path / "notes")
