"""Conflicts in data sets: how they are found, and which images each policy trains on."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from datafiles import item, lay_out
from medkit.datasets.conflicts import (
    POLICIES,
    check_policy,
    deduplicated_mask,
    find_conflicts,
    resolve_conflicts,
)
from medkit.datasets.layout import Dataset, Item, read_dataset
from medkit.datasets.sampling import class_counts
from medkit.errors import DatasetConflictError, UsageError
from medkit.tasks import PNEUMONIA, SKIN
from medkit.training import RECIPES

EACH_POLICY = pytest.mark.parametrize("policy", POLICIES)
RESOLVING = pytest.mark.parametrize("policy", [each for each in POLICIES if each != "error"])


def lesions(train: Sequence[Item], test: Sequence[Item] = ()) -> Dataset:
    return Dataset(SKIN, Path("lesions"), tuple(train), tuple(test))


def resolved(
    policy: str, train: Sequence[Item], test: Sequence[Item] = ()
) -> tuple[list[str], dict[str, str]]:
    """Return the names that are kept, and the reasons of those that are not."""
    kept, kept_out = resolve_conflicts(lesions(train, test), policy)
    assert len(kept) + len(kept_out) == len(train)
    return [each.name for each in kept], {each.name: each.reason for each in kept_out}


@EACH_POLICY
def test_distinct_images_are_all_kept_in_their_order(policy: str) -> None:
    found = resolved(policy, [item(1, "b"), item(0, "a")], [item(0, "c")])
    assert found == (["b", "a"], {})


@EACH_POLICY
def test_of_exact_duplicates_the_first_is_kept(policy: str) -> None:
    train = [item(2, name, content="x") for name in "abc"]
    reason = "exact duplicate of a"
    assert resolved(policy, train) == (["a"], {"b": reason, "c": reason})


# An image under melanoma and seborrheic keratosis, which has fewer others than melanoma.
TWO_LABELS = [
    item(3, "m", content="x"),
    item(3, "other m"),
    item(4, "n"),
    item(6, "s", content="x"),
]


NAMES = "same bytes under labels melanoma and seborrheic keratosis"


def test_drop_trains_on_no_copy_of_an_image_under_two_labels() -> None:
    assert resolved("drop", TWO_LABELS) == (["other m", "n"], {"m": NAMES, "s": NAMES})


def test_keep_first_trains_on_the_copy_under_the_first_label() -> None:
    found = resolved("keep-first", TWO_LABELS)
    assert found == (["m", "other m", "n"], {"s": f"{NAMES}: kept is m"})


def test_keep_rarer_trains_on_the_copy_under_the_label_with_fewest_images() -> None:
    found = resolved("keep-rarer", TWO_LABELS)
    assert found == (["other m", "n", "s"], {"m": f"{NAMES}: kept is s"})
    common = [*TWO_LABELS, item(6, "other s"), item(6, "third s")]
    assert resolved("keep-rarer", common)[1] == {"s": f"{NAMES}: kept is m"}


def test_keep_rarer_takes_the_first_of_equally_rare_labels() -> None:
    train = [item(3, "m", content="x"), item(6, "s", content="x")]
    assert resolved("keep-rarer", train)[0] == ["m"]


@pytest.mark.parametrize(("policy", "kept"), [("keep-first", "a"), ("keep-rarer", "c")])
def test_of_several_copies_under_two_labels_one_is_kept(policy: str, kept: str) -> None:
    train = [item(3, "a", content="x"), item(3, "b", content="x"), item(6, "c", content="x")]
    names, reasons = resolved(policy, train)
    assert names == [kept]
    assert set(reasons.values()) == {f"{NAMES}: kept is {kept}"}


@RESOLVING
def test_an_image_of_the_test_split_always_leaves_training(policy: str) -> None:
    train = [
        item(0, "same label", content="x"),
        item(1, "other label", content="y"),
        item(2, "left"),
        item(3, "two labels", content="z"),
        item(6, "two labels too", content="z"),
    ]
    test = [item(0, "t", content="x"), item(5, "u", content="y"), item(6, "v", content="z")]
    assert resolved(policy, train, test) == (
        ["left"],
        {
            "same label": "same bytes in the test split: t",
            "other label": "same bytes in the test split: u",
            "two labels": "same bytes in the test split: v",
            "two labels too": "same bytes in the test split: v",
        },
    )


def test_conflicts_are_an_error_that_names_the_policies() -> None:
    train = [*TWO_LABELS, item(4, "leak", content="t")]
    with pytest.raises(DatasetConflictError) as caught:
        resolved("error", train, [item(4, "t")])
    message = str(caught.value)
    assert message.startswith("lesions: 1 image under two labels and 1 training image in")
    assert "'medkit audit'" in message
    assert message.endswith("--on-conflict drop, keep-first, keep-rarer")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ([item(0, "a", content="x"), item(1, "b", content="x")], []),
        ([item(0, "a", content="x")], [item(1, "t", content="x")]),
        ([item(0, "a", content="x")], [item(0, "t", content="x")]),
        ([item(0, "a")], [item(0, "t", content="x"), item(1, "u", content="x")]),
    ],
    ids=["two labels", "two labels and splits", "two splits", "two labels in the test split"],
)
def test_each_kind_of_conflict_alone_is_an_error(train: list[Item], test: list[Item]) -> None:
    with pytest.raises(DatasetConflictError):
        resolved("error", train, test)


def test_a_conflict_is_wrong_usage() -> None:
    assert issubclass(DatasetConflictError, UsageError)


@pytest.mark.parametrize("policy", ["keep", "", "Drop", "none"])
def test_an_unknown_policy_is_refused_with_those_accepted(policy: str) -> None:
    message = f"unknown policy '{policy}' .*accepted: error, drop, keep-first, keep-rarer$"
    with pytest.raises(UsageError, match=message):
        check_policy(policy)
    with pytest.raises(UsageError, match=message):
        resolved(policy, [item(0, "a")])


def test_conflicts_are_named_and_duplicates_are_no_conflicts() -> None:
    train = [*TWO_LABELS, item(0, "a", content="y"), item(1, "d"), item(1, "e", content="d")]
    test = [item(0, "b", content="y"), item(6, "c", content="x")]
    found = find_conflicts(lesions(train, test))
    assert found
    assert found.mislabelled == (("m", "s", "c"),)
    assert found.leaked == ("m", "s", "a")
    assert not find_conflicts(lesions([item(1, "d"), item(1, "e", content="d")], [item(1, "f")]))


def test_the_digest_stands_for_names_and_labels_of_the_conflicts() -> None:
    def digest(*train: Item) -> str:
        return find_conflicts(lesions(train)).digest

    pair = item(3, "Train/melanoma/p.jpg", content="x"), item(6, "Train/sk/p.jpg", content="x")
    first = digest(*pair)
    assert re.fullmatch("[0-9a-f]{64}", first)
    resized = [item(each.label, each.name, content="smaller") for each in pair]
    elsewhere = [item(each.label, f"copy/{each.path.stem}.png", content="x") for each in pair]
    assert digest(*reversed(pair)) == digest(*resized) == digest(*elsewhere) == first
    assert digest(*pair, item(0, "alone")) == first
    renamed = item(6, "Train/sk/q.jpg", content="x")
    relabelled = item(5, "Train/sk/p.jpg", content="x")
    added = item(0, "a", content="y"), item(1, "b", content="y")
    others = [digest(pair[0], renamed), digest(pair[0], relabelled), digest(*pair, *added)]
    assert len({first, digest(), *others}) == 5


def test_conflicts_are_judged_by_the_bytes_on_disk(tmp_path: Path) -> None:
    lay_out(tmp_path, PNEUMONIA)
    shutil.copy(tmp_path / "train/NORMAL/train_0.png", tmp_path / "train/PNEUMONIA/copy.png")
    kept, kept_out = resolve_conflicts(read_dataset(PNEUMONIA, tmp_path), "drop")
    assert [each.name for each in kept] == ["train/PNEUMONIA/train_0.png"]
    assert {each.reason for each in kept_out} == {"same bytes under labels NORMAL and PNEUMONIA"}


def test_the_mask_leaves_out_test_images_that_are_also_in_training_under_any_label() -> None:
    train = [item(0, "a", content="x"), item(1, "b", content="y")]
    test = [item(0, "t"), item(0, "u", content="x"), item(3, "v", content="y"), item(0, "w")]
    assert deduplicated_mask(lesions(train, test)) == [True, False, False, True]


# The real data sets


def identical(dataset: Dataset) -> list[list[Item]]:
    """Return the groups of items with the same bytes, of both splits."""
    groups: dict[str, list[Item]] = {}
    for each in dataset.train + dataset.test:
        groups.setdefault(each.sha256, []).append(each)
    return [group for group in groups.values() if len(group) > 1]


def reasons(dataset: Dataset, policy: str) -> dict[str, int]:
    """Count why images are kept_out, without the names of the others."""
    _, kept_out = resolve_conflicts(dataset, policy)
    return dict(Counter(re.sub(r"(:| of ).*", "", each.reason) for each in kept_out))


@pytest.mark.data
def test_the_real_xrays_have_duplicates_but_no_conflict(xrays: Dataset) -> None:
    groups = identical(xrays)
    assert len(groups) == 30
    for group in groups:
        assert len({(each.name.split("/")[0], each.label) for each in group}) == 1
    assert not find_conflicts(xrays)
    for policy in POLICIES:
        assert reasons(xrays, policy) == {"exact duplicate": 26}


@pytest.mark.data
def test_the_real_skin_images_lie_under_two_labels_in_155_cases(skin: Dataset) -> None:
    two = [group for group in identical(skin) if len({each.label for each in group}) > 1]
    places = Counter(tuple(sorted(each.name.rsplit("/", 1)[0] for each in group)) for group in two)
    assert places == {
        ("Train/melanoma", "Train/seborrheic keratosis"): 75,
        ("Train/actinic keratosis", "Train/nevus"): 62,
        ("Test/actinic keratosis", "Train/nevus"): 15,
        ("Test/seborrheic keratosis", "Train/melanoma"): 3,
    }
    assert places.total() == 155


@pytest.mark.data
def test_the_conflicts_of_the_real_skin_images_are_those_that_the_recipe_knows(
    skin: Dataset,
) -> None:
    found = find_conflicts(skin)
    assert found.digest == RECIPES["skin", "default"].known_conflicts
    assert (len(found.mislabelled), len(found.leaked)) == (155, 18)


@pytest.mark.data
def test_the_conflicts_of_the_real_skin_images_are_an_error(skin: Dataset) -> None:
    with pytest.raises(DatasetConflictError, match="155 images .* 18 training images .* drop, k"):
        resolve_conflicts(skin, "error")


@pytest.mark.data
def test_keeping_the_rarer_label_saves_the_rare_classes(skin: Dataset) -> None:
    kept, kept_out = resolve_conflicts(skin, "keep-rarer")
    assert (len(kept), len(kept_out)) == (2082, 159)
    counts = class_counts(SKIN, kept)
    assert (counts["seborrheic keratosis"], counts["actinic keratosis"]) == (77, 114)
    assert reasons(skin, "keep-rarer") == {
        "same bytes under labels melanoma and seborrheic keratosis": 75,
        "same bytes under labels actinic keratosis and nevus": 62,
        "same bytes in the test split": 18,
        "exact duplicate": 4,
    }


@pytest.mark.data
def test_keeping_the_first_label_keeps_as_many_images_but_not_the_rare_class(skin: Dataset) -> None:
    kept, _ = resolve_conflicts(skin, "keep-first")
    assert len(kept) == 2082
    counts = class_counts(SKIN, kept)
    assert (counts["seborrheic keratosis"], counts["actinic keratosis"]) == (2, 114)


@pytest.mark.data
def test_dropping_conflicts_leaves_two_seborrheic_keratoses(skin: Dataset) -> None:
    kept, kept_out = resolve_conflicts(skin, "drop")
    assert (len(kept), len(kept_out)) == (1945, 296)
    assert reasons(skin, "drop") == {
        "same bytes under labels melanoma and seborrheic keratosis": 150,
        "same bytes under labels actinic keratosis and nevus": 124,
        "same bytes in the test split": 18,
        "exact duplicate": 4,
    }
    assert class_counts(SKIN, kept)["seborrheic keratosis"] == 2


@pytest.mark.data
def test_eighteen_test_images_of_the_real_skin_data_are_also_in_training(skin: Dataset) -> None:
    assert deduplicated_mask(skin).count(False) == 18


def test_a_conflict_of_a_name_that_is_not_utf_8_has_a_digest() -> None:
    odd = os.fsdecode(b"b\xe9.png")
    found = find_conflicts(lesions([item(0, odd, content="a"), item(1, "c.png", content="a")]))
    assert len(found.mislabelled) == 1
    assert len(found.digest) == 64
