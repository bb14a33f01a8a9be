"""``medkit train``: its options, what it tells, and how Ctrl-C ends it."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from commandruns import DISCLAIMER, captured_train, run
from medkit.tasks import PNEUMONIA, SKIN
from medkit.training import TrainOptions, TrainResult


def test_train_takes_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = captured_train(monkeypatch)
    assert run("train", "skin", "--data", "d").exit_code == 0
    line = "train pneumonia --data d --recipe seed --out o --weights w.h5 --seed 7 --resume"
    assert run(*line.split()).exit_code == 0
    assert run("train", "skin", "--data", "d", "--overwrite").exit_code == 0
    data = Path("d")
    assert calls == [
        TrainOptions(SKIN, data),
        TrainOptions(PNEUMONIA, data, "seed", Path("o"), Path("w.h5"), 7, resume=True),
        TrainOptions(SKIN, data, overwrite=True),
    ]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--labels", "NORMAL,PNEUMONIA"),
        ("--alert", "NORMAL"),
        ("--title", "t"),
        ("--network", "ResNet50"),
        ("--size", "64"),
        ("--grey or --colour", None),
        ("--group-by", "x"),
        ("--epochs", "3"),
        ("--weights none", None),
    ],
)
def test_a_built_in_task_takes_no_option_that_its_recipe_decides(
    monkeypatch: pytest.MonkeyPatch, option: str, value: str | None
) -> None:
    calls = captured_train(monkeypatch)
    given = [option, value] if value else option.split(" or ", maxsplit=1)[0].split()
    result = run("train", "pneumonia", "--data", "d", *given)
    assert result.exit_code == 2
    assert result.stderr == (
        f"medkit: error: {option}: the recipe of pneumonia decides this; leave it out, or train a "
        "task of another name\n"
    )
    assert calls == []


def test_a_task_of_ones_own_takes_every_option(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for label in ("a", "b", "c", "odd"):
        (tmp_path / "data" / label).mkdir(parents=True)
        Image.new("L", (20, 20), 99).save(tmp_path / "data" / label / "x.png")
    calls = captured_train(monkeypatch)
    line = (
        "--labels c,b,a --alert b --title T --network densenet121 --size 96x64 --colour "
        "--group-by (x) --epochs 5 --weights none --seed 3 --on-conflict drop --labels-map odd="
    )
    data, out = tmp_path / "data", tmp_path / "out"
    result = run("train", "letters", "--data", data, "--out", out, *line.split())
    assert result.exit_code == 0, result.output
    (options,) = calls
    task, recipe = options.task, options.recipe
    assert (task.name, task.title, task.labels, task.alert) == ("letters", "T", tuple("cba"), "b")
    assert task.contract.shape == (64, 96, 3)
    assert (recipe.network, recipe.from_scratch, recipe.stages[0].epochs) == (
        "DenseNet121",
        True,
        5,
    )
    assert options == TrainOptions(
        task, data, recipe, out, None, 3, "drop", spellings={"odd": ""}, group_by="(x)"
    )
    refused = run("train", "letters", "--data", data, "--recipe", "seed")
    assert refused.exit_code == 2
    assert "a task of your own has one recipe for each network; leave it out" in refused.stderr


def test_a_training_interrupted_before_its_first_epoch_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captured_train(monkeypatch, TrainResult(Path("out"), None, interrupted=True))
    result = run("train", "skin", "--data", "d")
    assert result.exit_code == 130
    assert "interrupted; no epoch had ended" in result.stderr
    assert "--resume" not in result.stderr


def test_training_without_a_terminal_is_told_in_plain_lines(
    tiny_xrays: Path, tmp_path: Path, short_recipe: Callable[..., None]
) -> None:
    from medkit.models.recipe import Stage

    short_recipe(stages=(Stage(epochs=1, learning_rate=3e-3),))
    out = tmp_path / "runs[bold]"
    result = run("train", "pneumonia", "--data", tiny_xrays, "--out", out, "--on-conflict", "drop")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "\x1b" not in result.stderr
    assert "\r" not in result.stderr
    lines = result.stderr.splitlines()
    assert lines[0] == "4 of 44 training images kept out"
    (epoch,) = [line for line in lines if line.startswith("epoch ")]
    for word in ("epoch 1/1  loss 0.", "accuracy", "AUC", "0 s left", "best so far"):
        assert word in epoch
    assert not [line for line in lines if "step" in line]
    assert f"written to {out}/pneumonia" in lines
    assert (
        f"next: medkit export pneumonia --int8 --trained {shlex.quote(str(out))} --data DIR"
        in lines
    )
    assert any(line.startswith("test  ") for line in lines)
    assert DISCLAIMER in lines[-1]


def test_ctrl_c_during_training_keeps_the_best_epoch_and_exits_130(
    tiny_xrays: Path, tmp_path: Path
) -> None:
    # A shell's background jobs are born deaf to Ctrl-C; this one listens.
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from medkit.cli.app import app; app()"
    )
    arguments = ["train", "pneumonia", "--data", str(tiny_xrays), "--out", str(tmp_path)]
    arguments += ["--on-conflict", "drop"]
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 1/"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.stdout.read() == ""
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert "medkit: interrupted; the best epoch so far was kept" in rest
    assert rest.splitlines()[-1] == "continue with the same command and --resume"
    folder = tmp_path / "pneumonia"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert 1 <= manifest["epochs"] < 28
    state = json.loads((folder / "unfinished/state.json").read_text())["state"]
    assert len(state["history"]) == manifest["epochs"]
    assert (folder / f"unfinished/last-{manifest['epochs']}.keras").is_file()
