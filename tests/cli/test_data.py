"""``--data`` and ``--labels-map``: one meaning in every command."""

from __future__ import annotations

from pathlib import Path

import pytest

import medkit.evaluation.folder
import medkit.evaluation.parity
import medkit.reports.report
import medkit.training
from auditfiles import drawing
from commandruns import captured, captured_export, captured_parity, captured_train, run
from medkit.cli.options import DATA_HELP

TAKING = ("audit", "train", "evaluate", "report", "export", "parity")


@pytest.mark.parametrize("command", TAKING)
def test_every_command_says_the_same_of_labelled_images(command: str) -> None:
    told = " ".join(run(command, "--help", env={"COLUMNS": "100"}).stdout.split())
    assert DATA_HELP in told
    assert "SPELLING= leaves it out" in told


@pytest.mark.parametrize("command", ["train", "report", "export", "parity"])
def test_other_spellings_reach_the_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    calls = {
        "train": captured_train,
        "export": captured_export,
        "parity": captured_parity,
        "report": lambda patch: captured(patch, medkit.reports.report, "write_report", None),
    }[command](monkeypatch)
    (tmp_path / "map.txt").write_text("mole=nevus\n")
    spellings = ("--labels-map", tmp_path / "map.txt", "--labels-map", "rest=")
    out = ("--out", tmp_path / "out") if command in ("train", "report") else ()
    result = run(command, "skin", "--data", "d", *spellings, *out)
    assert result.exit_code == 0, result.output
    assert calls[0].spellings == {"mole": "nevus", "rest": ""}


@pytest.mark.parametrize("command", ["train", "report", "export", "parity", "evaluate"])
def test_a_map_to_a_label_that_is_none_is_refused(command: str) -> None:
    result = run(command, "skin", "--data", "d", "--labels-map", "mole=nevis")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith("; did you mean 'nevus'?")


def test_an_audit_of_a_task_finds_its_set_and_checks_its_labels(tmp_path: Path) -> None:
    for seed, name in enumerate(("train/Nevus", "train/melanoma", "test/mole", "test/melanoma")):
        drawing(tmp_path / "skin" / name / "1.png", seed)
    result = run("audit", tmp_path, "--task", "skin")
    assert result.exit_code == 2
    assert "no class of the task: ['mole']" in result.stderr
    result = run("audit", tmp_path, "--task", "skin", "--labels-map", "mole=nevus")
    assert result.exit_code == 0
    assert "4 images, no problem" in result.output
    assert "holds splits of its own" in run("audit", tmp_path).stderr


def test_images_that_are_left_out_are_named(tmp_path: Path) -> None:
    drawing(tmp_path / "cat/1.png", 1)
    drawing(tmp_path / "loose.png", 2)
    result = run("audit", tmp_path, "--html", tmp_path / "audit.html")
    line = "left out: 1 image beside the class folders: loose.png"
    assert line in result.output
    assert line in (tmp_path / "audit.html").read_text()


def test_an_interrupted_run_that_chooses_no_epoch_has_kept_the_last() -> None:
    from dataclasses import replace

    from medkit.cli.views.train import kept_of
    from medkit.models.bundle import load_bundle

    manifest = load_bundle("pneumonia").manifest
    assert manifest.recipe is not None
    plain = replace(manifest, recipe=replace(manifest.recipe, validation_fraction=0.0))
    assert kept_of(None) == "no epoch had ended"
    assert kept_of(manifest) == "the best epoch so far was kept"
    assert kept_of(plain) == "the last epoch that ended was kept"
