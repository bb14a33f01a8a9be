"""``medkit tasks``: the table, the JSON, and what cannot be used."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bundles import bundle_of
from commandruns import call, run
from mademanifests import made
from medkit.tasks import SKIN, write_task
from owntasks import OWN

HUES, BRIGHTNESS = OWN


def written(trained: Path) -> Path:
    """Write bundles of a built-in task and of two others, whose files are no models."""
    bundle_of(trained, SKIN, metrics=made(SKIN)["metrics"])
    for task in OWN:
        write_task(bundle_of(trained, task), task)
    return trained


def test_the_table_has_a_row_for_each_task(tmp_path: Path) -> None:
    done = run("tasks", "--trained", written(tmp_path))
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()]
    figures = made(SKIN)["metrics"]["test"]["balanced"]
    measured = [f"{figures['accuracy']:.3f}", f"{figures['auc']:.3f}", "test"]
    assert rows[0] == ["named:", str(tmp_path)]
    assert rows[3:] == [
        ["skin", "128x128", "RGB", "9", "int8", "original", *measured],
        ["brightness", "64x64", "grey", "2", "int8", "original", "-", "-", "-"],
        ["hues", "96x64", "RGB", "9", "int8", "original", "-", "-", "-"],
    ]


def test_the_table_of_what_ships_fits_a_terminal() -> None:
    done = run("tasks")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("shipped: ")
    assert "your own: " in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if ": " not in line)


def test_json_goes_alone_to_standard_output(tmp_path: Path) -> None:
    done = run("tasks", "--trained", written(tmp_path), "--json", "-")
    found = json.loads(done.stdout)
    assert [task["name"] for task in found["tasks"]] == ["skin", "brightness", "hues"]
    assert found["tasks"][2]["labels"] == list(HUES.labels)
    assert "named: " in done.stderr


def test_a_bundle_that_cannot_be_read_is_a_line_and_exits_1(tmp_path: Path) -> None:
    (written(tmp_path) / "hues/manifest.json").write_text("{")
    done = run("tasks", "--trained", tmp_path)
    assert done.exit_code == 1
    assert "brightness" in done.stdout
    assert "hues" not in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"medkit: {tmp_path / 'hues/manifest.json'} cannot be read")


def test_a_folder_that_is_not_there_exits_2(tmp_path: Path) -> None:
    done = run("tasks", "--trained", tmp_path / "nowhere")
    assert done.exit_code == 2
    assert done.stderr.startswith("medkit: error: ")


def test_listing_imports_no_runtime(tmp_path: Path) -> None:
    heavy = ("tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "sklearn", "scipy")
    blocked = tmp_path / "blocked"
    for name in heavy:
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text(f"raise SystemExit('{name} was imported')")
    environment = {**os.environ, "PYTHONPATH": str(blocked)}
    done = call("tasks", "--trained", written(tmp_path / "trained"), env=environment)
    assert done.returncode == 0, done.stderr
    assert "hues" in done.stdout
