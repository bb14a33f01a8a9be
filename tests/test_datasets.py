"""The data sets on disk: their layout, their conflicts, and their splits."""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medkit.datasets import (
    POLICIES,
    Dataset,
    Item,
    check_layout,
    check_policy,
    class_counts,
    find_conflicts,
    load_tensors,
    locate_dataset,
    patient_of,
    read_dataset,
    resolve_conflicts,
    source_of,
    split_validation,
    stratified_sample,
    without_twins,
)
from medkit.errors import DatasetConflictError, DatasetLayoutError, UsageError
from medkit.images import COLOUR_THRESHOLD, colourfulness, contract_for, load_tensor
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task
from medkit.training import RECIPES

BOTH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
EACH_POLICY = pytest.mark.parametrize("policy", POLICIES)
RESOLVING = pytest.mark.parametrize("policy", [each for each in POLICIES if each != "error"])


def picture(path: Path, seed: int) -> None:
    """Write a tiny image that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")


def make(root: Path, task: Task, per_class: int = 1) -> Path:
    """Lay out a data set of ``task`` in which all images differ."""
    seed = 0
    for split in (task.train_folder, task.test_folder):
        for label in task.labels:
            for number in range(per_class):
                picture(root / split / label / f"{split}_{number}.png", seed)
                seed += 1
    return root


def refusal(task: Task, root: Path) -> str:
    """Return why a folder is refused."""
    with pytest.raises(DatasetLayoutError) as caught:
        read_dataset(task, root)
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    return message


def item(
    label: int, name: str = "", *, content: str | None = None, group: str | None = None
) -> Item:
    return Item(Path(name), name, label, content or name, group or name)


# Layout


@BOTH
def test_a_data_set_as_it_ships_is_read(tmp_path: Path, task: Task) -> None:
    dataset = read_dataset(task, make(tmp_path, task, per_class=2))
    assert (dataset.task, dataset.root) == (task, tmp_path)
    assert class_counts(task, dataset.train) == dict.fromkeys(task.labels, 2)
    assert class_counts(task, dataset.test) == dict.fromkeys(task.labels, 2)
    first = dataset.train[0]
    assert first.name == f"{task.train_folder}/{task.labels[0]}/{task.train_folder}_0.png"
    assert first.path == tmp_path / first.name
    hashes = {each.sha256 for each in dataset.train + dataset.test}
    assert len(hashes) == 4 * len(task.labels)


def test_the_hash_is_of_the_bytes_of_the_file(tmp_path: Path) -> None:
    make(tmp_path, PNEUMONIA)
    (tmp_path / "train/NORMAL/train_0.png").write_bytes(b"abc")
    first = read_dataset(PNEUMONIA, tmp_path).train[0]
    assert first.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@BOTH
def test_the_task_decides_the_class_order_and_no_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task
) -> None:
    make(tmp_path, task)
    listing = Path.iterdir
    expected = read_dataset(task, tmp_path)
    monkeypatch.setattr(Path, "iterdir", lambda self: sorted(listing(self), reverse=True))
    assert read_dataset(task, tmp_path) == expected
    for each in expected.train + expected.test:
        assert each.path.parent.name == task.labels[each.label]


def test_labels_never_change_places() -> None:
    assert PNEUMONIA.labels == ("NORMAL", "PNEUMONIA")
    assert PNEUMONIA.positive == "PNEUMONIA"
    assert SKIN.labels == (
        "actinic keratosis",
        "basal cell carcinoma",
        "dermatofibroma",
        "melanoma",
        "nevus",
        "pigmented benign keratosis",
        "seborrheic keratosis",
        "squamous cell carcinoma",
        "vascular lesion",
    )


@BOTH
def test_a_missing_split_is_named_with_what_was_found(tmp_path: Path, task: Task) -> None:
    make(tmp_path, task)
    shutil.rmtree(tmp_path / task.test_folder)
    message = refusal(task, tmp_path)
    assert f"has no folder '{task.test_folder}'" in message
    assert f"found '{task.train_folder}'" in message
    assert f"{task.train_folder}/ and {task.test_folder}/, each with {len(task.labels)}" in message


@BOTH
@pytest.mark.parametrize("split", ["train_folder", "test_folder"])
def test_a_missing_class_is_named(tmp_path: Path, task: Task, split: str) -> None:
    folder = getattr(task, split)
    make(tmp_path, task)
    shutil.rmtree(tmp_path / folder / task.labels[1])
    message = refusal(task, tmp_path)
    assert f"missing ['{task.labels[1]}']" in message
    assert str(tmp_path / folder) in message
    assert "not known" not in message


@BOTH
def test_a_misspelt_class_is_named_beside_the_missing_one(tmp_path: Path, task: Task) -> None:
    make(tmp_path, task)
    right = tmp_path / task.train_folder / task.labels[1]
    right.rename(right.with_name(f"{task.labels[1]} 2"))
    message = refusal(task, tmp_path)
    assert f"missing ['{task.labels[1]}'], not known ['{task.labels[1]} 2']" in message
    assert f"expected exactly {list(task.labels)}" in message


@BOTH
def test_a_superfluous_class_is_named(tmp_path: Path, task: Task) -> None:
    picture(make(tmp_path, task) / task.test_folder / "unknown" / "a.png", 0)
    message = refusal(task, tmp_path)
    assert "not known ['unknown']" in message
    assert "missing" not in message


@BOTH
def test_a_class_without_an_image_is_named(tmp_path: Path, task: Task) -> None:
    make(tmp_path, task)
    folder = tmp_path / task.train_folder / task.labels[0]
    (folder / f"{task.train_folder}_0.png").rename(folder / "notes.txt")
    message = refusal(task, tmp_path)
    assert f"no image in ['{folder}']" in message
    assert ".jpeg, .jpg, .png" in message


@BOTH
def test_one_level_too_high_is_answered_with_the_right_folder(tmp_path: Path, task: Task) -> None:
    right = make(tmp_path / "unpacked", task)
    assert refusal(task, tmp_path).endswith(f"; did you mean {right}?")


@BOTH
def test_one_level_too_low_is_answered_with_the_right_folder(tmp_path: Path, task: Task) -> None:
    make(tmp_path, task)
    assert refusal(task, tmp_path / task.train_folder).endswith(f"; did you mean {tmp_path}?")


@pytest.mark.parametrize(("task", "other"), [(PNEUMONIA, SKIN), (SKIN, PNEUMONIA)])
def test_data_of_the_other_task_are_recognised(tmp_path: Path, task: Task, other: Task) -> None:
    message = refusal(task, make(tmp_path, other))
    assert message.endswith(f"; this looks like the data of task {other.name}")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert refusal(SKIN, tmp_path / "gone").startswith(f"no folder {tmp_path / 'gone'}")
    (tmp_path / "file").touch()
    assert refusal(SKIN, tmp_path / "file").startswith(f"no folder {tmp_path / 'file'}")


def test_a_long_listing_is_cut_in_the_message(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / str(number)).mkdir()
    assert "found '0', '1', '2', '3', '4', '5' and 3 more;" in refusal(PNEUMONIA, tmp_path)


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    assert "found nothing; expected train/ and test/" in refusal(PNEUMONIA, tmp_path)


def test_a_layout_error_is_a_usage_error() -> None:
    assert issubclass(DatasetLayoutError, UsageError)


@BOTH
def test_what_a_mac_or_a_desktop_leaves_behind_is_ignored(tmp_path: Path, task: Task) -> None:
    expected = read_dataset(task, make(tmp_path, task))
    classes = tmp_path / task.train_folder
    for folder in (tmp_path, classes, classes / task.labels[0]):
        picture(folder / "__MACOSX" / "a.png", 0)
        picture(folder / ".cache" / "a.png", 0)
        picture(folder / "._train_0.png", 0)
        (folder / ".DS_Store").touch()
        (folder / "Thumbs.db").touch()
    (classes / task.labels[0] / "folder.png").mkdir()
    assert read_dataset(task, tmp_path) == expected


@BOTH
def test_a_validation_folder_is_allowed_and_left_alone(tmp_path: Path, task: Task) -> None:
    expected = read_dataset(task, make(tmp_path, task))
    picture(tmp_path / "val" / "whatever" / "a.png", 0)
    assert read_dataset(task, tmp_path) == expected


def test_suffixes_count_in_any_case(tmp_path: Path) -> None:
    make(tmp_path, PNEUMONIA)
    picture(tmp_path / "train/NORMAL/B.JPEG", 99)
    names = [each.name for each in read_dataset(PNEUMONIA, tmp_path).train]
    assert names[:2] == ["train/NORMAL/B.JPEG", "train/NORMAL/train_0.png"]


# Finding the data set


@BOTH
def test_a_data_set_is_found_itself_or_under_its_known_names(tmp_path: Path, task: Task) -> None:
    for folder in (tmp_path / "direct", *(tmp_path / name for name in task.dataset_folders)):
        make(folder, task)
        given = folder if folder.name == "direct" else tmp_path
        assert locate_dataset(task, given) == folder
        shutil.rmtree(folder)


def test_one_data_folder_serves_both_tasks(tmp_path: Path) -> None:
    for task in TASKS.values():
        make(tmp_path / task.dataset_folders[0], task)
    for task in TASKS.values():
        check_layout(task, locate_dataset(task, tmp_path))


@BOTH
def test_data_that_are_not_found_are_described(tmp_path: Path, task: Task) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DatasetLayoutError) as caught:
        locate_dataset(task, tmp_path)
    message = str(caught.value)
    assert f"no {task.name} data in {tmp_path}: found 'photos'" in message
    assert f"expected {task.train_folder}/ and {task.test_folder}/" in message
    for name in task.dataset_folders:
        assert repr(name) in message
    with pytest.raises(DatasetLayoutError, match="found no such folder"):
        locate_dataset(task, tmp_path / "gone")


# Patients


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person123_bacteria_45.jpeg", "person123"),
        ("person7_virus_8.jpeg", "person7"),
        ("person1372_virus_2365_1.jpeg", "person1372"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("IM-0119-0001-0002.jpeg", "IM-0119"),
        ("NORMAL2-IM-0501-0001.jpeg", "NORMAL2-IM-0501"),
        ("NORMAL2-IM-0501-0001-0002.jpeg", "NORMAL2-IM-0501"),
        ("ISIC_0024306.jpg", "ISIC_0024306"),
        ("ISIC_0000031(1).jpg", "ISIC_0000031(1)"),
        ("personal_1.jpeg", "personal_1"),
        ("scan.of.person1_x.png", "scan.of.person1_x"),
    ],
)
def test_the_file_name_tells_the_patient(name: str, patient: str) -> None:
    assert patient_of(name) == patient


def test_items_are_grouped_by_patient(tmp_path: Path) -> None:
    make(tmp_path, PNEUMONIA)
    for number, name in enumerate(["person1_virus_1.png", "person1_bacteria_2.png"]):
        picture(tmp_path / "train/PNEUMONIA" / name, 50 + number)
    groups = Counter(each.group for each in read_dataset(PNEUMONIA, tmp_path).train)
    assert groups == {"train_0": 2, "person1": 2}


# Conflicts


def lesions(train: Sequence[Item], test: Sequence[Item] = ()) -> Dataset:
    return Dataset(SKIN, Path("lesions"), tuple(train), tuple(test))


def resolved(
    policy: str, train: Sequence[Item], test: Sequence[Item] = ()
) -> tuple[list[str], dict[str, str]]:
    """Return the names that are kept, and the reasons of those that are not."""
    kept, dropped = resolve_conflicts(lesions(train, test), policy)
    assert len(kept) + len(dropped) == len(train)
    return [each.name for each in kept], {each.name: each.reason for each in dropped}


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


def test_conflicts_are_an_error_that_names_the_ways_on() -> None:
    train = [*TWO_LABELS, item(4, "leak", content="t")]
    with pytest.raises(DatasetConflictError) as caught:
        resolved("error", train, [item(4, "t")])
    message = str(caught.value)
    assert message.startswith("lesions: 1 images lie under two labels and 1 training images in")
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
    message = f"unknown way '{policy}' .*accepted: error, drop, keep-first, keep-rarer$"
    with pytest.raises(UsageError, match=message):
        check_policy(policy)
    with pytest.raises(UsageError, match=message):
        resolved(policy, [item(0, "a")])


def test_conflicts_are_named_and_duplicates_are_none() -> None:
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
    make(tmp_path, PNEUMONIA)
    shutil.copy(tmp_path / "train/NORMAL/train_0.png", tmp_path / "train/PNEUMONIA/copy.png")
    kept, dropped = resolve_conflicts(read_dataset(PNEUMONIA, tmp_path), "drop")
    assert [each.name for each in kept] == ["train/PNEUMONIA/train_0.png"]
    assert {each.reason for each in dropped} == {"same bytes under labels NORMAL and PNEUMONIA"}


def test_a_test_image_is_told_to_have_a_twin_in_training_whatever_its_label() -> None:
    train = [item(0, "a", content="x"), item(1, "b", content="y")]
    test = [item(0, "t"), item(0, "u", content="x"), item(3, "v", content="y"), item(0, "w")]
    assert without_twins(lesions(train, test)) == [True, False, False, True]


# Validation split


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
def test_validation_is_stratified_and_of_the_asked_size(fraction: float) -> None:
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


# Calibration sample


def counts(items: Sequence[Item]) -> dict[int, int]:
    return dict(sorted(Counter(each.label for each in items).items()))


def test_a_sample_is_even_over_the_classes() -> None:
    items = [item(label, f"{label} {number}") for label in (2, 0, 1) for number in range(50)]
    assert counts(stratified_sample(items, 30, 0)) == {0: 10, 1: 10, 2: 10}
    assert counts(stratified_sample(items, 31, 0)) == {0: 11, 1: 10, 2: 10}


def test_a_class_that_runs_out_leaves_its_share_to_the_others() -> None:
    items = [item(label, f"{label} {number}") for label in (0, 2) for number in range(50)]
    items += [item(1, f"1 {number}") for number in range(3)]
    assert counts(stratified_sample(items, 33, 0)) == {0: 15, 1: 3, 2: 15}


def test_a_sample_is_of_distinct_images_and_at_most_all() -> None:
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
    items = read_dataset(task, make(tmp_path, task, per_class=3)).train[::-1]
    images, labels = load_tensors(items, contract_for(task))
    assert images.shape == (len(items), 128, 128, task.channels)
    assert labels.tolist() == [each.label for each in items]
    for index, each in enumerate(items):
        (alone,), _ = load_tensors([each], contract_for(task))
        assert np.array_equal(images[index], alone)
    assert len({image.tobytes() for image in images}) == len(items)


def test_a_damaged_image_in_a_data_set_is_an_error_that_names_it(tmp_path: Path) -> None:
    make(tmp_path, PNEUMONIA)
    (tmp_path / "train/NORMAL/train_0.png").write_bytes(b"no image")
    items = read_dataset(PNEUMONIA, tmp_path).train
    with pytest.raises(DatasetLayoutError, match=r"train_0\.png: not an image .*remove or replace"):
        load_tensors(items, contract_for(PNEUMONIA))


# The real data sets


@pytest.fixture(scope="module")
def xrays(real_data: Path) -> Dataset:
    return read_dataset(PNEUMONIA, locate_dataset(PNEUMONIA, real_data))


@pytest.fixture(scope="module")
def skin(real_data: Path) -> Dataset:
    return read_dataset(SKIN, locate_dataset(SKIN, real_data))


def identical(dataset: Dataset) -> list[list[Item]]:
    """Return the groups of items with the same bytes, of both splits."""
    groups: dict[str, list[Item]] = {}
    for each in dataset.train + dataset.test:
        groups.setdefault(each.sha256, []).append(each)
    return [group for group in groups.values() if len(group) > 1]


def reasons(dataset: Dataset, policy: str) -> dict[str, int]:
    """Count why images are dropped, without the names of the others."""
    _, dropped = resolve_conflicts(dataset, policy)
    return dict(Counter(re.sub(r"(:| of ).*", "", each.reason) for each in dropped))


@pytest.mark.data
def test_the_real_xrays_are_complete(xrays: Dataset) -> None:
    assert class_counts(PNEUMONIA, xrays.train) == {"NORMAL": 1341, "PNEUMONIA": 3875}
    assert class_counts(PNEUMONIA, xrays.test) == {"NORMAL": 234, "PNEUMONIA": 390}
    assert (len(xrays.train), len(xrays.test)) == (5216, 624)


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
def test_the_real_xrays_show_fewer_patients_than_images(xrays: Dataset) -> None:
    assert len({each.group for each in xrays.train}) == 2846
    kept, _ = resolve_conflicts(xrays, "error")
    train, validation = split_validation(kept, 0.1, 0)
    assert not {each.group for each in train} & {each.group for each in validation}


@pytest.mark.data
def test_the_real_skin_images_are_complete(skin: Dataset) -> None:
    assert (len(skin.train), len(skin.test)) == (2241, 118)
    assert list(class_counts(SKIN, skin.train).values()) == [
        114, 378, 95, 438, 357, 462, 77, 181, 139,
    ]  # fmt: skip
    assert list(class_counts(SKIN, skin.test).values()) == [16, 16, 16, 16, 16, 16, 3, 16, 3]


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
    kept, dropped = resolve_conflicts(skin, "keep-rarer")
    assert (len(kept), len(dropped)) == (2082, 159)
    counts = class_counts(SKIN, kept)
    assert (counts["seborrheic keratosis"], counts["actinic keratosis"]) == (77, 114)
    assert reasons(skin, "keep-rarer") == {
        "same bytes under labels melanoma and seborrheic keratosis": 75,
        "same bytes under labels actinic keratosis and nevus": 62,
        "same bytes in the test split": 18,
        "exact duplicate": 4,
    }


@pytest.mark.data
def test_keeping_the_first_label_keeps_as_many_but_not_the_rare(skin: Dataset) -> None:
    kept, _ = resolve_conflicts(skin, "keep-first")
    assert len(kept) == 2082
    counts = class_counts(SKIN, kept)
    assert (counts["seborrheic keratosis"], counts["actinic keratosis"]) == (2, 114)


@pytest.mark.data
def test_dropping_conflicts_leaves_two_seborrheic_keratoses(skin: Dataset) -> None:
    kept, dropped = resolve_conflicts(skin, "drop")
    assert (len(kept), len(dropped)) == (1945, 296)
    assert reasons(skin, "drop") == {
        "same bytes under labels melanoma and seborrheic keratosis": 150,
        "same bytes under labels actinic keratosis and nevus": 124,
        "same bytes in the test split": 18,
        "exact duplicate": 4,
    }
    assert class_counts(SKIN, kept)["seborrheic keratosis"] == 2


@pytest.mark.data
def test_the_twins_of_the_real_skin_images_are_eighteen_test_images(skin: Dataset) -> None:
    assert without_twins(skin).count(False) == 18


@pytest.mark.data
def test_colour_tells_the_real_data_sets_apart(xrays: Dataset, skin: Dataset) -> None:
    def sample(dataset: Dataset) -> list[float]:
        items = (dataset.train + dataset.test)[::20]
        contract = contract_for(SKIN)
        return [colourfulness(load_tensor(each.path, contract)) for each in items]

    assert max(sample(xrays)) == 0.0
    assert min(sample(skin)) > 2 * COLOUR_THRESHOLD


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("ISIC_0000139.jpg", "ISIC_0000xxx"),
        ("ISIC_0010280.jpg", "ISIC_0010xxx"),
        ("ISIC_0024306.jpg", "HAM10000"),
        ("ISIC_0034320.jpg", "HAM10000"),
        ("ISIC_0034321.jpg", "ISIC_0034xxx"),
        ("ISIC_0000139_downsampled.jpg", "ISIC_0000xxx"),
        ("person1_virus_6.jpeg", ""),
    ],
)
def test_the_source_is_told_by_the_archives_numbering(name: str, source: str) -> None:
    assert source_of(name) == source


def test_too_few_images_for_a_validation_split_are_an_error_in_words() -> None:
    few = [item(index % 2, f"{index}.png") for index in range(3)]
    with pytest.raises(DatasetLayoutError, match="too few to cut a validation split of 1 in 7"):
        split_validation(few, 0.15, 0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_a_library_refuses_are_refused(seed: int) -> None:
    with pytest.raises(UsageError, match="accepted: 0 to 4294967295"):
        split_validation([item(0, "a.png")], 0.15, seed)
