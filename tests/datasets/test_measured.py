"""The images that a model is measured on, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from datafiles import lay_out, picture
from medkit.datasets.labels import Labels
from medkit.datasets.location import locate
from medkit.datasets.measured import list_measured, measured_items, read_measured, reads_table
from medkit.errors import DatasetLayoutError
from medkit.tasks import PNEUMONIA
from multilabels import LUNGS


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


# Tables


def table(folder: Path, text: str) -> Path:
    """Write images ``0.png`` to ``3.png`` and a table of them; return the table."""
    for seed in range(4):
        picture(folder / f"{seed}.png", seed)
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


@pytest.mark.parametrize("named", [True, False])
def test_a_table_tells_the_labels_where_no_folder_does(tmp_path: Path, named: bool) -> None:
    path = table(tmp_path, "image,label\n0.png,PNEUMONIA\n1.png,NORMAL\n")
    labels = Labels.of(PNEUMONIA)
    found = list_measured(PNEUMONIA, path if named else tmp_path, labels)
    assert [(file.name, file.labels) for file in found.files] == [
        ("0.png", ("PNEUMONIA",)),
        ("1.png", ("NORMAL",)),
    ]
    root, items, _ = measured_items(PNEUMONIA, tmp_path, {})
    assert root == tmp_path
    assert [item.label for item in items] == [1, 0]


def test_class_folders_come_before_a_table_that_lies_beside_them(tmp_path: Path) -> None:
    table(tmp_path, "image,label\n0.png,PNEUMONIA\n")
    labels = Labels.of(PNEUMONIA)
    assert reads_table(PNEUMONIA, tmp_path, labels)
    picture(tmp_path / "normal/a.png", 9)
    assert not reads_table(PNEUMONIA, tmp_path, labels)
    assert [file.name for file in list_measured(PNEUMONIA, tmp_path, labels).files] == [
        "normal/a.png"
    ]


def test_of_a_table_with_splits_the_test_split_is_measured(tmp_path: Path) -> None:
    rows = "image,labels,split\n0.png,Effusion;Mass,test\n1.png,,test\n2.png,Mass,train\n"
    table(tmp_path, rows)
    found = list_measured(LUNGS, tmp_path, Labels.of(LUNGS))
    assert [(file.name, file.labels) for file in found.files] == [
        ("0.png", ("Effusion", "Mass")),
        ("1.png", ()),
    ]
    _, items, _ = measured_items(LUNGS, tmp_path, {})
    assert [item.labels for item in items] == [(0, 1), ()]
