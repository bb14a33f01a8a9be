"""The list of tasks: what there is, from the files alone, and what cannot be used."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bundles import bundle_of
from mademanifests import made
from medkit.errors import UsageError
from medkit.models.catalogue import list_tasks, write_catalogue
from medkit.tasks import PNEUMONIA, SKIN, shipped_folder, write_task
from owntasks import OWN

HUES, BRIGHTNESS = OWN


def own_bundle(trained: Path, task: object = HUES) -> Path:
    assert task in OWN
    folder = bundle_of(trained, task)
    write_task(folder, task)
    return folder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the user's folder of models, and name no other."""
    monkeypatch.delenv("MEDKIT_TRAINED", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home/medkit/models"


def test_what_ships_is_listed_with_its_figures(own: Path) -> None:
    found = list_tasks()
    assert found.problems == ()
    assert found.folders == (shipped_folder(), own)
    assert [task.task for task in found.tasks] == [PNEUMONIA, SKIN]
    first = found.tasks[0]
    assert first.built_in
    assert first.folder == shipped_folder() / "pneumonia"
    assert {file.precision for file in first.files} >= {"int8"}
    assert first.split == "test"
    assert first.figures is not None
    assert first.figures.images == 624


def test_own_tasks_are_listed_behind_the_built_in_ones(tmp_path: Path) -> None:
    for task in (BRIGHTNESS, HUES):
        own_bundle(tmp_path, task)
    bundle_of(tmp_path, SKIN)
    found = list_tasks(tmp_path)
    assert found.problems == ()
    assert [task.task for task in found.tasks] == [SKIN, BRIGHTNESS, HUES]
    assert [task.built_in for task in found.tasks] == [True, False, False]
    assert [file.name for file in found.tasks[2].files] == [
        "model.keras",
        "model-int8.tflite",
        "model-int8.onnx",
    ]
    assert found.tasks[2].figures is None
    assert found.tasks[2].split == ""


def test_json_has_every_label_and_the_figures(tmp_path: Path) -> None:
    manifest = made(SKIN)
    bundle_of(tmp_path, SKIN, metrics=manifest["metrics"])
    own_bundle(tmp_path)
    write_catalogue(list_tasks(tmp_path), tmp_path / "o.json")
    skin, hues = json.loads((tmp_path / "o.json").read_text())["tasks"]
    figures = manifest["metrics"]["test"]["balanced"]
    assert skin["figures"] == {
        "split": "test",
        "images": figures["images"],
        "accuracy": figures["accuracy"],
        "auc": figures["auc"],
    }
    assert skin["built_in"]
    assert hues["labels"] == list(HUES.labels)
    assert (hues["input"]["width"], hues["input"]["height"]) == (96, 64)
    assert hues["folder"] == str(tmp_path / "hues")
    assert hues["figures"] is None


def test_validation_figures_stand_in_for_a_test_split(tmp_path: Path) -> None:
    metrics = made(SKIN)["metrics"]
    bundle_of(tmp_path, SKIN, metrics={"validation": metrics["test"]})
    (task,) = list_tasks(tmp_path).tasks
    assert task.split == "validation"
    assert task.figures is not None


def test_a_task_without_models_is_listed_without_files(tmp_path: Path) -> None:
    (tmp_path / "hues").mkdir()
    write_task(tmp_path / "hues", HUES)
    found = list_tasks(tmp_path)
    assert found.problems == ()
    assert found.tasks[0].files == ()
    assert found.tasks[0].contract == HUES.contract


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("manifest.json", "manifest.json cannot be read as a manifest"),
        ("task.toml", "task.toml is no TOML"),
        ("task.json", "hues holds task.toml and task.json"),
        ("model-int8.onnx", "model-int8.onnx is damaged or was replaced: manifest.json gives it"),
    ],
)
def test_what_cannot_be_used_is_a_line_and_hides_no_neighbour(
    tmp_path: Path, name: str, problem: str
) -> None:
    own_bundle(tmp_path, BRIGHTNESS)
    (own_bundle(tmp_path) / name).write_text("{")
    found = list_tasks(tmp_path)
    (told,) = found.problems
    assert problem in told
    assert "\n" not in told
    assert found.tasks[0].task == BRIGHTNESS


def test_a_file_that_is_missing_is_told_but_for_an_original(tmp_path: Path) -> None:
    folder = own_bundle(tmp_path)
    (folder / "model.keras").unlink()  # a wheel holds none
    assert list_tasks(tmp_path).problems == ()
    (folder / "model-int8.tflite").unlink()
    (told,) = list_tasks(tmp_path).problems
    assert told.startswith(f"{folder / 'model-int8.tflite'} is missing, though manifest.json")


def test_models_without_a_description_are_told(tmp_path: Path) -> None:
    folder = own_bundle(tmp_path)
    (folder / "task.toml").unlink()
    found = list_tasks(tmp_path)
    assert found.tasks == ()
    (told,) = found.problems
    assert told.startswith(f"{folder} holds models, and no task.toml that says what they decide")


def test_a_description_that_does_not_fit_its_models_is_told(tmp_path: Path) -> None:
    folder = own_bundle(tmp_path)
    write_task(folder, replace(HUES, contract=replace(HUES.contract, width=100)))
    (told,) = list_tasks(tmp_path).problems
    assert "its task has width 100, and its models were made for 96" in told


def test_a_task_in_two_folders_is_told(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_bundle(tmp_path / "mine")
    own_bundle(own)
    monkeypatch.setenv("MEDKIT_TRAINED", str(tmp_path / "mine"))
    found = list_tasks()
    assert [task.folder.parent for task in found.tasks] == [tmp_path / "mine", own]
    assert found.problems == (
        f"the task hues lies in {tmp_path / 'mine'} and in {own}; name one of them with --trained",
    )
    assert list_tasks(own).problems == ()


def test_models_of_a_built_in_task_in_the_users_folder_are_told_to_be_unused(own: Path) -> None:
    bundle_of(own, SKIN)
    (told,) = list_tasks().problems
    assert told.startswith(f"{own / 'skin'} is not used: the models of the built-in task skin are")


def test_no_model_file_is_read(tmp_path: Path) -> None:
    folder = own_bundle(tmp_path)
    for path in folder.glob("model*"):
        path.write_bytes(b"x" * path.stat().st_size)
    assert list_tasks(tmp_path).problems == ()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere is no folder; name one with a folder for each"):
        list_tasks(tmp_path / "nowhere")
    shutil.copy(__file__, tmp_path / "file")
    with pytest.raises(UsageError, match="file is no folder"):
        list_tasks(tmp_path / "file")
