"""``task.toml``: what a person can write into it, and what is said of what is wrong."""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medkit.errors import ContractMismatchError, MissingExtraError, ModelFileError
from medkit.images.contract import RULES, InputContract
from medkit.tasks import DatasetLayout, Task, TaskNotes, read_task, task_file, write_task

FUNDUS = Task(
    name="fundus",
    title="three grades of retinopathy",
    labels=("none", "mild", "severe"),
    contract=InputContract(width=224, height=192, channels=3),
    positive=None,
    alert="severe",
)

TEXT = """
name = "fundus"
title = "three grades of retinopathy"
labels = ["none", "mild", "severe"]
alert = "severe"

[input]
width = 224
height = 192
colours = "rgb"
"""


def written(trained: Path, text: str | bytes, name: str = "task.toml") -> Path:
    """Write the description of the folder ``fundus``; return its path."""
    folder = trained / "fundus"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def as_json(task: Task = FUNDUS, **changes: Any) -> str:
    return json.dumps({**task.to_dict(), **changes})


def test_a_task_is_read_as_a_person_writes_it(tmp_path: Path) -> None:
    assert read_task(written(tmp_path, TEXT)) == FUNDUS


def test_a_file_with_the_mark_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    text = TEXT.replace("\n", "\r\n").encode("utf-8-sig")
    assert read_task(written(tmp_path, text)) == FUNDUS


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"labels": ("kein Befund", "Röntgen"), "positive": "Röntgen", "alert": "Röntgen"},
        {"contract": InputContract(width=32, height=1024, channels=1)},
        {"contract": InputContract(64, 64, 3, colour=RULES["colour"][1])},
        {"screening_sensitivity": 0.9, "title": 'with "quotes" and \\'},
        {
            "layout": DatasetLayout("Training", "Test", ("APTOS", "aptos 2019"), "Kaggle"),
            "notes": TaskNotes(misuse="children", traps=("one", "two")),
        },
        {"layout": DatasetLayout("a", "b", (), "")},
        {"multi_label": True},
        {"multi_label": True, "alert": ""},
    ],
)
def test_a_task_that_is_written_is_read_again(tmp_path: Path, changes: dict[str, Any]) -> None:
    task = replace(FUNDUS, **changes)
    (tmp_path / "fundus").mkdir()
    assert read_task(write_task(tmp_path / "fundus", task)) == task


def test_what_has_its_default_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "fundus").mkdir()
    path = write_task(tmp_path / "fundus", FUNDUS)
    assert path == tmp_path / "fundus/task.toml"
    assert tomllib.loads(path.read_text()) == tomllib.loads(TEXT)
    assert list(tomllib.loads(path.read_text())) == ["name", "title", "labels", "alert", "input"]


def test_writing_needs_an_extra_that_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tomli_w", None)
    with pytest.raises(MissingExtraError, match=r'tomli-w .* "medkit-edge\[train\]"'):
        write_task(tmp_path, FUNDUS)
    assert not list(tmp_path.iterdir())


def test_the_older_form_is_still_read(tmp_path: Path) -> None:
    assert read_task(written(tmp_path, as_json(), "task.json")) == FUNDUS


def test_a_folder_with_both_forms_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT)
    assert task_file(path.parent) == path
    written(tmp_path, as_json(), "task.json")
    with pytest.raises(ModelFileError, match=r"fundus holds task.toml and task.json, .*; remove"):
        task_file(path.parent)


