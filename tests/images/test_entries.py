"""What the entries of a folder are taken for, and how what is passed over is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medkit.images.entries import Kind, PassedOver, scan, suffix_of


def test_each_entry_is_what_it_is(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o.png").touch()
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "__MACOSX").mkdir()
    for name in ("a.PNG", "b.txt", "c.dcm", "d", "e.tar.gz", ".f.png"):
        (folder / name).touch()
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to(outside / "o.png")
    (folder / "link").symlink_to(outside / "o.png")
    (folder / "linked.txt").symlink_to(outside / "o.png")
    (folder / "gone.png").symlink_to(outside / "nothing")
    (folder / "gone").symlink_to(outside / "nothing")
    (folder / "folder.png").symlink_to(outside)
    (folder / "linkedpipe").symlink_to(folder / "pipe.png")
    assert dict(scan(folder)) == {
        "sub": Kind.FOLDER,
        ".git": Kind.HIDDEN_FOLDER,
        "__MACOSX": Kind.HIDDEN_FOLDER,
        "a.PNG": Kind.IMAGE,
        "b.txt": Kind.UNSURE,
        "c.dcm": Kind.UNSURE,
        "d": Kind.UNSURE,
        "e.tar.gz": Kind.UNSURE,
        ".f.png": Kind.HIDDEN,
        "pipe.png": Kind.NO_FILE,
        "link.png": Kind.IMAGE,
        "link": Kind.UNSURE,
        "linked.txt": Kind.UNSURE,
        "gone.png": Kind.IMAGE,
        "gone": Kind.LINK_TO_NOTHING,
        "folder.png": Kind.LINKED_FOLDER,
        "linkedpipe": Kind.NO_FILE,
    }


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.DCM", ".dcm"),
        ("a.tar.gz", ".gz"),
        ("scan.jpg_large", ".jpg_large"),
        ("IM_0001", ""),
        (".hidden", ""),
        ("1.2.840.113619.2.55.3", ""),
        ("Dr. No", ""),
        ("a.", ""),
        ("of.a_very_long_ending", ""),
    ],
)
def test_what_counts_as_a_suffix(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix


def test_counts_are_by_suffix_and_by_what_matters_more_than_it() -> None:
    passed = PassedOver()
    for name in ("a.dcm", "b.DCM", "IM_1", "1.2.3"):
        passed.add(name, Kind.UNSURE)
    passed.add("n.txt", Kind.UNSURE)
    passed.add(".a.png", Kind.HIDDEN)
    passed.add(".git", Kind.HIDDEN_FOLDER)
    assert passed == {
        ".dcm": 2,
        "without a suffix": 2,
        ".txt": 1,
        "hidden": 1,
        "hidden folders": 1,
    }
    assert str(passed) == "2 .dcm, 2 without a suffix, 1 .txt, 1 hidden, 1 hidden folder"


def test_a_million_endings_take_no_more_than_a_hundred_words() -> None:
    passed = PassedOver()
    for number in range(1000):
        passed.add(f"x.n{number}", Kind.UNSURE)
    assert passed.total() == 1000
    assert len(passed) == 101
    assert str(passed).startswith("900 with other suffixes, 1 .n0, ")
    assert str(passed).endswith(", 93 others")
