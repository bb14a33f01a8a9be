"""Labelled images of a task whose data set nobody has published."""

from __future__ import annotations

from pathlib import Path

import pytest

from datafiles import picture
from medkit.datasets.labels import Labels
from medkit.datasets.measured import list_measured
from medkit.datasets.own import OwnImages, read_own_images
from medkit.datasets.own_files import labels_in
from medkit.errors import DatasetLayoutError, UsageError
from medkit.images.contract import InputContract
from medkit.tasks import Task

PETS = Task("pets", "pets", ("cat", "dog"), InputContract(32, 32, 3), None, "dog")
MANY = Task("many", "many", ("cat", "dog"), InputContract(32, 32, 3), None, multi_label=True)


def pictures(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        picture(root / name, seed + 1)
    return root


def parts(images: OwnImages) -> dict[str, list[str]]:
    return {part: [item.name for item in items] for part, items in images.parts.items()}


def test_class_folders_are_one_undivided_part(tmp_path: Path) -> None:
    root = pictures(tmp_path, "Dog/b.png", "cat/a.png", "cat/deep/c.png", "bird.png")
    images = read_own_images(PETS, root)
    assert parts(images) == {"": ["cat/a.png", "cat/deep/c.png", "Dog/b.png"]}
    assert [item.label for item in images.items] == [0, 0, 1]
    assert all(item.pixels and item.sha256 for item in images.items)
    assert images.remarks()[0] == "left out: 1 image beside the class folders: bird.png"


def test_folders_that_letter_case_tells_apart_are_one_class_and_that_is_said(
    tmp_path: Path,
) -> None:
    root = pictures(tmp_path, "Cat/a.png", "cat/b.png", "dog/c.png")
    if len(list(root.iterdir())) < 3:
        pytest.skip("this disk tells no letter case apart")
    said = "the folders Cat and cat are one class, cat: letter case does not tell classes apart"
    assert said in read_own_images(PETS, root).remarks()
    assert said not in read_own_images(PETS, root, spellings={"cat": "cat"}).remarks()


@pytest.mark.parametrize("validation", ["val", "valid", "Validation", "dev"])
def test_split_folders_are_the_parts_and_any_may_be_missing(
    tmp_path: Path, validation: str
) -> None:
    root = pictures(tmp_path, "training/cat/a.png", f"{validation}/dog/b.png", "Test/cat/c.png")
    assert parts(read_own_images(PETS, root)) == {
        "train": ["training/cat/a.png"],
        "validation": [f"{validation}/dog/b.png"],
        "test": ["Test/cat/c.png"],
    }
    alone = pictures(tmp_path / "alone", "test/cat/c.png")
    assert list(read_own_images(PETS, alone).parts) == ["test"]


def test_a_folder_may_hold_the_images_under_the_tasks_name(tmp_path: Path) -> None:
    pictures(tmp_path, "pets/cat/a.png", "other/x.png")
    assert parts(read_own_images(PETS, tmp_path)) == {"": ["cat/a.png"]}


def test_a_table_tells_labels_patients_and_splits(tmp_path: Path) -> None:
    root = pictures(tmp_path, "a.png", "b.png", "c.png")
    (root / "labels.csv").write_text(
        "image,labels,patient,split\na.png,cat;dog,7,train\nb.png,,8,val\nc.png,dog,7,test\n"
    )
    images = read_own_images(MANY, root)
    assert parts(images) == {"train": ["a.png"], "validation": ["b.png"], "test": ["c.png"]}
    assert [(i.label, i.labels, i.group) for i in images.items] == [
        (0, (0, 1), "7"),
        (-1, (), "8"),
        (1, (1,), "7"),
    ]
    (root / "labels.csv").write_text("image,labels\na.png,cat\nb.png,dog\n")
    single = read_own_images(PETS, root / "labels.csv")
    assert [(i.label, i.labels) for i in single.items] == [(0, ()), (1, ())]


@pytest.mark.parametrize("folder", ["images", "train"])
def test_folders_beside_a_table_need_be_no_classes(tmp_path: Path, folder: str) -> None:
    root = pictures(tmp_path, f"{folder}/a.png", f"{folder}/b.png")
    (root / "labels.csv").write_text(f"image,label\n{folder}/a.png,dog\n{folder}/b.png,cat\n")
    assert labels_in(root) == ("cat", "dog")
    assert [item.label for item in read_own_images(PETS, root).items] == [1, 0]
    measured = list_measured(PETS, root, Labels.of(PETS)).files
    assert [file.labels for file in measured] == [("dog",), ("cat",)]
    pictures(root, "cat/c.png", "dog/d.png")
    assert set(labels_in(root)) >= {"cat", "dog"}


def test_class_folders_go_before_a_table_and_that_is_said(tmp_path: Path) -> None:
    root = pictures(tmp_path, "cat/a.png", "dog/b.png")
    (root / "labels.csv").write_text("image,labels\ncat/a.png,dog\n")
    images = read_own_images(PETS, root)
    assert [item.label for item in images.items] == [0, 1]
    assert "labels.csv was not read: the class folders tell the labels" in images.remarks()


def test_names_tell_the_patient_and_where_they_do_not_that_is_said(tmp_path: Path) -> None:
    root = pictures(tmp_path / "set", "cat/p1/a.png", "dog/p1/a.png", "dog/person7_virus_2.png")
    images = read_own_images(PETS, root)
    assert [item.group for item in images.items] == ["p1", "p1", "person7"]
    assert images.remarks() == []
    pictures(root, "cat/0.png", "dog/0.png")
    images = read_own_images(PETS, root)
    assert images.remarks() == [
        "each of 2 images, such as cat/0.png, counts as a patient of its own, because no name "
        "tells one; give --group-by if patients have several images"
    ]
    assert len({item.group for item in images.items}) == 4
    alone = read_own_images(PETS, pictures(tmp_path / "alone", "cat/0.png", "dog/0.png"))
    assert alone.remarks()[0].startswith("every image counts as a patient of its own")
    grouped = read_own_images(PETS, root, group_by="^(cat|dog)")
    assert {item.group for item in grouped.items} == {"cat", "dog"}
    assert grouped.remarks() == []


def test_other_spellings_and_folders_that_are_left_out(tmp_path: Path) -> None:
    root = pictures(tmp_path, "chat/a.png", "dog/b.png", "old/c.png")
    images = read_own_images(PETS, root, spellings={"chat": "cat", "old": ""})
    assert [item.label for item in images.items] == [0, 1]
    assert images.left_out[0].name == "old/c.png"


def test_labels_are_told_by_folders_or_table(tmp_path: Path) -> None:
    pictures(tmp_path / "plain", "zebra/a.png", "ape/b.png", ".hidden/c.png")
    assert labels_in(tmp_path / "plain") == ("ape", "zebra")
    pictures(tmp_path / "splits", "train/ape/a.png", "test/Ape/b.png", "test/bee/b.png")
    assert labels_in(tmp_path / "splits") == ("ape", "bee")
    assert labels_in(tmp_path / "splits", {"bee": ""}) == ("ape",)
    root = pictures(tmp_path / "table", "a.png")
    (root / "labels.csv").write_text("image,label\na.png,ape\n")
    assert labels_in(root) == labels_in(root / "labels.csv") == ("ape",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["bird/a.png"], "no class folder of pets in"),
        (["cat/a.png", "bird/a.png"], "holds folders that are no class of the task: ['bird']"),
        (["train/cat/a.png", "training/cat/b.png"], "holds the split train as train and as tra"),
        (["train/cat/a.png", "cat/b.png"], "lies beside the split train, and is none itself"),
        (["train/cat/dog/a.png"], "has the name of another class than the folder that it lies in"),
    ],
)
def test_what_is_laid_out_otherwise_is_one_line(
    tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(DatasetLayoutError) as caught:
        read_own_images(PETS, pictures(tmp_path, *names))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_mistakes_are_one_line(tmp_path: Path) -> None:
    root = pictures(tmp_path, "cat/a.png")
    with pytest.raises(DatasetLayoutError, match="the multi-label task many takes a CSV file"):
        read_own_images(MANY, root)
    with pytest.raises(UsageError, match="gives no group for 1 image of 1, such as cat/a.png"):
        read_own_images(PETS, root, group_by="x")
    with pytest.raises(DatasetLayoutError, match="gone is no folder; give one with a folder"):
        read_own_images(PETS, root / "gone")
    (root / "cat/b.png").write_bytes(b"no image")
    with pytest.raises(DatasetLayoutError, match=r"1 of 2 files cannot be decoded, such as cat/b"):
        read_own_images(PETS, root)
    (root / "dog").mkdir()
    (root / "labels.csv").write_text("image,labels,split\ncat/a.png,cat,train\ncat/b.png,cat,\n")
    with pytest.raises(DatasetLayoutError, match=r"1 image of 2 in no split, such as cat/b.png"):
        read_own_images(MANY, root)
    (root / "labels.csv").write_text("image,labels,split\ncat/a.png,cat,trian\n")
    with pytest.raises(DatasetLayoutError, match="unknown split 'trian'; did you mean train"):
        read_own_images(MANY, root)
