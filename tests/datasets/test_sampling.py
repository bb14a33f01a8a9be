"""The validation split, calibration samples, and images as tensors."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datafiles import item, lay_out
from medkit.datasets.conflicts import resolve_conflicts
from medkit.datasets.layout import Dataset, Item, read_dataset
from medkit.datasets.sampling import (
    class_counts,
    load_tensors,
    split_validation,
    stratified_sample,
    truth_of,
    truth_of_labels,
)
from medkit.errors import DatasetLayoutError, UsageError
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task

BOTH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


# The validation split


def patients(seed: int, count: int = 400) -> list[Item]:
    """Make X-rays of patients with one to five images, a quarter of them normal."""
    rng = random.Random(seed)
    items: list[Item] = []
    while len(items) < count:
        label, group = int(rng.random() < 0.75), f"patient {len(items)}"
        for _ in range(rng.randint(1, 5)):
            items.append(item(label, str(len(items)), group=group))
    return items


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_training_and_validation(seed: int) -> None:
    items = patients(seed)
    train, validation = split_validation(items, 0.1, seed)
    assert not {each.group for each in train} & {each.group for each in validation}
    assert sorted(train + validation, key=items.index) == items
    assert train
    assert validation


@pytest.mark.parametrize("fraction", [0.1, 0.15, 0.2])
def test_validation_is_stratified_and_has_the_given_size(fraction: float) -> None:
    items = patients(0, count=2000)
    _, validation = split_validation(items, fraction, 0)
    share = 1 / round(1 / fraction)
    total, part = Counter(i.label for i in items), Counter(i.label for i in validation)
    for label in (0, 1):
        assert part[label] == pytest.approx(share * total[label], rel=0.1)


def test_the_seed_decides_the_validation_split() -> None:
    items = patients(0)
    assert split_validation(items, 0.2, 1) == split_validation(items, 0.2, 1)
    assert split_validation(items, 0.2, 1) != split_validation(items, 0.2, 2)


def test_a_class_with_few_images_does_not_hinder_a_split() -> None:
    items = [item(0, str(number)) for number in range(40)] + [item(6, "a"), item(6, "b")]
    train, validation = split_validation(items, 0.1, 0)
    assert len(train) + len(validation) == 42


def test_too_few_images_for_a_validation_split_are_an_error() -> None:
    few = [item(index % 2, f"{index}.png") for index in range(3)]
    with pytest.raises(DatasetLayoutError, match="too few to cut a validation split of 1 in 7"):
        split_validation(few, 0.15, 0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_a_library_refuses_are_refused(seed: int) -> None:
    with pytest.raises(UsageError, match="accepted: 0 to 4294967295"):
        split_validation([item(0, "a.png")], 0.15, seed)


@pytest.mark.data
def test_the_real_xrays_show_fewer_patients_than_images(xrays: Dataset) -> None:
    assert len({each.group for each in xrays.train}) == 2846
    kept, _ = resolve_conflicts(xrays, "error")
    train, validation = split_validation(kept, 0.1, 0)
    assert not {each.group for each in train} & {each.group for each in validation}


# The calibration sample


def counts(items: Sequence[Item]) -> dict[int, int]:
    return dict(sorted(Counter(each.label for each in items).items()))


def test_a_sample_is_even_over_the_classes() -> None:
    items = [item(label, f"{label} {number}") for label in (2, 0, 1) for number in range(50)]
    assert counts(stratified_sample(items, 30, 0)) == {0: 10, 1: 10, 2: 10}
    assert counts(stratified_sample(items, 31, 0)) == {0: 11, 1: 10, 2: 10}


def test_other_classes_fill_the_share_of_a_class_that_is_too_small() -> None:
    items = [item(label, f"{label} {number}") for label in (0, 2) for number in range(50)]
    items += [item(1, f"1 {number}") for number in range(3)]
    assert counts(stratified_sample(items, 33, 0)) == {0: 15, 1: 3, 2: 15}


def test_a_sample_holds_distinct_images_and_at_most_all() -> None:
    items = [item(number % 3, str(number)) for number in range(20)]
    for count in (0, 7, 20, 100):
        sample = stratified_sample(items, count, 0)
        assert len(set(sample)) == len(sample) == min(count, 20)
        assert set(sample) <= set(items)


def test_the_seed_decides_the_sample() -> None:
    items = [item(number % 3, str(number)) for number in range(200)]
    assert stratified_sample(items, 20, 1) == stratified_sample(items, 20, 1)
    assert stratified_sample(items, 20, 1) != stratified_sample(items, 20, 2)


# Tensors


@BOTH
def test_images_are_read_in_order_with_their_labels(tmp_path: Path, task: Task) -> None:
    items = read_dataset(task, lay_out(tmp_path, task, per_class=3)).train[::-1]
    images, labels = load_tensors(task, items, task.contract)
    assert images.shape == (len(items), 128, 128, task.channels)
    assert labels.tolist() == [each.label for each in items]
    for index, each in enumerate(items):
        (alone,), _ = load_tensors(task, [each], task.contract)
        assert np.array_equal(images[index], alone)
    assert len({image.tobytes() for image in images}) == len(items)


def test_a_damaged_image_in_a_data_set_is_an_error_that_names_it(tmp_path: Path) -> None:
    lay_out(tmp_path, PNEUMONIA)
    (tmp_path / "train/NORMAL/train_0.png").write_bytes(b"no image")
    items = read_dataset(PNEUMONIA, tmp_path).train
    with pytest.raises(DatasetLayoutError, match=r"train_0\.png: not an image .*remove or replace"):
        load_tensors(PNEUMONIA, items, PNEUMONIA.contract)


def test_the_truth_of_a_multi_label_task_is_a_one_for_each_label_of_an_image() -> None:
    lungs = replace(SKIN, name="lungs", multi_label=True, labels=("a", "b", "c"), alert="")
    items = [replace(item(-1, "none"), labels=()), replace(item(0, "two"), labels=(0, 2))]
    assert truth_of(lungs, items).tolist() == [[0, 0, 0], [1, 0, 1]]
    assert truth_of(lungs, []).shape == (0, 3)
    assert truth_of(SKIN, [item(2, "x"), item(0, "y")]).tolist() == [2, 0]
    assert truth_of_labels(lungs, [(), ("c", "a")]).tolist() == [[0, 0, 0], [1, 0, 1]]
    assert truth_of_labels(SKIN, [(SKIN.labels[2],), (SKIN.labels[0],)]).tolist() == [2, 0]


def test_images_of_several_labels_are_drawn_and_counted_by_each_of_them() -> None:
    lungs = replace(SKIN, name="lungs", multi_label=True, labels=("a", "b", "c"), alert="")
    several = [replace(item(0, f"{n}"), labels=(0, 1) if n < 4 else (0,)) for n in range(40)]
    none = [replace(item(-1, f"none {n}"), labels=()) for n in range(40)]
    assert class_counts(lungs, [*several, *none]) == {"a": 40, "b": 4, "c": 0}
    drawn = stratified_sample([*several, *none], 12, 0)
    # The label that the fewest have decides the place of an image: 4 of b, 4 of a alone, 4 of none.
    assert class_counts(lungs, drawn) == {"a": 8, "b": 4, "c": 0}
    train, validation = split_validation([*several, *none], 0.25, 0)
    assert class_counts(lungs, validation) == {"a": 10, "b": 1, "c": 0}
    assert len(train) == 60
