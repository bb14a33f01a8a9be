"""The images that a model is measured on, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from datafiles import lay_out, picture
from medkit.datasets.labels import Labels
from medkit.datasets.location import locate
from medkit.datasets.measured import read_measured
from medkit.errors import DatasetLayoutError
from medkit.tasks import PNEUMONIA


def remarks(root: Path, **spellings: str) -> tuple[str, ...]:
    """Return what is said of the images of a folder."""
    labels = Labels.of(PNEUMONIA, spellings)
    return read_measured(locate(PNEUMONIA, root, labels), labels)[1]


def test_images_beside_the_splits_of_a_set_are_named(tmp_path: Path) -> None:
    lay_out(tmp_path, PNEUMONIA)
    assert remarks(tmp_path) == ()
    for seed, name in enumerate(("loose.png", "extra/a.png", ".trash/b.png", "val/NORMAL/c.png")):
        picture(tmp_path / name, 50 + seed)
    assert remarks(tmp_path) == (
        "left out: 1 image in hidden files and folders: ../.trash/b.png",
        "left out: 1 image in folders beside the splits: ../extra/a.png",
        "left out: 1 image beside the split folders: ../loose.png",
    )


def test_a_spelling_that_no_folder_has_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "Healthy/a.png", 0)
    picture(tmp_path / "PNEUMONIA/a.png", 1)
    assert remarks(tmp_path, healthy="NORMAL") == ()
    assert remarks(tmp_path, healthy="NORMAL", heathy="NORMAL") == (
        "no folder that was read has the name 'heathy' of --labels-map",
    )


def test_class_folders_without_an_image_say_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "NORMAL").mkdir()
    with pytest.raises(DatasetLayoutError, match="hold no image; check their files"):
        remarks(tmp_path)
    for name in ("a.svg", "b.svg", "c.dcm"):
        (tmp_path / "NORMAL" / name).write_bytes(b"<svg>")
    told = r"hold no image \(passed over: 2 .svg, 1 .dcm\); check their files"
    with pytest.raises(DatasetLayoutError, match=told):
        remarks(tmp_path)
