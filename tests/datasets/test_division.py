"""The division of one's own images, and its record."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medkit.datasets.division import SPLITS_NAME, Splits, divide, read_splits, write_splits
from medkit.datasets.layout import Item
from medkit.datasets.own import OwnImages
from medkit.errors import DatasetLayoutError, ModelFileError, UsageError
from medkit.images.contract import InputContract
from medkit.tasks import Task

FEW = Task("few", "few", ("a", "b", "c"), InputContract(32, 32, 1), None, "c")
MANY = Task("many", "many", ("a", "b", "c"), InputContract(32, 32, 1), None, multi_label=True)


def item(number: int, label: int, group: str = "", pixels: str = "", **more: object) -> Item:
    name = f"{number}.png"
    made = Item(Path(name), name, label, f"{number:064x}", group or name, pixels or name)
    return replace(made, **more)  # type: ignore[arg-type]


def own(parts: dict[str, list[Item]], task: Task = FEW) -> OwnImages:
    return OwnImages(task, Path(), {name: tuple(items) for name, items in parts.items()})


def uneven() -> list[Item]:
    """Return 400 images of patients with one to six each; a class is rare."""
    rng = np.random.default_rng(0)
    items: list[Item] = []
    patient = 0
    while len(items) < 400:
        patient += 1
        label = int(rng.choice(3, p=(0.7, 0.25, 0.05)))
        items += [
            item(len(items) + place, label, f"p{patient}")
            for place in range(int(rng.integers(1, 7)))
        ]
    return items


def names(items: tuple[Item, ...]) -> set[str]:
    return {each.name for each in items}


def groups(items: tuple[Item, ...]) -> set[str]:
    return {each.group for each in items}


def test_a_draw_keeps_patients_together_and_the_shares_of_labels() -> None:
    items = uneven()
    splits = divide(own({"": items}))
    assert names(splits.train) | names(splits.validation) | names(splits.test) == names(
        tuple(items)
    )
    assert not groups(splits.train) & groups(splits.validation)
    assert not groups(splits.test) & (groups(splits.train) | groups(splits.validation))
    totals = Counter(each.label for each in items)
    for part, share in ((splits.train, 0.7), (splits.validation, 0.15), (splits.test, 0.15)):
        for label, total in totals.items():
            found = sum(each.label == label for each in part) / total
            assert found == pytest.approx(share, abs=0.01 if total > 50 else 0.12)


def test_a_draw_is_decided_by_the_seed_and_not_by_the_order_of_files() -> None:
    items = uneven()
    first = divide(own({"": items}), seed=3)
    again = divide(own({"": items[::-1]}), seed=3)
    other = divide(own({"": items}), seed=4)
    assert names(first.test) == names(again.test)
    assert names(first.validation) == names(again.validation)
    assert names(first.test) != names(other.test)


def test_the_same_pixels_are_never_in_two_parts() -> None:
    items = [item(number, number % 3, pixels=f"same {number // 4}") for number in range(240)]
    splits = divide(own({"": items}))
    parts = (splits.train, splits.validation, splits.test)
    held = [{each.pixels for each in part} for part in parts]
    assert not held[0] & held[1]
    assert not (held[0] | held[1]) & held[2]
    assert [len(part) for part in parts] == [168, 36, 36]


def test_patients_that_share_an_image_stay_together() -> None:
    items = [item(number, 0, f"p{number // 2}") for number in range(20)]
    items[1] = item(1, 0, "p0", "shared")
    items[2] = item(2, 0, "p1", "shared")
    for seed in range(10):
        splits = divide(own({"": items}), validation=0.3, test=0.3, seed=seed)
        where = [
            name
            for name in ("train", "validation", "test")
            if {"0.png", "1.png", "2.png", "3.png"} & names(getattr(splits, name))
        ]
        assert len(where) == 1


def test_a_rare_label_is_in_every_part_if_it_has_three_patients() -> None:
    items = [item(number, 0) for number in range(100)] + [item(100 + n, 2) for n in range(3)]
    for seed in range(10):
        splits = divide(own({"": items}), seed=seed)
        for part in (splits.train, splits.validation, splits.test):
            assert sum(each.label == 2 for each in part) == 1
    assert splits.remarks == tuple(
        f"no image of b in {part}" for part in ("train", "validation", "test")
    )


def test_all_may_be_for_validation() -> None:
    splits = divide(own({"": uneven()}), validation=1.0, test=0.0)
    assert (len(splits.train), len(splits.test)) == (0, 0)
    halves = divide(own({"": uneven()}), validation=0.7, test=0.3)
    assert (len(halves.train), len(halves.test)) == (0, pytest.approx(120, abs=5))


def test_given_splits_stay_and_only_what_is_missing_is_drawn() -> None:
    items = uneven()
    given = {"train": items[:200], "validation": items[200:300], "test": items[300:]}
    splits = divide(own(given))
    assert names(splits.validation) == names(tuple(items[200:300]))
    assert names(splits.train) == names(tuple(items[:200]))
    assert "patient" in splits.remarks[0]
    assert "in several of the given splits, such as p" in splits.remarks[0]
    cut = divide(own({"train": items[:300], "test": items[300:]}), validation=0.2)
    assert names(cut.test) == names(tuple(items[300:]))
    assert len(cut.validation) == pytest.approx(60, abs=3)
    assert names(splits.dataset.test) == names(splits.test)
    assert len(cut.dataset.train) == 300


def test_copies_across_given_splits_are_left_out_of_the_earlier_one() -> None:
    given = {
        "train": [item(1, 0), item(2, 1, pixels="x"), item(3, 2)],
        "validation": [item(4, 0), item(5, 1, pixels="y")],
        "test": [item(6, 1, pixels="x"), item(7, 1, pixels="y"), item(8, 0)],
    }
    splits = divide(own(given))
    assert names(splits.train) == {"1.png", "3.png"}
    assert names(splits.validation) == {"4.png"}
    assert splits.remarks[:2] == (
        "1 image of validation left out, with the same pixels as in another split: 5.png is 7.png",
        "1 image of train left out, with the same pixels as in another split: 2.png is 6.png",
    )


def test_each_label_of_a_multi_label_image_counts() -> None:
    rng = np.random.default_rng(1)
    items = []
    for number in range(300):
        labels = tuple(np.flatnonzero(rng.random(3) < (0.5, 0.2, 0.03)).tolist())
        items.append(item(number, labels[0] if labels else -1, labels=labels))
    splits = divide(own({"": items}, MANY))
    assert splits.remarks == ()
    for label in range(3):
        total = sum(label in each.labels for each in items)
        found = sum(label in each.labels for each in splits.test)
        assert found / total == pytest.approx(0.15, abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1.2}, "a validation share of 1.2; accepted: 0 to 1"),
        ({"test": -0.1}, "a test share of -0.1; accepted: 0 to 1"),
        ({"validation": 0.6, "test": 0.5}, "shares of 0.6 and 0.5 for validation and test"),
        ({"seed": -1}, "seed -1; accepted: 0 to"),
    ],
)
def test_shares_that_cannot_be_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        divide(own({"": uneven()}), **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_too_few_images_are_one_line() -> None:
    items = [item(number, 0, "p") for number in range(5)] + [item(9, 1)]
    with pytest.raises(DatasetLayoutError) as caught:
        divide(own({"": items}))
    assert str(caught.value) == (
        "6 images of 2 patients are too few to divide into train, validation, test; give more"
    )
    with pytest.raises(DatasetLayoutError, match="no training images to draw validation from"):
        divide(own({"test": items}))


@pytest.fixture
def divided() -> Splits:
    odd = item(1000, 0, name=' odd\udcff, "name" .png', group="Ä\n")
    return divide(own({"": [*uneven(), odd]}))


def test_the_record_gives_back_what_was_divided(tmp_path: Path, divided: Splits) -> None:
    path = write_splits(tmp_path, divided)
    assert path == tmp_path / SPLITS_NAME
    assert path.read_bytes().splitlines()[0] == b"image,label,split,group,sha256"
    found = read_splits(tmp_path, FEW)
    for split in ("train", "validation", "test"):
        assert [
            (each.name, each.labels, each.group, each.sha256)
            for each in found
            if each.split == split
        ] == [
            (each.name, (each.label,), each.group, each.sha256) for each in getattr(divided, split)
        ]


def test_the_record_holds_all_labels_of_a_multi_label_image(tmp_path: Path) -> None:
    items = [item(1, 0, labels=(0, 2)), item(2, -1), item(3, 1, labels=(1,))]
    write_splits(tmp_path, divide(own({"": items}, MANY)))
    assert "1.png,a;c," in (tmp_path / SPLITS_NAME).read_text()
    assert {each.name: each.labels for each in read_splits(tmp_path, MANY)} == {
        "1.png": (0, 2),
        "2.png": (),
        "3.png": (1,),
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image,label", "path,label", "columns path, label, split"),
        (",b,", ",bird,", "unknown label 'bird'"),
        (",test,", ",tets,", "unknown split 'tets'; did you mean test?"),
        (",000", ",xyz", "which is not 64 hexadecimal digits"),
    ],
)
def test_a_damaged_record_is_one_line(
    tmp_path: Path, divided: Splits, old: str, new: str, message: str
) -> None:
    path = write_splits(tmp_path, divided)
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(ModelFileError) as caught:
        read_splits(tmp_path, FEW)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path} cannot be read (")


def test_a_record_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is missing, so it cannot be told which images"):
        read_splits(tmp_path, FEW)
