"""The data of a run: conflicts, splits, and how much each image counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("keras")

from datafiles import lay_out, picture
from medkit.datasets.conflicts import find_conflicts
from medkit.datasets.layout import Item, read_dataset
from medkit.errors import DatasetConflictError, DatasetLayoutError
from medkit.tasks import PNEUMONIA
from medkit.training import RECIPES
from medkit.training.data import choose_policy, image_weights, read_training_data
from trainingruns import splits_of


def test_patients_and_images_are_in_one_split_only(tiny_trained: Path, tiny_xrays: Path) -> None:
    splits = splits_of(tiny_xrays)
    assert min(map(len, splits.values())) > 0
    names = list(splits)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            for attribute in ("group", "sha256"):
                first, second = (
                    {getattr(item, attribute) for item in splits[split]} for split in (name, other)
                )
                assert not first & second


def test_a_recipe_resolves_the_conflicts_that_it_knows(tiny_xrays: Path) -> None:
    dataset = read_dataset(PNEUMONIA, tiny_xrays)
    recipe = RECIPES["pneumonia", "default"]
    assert choose_policy(recipe, dataset, None) == "error"
    known = dataclasses.replace(
        recipe,
        known_conflicts=find_conflicts(dataset).digest,
        on_known_conflicts="keep-rarer",
    )
    assert choose_policy(known, dataset, None) == "keep-rarer"
    assert choose_policy(known, dataset, "drop") == "drop"


def saved_again(path: Path, target: Path) -> None:
    """Save an image without loss in another format."""
    with Image.open(path) as picture:
        picture.save(target)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("test/NORMAL/again.png", "0 images under two labels and 1 training image in"),
        ("train/PNEUMONIA/again.png", "1 image under two labels and 0 training images in"),
    ],
)
def test_the_same_pixels_in_other_bytes_are_a_conflict(
    tmp_path: Path, target: str, told: str
) -> None:
    pytest.importorskip("imagehash")
    data = lay_out(tmp_path, PNEUMONIA, per_class=12)
    saved_again(data / "train/NORMAL/train_3.png", data / target.replace(".png", ".bmp"))
    recipe = RECIPES["pneumonia", "default"]
    with pytest.raises(DatasetConflictError, match=told):
        read_training_data(PNEUMONIA, data, recipe, 0, None)
    found = read_training_data(PNEUMONIA, data, recipe, 0, "drop")
    assert {entry.reason.partition(" ")[0] for entry in found.kept_out} == {"same"}
    assert all(entry.reason.startswith("same pixels") for entry in found.kept_out)
    kept = {item.name for items in found.splits.values() for item in items}
    assert "train/NORMAL/train_3.png" not in kept


def test_a_folder_of_sets_and_other_spellings_are_read(tmp_path: Path) -> None:
    pytest.importorskip("imagehash")
    data = lay_out(tmp_path / "chest_xray", PNEUMONIA, per_class=12)
    (data / "train/NORMAL").rename(data / "train/healthy")
    recipe = RECIPES["pneumonia", "default"]
    with pytest.raises(DatasetLayoutError, match=r"missing \['NORMAL'\], not known \['healthy'\]"):
        read_training_data(PNEUMONIA, tmp_path, recipe, 0, None)
    found = read_training_data(PNEUMONIA, tmp_path, recipe, 0, None, {"healthy": "NORMAL"})
    assert len(found.dataset.train) == 24


# Weights


def items(*cells: tuple[int, str, int]) -> list[Item]:
    """Make items from label, beginning of the file name, and number."""
    return [
        Item(Path(f"{begin}{index}.jpg"), "", label, "", "")
        for label, begin, count in cells
        for index in range(count)
    ]


def test_rare_classes_weigh_more_up_to_the_cap() -> None:
    recipe = dataclasses.replace(RECIPES["pneumonia", "default"], weight_cap=10.0)
    rare = image_weights(recipe, items((0, "a", 2), (1, "b", 60)))
    assert rare.dtype == np.float32
    assert rare[0] / rare[-1] == pytest.approx(10)
    assert rare.mean() == pytest.approx(1)
    even = image_weights(recipe, items((0, "a", 20), (1, "b", 60)))
    assert even[:20].sum() == pytest.approx(even[20:].sum())
    seed = image_weights(RECIPES["pneumonia", "seed"], items((0, "a", 2), (1, "b", 60)))
    assert set(seed.tolist()) == {1}


def test_every_class_of_every_source_counts_alike_if_sources_are_balanced() -> None:
    cells = [(0, "ISIC_002500", 8), (0, "ISIC_000001", 4), (1, "ISIC_002500", 2)]
    recipe = dataclasses.replace(RECIPES["skin", "default"], weight_cap=100.0)
    balanced, not_so = (
        image_weights(dataclasses.replace(recipe, balance_sources=on), items(*cells))
        for on in (True, False)
    )
    sums = [balanced[:8].sum(), balanced[8:12].sum(), balanced[12:].sum()]
    assert sums == pytest.approx([14 / 3] * 3)
    assert not_so[:12].sum() == pytest.approx(not_so[12:].sum())
    assert len(set(not_so[:12].tolist())) == 1


def test_a_link_to_a_class_folder_is_read_and_what_lies_beside_the_splits_is_named(
    tmp_path: Path,
) -> None:
    pytest.importorskip("imagehash")
    data = lay_out(tmp_path / "data", PNEUMONIA, per_class=12)
    (data / "test/NORMAL").rename(tmp_path / "store")
    (data / "test/NORMAL").symlink_to(tmp_path / "store")
    picture(data / "extra/NORMAL/a.png", 99)
    labels = {"extra": "", "heathy": "NORMAL"}
    found = read_training_data(PNEUMONIA, data, RECIPES["pneumonia", "default"], 0, None, labels)
    assert len(found.splits["test"]) == 24
    assert found.dataset.remarks() == [
        "left out: 1 image in folders beside the splits: extra/NORMAL/a.png",
        "no folder that was read has the name 'heathy' of --labels-map",
    ]
