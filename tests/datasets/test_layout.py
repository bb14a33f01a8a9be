"""The layout of data sets: what is accepted, what is refused and why, and what names tell."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from datafiles import lay_out, picture
from medkit.datasets.fingerprints import take_fingerprints
from medkit.datasets.layout import (
    Dataset,
    labelled_files,
    patient_of,
    read_dataset,
    source_of,
)
from medkit.datasets.location import check_layout, locate_dataset
from medkit.datasets.sampling import class_counts
from medkit.errors import DatasetLayoutError, UsageError
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task

BOTH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def refusal(task: Task, root: Path) -> str:
    """Return why a folder is refused."""
    with pytest.raises(DatasetLayoutError) as caught:
        read_dataset(task, root)
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    return message


@BOTH
def test_a_data_set_as_it_ships_is_read(tmp_path: Path, task: Task) -> None:
    dataset = read_dataset(task, lay_out(tmp_path, task, per_class=2))
    assert (dataset.task, dataset.root) == (task, tmp_path)
    assert class_counts(task, dataset.train) == dict.fromkeys(task.labels, 2)
    assert class_counts(task, dataset.test) == dict.fromkeys(task.labels, 2)
    first = dataset.train[0]
    assert first.name == f"{task.published.train}/{task.labels[0]}/{task.published.train}_0.png"
    assert first.path == tmp_path / first.name
    hashes = {each.sha256 for each in dataset.train + dataset.test}
    assert len(hashes) == 4 * len(task.labels)


def test_the_hash_is_of_the_bytes_of_the_file(tmp_path: Path) -> None:
    lay_out(tmp_path, PNEUMONIA)
    (tmp_path / "train/NORMAL/train_0.png").write_bytes(b"abc")
    first = read_dataset(PNEUMONIA, tmp_path).train[0]
    assert first.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@BOTH
def test_the_task_decides_the_class_order_and_not_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task
) -> None:
    lay_out(tmp_path, task)
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
    lay_out(tmp_path, task)
    shutil.rmtree(tmp_path / task.published.test)
    message = refusal(task, tmp_path)
    assert f"has no folder '{task.published.test}'" in message
    assert f"found '{task.published.train}'" in message
    assert (
        f"{task.published.train}/ and {task.published.test}/, each with {len(task.labels)}"
        in message
    )


@BOTH
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_class_is_named(tmp_path: Path, task: Task, split: str) -> None:
    folder = getattr(task.published, split)
    lay_out(tmp_path, task)
    shutil.rmtree(tmp_path / folder / task.labels[1])
    message = refusal(task, tmp_path)
    assert f"missing ['{task.labels[1]}']" in message
    assert str(tmp_path / folder) in message
    assert "not known" not in message


@BOTH
def test_a_misspelt_class_is_named_beside_the_missing_one(tmp_path: Path, task: Task) -> None:
    lay_out(tmp_path, task)
    right = tmp_path / task.published.train / task.labels[1]
    right.rename(right.with_name(f"{task.labels[1]} 2"))
    message = refusal(task, tmp_path)
    assert f"missing ['{task.labels[1]}'], not known ['{task.labels[1]} 2']" in message
    assert f"expected exactly {list(task.labels)}" in message


@BOTH
def test_a_superfluous_class_is_named(tmp_path: Path, task: Task) -> None:
    picture(lay_out(tmp_path, task) / task.published.test / "unknown" / "a.png", 0)
    message = refusal(task, tmp_path)
    assert "not known ['unknown']" in message
    assert "missing" not in message


@BOTH
def test_a_class_without_an_image_is_named(tmp_path: Path, task: Task) -> None:
    lay_out(tmp_path, task)
    folder = tmp_path / task.published.train / task.labels[0]
    (folder / f"{task.published.train}_0.png").unlink()
    (folder / "notes.txt").write_text("no image")
    message = refusal(task, tmp_path)
    assert f"no image in ['{folder}']" in message
    assert ".jpeg, .jpf, .jpg" in message


@BOTH
def test_a_folder_one_level_too_high_is_answered_with_the_right_one(
    tmp_path: Path, task: Task
) -> None:
    right = lay_out(tmp_path / "unpacked", task)
    assert refusal(task, tmp_path).endswith(f"; did you mean {right}?")


@BOTH
def test_a_folder_one_level_too_low_is_answered_with_the_right_one(
    tmp_path: Path, task: Task
) -> None:
    lay_out(tmp_path, task)
    assert refusal(task, tmp_path / task.published.train).endswith(f"; did you mean {tmp_path}?")


@pytest.mark.parametrize(("task", "other"), [(PNEUMONIA, SKIN), (SKIN, PNEUMONIA)])
def test_data_of_the_other_task_are_recognised(tmp_path: Path, task: Task, other: Task) -> None:
    message = refusal(task, lay_out(tmp_path, other))
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
def test_files_that_a_mac_or_a_desktop_leaves_behind_are_ignored(
    tmp_path: Path, task: Task
) -> None:
    expected = read_dataset(task, lay_out(tmp_path, task))
    classes = tmp_path / task.published.train
    for folder in (tmp_path, classes, classes / task.labels[0]):
        picture(folder / "__MACOSX" / "a.png", 0)
        picture(folder / ".cache" / "a.png", 0)
        picture(folder / "._train_0.png", 0)
        (folder / ".DS_Store").touch()
        (folder / "Thumbs.db").touch()
    (classes / task.labels[0] / "folder.png").mkdir()
    found = read_dataset(task, tmp_path)
    assert (found.train, found.test) == (expected.train, expected.test)
    assert {Path(each.name).name for each in found.left_out} == {"._train_0.png", "a.png"}
    assert all(each.reason == "in hidden files and folders" for each in found.left_out)


@BOTH
def test_a_validation_folder_is_allowed_and_not_read(tmp_path: Path, task: Task) -> None:
    expected = read_dataset(task, lay_out(tmp_path, task))
    picture(tmp_path / "val" / "whatever" / "a.png", 0)
    assert read_dataset(task, tmp_path) == expected


def test_suffixes_count_in_any_case(tmp_path: Path) -> None:
    lay_out(tmp_path, PNEUMONIA)
    picture(tmp_path / "train/NORMAL/B.JPEG", 99)
    names = [each.name for each in read_dataset(PNEUMONIA, tmp_path).train]
    assert names[:2] == ["train/NORMAL/B.JPEG", "train/NORMAL/train_0.png"]


@BOTH
def test_a_data_set_is_found_itself_or_under_its_known_names(tmp_path: Path, task: Task) -> None:
    for folder in (tmp_path / "direct", *(tmp_path / name for name in task.published.folders)):
        lay_out(folder, task)
        given = folder if folder.name == "direct" else tmp_path
        assert locate_dataset(task, given) == folder
        shutil.rmtree(folder)


def test_one_data_folder_serves_both_tasks(tmp_path: Path) -> None:
    for task in TASKS.values():
        lay_out(tmp_path / task.published.folders[0], task)
    for task in TASKS.values():
        check_layout(task, locate_dataset(task, tmp_path))


@BOTH
def test_data_that_are_not_found_are_described(tmp_path: Path, task: Task) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DatasetLayoutError) as caught:
        locate_dataset(task, tmp_path)
    message = str(caught.value)
    assert f"no {task.name} data in {tmp_path}: found 'photos'" in message
    assert f"expected {task.published.train}/ and {task.published.test}/" in message
    for name in task.published.folders:
        assert repr(name) in message
    with pytest.raises(DatasetLayoutError, match="found no such folder"):
        locate_dataset(task, tmp_path / "gone")


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
    lay_out(tmp_path, PNEUMONIA)
    for number, name in enumerate(["person1_virus_1.png", "person1_bacteria_2.png"]):
        picture(tmp_path / "train/PNEUMONIA" / name, 50 + number)
    groups = Counter(each.group for each in read_dataset(PNEUMONIA, tmp_path).train)
    assert groups == {"train_0": 2, "person1": 2}


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
def test_the_number_of_an_isic_image_tells_its_source(name: str, source: str) -> None:
    assert source_of(name) == source


def test_images_of_a_patients_folder_are_one_group(tmp_path: Path) -> None:
    lay_out(tmp_path, PNEUMONIA)
    for number, name in enumerate(("p1/1.png", "p1/2.png", "p2/1.png", "p2/person5_virus_1.png")):
        picture(tmp_path / "train/PNEUMONIA" / name, 50 + number)
    groups = Counter(each.group for each in read_dataset(PNEUMONIA, tmp_path).train)
    assert groups == {"train_0": 2, "p1": 2, "p2": 1, "person5": 1}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, PNEUMONIA)
    (tmp_path / "train/NORMAL/gone.png").symlink_to(tmp_path / "gone.png")
    for fingerprints in (None, take_fingerprints(labelled_files(PNEUMONIA, tmp_path))):
        with pytest.raises(DatasetLayoutError, match=r"gone\.png cannot be read: No such file"):
            read_dataset(PNEUMONIA, tmp_path, fingerprints=fingerprints)


def test_images_that_no_class_holds_are_named(tmp_path: Path) -> None:
    picture(lay_out(tmp_path, PNEUMONIA) / "test/loose.png", 7)
    dataset = read_dataset(PNEUMONIA, tmp_path)
    assert dataset.remarks() == ["left out: 1 image beside the class folders: test/loose.png"]


# The real data sets


@pytest.mark.data
def test_the_real_xrays_are_complete(xrays: Dataset) -> None:
    assert class_counts(PNEUMONIA, xrays.train) == {"NORMAL": 1341, "PNEUMONIA": 3875}
    assert class_counts(PNEUMONIA, xrays.test) == {"NORMAL": 234, "PNEUMONIA": 390}
    assert (len(xrays.train), len(xrays.test)) == (5216, 624)


@pytest.mark.data
def test_the_real_skin_images_are_complete(skin: Dataset) -> None:
    assert (len(skin.train), len(skin.test)) == (2241, 118)
    assert list(class_counts(SKIN, skin.train).values()) == [
        114, 378, 95, 438, 357, 462, 77, 181, 139,
    ]  # fmt: skip
    assert list(class_counts(SKIN, skin.test).values()) == [16, 16, 16, 16, 16, 16, 3, 16, 3]
