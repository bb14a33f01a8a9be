"""Commands that the tests run, and answers that stand in for the library's work."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import medkit.batch.run
import medkit.evaluation.parity
import medkit.training
import medkit_exporters
from medkit.batch.run import ClassifySummary
from medkit.cli.app import app
from medkit.evaluation.comparison import Comparison
from medkit.evaluation.paired import Change
from medkit.evaluation.parity import Parity
from medkit.evaluation.rules import Gate
from medkit.training import TrainResult
from medkit_exporters import ExportedFile
from medkit_exporters.ladder import Attempt

PROGRAM = [sys.executable, "-m", "medkit"]

DISCLAIMER = "a prediction is not a diagnosis"


def run(*arguments: Any, env: dict[str, str] | None = None) -> Any:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


def call(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def captured(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, answer: Any) -> list[Any]:
    """Replace a library call; return the list that its first arguments go into."""
    calls: list[Any] = []

    def library(options: Any, *_: Any) -> Any:
        calls.append(options)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(module, name, library)
    return calls


def captured_train(monkeypatch: pytest.MonkeyPatch, answer: Any = None) -> list[Any]:
    nothing = TrainResult(Path("out"), None, interrupted=False)
    return captured(monkeypatch, medkit.training, "train_model", answer or nothing)


def captured_export(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return captured(monkeypatch, medkit_exporters, "export_models", [exported_file()])


def exported_file() -> ExportedFile:
    """Make an int8 file that passed on the second rung."""
    first, second = comparison("agreement 90.00% is below 97%"), comparison()
    attempts = (
        Attempt("8 bits throughout", "int8", "percentile", 256, 224_000, first),
        Attempt("more calibration images", "int8", "percentile", 1024, 224_400, second, second),
    )
    path = Path("trained/pneumonia/model-int8.tflite")
    return ExportedFile(path, "pneumonia", "tflite", "int8", 224_400, 0.47, 1.25, attempts)


def comparison(*failures: str) -> Comparison:
    """Compare 20 images, of which one is decided otherwise."""
    return Comparison(
        task="pneumonia",
        file="model-int8.tflite",
        precision="int8",
        runtime="LiteRT",
        images=20,
        changes={
            "accuracy": Change(0.95, 0.9, -0.15, 0.0),
            "AUC": Change(0.99, 0.98, -0.03, 0.01),
        },
        worse=1,
        better=0,
        mcnemar=1.0,
        agreement=0.95,
        largest_difference=0.04,
        distinct=(20, 18),
        gates=(
            Gate("largest difference", 0.04, 0.05),
            *(Gate("agreement", 0.95, 0.97, line) for line in failures),
        ),
        flips=(),
    )


def captured_parity(monkeypatch: pytest.MonkeyPatch, *failures: str) -> list[Any]:
    found = Parity((comparison(*failures),), ())
    return captured(monkeypatch, medkit.evaluation.parity, "check_parity", found)


def captured_classify(monkeypatch: pytest.MonkeyPatch, errors: int = 0) -> list[Any]:
    counts = {("pneumonia", "NORMAL"): 7}
    summary = ClassifySummary(
        counts,
        ok=7,
        errors=errors,
        models={"pneumonia": "m.tflite on LiteRT"},
        seconds=0.5,
        out="o.csv",
    )
    return captured(monkeypatch, medkit.batch.run, "classify_files", summary)


def xray_model(trained: Path) -> list[str]:
    """Name the task too: the made folder has no model for the other one."""
    return ["--task", "pneumonia", "--trained", str(trained)]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))
