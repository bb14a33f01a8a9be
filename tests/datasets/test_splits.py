"""The splits of a training run, made again from its manifest."""

from __future__ import annotations

import dataclasses
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from datafiles import item
from medkit.datasets.layout import Item
from medkit.datasets.splits import digest_of, splits_of
from medkit.errors import DatasetLayoutError, UsageError
from medkit.models.bundle import load_bundle
from medkit.tasks import PNEUMONIA

pytest.importorskip("sklearn")


def test_the_splits_are_those_that_the_manifest_counted(
    tiny_trained: Path, tiny_data: Path
) -> None:
    bundle = load_bundle(PNEUMONIA, tiny_trained)
    splits = splits_of(bundle, tiny_data)
    recorded = bundle.manifest.data.sha256
    for name in ("train", "validation", "test"):
        assert digest_of(getattr(splits, name)) == recorded[name]
    assert splits.as_trained


def test_no_content_is_in_two_splits(tiny_trained: Path, tiny_data: Path) -> None:
    splits = splits_of(load_bundle(PNEUMONIA, tiny_trained), tiny_data)
    parts = [{item.sha256 for item in x} for x in (splits.train, splits.validation, splits.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set().union(*parts))


def test_other_files_than_those_trained_on_are_noticed(
    tiny_trained: Path, tiny_data: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(tiny_data / "chest_xray", tmp_path / "data"))
    changed = next((data / "test/NORMAL").iterdir())
    changed.write_bytes(changed.read_bytes() + b" ")
    assert not splits_of(load_bundle(PNEUMONIA, tiny_trained), data).as_trained


def test_how_folders_are_spelt_is_no_matter(
    tiny_trained: Path, tiny_data: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(tiny_data / "chest_xray", tmp_path / "data"))
    (data / "train").rename(data / "Train")
    (data / "Train/NORMAL").rename(data / "Train/healthy")
    (data / "test/PNEUMONIA").rename(data / "test/pneumonia")
    bundle = load_bundle(PNEUMONIA, tiny_trained)
    assert splits_of(bundle, data, {"healthy": "NORMAL"}).as_trained


def test_names_in_both_forms_of_unicode_have_one_digest() -> None:
    first, second = (
        Item(Path(name), name, 0, "1", name)
        for name in (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    )
    assert first.name != second.name
    assert digest_of([first]) == digest_of([second])


def test_images_are_compared_as_the_training_run_compared_them(
    trained_copy: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """A twin of a test image in other bytes is in training only if nobody looked at pixels."""
    data = Path(shutil.copytree(tiny_data / "chest_xray", tmp_path / "data"))
    with Image.open(min((data / "test/NORMAL").iterdir())) as picture:
        picture.save(data / "train/NORMAL/twin.png")
    bundle = load_bundle(PNEUMONIA, trained_copy)
    assert bundle.manifest.data.compared_by == "pixels"
    for by, kept in (("pixels", False), ("bytes", True)):
        record = dataclasses.replace(bundle.manifest.data, compared_by=by)
        told = bundle.with_manifest(dataclasses.replace(bundle.manifest, data=record))
        splits = splits_of(load_bundle(PNEUMONIA, trained_copy), data)
        names = {item.name for item in (*splits.train, *splits.validation)}
        assert ("train/NORMAL/twin.png" in names) is kept
        assert told.manifest.data.compared_by == by


def test_a_recipe_without_validation_has_none(trained_copy: Path, tiny_data: Path) -> None:
    bundle = load_bundle(PNEUMONIA, trained_copy)
    assert bundle.manifest.recipe is not None
    recipe = dataclasses.replace(bundle.manifest.recipe, validation_fraction=0.0)
    splits = splits_of(
        bundle.with_manifest(dataclasses.replace(bundle.manifest, recipe=recipe)), tiny_data
    )
    assert splits.validation == ()
    assert len(splits.train) == 40


def test_a_model_that_was_trained_elsewhere_has_no_splits(
    tiny_trained: Path, tiny_data: Path
) -> None:
    bundle = load_bundle(PNEUMONIA, tiny_trained)
    foreign = dataclasses.replace(
        bundle, manifest=dataclasses.replace(bundle.manifest, recipe=None)
    )
    with pytest.raises(UsageError, match=r"manifest\.json holds no recipe.* use a model") as caught:
        splits_of(foreign, tiny_data)
    assert "\n" not in str(caught.value)


def test_a_task_without_published_data_has_no_splits(tiny_trained: Path, tiny_data: Path) -> None:
    bundle = load_bundle(PNEUMONIA, tiny_trained)
    task = dataclasses.replace(PNEUMONIA, layout=None)
    with pytest.raises(UsageError, match="pneumonia has no published data set"):
        splits_of(dataclasses.replace(bundle, task=task), tiny_data)


def test_data_of_another_shape_are_refused(tiny_trained: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetLayoutError):
        splits_of(load_bundle(PNEUMONIA, tiny_trained), tmp_path)


def test_a_digest_depends_on_names_and_contents_and_not_on_their_order() -> None:
    first, second = (Item(Path(n), n, 0, sha, n) for n, sha in (("a", "1"), ("b", "2")))
    assert digest_of([first, second]) == digest_of([second, first])
    assert digest_of([first]) != digest_of([second])
    assert digest_of([Item(Path("a"), "a", 0, "2", "a")]) != digest_of([first])


def test_a_name_that_is_not_utf_8_has_a_digest() -> None:
    odd = os.fsdecode(b"train/NORMAL/b\xe9.png")
    assert len(digest_of([item(0, odd)])) == 64
    assert digest_of([item(0, odd, content="a")]) != digest_of([item(0, "b.png", content="a")])
