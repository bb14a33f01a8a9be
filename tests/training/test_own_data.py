"""The data of a training run on one's own images."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datafiles import picture
from medkit.datasets.layout import Item
from medkit.errors import DatasetConflictError, DatasetLayoutError
from medkit.images.contract import InputContract
from medkit.models.recipe import Recipe
from medkit.tasks import Task
from medkit.training.data import TrainingData
from medkit.training.own_data import read_own_training_data

pytest.importorskip("imagehash")

PETS = Task("pets", "pets", ("cat", "dog"), InputContract(32, 32, 3), "dog", "dog")
RECIPE = Recipe("own", "compact-cnn", 8, (), validation_fraction=0.15, on_conflict="error")


def read(data: Path, on_conflict: str | None = None, **more: Any) -> TrainingData:
    return read_own_training_data(PETS, data, RECIPE, 0, on_conflict, **more)


def fill(root: Path, count: int = 20, first: int = 0) -> Path:
    for seed in range(first, first + 2 * count):
        picture(root / PETS.labels[seed % 2] / f"p{seed // 4}_{seed}.png", seed)
    return root


def hashes(items: tuple[Item, ...]) -> set[str]:
    return {item.sha256 for item in items}


def test_class_folders_are_audited_and_divided_by_patient(tmp_path: Path) -> None:
    data = read(fill(tmp_path), group_by=r"(p\d+)_")
    assert list(data.splits) == ["train", "validation", "test"]
    assert sum(map(len, data.splits.values())) == 40
    groups = [{item.group for item in items} for items in data.splits.values()]
    assert not groups[0] & groups[1]
    assert not groups[2] & (groups[0] | groups[1])
    assert data.audit["images"] == 40
    assert data.divided is not None
    assert data.divided.train == data.splits["train"]
    assert (data.group_by, data.policy, data.watched) == (r"(p\d+)_", "error", "validation")


def test_given_splits_are_taken(tmp_path: Path) -> None:
    for place, split in enumerate(("train", "val", "test")):
        fill(tmp_path / split, 5, first=100 * place)
    data = read(tmp_path)
    assert {item.name.split("/")[0] for item in data.splits["validation"]} == {"val"}
    assert {item.name.split("/")[0] for item in data.splits["test"]} == {"test"}
    assert [len(items) for items in data.splits.values()] == [10, 10, 10]
    assert data.audit["images"] == 30


def test_a_table_is_audited_too(tmp_path: Path) -> None:
    fill(tmp_path / "images")
    rows = [
        f"{path.relative_to(tmp_path).as_posix()},{path.parent.name}"
        for path in sorted(tmp_path.rglob("*.png"))
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows]))
    groups = tmp_path / "groups.csv"
    patients = [f"{row.split(',')[0]},P{place // 2}" for place, row in enumerate(rows)]
    groups.write_text("\n".join(["image,group", *patients]))
    data = read(tmp_path / "labels.csv")
    assert sum(map(len, data.splits.values())) == 40
    assert data.audit["images"] == 40
    assert data.audit["shared patient"] == 0
    assert read(tmp_path / "labels.csv", group_by=str(groups)).group_by == "groups.csv"


def test_images_under_two_labels_are_refused_or_kept_out_of_all_parts(tmp_path: Path) -> None:
    fill(tmp_path)
    twin = sorted((tmp_path / "cat").iterdir())[0]
    shutil.copy(twin, tmp_path / "dog/twin.png")
    with pytest.raises(DatasetConflictError, match="1 image under two labels"):
        read(tmp_path)
    data = read(tmp_path, "drop")
    assert len(data.kept_out) == 2
    assert data.read == 41
    kept = {item.name for items in data.splits.values() for item in items}
    assert len(kept) == 39
    assert not {f"cat/{twin.name}", "dog/twin.png"} & kept


def test_training_images_in_a_given_test_split_are_kept_out(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test", 3, first=200)
    leak = sorted((tmp_path / "test/cat").iterdir())[0]
    shutil.copy(leak, tmp_path / "train/cat/leak.png")
    with pytest.raises(DatasetConflictError, match="1 training image in the test split"):
        read(tmp_path)
    data = read(tmp_path, "drop")
    assert [each.name for each in data.kept_out] == ["train/cat/leak.png"]
    assert not hashes(data.splits["test"]) & (
        hashes(data.splits["train"]) | hashes(data.splits["validation"])
    )
    assert len(data.splits["test"]) == 6


def test_what_cannot_train_a_model_is_one_line(tmp_path: Path) -> None:
    few = fill(tmp_path / "few", 1)
    with pytest.raises(DatasetLayoutError, match="2 images of 2 patients are too few to divide"):
        read(few)
    one = tmp_path / "one"
    for seed in range(4):
        picture(one / "train/cat" / f"{seed}.png", seed)
    fill(one / "test", 3, first=100)
    fill(one / "val", 3, first=200)
    with pytest.raises(DatasetLayoutError, match="no training image of dog is left, of 4 training"):
        read(one)
    broken = fill(tmp_path / "broken")
    (broken / "cat/x.png").write_bytes(b"")
    with pytest.raises(DatasetLayoutError, match="1 of 41 files cannot be decoded, such as cat/x"):
        read(broken)
    lone = tmp_path / "lone"
    for seed in range(6):
        picture(lone / "train" / PETS.labels[seed % 2] / f"{seed}.png", seed)
    picture(lone / "val/cat/a.png", 50)
    fill(lone / "test", 2, first=100)
    with pytest.raises(DatasetLayoutError, match="validation split of 1 image has 0 of dog"):
        read(lone)


def test_without_a_policy_everything_is_trained_on(tmp_path: Path) -> None:
    fill(tmp_path)
    twin = sorted((tmp_path / "cat").iterdir())[0]
    shutil.copy(twin, tmp_path / "dog/twin.png")
    recipe = replace(RECIPE, on_conflict=None)
    data = read_own_training_data(PETS, tmp_path, recipe, 0, None)
    assert sum(map(len, data.splits.values())) == 41
    where = [
        name
        for name, items in data.splits.items()
        if {f"cat/{twin.name}", "dog/twin.png"} & {item.name for item in items}
    ]
    assert len(where) == 1
