"""Every command and function takes a task that is not built in, found in a folder of models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medkit
from commandruns import read_csv, run
from medkit.tasks import Task
from owntasks import OWN

pytest.importorskip("keras")

BOTH = pytest.mark.parametrize("task", OWN, ids=lambda task: task.name)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's environment out."""
    for name in ("MEDKIT_DATA", "MEDKIT_TRAINED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Make a set for each task, with four images for each label."""
    rng = np.random.default_rng(0)
    for task in OWN:
        for index, label in enumerate(task.labels):
            folder = tmp_path / "data" / task.name / label
            folder.mkdir(parents=True)
            for number in range(4):
                base = np.full((50, 70, 3), 20 + 200 * index / len(task.labels))
                base[..., 0] += 10 * (index % 3)
                noise = rng.normal(0, 10, base.shape)
                pixels = np.clip(base + noise, 0, 255).astype(np.uint8)
                kept = pixels if task.channels == 3 else pixels[..., 1]
                Image.fromarray(kept).save(folder / f"{number}.png")
    return tmp_path / "data"


@BOTH
def test_a_run_with_a_task_has_its_columns_only_whatever_else_the_folder_holds(
    own_models: Path, labelled: Path, tmp_path: Path, task: Task
) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(own_models / task.name, alone / task.name)
    images = labelled / task.name
    asked = ["classify", images, "--task", task.name, "--runtime", "onnx"]
    for folder, out in ((own_models, "all.csv"), (alone, "alone.csv")):
        done = run(*asked, "--trained", folder, "--out", tmp_path / out)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    rows = read_csv((tmp_path / "all.csv").read_text())
    names = [f"p_{label.replace(' ', '_')}" for label in task.labels]
    columns = ["path", "status", "task", "label", "confidence", *names, "error", "notes"]
    assert list(rows[0]) == columns
    assert {row["status"] for row in rows} == {"ok"}
    assert len(rows) == 4 * len(task.labels)


@BOTH
def test_a_task_in_the_users_folder_is_found_by_its_name(
    own_models: Path,
    labelled: Path,
    tmp_path: Path,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    shutil.copytree(own_models, tmp_path / "home/medkit/models")
    done = run("classify", labelled / task.name, "--task", task.name, "--out", tmp_path / "o.csv")
    assert done.exit_code == 0, done.output
    assert "model-fp32.tflite on LiteRT" in done.stderr


@BOTH
def test_evaluate_report_and_parity_take_it(
    own_models: Path, labelled: Path, tmp_path: Path, task: Task
) -> None:
    common = [task.name, "--data", labelled, "--trained", own_models]
    done = run("evaluate", *common, "--precision", "fp32", "--json", tmp_path / "e.json")
    assert done.exit_code == 0, done.output
    (measured,) = json.loads((tmp_path / "e.json").read_text())
    assert measured["figures"]["images"] == 4 * len(task.labels)
    done = run("parity", *common)
    assert done.exit_code == 0, done.output
    assert "pass model-fp32.onnx on ONNX Runtime" in done.stdout
    done = run("report", *common, "--out", tmp_path / "r.html")
    assert done.exit_code == 0, done.output
    assert f"<h1>{task.name.capitalize()}</h1>" in (tmp_path / "r.html").read_text()


@BOTH
def test_export_inspect_audit_and_benchmark_take_it(
    own_models: Path, labelled: Path, tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medkit.benchmark.run._INFERENCE_SECONDS", 0.02)
    mine = tmp_path / "mine"
    shutil.copytree(own_models, mine)
    done = run("export", task.name, "--fp16", "--format", "tflite", "--trained", mine)
    assert done.exit_code == 0, done.output
    done = run("inspect", mine / task.name / "model-fp16.tflite")
    assert done.exit_code == 0, done.output
    assert f"task        {task.name}" in done.stdout
    images = labelled / task.name
    done = run("audit", images, "--task", task.name, "--trained", mine)
    assert str(4 * len(task.labels)) in done.stdout
    assert done.exit_code == 0, done.output
    asked = ["--task", task.name, "--trained", mine, "--repeats", "1"]
    done = run("benchmark", images, *asked, "--json", tmp_path / "b.json")
    assert done.exit_code == 0, done.output
    assert "no export has passed parity on data, so every one is measured" in done.stderr
    measured = json.loads((tmp_path / "b.json").read_text())
    assert measured["task"] == task.name
    assert "model-fp16.tflite" in {result["file"] for result in measured["results"]}


@BOTH
def test_the_functions_take_it(
    own_models: Path, labelled: Path, tmp_path: Path, task: Task
) -> None:
    assert medkit.get_task(task.name, own_models) == task
    assert task in [listed.task for listed in medkit.list_tasks(own_models).tasks]
    asked = medkit.ClassifyOptions((labelled / task.name,), task=task.name, trained=own_models)
    assert {row.task for row in medkit.predict_paths(asked)} == {task.name}
    evaluation = medkit.evaluate_folder(
        medkit.EvaluateOptions(task.name, labelled, precision="fp32", trained=own_models)
    )
    assert evaluation.task == task
    model = own_models / task.name / "model-fp32.onnx"
    by_file = medkit.EvaluateOptions(task.name, labelled, model=model, trained=own_models)
    assert medkit.evaluate_folder(by_file).figures.images == evaluation.figures.images
    parity = medkit.check_parity(
        medkit.ParityOptions((task.name,), data=labelled, trained=own_models)
    )
    assert {found.task for found in parity.comparisons} == {task.name}
    out = tmp_path / "r.html"
    medkit.write_report(medkit.ReportOptions(task.name, out, trained=own_models))
    assert f"<h1>{task.name.capitalize()}</h1>" in out.read_text()


def test_a_model_file_is_used_beside_its_task_or_with_the_folder_that_has_it(
    own_models: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = labelled / "hues"
    lone = shutil.copy(own_models / "hues/model-fp32.tflite", tmp_path / "lone.tflite")
    asked = ["classify", images, "--out", "-", "--model"]
    done = run(*asked, lone)
    assert done.exit_code == 1
    assert "is not known here" in done.stderr
    assert "put its task.toml beside it" in done.stderr
    done = run(*asked, lone, "--trained", own_models)
    assert done.exit_code == 0, done.output
    monkeypatch.chdir(own_models / "hues")
    done = run(*asked, "model-fp32.tflite")
    assert done.exit_code == 0, done.output


def test_auto_asks_for_a_name_where_there_are_other_tasks_only(
    own_models: Path, labelled: Path, tmp_path: Path
) -> None:
    message = (
        f"medkit: error: the task auto chooses between pneumonia and skin, and {own_models} holds "
        "no models of these; name the task with --task: brightness, hues\n"
    )
    images = labelled / "hues"
    for asked in (["classify", images, "--out", tmp_path / "o.csv"], ["benchmark", images]):
        done = run(*asked, "--trained", own_models)
        assert done.exit_code == 2
        assert done.stderr.endswith(message)
    assert not (tmp_path / "o.csv").exists()


def test_auto_chooses_as_before_beside_other_tasks_and_says_which_it_does_not_choose(
    own_models: Path, pooled_models: Path, labelled: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both"
    shutil.copytree(pooled_models, both)
    asked = ["classify", labelled / "brightness", "--out"]
    usual = run(*asked, tmp_path / "usual.csv", "--trained", both)
    assert usual.exit_code == 0, usual.output
    assert "colour does not choose" not in usual.stderr
    shutil.copytree(own_models, both, dirs_exist_ok=True)
    done = run(*asked, tmp_path / "o.csv", "--trained", both)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "usual.csv").read_bytes()
    assert "colour does not choose brightness or hues: name these with --task" in done.stderr
    named = run(*asked, tmp_path / "n.csv", "--trained", both, "--task", "brightness")
    assert "colour does not choose" not in named.stderr
    shutil.rmtree(both / "skin")
    torn = run(*asked, tmp_path / "t.csv", "--trained", both)
    assert torn.exit_code == 1
    assert "no trained skin model" in torn.stderr
    assert torn.stderr.endswith("; or name another task with --task: brightness, hues\n")


def test_measuring_without_a_name_tells_the_tasks_that_can_be_named(
    own_models: Path, labelled: Path
) -> None:
    for command in ("evaluate", "parity"):
        done = run(command, "--data", labelled / "hues", "--trained", own_models)
        assert done.exit_code == 2
        assert done.stderr.endswith("; or name another task: brightness, hues\n")


def test_a_precision_that_is_not_there_is_answered_with_the_files_that_are(
    own_models: Path, labelled: Path
) -> None:
    done = run("evaluate", "hues", "--data", labelled, "--trained", own_models)
    assert done.exit_code == 1
    assert "model-int8.tflite; there is model-fp32.tflite; make it with: medkit" in done.stderr
