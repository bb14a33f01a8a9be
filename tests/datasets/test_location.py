"""Where labelled images lie: the three forms that ``--data`` may have, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from datafiles import lay_out, picture
from medkit.datasets.labels import Labels
from medkit.datasets.location import Located, check_layout, locate, locate_dataset
from medkit.errors import DatasetLayoutError
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task

BOTH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def refusal(task: Task, data: Path) -> str:
    """Return why a folder is refused."""
    with pytest.raises(DatasetLayoutError) as caught:
        locate(task, data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@BOTH
def test_a_labelled_folder_is_found_itself_or_in_a_folder_of_sets(
    tmp_path: Path, task: Task
) -> None:
    picture(tmp_path / task.name / task.labels[0].upper() / "a.png", 0)
    folder = tmp_path / task.name
    for data in (folder, tmp_path):
        assert locate(task, data) == Located(folder)
        assert locate(task, data).measured == folder


@BOTH
def test_a_set_is_found_itself_or_in_a_folder_of_sets(tmp_path: Path, task: Task) -> None:
    folder = lay_out(tmp_path / task.published.folders[0], task)
    for data in (folder, tmp_path):
        found = locate(task, data)
        assert (found.root, found.measured) == (folder, folder / task.published.test)
        assert locate_dataset(task, data) == folder


def test_splits_and_classes_may_be_spelt_in_any_case(tmp_path: Path) -> None:
    for split in ("TRAIN", "Test"):
        for label in ("Normal", "pneumonia"):
            picture(tmp_path / "Chest_XRay" / split / label / "a.png", 0)
    root = locate_dataset(PNEUMONIA, tmp_path)
    assert check_layout(PNEUMONIA, root) == (root / "TRAIN", root / "Test")
    assert locate(PNEUMONIA, tmp_path) == Located(root, root / "TRAIN", root / "Test")


def test_a_split_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, PNEUMONIA)
    (tmp_path / "Train").mkdir()
    assert "holds the split train as Train and as train" in refusal(PNEUMONIA, tmp_path)


def test_two_sets_of_one_task_are_refused(tmp_path: Path) -> None:
    for name in ("chest_xray", "pneumonia"):
        lay_out(tmp_path / name, PNEUMONIA)
    assert refusal(PNEUMONIA, tmp_path).endswith("pneumonia; name one of them")


def test_class_folders_beside_splits_are_refused(tmp_path: Path) -> None:
    picture(lay_out(tmp_path, PNEUMONIA) / "normal/a.png", 0)
    assert "beside the splits train and test" in refusal(PNEUMONIA, tmp_path)


def test_a_near_miss_is_answered_with_the_label(tmp_path: Path) -> None:
    picture(tmp_path / "melanom/a.png", 0)
    message = refusal(SKIN, tmp_path)
    assert "found 'melanom'" in message
    assert message.endswith(
        "; if these are misspelt, rename them or give --labels-map 'melanom=melanoma'"
    )
    assert locate(SKIN, tmp_path, Labels.of(SKIN, {"melanom": "melanoma"})) == Located(tmp_path)


def test_a_task_without_a_published_data_set_has_the_usual_splits(tmp_path: Path) -> None:
    task = replace(PNEUMONIA, layout=None)
    lay_out(tmp_path, PNEUMONIA)
    assert locate(task, tmp_path).measured == tmp_path / "test"


def test_a_folder_that_is_named_twice_is_still_the_class(tmp_path: Path) -> None:
    """``PNEUMONIA`` is also the task's name, so that folder may seem to be a set."""
    for label in PNEUMONIA.labels:
        picture(tmp_path / label / label / "a.png", 0)
    assert locate(PNEUMONIA, tmp_path) == Located(tmp_path)


def test_a_folder_that_the_map_leaves_out_is_no_class(tmp_path: Path) -> None:
    picture(lay_out(tmp_path / "chest_xray", PNEUMONIA) / "extra/a.png", 0)
    picture(tmp_path / "junk/a.png", 1)
    labels = Labels.of(PNEUMONIA, {"extra": "", "junk": ""})
    for root in (tmp_path, tmp_path / "chest_xray"):
        found = locate(PNEUMONIA, root, labels)
        assert found == locate(PNEUMONIA, root)
        assert found.splits


@pytest.mark.parametrize("place", ["PNEUMONIA", "test"])
def test_a_broken_link_in_place_of_a_class_or_a_split_is_refused(
    tmp_path: Path, place: str
) -> None:
    picture(tmp_path / "NORMAL/a.png", 0)
    (tmp_path / place).symlink_to("nowhere")
    assert f"{place} is a link that leads nowhere" in refusal(PNEUMONIA, tmp_path)


def test_training_takes_the_data_that_a_measurement_takes(tmp_path: Path) -> None:
    for name in ("chest_xray", "pneumonia"):
        lay_out(tmp_path / name, PNEUMONIA)
    with pytest.raises(DatasetLayoutError, match="name one of them"):
        locate_dataset(PNEUMONIA, tmp_path)
    picture(tmp_path / "pneumonia/NORMAL/a.png", 0)
    with pytest.raises(DatasetLayoutError, match="beside the splits"):
        locate_dataset(PNEUMONIA, tmp_path / "pneumonia")
