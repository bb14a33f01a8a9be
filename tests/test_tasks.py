"""Tasks: the built-in ones, and those that a folder of models describes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medkit.errors import ContractMismatchError, ModelFileError, UsageError
from medkit.images.contract import InputContract
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task, get_task, known_tasks

FUNDUS = Task(
    name="fundus",
    title="three grades of retinopathy",
    labels=("none", "mild", "severe"),
    contract=InputContract(width=224, height=192, channels=3),
    positive=None,
    alert="severe",
)


def described(trained: Path, task: Task = FUNDUS, **changes: Any) -> Path:
    folder = trained / FUNDUS.name
    folder.mkdir(parents=True, exist_ok=True)
    stored = {**json.loads(json.dumps(task.to_dict())), **changes}
    (folder / "task.json").write_text(json.dumps(stored))
    return folder / "task.json"


def test_a_folder_of_models_brings_its_tasks(tmp_path: Path) -> None:
    described(tmp_path)
    assert list(known_tasks(tmp_path)) == ["fundus", "pneumonia", "skin"]
    assert get_task("fundus", tmp_path) == FUNDUS
    assert get_task("skin", tmp_path) is SKIN


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_survives_json(task: Task) -> None:
    assert Task.from_dict(json.loads(json.dumps(task.to_dict())), "task.json") == task


def test_an_unknown_task_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    described(tmp_path)
    with pytest.raises(UsageError) as caught:
        get_task("brain", tmp_path)
    assert str(caught.value) == "unknown task 'brain'; accepted: fundus, pneumonia, skin"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"labels": ["one"]}, r"labels \['one'\]; accepted: two or more different ones"),
        ({"labels": ["a", "a", "severe"]}, "accepted: two or more different ones"),
        ({"labels": "none"}, "labels is 'none', not a list"),
        ({"alert": "deadly"}, "alert 'deadly' is not one of the labels"),
        ({"positive": "mild"}, "positive 'mild'; accepted: the second of two labels, or null"),
        ({"screening_sensitivity": 1.5}, "accepted: above 0, up to 1"),
        ({"title": 7}, "title is 7, not a text"),
        ({"name": "../x"}, "name '../x' is not accepted"),
        ({"name": "auto"}, "name 'auto' is not accepted"),
        ({"screening_sensitivity": 10**400}, "screening_sensitivity is 1000.*, which is too large"),
        ({"labels": ["a b", "a_b"]}, "accepted: two or more different ones"),
        ({"labels": ["a", ""]}, "label ''; accepted: printable characters"),
        ({"labels": ["a", "b\nc"]}, "label 'b.*c'; accepted: printable characters"),
        ({"labels": ["a", "b/c"]}, "label 'b/c'; accepted: printable characters without /"),
        ({"name": "other"}, "describes the task 'other'; name it as its folder"),
    ],
)
def test_what_is_wrong_with_a_described_task_is_said_in_one_line(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    path = described(tmp_path, **changes)
    with pytest.raises(ModelFileError, match=problem) as caught:
        known_tasks(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_neighbour_that_cannot_be_read_keeps_no_task_from_being_used(tmp_path: Path) -> None:
    described(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/task.json").write_text("{")
    assert get_task("skin", tmp_path) is SKIN
    assert get_task("fundus", tmp_path) == FUNDUS
    with pytest.raises(UsageError, match="accepted: broken, fundus, pneumonia, skin"):
        get_task("retina", tmp_path)


def test_a_task_of_other_preprocessing_is_refused(tmp_path: Path) -> None:
    contract = replace(FUNDUS.contract, resize="crop")
    described(tmp_path, replace(FUNDUS, contract=contract))
    with pytest.raises(ContractMismatchError, match="resize 'crop' instead of"):
        known_tasks(tmp_path)


def test_a_task_without_published_data_says_what_it_takes_instead() -> None:
    assert PNEUMONIA.published.train == "train"
    with pytest.raises(UsageError, match="task fundus has no published data set .* 'severe'"):
        _ = FUNDUS.published
