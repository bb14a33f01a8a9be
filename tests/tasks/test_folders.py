"""Where tasks are looked for, and which folder wins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from medkit.errors import ModelFileError, UsageError
from medkit.images.contract import InputContract
from medkit.tasks import (
    PNEUMONIA,
    SKIN,
    Task,
    as_task,
    folder_of,
    folders_of_models,
    get_task,
    known_tasks,
    own_tasks,
    shipped_folder,
    user_folder,
    write_task,
)

FUNDUS = Task(
    name="fundus",
    title="three grades of retinopathy",
    labels=("none", "mild", "severe"),
    contract=InputContract(width=224, height=192, channels=3),
    positive=None,
    alert="severe",
)


def described(trained: Path, title: str = FUNDUS.title) -> Path:
    """Describe the task in a folder of models; return the task's folder."""
    folder = trained / FUNDUS.name
    folder.mkdir(parents=True, exist_ok=True)
    write_task(folder, replace(FUNDUS, title=title))
    return folder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the user's folder of models, and name no other."""
    monkeypatch.delenv("MEDKIT_TRAINED", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home/medkit/models"


def test_a_folder_of_models_brings_its_tasks(tmp_path: Path) -> None:
    described(tmp_path)
    assert list(known_tasks(tmp_path)) == ["fundus", "pneumonia", "skin"]
    assert get_task("fundus", tmp_path) == FUNDUS
    assert get_task("skin", tmp_path) is SKIN
    assert as_task("fundus", tmp_path) == FUNDUS
    assert as_task(FUNDUS) is FUNDUS


def test_an_unknown_task_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    described(tmp_path)
    with pytest.raises(UsageError) as caught:
        get_task("brain", tmp_path)
    assert str(caught.value) == "unknown task 'brain'; accepted: fundus, pneumonia, skin"


def test_a_neighbour_that_cannot_be_read_keeps_no_task_from_being_used(tmp_path: Path) -> None:
    described(tmp_path)
    for name, file in (("broken", "task.json"), ("torn", "task.toml")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{")
    assert get_task("skin", tmp_path) is SKIN
    assert get_task("fundus", tmp_path) == FUNDUS
    with pytest.raises(UsageError, match="accepted: broken, fundus, torn, pneumonia, skin"):
        get_task("retina", tmp_path)


def test_the_folder_of_the_user_is_looked_into_besides(own: Path) -> None:
    assert user_folder() == own
    assert folders_of_models() == (shipped_folder(), own)
    folder = described(own)
    assert get_task("fundus") == FUNDUS
    assert folder_of("fundus") == folder
    assert own_tasks() == {"fundus": (folder,)}


def test_a_folder_that_is_named_for_a_call_is_the_only_one(own: Path, tmp_path: Path) -> None:
    described(own)
    folder = described(tmp_path / "mine", "another")
    assert get_task("fundus", tmp_path / "mine").title == "another"
    assert folder_of("fundus", tmp_path / "mine") == folder
    with pytest.raises(UsageError, match="unknown task 'fundus'; accepted: pneumonia, skin$"):
        get_task("fundus", tmp_path / "empty")


def test_a_task_in_the_folder_of_the_environment_and_in_the_users_is_never_chosen_silently(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described(own)
    described(tmp_path / "mine")
    monkeypatch.setenv("MEDKIT_TRAINED", str(tmp_path / "mine"))
    message = rf"task fundus lies in {tmp_path / 'mine'} and in {own}; name one .* --trained$"
    for ask in (get_task, folder_of):
        with pytest.raises(ModelFileError, match=message):
            ask("fundus")
    monkeypatch.setenv("MEDKIT_TRAINED", str(own))
    assert get_task("fundus") == FUNDUS


def test_the_models_of_built_in_tasks_never_come_from_the_users_folder(own: Path) -> None:
    (own / "skin").mkdir(parents=True)
    assert folder_of("skin") == shipped_folder() / "skin"
    assert folder_of(PNEUMONIA.name) == shipped_folder() / "pneumonia"