def test_a_hash_is_not_needed_and_must_match(tmp_path: Path) -> None:
    given = f'{TEXT}hash = "{FUNDUS.contract.hash}"\n'
    assert read_task(written(tmp_path, given)) == FUNDUS
    wrong = written(tmp_path, given.replace("width = 224", "width = 225"))
    with pytest.raises(ModelFileError, match=f"input.hash is '{FUNDUS.contract.hash}', and that"):
        read_task(wrong)


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('title = "', 'titel = "', "unknown field 'titel'; did you mean title. accepted: name, "),
        ("width", "widht", r"unknown field 'widht' for \[input\]; did you mean width. accepted:"),
        ("colours", "colors", r"unknown field 'colors' for \[input\]; did you mean colours\?"),
        ("[input]", "[notes]\ntrap = 1\n[input]", r"unknown field 'trap' for \[notes\]; did you"),
        ('alert = "severe"', "", "has no field alert; add it"),
        ("[input]", "[notes]", "unknown field 'width' for .notes.; accepted: misuse"),
        (TEXT[TEXT.index("[input]") :], "", r"has no table \[input\]; add it, with width, height"),
        (TEXT[TEXT.index("[input]") :], "input = 3", r"has no table \[input\]; add it, with"),
        ("height = 192", "", "has no field input.height; accepted: whole numbers from 32 to 1,024"),
        ("192", "31", "input.height is 31; accepted: whole numbers from 32 to 1,024"),
        ("224", "1025", "input.width is 1025; accepted: whole numbers from 32 to 1,024"),
        ("224", "224.0", "input.width is 224.0; accepted: whole numbers from 32 to 1,024"),
        ("224", "true", "input.width is True; accepted: whole numbers from 32 to 1,024"),
        ('"rgb"', '"rgba"', "input.colours is 'rgba'; accepted: 'grey' or 'rgb'"),
        ('"rgb"', "4", "input.colours is 4; accepted: 'grey' or 'rgb'"),
        ('"rgb"', '["rgb"]', "input.colours is .'rgb'.; accepted: 'grey' or 'rgb'"),
        ('"rgb"', '"rgb"\nresize = "crop"', "input.resize is 'crop'; accepted: 'squash:pillow"),
        ('"mild"', '"severe"', "labels holds 'severe' twice"),
        ('"mild"', '"mi;ld"', "labels holds 'mi;ld'; accepted: printable characters without"),
        ('"mild"', '"mi\\nld"', r"labels holds 'mi\\nld'; accepted: printable characters without"),
        ('"mild"', "7", r"labels\[1\] is 7, not a text"),
        ('["none", "mild", "severe"]', '"none"', "labels is 'none', not a list"),
        ('alert = "severe"', 'alert = "deadly"', "alert is 'deadly'; accepted: one of .'none'"),
        ('alert = "severe"', "alert = 3", "alert is 3, not a text"),
        ('name = "fundus"', 'name = "con"', "name is 'con', which no folder on Windows can have"),
        ('name = "fundus"', 'name = "other"', "name is 'other'; accepted: 'fundus', the name of"),
        ('name = "fundus"', 'name = "Skin"', "name is 'Skin'; accepted: up to 64 small letters"),
        ('"three', "three", "is no TOML .*line 3"),
        ('alert = "severe"', "multi_label = false", "has no field alert; add it"),
        ("labels =", 'multi_label = "yes"\nlabels =', "multi_label is 'yes', not true or false"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_file_field_and_what_is_accepted(
    tmp_path: Path, before: str, after: str, problem: str
) -> None:
    assert before in TEXT
    path = written(tmp_path, TEXT.replace(before, after, 1))
    with pytest.raises(ModelFileError, match=problem) as caught:
        read_task(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="task.toml is no UTF-8 text"):
        read_task(written(tmp_path, TEXT.encode("utf-16")))
    with pytest.raises(ModelFileError, match="task.toml cannot be read"):
        read_task(tmp_path / "nothing/task.toml")
    deep = TEXT.replace("[input]", f"[input]\nx = {'[' * 10_000}{']' * 10_000}")
    with pytest.raises(ModelFileError, match="task.toml is no TOML"):
        read_task(written(tmp_path, deep))


def test_the_name_of_a_built_in_task_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT.replace('name = "fundus"', 'name = "skin"'))
    path.parent.rename(tmp_path / "skin")
    with pytest.raises(ModelFileError, match="name is 'skin', and the task skin is built in"):
        read_task(tmp_path / "skin/task.toml")


def test_a_link_may_have_another_name_than_the_folder_that_it_leads_to(tmp_path: Path) -> None:
    written(tmp_path, TEXT).parent.rename(tmp_path / "fundus-v3")
    (tmp_path / "fundus").symlink_to(tmp_path / "fundus-v3")
    assert read_task(tmp_path / "fundus/task.toml") == FUNDUS


def test_a_file_is_read_from_the_folder_that_it_lies_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(written(tmp_path, TEXT).parent)
    assert read_task(Path("task.toml")) == FUNDUS


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"labels": ["one"]}, r"labels is \['one'\]; accepted: two or more different ones"),
        ({"labels": ["a", "a", "severe"]}, "labels holds 'a' twice"),
        ({"labels": "none"}, "labels is 'none', not a list"),
        ({"alert": "deadly"}, "alert is 'deadly'; accepted: one of"),
        ({"positive": "mild"}, "positive is 'mild'; accepted: none of 3 labels"),
        ({"screening_sensitivity": 1.5}, "accepted: above 0, up to 1"),
        ({"title": 7}, "title is 7, not a text"),
        ({"name": "../x"}, "name is '../x'; accepted"),
        ({"screening_sensitivity": 10**400}, "screening_sensitivity is 1000.*, which is too large"),
        ({"name": "other"}, "name is 'other'; accepted: 'fundus', the name of its folder"),
    ],
)
def test_what_is_wrong_in_the_older_form_is_said_in_one_line_as_well(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    path = written(tmp_path, as_json(**changes), "task.json")
    with pytest.raises(ModelFileError, match=problem) as caught:
        read_task(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_task_of_other_preprocessing_is_refused(tmp_path: Path) -> None:
    contract = replace(FUNDUS.contract, resize="crop")
    text = as_json(replace(FUNDUS, contract=contract))
    with pytest.raises(ContractMismatchError, match="resize 'crop' instead of"):
        read_task(written(tmp_path, text, "task.json"))
