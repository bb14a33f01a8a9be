"""The command line: what goes in, what comes out where, and with which exit status."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import medkit.batch.plan
import medkit.batch.run
import medkit.benchmark.run
import medkit.datasets.audit
import medkit.evaluation.folder
import medkit.evaluation.parity
import medkit.models.runtimes.loading
import medkit.reports.report
import medkit.training
import medkit_exporters
from medkit.batch.options import ClassifyOptions
from medkit.batch.run import ClassifySummary
from medkit.benchmark.options import BenchmarkOptions
from medkit.benchmark.result import Benchmark, PeerResult, Result
from medkit.cli.app import app
from medkit.errors import MedkitError, ModelFileError, UsageError
from medkit.evaluation.comparison import Comparison
from medkit.evaluation.paired import Change
from medkit.evaluation.parity import Parity, ParityOptions
from medkit.evaluation.rules import Gate
from medkit.images.limits import Limits
from medkit.tasks import PNEUMONIA, SKIN
from medkit.training import TrainOptions, TrainResult
from medkit.version import __version__
from medkit_exporters import ExportedFile, ExportOptions
from medkit_exporters.ladder import Attempt

OPTIONS = {
    "audit": ["json", "html", "strict"],
    "train": [
        *("data", "recipe", "out", "weights", "seed", "on-conflict", "resume", "overwrite"),
    ],
    "evaluate": [
        *("data", "runtime", "precision", "model", "operating-point", "json", "trained"),
    ],
    "report": ["out", "data", "trained"],
    "export": [
        *("int8", "fp16", "fp32", "format", "data", "trained", "calibration-images", "seed"),
        "max-drop",
    ],
    "parity": ["data", "samples", "trained", "json", "junit", "html"],
    "classify": [
        *("out", "task", "model", "operating-point", "include", "exclude", "batch-size"),
        *("runtime", "engine", "threads", "trained", "resume", "overwrite"),
        *("max-megapixels", "max-seconds", "max-megabytes", "max-expansion"),
    ],
    "benchmark": [
        *("task", "peers", "repeats", "batch-size", "threads", "json", "svg", "trained"),
    ],
}
PROGRAM = [sys.executable, "-m", "medkit"]
DISCLAIMER = "a prediction is not a diagnosis"


def run(*arguments: Any, env: dict[str, str] | None = None) -> Any:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


def call(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's environment out."""
    for name in ("MEDKIT_DATA", "MEDKIT_TRAINED", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    """Make a folder with three grey images."""
    folder = tmp_path / "xrays"
    folder.mkdir()
    for index in range(3):
        Image.new("L", (50, 40), 60 * index).save(folder / f"{index}.png")
    return folder


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


# Help and version


def test_help_names_the_commands_and_says_what_it_is_not_for() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in OPTIONS:
        assert f"\n  {command} " in result.stdout
    assert "--debug" in result.stdout
    assert "--version" in result.stdout
    assert DISCLAIMER in " ".join(result.stdout.split())


@pytest.mark.parametrize("command", list(OPTIONS))
def test_help_of_a_command_explains_every_option(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    shown = [line.split()[0] for line in lines if line.strip().startswith(("--", "-o"))]
    names = [name if name != "-o," else "--out" for name in shown]
    assert {name.rstrip(",") for name in names} == {f"--{name}" for name in OPTIONS[command]} | {
        "--help"
    }


def test_without_a_command_the_help_is_shown() -> None:
    result = run()
    assert result.exit_code == 2
    assert "Usage:" in result.output
    assert "classify" in result.output


def test_version_is_on_standard_output() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"medkit {__version__}\n")


def test_help_loads_no_heavy_library() -> None:
    script = (
        "import sys; from medkit.cli.app import app\n"
        "try: app(['classify', '--help'])\n"
        "except SystemExit: pass\n"
        "print(*{'numpy', 'tensorflow', 'keras', 'rich', 'PIL'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == ""


# Arguments reach the library


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


def test_export_takes_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = captured_export(monkeypatch)
    assert run("export").exit_code == 0
    line = (
        "export skin pneumonia skin --int8 --fp16 --fp32 --format onnx --format onnx --data d "
        "--trained t --calibration-images 0 --seed 3 --max-drop 0.5"
    )
    assert run(*line.split()).exit_code == 0
    assert calls == [
        ExportOptions(),
        ExportOptions(
            tasks=(SKIN, PNEUMONIA),
            formats=("onnx",),
            precisions=("int8", "fp16", "fp32"),
            data=Path("d"),
            trained=Path("t"),
            calibration_images=0,
            seed=3,
            max_drop=0.5,
        ),
    ]


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_export_makes_the_asked_precision_only(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    calls = captured_export(monkeypatch)
    assert run("export", f"--{precision}").exit_code == 0
    assert calls[0].precisions == (precision,)


def test_parity_takes_every_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = captured_parity(monkeypatch)
    assert run("parity").exit_code == 0
    line = f"parity skin --data d --samples s --trained t --json {tmp_path}/p.json"
    reports = ("--junit", tmp_path / "p.xml", "--html", tmp_path / "p.html")
    assert run(*line.split(), *reports).exit_code == 0
    assert calls == [
        ParityOptions(),
        ParityOptions((SKIN,), Path("d"), Path("s"), Path("t")),
    ]
    assert json.loads((tmp_path / "p.json").read_text())[0]["agreement"] == 0.95
    (suite,) = ElementTree.parse(tmp_path / "p.xml").getroot()
    assert suite.get("tests") == "1"
    assert "Every rule holds." in (tmp_path / "p.html").read_text()


def test_classify_takes_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = captured_classify(monkeypatch)
    assert run("classify", "a.png", "b", "-o", "o.csv").exit_code == 0
    line = (
        "classify a.png --out - --task skin --model m.onnx --include *.png --include x "
        "--exclude y --exclude z --runtime openvino --batch-size 4 --threads 2 --trained t "
        "--resume --overwrite --max-megapixels 50 --max-seconds 2.5 --max-megabytes 9 "
        "--max-expansion 500"
    )
    assert run(*line.split()).exit_code == 0
    assert calls == [
        ClassifyOptions((Path("a.png"), Path("b")), "o.csv"),
        ClassifyOptions(
            (Path("a.png"),),
            "-",
            task="skin",
            model=Path("m.onnx"),
            include=("*.png", "x"),
            exclude=("y", "z"),
            runtime="openvino",
            batch_size=4,
            threads=2,
            trained=Path("t"),
            resume=True,
            overwrite=True,
            limits=Limits(50, 2.5, 9, 500),
        ),
    ]


def test_benchmark_takes_every_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = Result("model-int8.tflite", "LiteRT", 500.0, 0.4, 5.0, None)
    peers = (PeerResult("Keras", 45.0, 10**9),)
    found = Benchmark(
        "skin", 2000, 2, 1000.0, (result,), peers, ("timm: timm is not there",), {"processor": "X"}
    )
    calls = captured(monkeypatch, medkit.benchmark.run, "run_benchmark", found)
    assert run("benchmark").exit_code == 0
    out = tmp_path / "b.json"
    line = "benchmark scans --task skin --peers --repeats 2 --batch-size 4 --threads 3 --trained t"
    shown = run(*line.split(), "--json", out)
    assert shown.exit_code == 0
    assert calls == [
        BenchmarkOptions(),
        BenchmarkOptions(Path("scans"), "skin", 4, 3, 2, True, Path("t")),
    ]
    assert json.loads(out.read_text())["images"] == 2000
    for text in ("400/s", "120%", "9.0 times", "1,000 MB", "left out: timm: timm is not there"):
        assert text in shown.stderr
    assert all(len(text) <= 80 for text in shown.stderr.splitlines() if "─" in text)


@pytest.mark.parametrize("command", ["export", "parity"])
def test_the_environment_names_the_data_unless_they_are_given(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    calls = captured_export(monkeypatch) if command == "export" else captured_parity(monkeypatch)
    for arguments in ([command], [command, "--data", "given"]):
        assert run(*arguments, env={"MEDKIT_DATA": "named"}).exit_code == 0
    assert [options.data for options in calls] == [Path("named"), Path("given")]


# Exit statuses and messages


@pytest.mark.parametrize(
    "line",
    [
        "train",
        "train pneumonia",
        "train brain --data d",
        "train pneumonia --data missing",
        "train pneumonia --data . --seed one",
        "train skin --data . --recipe best",
        "export brain",
        "export --format coreml",
        "export pneumonia --int8",
        "export pneumonia --calibration-images many",
        "export pneumonia --max-drop few",
        "export pneumonia --fp16 --max-drop 101",
        "parity brain",
        "parity",
        "classify",
        "classify a.png",
        "classify missing.png --out o.csv",
        "classify . --out o.txt",
        "classify . --out o.csv --task brain",
        "classify . --out o.csv --batch-size 0",
        "classify . --out o.csv --model a.png",
        "diagnose a.png",
        "--unknown",
    ],
)
def test_wrong_usage_exits_2_with_its_reason_on_standard_error(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    result = run(*line.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "line",
    [
        "classify . --out o.csv --task pneumonia --trained nowhere",
        "classify . --out o.csv --trained nowhere",
        "classify . --out o.csv --model missing.tflite",
        "export pneumonia --fp16 --trained nowhere",
        "parity pneumonia --samples . --trained nowhere",
    ],
)
def test_what_could_not_run_exits_1_with_one_line(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    result = run(*line.split())
    assert result.exit_code == 1
    assert result.stdout == ""
    message = result.stderr.splitlines()[-1]
    assert message.startswith("medkit: error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("error", "status"), [(UsageError("wrong"), 2), (ModelFileError("gone"), 1)]
)
@pytest.mark.parametrize("command", list(OPTIONS))
def test_an_error_of_the_library_is_one_line_unless_debugging(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    error: MedkitError,
    status: int,
) -> None:
    module, name, arguments = {
        "audit": (medkit.datasets.audit, "audit_folder", ["d"]),
        "train": (medkit.training, "train_model", ["skin", "--data", "d"]),
        "evaluate": (medkit.evaluation.folder, "evaluate_folder", ["--data", "d"]),
        "report": (
            medkit.reports.report,
            "write_report",
            ["skin", "--out", str(tmp_path / "r.html")],
        ),
        "export": (medkit_exporters, "export_models", []),
        "parity": (medkit.evaluation.parity, "check_parity", []),
        "classify": (medkit.batch.run, "classify_files", [".", "--out", "o.csv"]),
        "benchmark": (medkit.benchmark.run, "run_benchmark", []),
    }[command]
    captured(monkeypatch, module, name, error)
    result = run(command, *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.splitlines()[-1] == f"medkit: error: {error}"
    assert run("--debug", command, *arguments).exception is error


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    arguments = ("train", "pneumonia", "--data", tmp_path / "missing")
    plain = call(*arguments)
    assert plain.returncode == 2
    assert len(plain.stderr.splitlines()) == 1
    debugging = call("--debug", *arguments)
    assert debugging.returncode == 1
    assert "Traceback (most recent call last)" in debugging.stderr
    assert "DatasetLayoutError" in debugging.stderr.splitlines()[-1]


def test_an_error_that_is_not_foreseen_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ZeroDivisionError("a bug")
    captured(monkeypatch, medkit.batch.run, "classify_files", error)
    assert run("classify", ".", "--out", "o.csv").exception is error


def test_ctrl_c_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    captured(monkeypatch, medkit.batch.run, "classify_files", KeyboardInterrupt())
    result = run("classify", ".", "--out", "o.csv")
    assert result.exit_code == 130
    assert result.stderr == (
        "medkit: interrupted; the rows until then are in o.csv; continue with the same command "
        "and --resume\n"
    )
    captured(monkeypatch, medkit_exporters, "export_models", KeyboardInterrupt())
    result = run("export")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "medkit: interrupted"


def test_a_training_interrupted_before_its_first_epoch_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captured_train(monkeypatch, TrainResult(Path("out"), None, interrupted=True))
    result = run("train", "skin", "--data", "d")
    assert result.exit_code == 130
    assert "interrupted; no epoch had ended" in result.stderr
    assert "--resume" not in result.stderr


def test_rows_with_errors_exit_3(monkeypatch: pytest.MonkeyPatch) -> None:
    captured_classify(monkeypatch, errors=2)
    result = run("classify", ".", "--out", "o.csv")
    assert result.exit_code == 3
    assert "2 errors" in result.stderr


def test_a_broken_budget_exits_1_and_still_writes_the_reports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    captured_parity(monkeypatch, "agreement 95.00% is below 97% (1 of 20 decided differently)")
    reports = {option: tmp_path / f"p.{option}" for option in ("json", "junit", "html")}
    arguments = [part for option, path in reports.items() for part in (f"--{option}", path)]
    result = run("parity", *arguments)
    assert result.exit_code == 1
    line = "FAIL pneumonia/model-int8.tflite on LiteRT: agreement 95.00% is below 97%"
    assert line in result.stderr
    assert json.loads(reports["json"].read_text())[0]["passed"] is False
    (suite,) = ElementTree.parse(reports["junit"]).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert "Rules are broken" in reports["html"].read_text()


@pytest.mark.parametrize("option", ["--json", "--junit", "--html"])
def test_a_report_that_cannot_be_written_is_wrong_usage_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str
) -> None:
    calls = captured_parity(monkeypatch)
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file/report"):
        result = run("parity", option, path)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith("medkit: error: ")
    assert calls == []


def test_parity_on_samples_alone_says_that_it_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    captured_parity(monkeypatch)
    result = run("parity", "--samples", "s")
    assert result.exit_code == 0
    assert "no data sets, so samples only" in result.stderr
    assert "MEDKIT_DATA" in result.stderr
    assert "samples only" not in run("parity", "--samples", "s", "--data", "d").stderr


# What people see


@pytest.mark.parametrize("command", ["export", "parity", "classify"])
def test_figures_are_on_standard_error(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    captured_export(monkeypatch)
    captured_parity(monkeypatch)
    captured_classify(monkeypatch)
    arguments = [".", "--out", "o.csv"] if command == "classify" else []
    result = run(command, *arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    expected = {
        "export": [
            "8 bits throughout -0.0500 -0.0100 95.0% - FAIL",
            "FAIL 8 bits throughout: agreement 90.00% is below 97%",
            "more calibration images -0.0500 -0.0100 95.0% 95.0% kept",
            *("0.22 MB", "47%", "1.25", "next: medkit parity pneumonia"),
        ],
        "parity": [
            *("20 images", "pass model-int8.tflite on LiteRT"),
            "accuracy 0.9500 0.9000 -0.0500 -0.1500 to +0.0000",
            "decided alike 95.00%, largest difference 0.04, 18 different scores of 20",
            *("1 turned wrong and 0 right (McNemar's p = 1.00)", DISCLAIMER),
        ],
        "classify": ["NORMAL", "7 images in 0.5 s (14 images/s), 0 errors", DISCLAIMER],
    }
    told = " ".join(result.stderr.split())
    for text in expected[command]:
        assert text in told


@pytest.mark.parametrize("failures", [(), ("agreement 5.00% is below 97%",)])
def test_verdict_and_figures_of_parity_fit_80_columns(
    monkeypatch: pytest.MonkeyPatch, failures: tuple[str, ...]
) -> None:
    captured_parity(monkeypatch, *failures)
    lines = run("parity", env={"COLUMNS": "80"}).stderr.splitlines()
    verdict = "FAIL" if failures else "pass"
    assert lines.count(f"{verdict} model-int8.tflite on LiteRT") == 1
    (line,) = [line for line in lines if line.startswith("AUC ")]
    assert line.split() == ["AUC", "0.9900", "0.9800", "-0.0100", "-0.0300", "to", "+0.0100"]


def test_the_ladder_of_an_export_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    captured_export(monkeypatch)
    lines = run("export", env={"COLUMNS": "80"}).stderr.splitlines()
    (line,) = [line for line in lines if line.startswith("more calibration images ")]
    assert line.split()[3:] == ["-0.0500", "-0.0100", "95.0%", "95.0%", "kept"]


def test_a_folder_is_shown_as_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "runs[bold]/[/old] 日本"
    summary = ClassifySummary({}, ok=1, errors=0, models={}, seconds=1.0, out=f"{name}/o.csv")
    captured(monkeypatch, medkit.batch.run, "classify_files", summary)
    assert f"rows in {name}/o.csv" in run("classify", ".", "--out", "o.csv").stderr
    path = Path(name) / "pneumonia/model-int8.tflite"
    file = dataclasses.replace(exported_file(), path=path)
    captured(monkeypatch, medkit_exporters, "export_models", [file])
    assert f"written to {name}\n" in run("export").stderr


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
    assert f"next: medkit export pneumonia --int8 --trained {out} --data DIR" in lines
    assert any("official test" in line for line in lines)
    assert DISCLAIMER in lines[-1]


# Classification for real


def xray_model(trained: Path) -> list[str]:
    """Name the task too: the made folder has no model for the other one."""
    return ["--task", "pneumonia", "--trained", str(trained)]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_classify_writes_csv_and_json_lines_alike(
    tiny_exported: Path, xrays: Path, tmp_path: Path
) -> None:
    for suffix in ("csv", "jsonl"):
        out = tmp_path / f"o.{suffix}"
        result = run("classify", xrays, "--out", out, *xray_model(tiny_exported))
        assert (result.exit_code, result.stdout) == (0, "")
        assert "3 images in" in result.stderr
        assert DISCLAIMER in result.stderr
        assert "classifying" not in result.stderr
    rows = read_csv((tmp_path / "o.csv").read_text())
    objects = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == ["0.png", "1.png", "2.png"]
    for row, values in zip(rows, objects, strict=True):
        assert (row["status"], row["task"]) == ("ok", "pneumonia")
        assert row["label"] in PNEUMONIA.labels
        total = float(row["p_NORMAL"]) + float(row["p_PNEUMONIA"])
        assert total == pytest.approx(1, abs=2e-6)
        assert {key: "" if value is None else str(value) for key, value in values.items()} == row


def test_standard_output_holds_rows_only_and_no_training_library_is_loaded(
    tiny_exported: Path, xrays: Path
) -> None:
    (xrays / "broken.png").write_bytes(b"no image")
    script = (
        "import sys; from medkit.cli.app import app\n"
        "try: app()\n"
        "except SystemExit as end: status = end.code\n"
        "heavy = {'tensorflow', 'keras', 'onnxruntime', 'sklearn', 'matplotlib'}\n"
        "print('loaded', *heavy & set(sys.modules), file=sys.stderr)\n"
        "sys.exit(status)"
    )
    arguments = ["classify", str(xrays), "--out", "-", *xray_model(tiny_exported)]
    command = [sys.executable, "-c", script, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    rows = read_csv(ended.stdout)
    assert [row["path"] for row in rows] == ["0.png", "1.png", "2.png", "broken.png"]
    assert [row["status"] for row in rows] == ["ok"] * 3 + ["error"]
    assert len(ended.stdout.splitlines()) == 5
    assert "rows in standard output" in ended.stderr
    assert "1 errors" in ended.stderr
    assert DISCLAIMER in ended.stderr
    assert ended.stderr.splitlines()[-1] == "loaded"


def test_wrong_usage_is_found_before_any_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tiny_exported: Path, xrays: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(medkit.batch.plan, "load_model", None)
    monkeypatch.setattr(medkit.models.runtimes.loading, "load_model", None)
    monkeypatch.setattr(medkit.evaluation.parity, "KerasModel", None)
    monkeypatch.setattr(medkit.evaluation.parity, "models_of", None)
    where = ["--trained", tiny_exported]
    for wrong in (
        [xrays, "--out", tmp_path / "o.xlsx"],
        [xrays, "--out", tmp_path / "missing/o.csv"],
        [xrays, "--out", tmp_path],
        [xrays / "missing.png", "--out", "-"],
        [xrays, "--out", "-", "--exclude", "*"],
        [xrays, "--out", "-", "--threads", "0"],
        [xrays, "--out", "-", "--task", "brain"],
    ):
        assert run("classify", "--task", "pneumonia", *wrong, *where).exit_code == 2
    assert run("parity", "pneumonia", *where).exit_code == 2
    damaged = shutil.copytree(tiny_exported, tmp_path / "damaged")
    (damaged / "pneumonia/model-fp32.onnx").write_bytes(b"")
    result = run("parity", "pneumonia", "--samples", tmp_path, "--trained", damaged)
    assert result.exit_code == 1
    assert "model-fp32.onnx is damaged" in result.stderr


def test_the_environment_names_the_models(tiny_exported: Path, xrays: Path) -> None:
    arguments = ["classify", xrays, "--out", "-", "--task", "pneumonia"]
    result = run(*arguments, env={"MEDKIT_TRAINED": str(tiny_exported)})
    assert result.exit_code == 0
    assert len(read_csv(result.stdout)) == 3


# Other processes


def test_a_reader_that_is_gone_from_the_start_exits_141(tiny_exported: Path, xrays: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [*PROGRAM, "classify", str(xrays), "--out", "-", *xray_model(tiny_exported)]
    with os.fdopen(writer, "wb") as closed:
        ended = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 141
    assert ended.stderr == b""


def test_a_reader_that_leaves_after_the_first_line_exits_141(
    tiny_exported: Path, tmp_path: Path
) -> None:
    # More rows than a pipe holds, so that the writer cannot be done before the reader leaves.
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(folder / "a.png")
    arguments = [str(folder / "a.png")] * 600
    command = [*PROGRAM, "classify", *arguments, "--out", "-", *xray_model(tiny_exported)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"path,status,")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


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


def test_a_page_that_could_not_be_written_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr(
        medkit.evaluation.parity, "check_parity", lambda *given: pytest.fail("too late")
    )
    result = run("parity", "--data", tmp_path, "--html", tmp_path / "p.html")
    assert result.exit_code == 1
    assert "jinja2 is needed to write a page" in result.stderr


def test_notes_may_hold_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    def noting(options: Any, note: Any) -> Any:
        note("reading [/data] and [red]")
        raise KeyboardInterrupt

    monkeypatch.setattr(medkit_exporters, "export_models", noting)
    assert "reading [/data] and [red]" in run("export").stderr


def test_two_spellings_of_one_report_are_one_file(tmp_path: Path) -> None:
    other = tmp_path / ".." / tmp_path.name / "p.json"
    result = run("parity", "--data", ".", "--json", tmp_path / "p.json", "--junit", other)
    assert result.exit_code == 2
    assert "is named for two reports" in result.stderr


def test_ctrl_c_during_classification_keeps_whole_rows_in_order_and_exits_130(
    tiny_exported: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    Image.new("L", (900, 900), 90).save(folder / "00000.png")
    for index in range(1, 20_000):
        os.link(folder / "00000.png", folder / f"{index:05}.png")
    out = tmp_path / "o.csv"
    command = [*PROGRAM, "classify", str(folder), "--out", str(out), *xray_model(tiny_exported)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not out.exists() or out.read_bytes().count(b"\n") < 50:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == (
        f"medkit: interrupted; the rows until then are in {out}; continue with the same command "
        "and --resume"
    )
    text = out.read_text()
    assert text.endswith("\n")
    names = [row["path"] for row in read_csv(text)]
    assert 49 <= len(names) < 20_000
    assert names == [f"{index:05}.png" for index in range(len(names))]


@pytest.mark.parametrize("runtime", ["onnx", "auto"])
def test_classify_runs_on_the_asked_runtime(
    tiny_exported: Path, xrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ["classify", xrays, "--out", "-", "--runtime", runtime, *xray_model(tiny_exported)]
    result = run(*arguments)
    assert result.exit_code == 0
    assert len(read_csv(result.stdout)) == 3
    if runtime == "onnx":
        assert "pneumonia: model-int8.onnx on ONNX Runtime" in result.stderr
    elif sys.platform == "linux":
        assert (tmp_path / "cache/medkit/fastest.json").is_file()


def test_a_runtime_that_does_not_run_a_file_is_wrong_usage(
    tiny_exported: Path, xrays: Path
) -> None:
    model = tiny_exported / "pneumonia/model-int8.tflite"
    result = run("classify", xrays, "--out", "-", "--model", model, "--runtime", "onnx")
    assert result.exit_code == 2
    assert f"{model} does not run on onnx; accepted: litert" in result.stderr
    result = run("classify", xrays, "--out", "-", "--runtime", "cuda")
    assert result.exit_code == 2
    assert "unknown runtime 'cuda'; accepted: auto, litert, onnx" in result.stderr
