"""The images of a bundle's record, found again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bundles import bundle_of
from datafiles import picture
from medkit.datasets.division import SPLITS_NAME, Splits, divide, write_splits
from medkit.datasets.labels import Labels
from medkit.datasets.measured import list_measured
from medkit.datasets.own import read_own_images
from medkit.datasets.recorded import recorded_splits, unseen_items, without_seen
from medkit.datasets.splits import FOREIGN_DATA, digest_of, splits_of
from medkit.errors import DatasetLayoutError, ModelFileError
from medkit.images.contract import InputContract
from medkit.models.bundle import Bundle, file_record, open_bundle
from medkit.tasks import Task

PETS = Task("pets", "pets", ("cat", "dog"), InputContract(32, 32, 3), "dog", "dog")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for seed in range(40):
        picture(tmp_path / "data" / PETS.labels[seed % 2] / f"{seed}.png", seed)
    return tmp_path / "data"


def divided(data: Path, trained: Path, **shares: float) -> tuple[Bundle, Splits]:
    """Write a bundle with the record of a division; its files are no models."""
    folder = bundle_of(trained, PETS)
    splits = divide(read_own_images(PETS, data), **shares)
    record = file_record(write_splits(folder, splits))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][SPLITS_NAME] = vars(record)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return open_bundle(PETS, folder), splits


def test_images_are_found_whatever_their_folders_are_called(data: Path, tmp_path: Path) -> None:
    bundle, splits = divided(data, tmp_path / "trained")
    (data / "cat").rename(data / "felines")
    (data / "dog").rename(data / "felines/nested")
    found = splits_of(bundle, data)
    assert found.as_trained
    assert found.lines() == []
    for part in ("train", "validation", "test"):
        before, after = getattr(splits, part), getattr(found, part)
        assert [(i.name, i.label, i.group) for i in after] == [
            (i.name, i.label, i.group) for i in before
        ]
        assert digest_of(after) == digest_of(before)
        assert all(item.path.is_file() for item in after)


def test_what_is_missing_and_what_is_new_is_said(data: Path, tmp_path: Path) -> None:
    bundle, splits = divided(data, tmp_path / "trained")
    splits.test[0].path.unlink()
    splits.train[0].path.unlink()
    picture(data / "cat/new.png", 99)
    found = splits_of(bundle, data)
    assert not found.as_trained
    assert found.lines() == [
        f"missing: 2 images of 40 that splits.csv lists (1 of train, 1 of test), such as "
        f"{splits.train[0].name}",
        "not used: 1 image that splits.csv does not list, such as cat/new.png",
    ]
    assert len(found.train) == len(splits.train) - 1
    assert splits.test[0].sha256 in found.held_out


def test_without_training_images_the_rest_may_calibrate_and_nothing_else(
    data: Path, tmp_path: Path
) -> None:
    bundle, _ = divided(data, tmp_path / "trained", validation=0.5, test=0.5)
    assert splits_of(bundle, data).train == ()
    for seed in range(4):
        picture(data / PETS.labels[seed % 2] / f"new{seed}.png", 99 + seed)
    found = splits_of(bundle, data)
    assert sorted(item.name for item in found.train) == [
        "cat/new0.png",
        "cat/new2.png",
        "dog/new1.png",
        "dog/new3.png",
    ]
    assert not {item.sha256 for item in found.train} & found.held_out
    assert found.lines() == [
        "the model was trained elsewhere: 4 images that splits.csv does not list may calibrate"
    ]


def test_images_of_which_the_record_has_none_are_divided_anew(data: Path, tmp_path: Path) -> None:
    bundle, splits = divided(data, tmp_path / "trained")
    other = tmp_path / "other"
    for seed in range(100, 140):
        picture(other / PETS.labels[seed % 2] / f"{seed}.png", seed)
    assert recorded_splits(bundle, other) is None
    found = splits_of(bundle, other)
    assert not found.as_trained
    assert found.lines()[0] == FOREIGN_DATA
    assert min(map(len, (found.train, found.validation, found.test))) > 0
    seen = splits.train[0]
    shutil.copy(seen.path, other / "cat" / "seen.png")
    found = splits_of(bundle, other)
    for items in (found.train, found.validation, found.test):
        assert seen.sha256 not in {item.sha256 for item in items}
    with pytest.raises(DatasetLayoutError, match="no class folder of pets"):
        splits_of(bundle, tmp_path / "trained")


def test_a_record_that_was_changed_is_refused(data: Path, tmp_path: Path) -> None:
    bundle, _ = divided(data, tmp_path / "trained")
    path = bundle.folder / SPLITS_NAME
    path.write_text(path.read_text().replace(",test,", ",train,"))
    with pytest.raises(ModelFileError, match=r"splits\.csv is damaged or was replaced"):
        splits_of(bundle, data)
    path.unlink()
    with pytest.raises(ModelFileError, match=r"splits\.csv is missing"):
        splits_of(bundle, data)


def test_images_that_the_model_has_seen_are_not_measured(data: Path, tmp_path: Path) -> None:
    bundle, splits = divided(data, tmp_path / "trained")
    labels = Labels.of(PETS)
    listed = list_measured(PETS, data, labels)
    kept = without_seen(listed, bundle.folder, PETS)
    assert {file.name for file in kept.files} == {item.name for item in splits.test}
    reasons = {each.name: each.reason for each in kept.left_out}
    assert reasons[splits.train[0].name] == "that the model was trained on"
    assert reasons[splits.validation[0].name] == (
        "that the model's operating points were chosen on"
    )
    assert without_seen(listed, tmp_path, PETS) == listed
    assert kept.remarks[0].startswith(f"left out: {len(splits.train)} images that the model was tr")
    found = read_own_images(PETS, data).items
    assert {i.name for i in unseen_items(found, bundle.folder, PETS)} == {
        item.name for item in splits.test
    }
    for item in splits.test:
        item.path.unlink()
    listed = list_measured(PETS, data, labels)
    with pytest.raises(DatasetLayoutError, match=r"were used to make the model; give images that"):
        without_seen(listed, bundle.folder, PETS)


def test_copies_that_were_kept_out_are_neither_new_nor_measured(data: Path, tmp_path: Path) -> None:
    shutil.move(data, tmp_path / "set/train")
    data = tmp_path / "set"
    for seed in range(100, 106):
        picture(data / "test" / PETS.labels[seed % 2] / f"{seed}.png", seed)
    with Image.open(data / "test/cat/100.png") as image:
        image.save(data / "train/cat/copy.bmp")  # the same pixels, other bytes
    bundle, splits = divided(data, tmp_path / "trained")
    assert [item.name for item in splits.kept_out] == ["train/cat/copy.bmp"]
    found = splits_of(bundle, data)
    assert found.lines() == []
    assert not any("copy" in i.name for i in (*found.train, *found.validation, *found.test))
    for item in splits.test:
        item.path.unlink()
    (data / "test/cat").rmdir()
    shutil.copytree(data / "train/cat", data / "test/cat")
    with pytest.raises(DatasetLayoutError, match="were used to make the model"):
        without_seen(list_measured(PETS, data, Labels.of(PETS)), bundle.folder, PETS)


def test_a_table_may_list_the_images(data: Path, tmp_path: Path) -> None:
    bundle, splits = divided(data, tmp_path / "trained")
    flat = tmp_path / "flat"
    flat.mkdir()
    rows = []
    for item in (*splits.train, *splits.validation, *splits.test):
        shutil.copy(item.path, flat / f"x{item.path.name}")
        rows.append(f"x{item.path.name},{PETS.labels[item.label]}")
    (flat / "labels.csv").write_text("\n".join(["image,label", *rows]))
    for given in (flat, flat / "labels.csv"):
        assert splits_of(bundle, given).as_trained
