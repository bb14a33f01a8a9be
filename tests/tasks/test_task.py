"""What a task may be: its name, its labels, and what it says of its data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from medkit.errors import UsageError
from medkit.images.contract import InputContract
from medkit.tasks import PNEUMONIA, TASKS, Task

FUNDUS = Task(
    name="fundus",
    title="three grades of retinopathy",
    labels=("none", "mild", "severe"),
    contract=InputContract(width=224, height=192, channels=3),
    positive=None,
    alert="severe",
)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_survives_json(task: Task) -> None:
    assert Task.from_dict(json.loads(json.dumps(task.to_dict())), "task.json") == task


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "../x"}, r"name is '\.\./x'; accepted: up to 64 small letters, digits, - and _"),
        ({"name": "x."}, "name is 'x.'; accepted: up to 64 small letters"),
        ({"name": "x "}, "name is 'x '; accepted: up to 64 small letters"),
        ({"name": r"x\y"}, "accepted: up to 64 small letters"),
        ({"name": "Skin"}, "name is 'Skin'; accepted: up to 64 small letters"),
        ({"name": ""}, "name is ''; accepted: up to 64 small letters"),
        ({"name": "x" * 65}, "accepted: up to 64 small letters"),
        ({"name": "auto"}, "name is 'auto', the word for a choice by colour"),
        ({"name": "con"}, "name is 'con', which no folder on Windows can have"),
        ({"name": "lpt1"}, "name is 'lpt1', which no folder on Windows can have"),
        ({"title": " "}, "title is ' '; accepted: one line of printable characters"),
        ({"title": "a\nb"}, r"title is 'a\\nb'; accepted: one line of printable characters"),
        ({"labels": ("one",), "alert": "one"}, r"labels is \['one'\]; accepted: two or more"),
        ({"labels": (), "alert": "one"}, r"labels is \[\]; accepted: two or more"),
        ({"labels": ("a", "a", "severe")}, "labels holds 'a' twice"),
        ({"labels": ("a b", "a_b")}, "labels holds 'a b' and 'a_b', which one class folder"),
        ({"labels": ("Mild", "mild")}, "labels holds 'Mild' and 'mild', which one class folder"),
        ({"labels": ("\u00e9", "e\u0301")}, "which one class folder or column would stand for"),
        ({"labels": ("a", "")}, "labels holds ''; accepted: texts that are not empty"),
        ({"labels": ("a", " b")}, "labels holds ' b'; accepted: texts that are not empty"),
        ({"labels": ("a", "b\nc")}, r"labels holds 'b\\nc'; accepted: printable characters"),
        ({"labels": ("a", "b\x07")}, "accepted: printable characters without / and ;"),
        ({"labels": ("a", "b/c")}, "labels holds 'b/c'; accepted: printable characters without /"),
        ({"labels": ("a", "b;c")}, "labels holds 'b;c'; accepted: printable characters without /"),
        ({"labels": ("a", "..")}, "labels holds '..'; .* and no dot first"),
        ({"alert": "deadly"}, "alert is 'deadly'; accepted: one of .'none', 'mild', 'severe'"),
        ({"positive": "mild"}, "positive is 'mild'; accepted: none of 3 labels"),
        (
            {"labels": ("no", "yes"), "alert": "yes", "positive": "no"},
            "positive is 'no'; accepted: 'yes', the second of 2 labels",
        ),
        ({"screening_sensitivity": 1.5}, "screening_sensitivity is 1.5; accepted: above 0, up to"),
        ({"alert": ""}, "alert is ''; accepted: one of .'none'"),
        ({"multi_label": True, "alert": "deadly"}, "alert is 'deadly'; accepted: one of .'none'"),
        (
            {"labels": ("a", "b"), "alert": "b", "positive": "b", "multi_label": True},
            "positive is 'b'; accepted: none in a multi-label task",
        ),
    ],
)
def test_what_no_task_can_be_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        replace(FUNDUS, **changes)
    assert "\n" not in str(caught.value)


def test_a_task_without_published_data_says_what_it_takes_instead() -> None:
    assert PNEUMONIA.published.train == "train"
    with pytest.raises(UsageError, match="task fundus has no published data set .* 'severe'"):
        _ = FUNDUS.published
