"""The command line: help, exit statuses and messages that its commands have in common."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import medkit.batch.plan
import medkit.batch.run
import medkit.benchmark.run
import medkit.datasets.audit
import medkit.evaluation.folder
import medkit.evaluation.parity
import medkit.models.catalogue
import medkit.models.inspection
import medkit.models.runtimes.loading
import medkit.reports.report
import medkit.training
import medkit_exporters
import medkit_exporters.adoption.run
from commandruns import (
    DISCLAIMER,
    call,
    captured,
    captured_classify,
    captured_export,
    captured_parity,
    exported_file,
    run,
)
from medkit.batch.run import ClassifySummary
from medkit.errors import MedkitError, ModelFileError, UsageError
from medkit.version import __version__

OPTIONS = {
    "audit": ["task", "labels-map", "json", "html", "strict", "trained"],
    "tasks": ["json", "trained"],
    "train": [
        *("data", "recipe", "out", "weights", "seed", "on-conflict", "resume", "overwrite"),
        *("labels-map", "labels", "network", "size", "grey", "alert", "title", "group-by"),
        "epochs",
    ],
    "adopt": [
        *("name", "title", "out", "overwrite", "data", "group-by", "labels-map", "seed"),
        *("original", "labels", "multi-label", "alert", "trust-code", "pixels", "resize", "size"),
        *("accept-tie", "images"),
    ],
    "evaluate": [
        *("data", "runtime", "precision", "model", "operating-point", "json", "trained"),
        "labels-map",
    ],
    "report": ["out", "data", "labels-map", "trained", "against"],
    "export": [
        *("int8", "fp16", "fp32", "format", "data", "trained", "calibration-images", "seed"),
        *("labels-map", "max-drop"),
    ],
    "parity": ["data", "labels-map", "samples", "trained", "json", "junit", "html"],
    "classify": [
        *("out", "task", "model", "operating-point", "include", "exclude", "batch-size"),
        *("runtime", "engine", "threads", "trained", "resume", "overwrite"),
        *("max-megapixels", "max-seconds", "max-megabytes", "max-expansion"),
        *("from-file", "all-files", "absolute-paths", "retry-errors", "excel"),
    ],
    "inspect": ["json"],
    "benchmark": [
        *("task", "peers", "repeats", "batch-size", "threads", "json", "svg", "trained"),
    ],
}


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
    shown = [line.split() for line in lines if line.strip().startswith("-")]
    names = [words[1] if words[0].endswith(",") else words[0] for words in shown]
    assert sorted(names) == sorted(["--help", *(f"--{name}" for name in OPTIONS[command])])


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


@pytest.mark.parametrize("command", ["export", "parity"])
def test_the_environment_names_the_data_unless_they_are_given(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    calls = captured_export(monkeypatch) if command == "export" else captured_parity(monkeypatch)
    for arguments in ([command, "skin"], [command, "skin", "--data", "given"]):
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
        "adopt": (medkit_exporters.adoption.run, "adopt_model", ["m.h5", "--name", "mine"]),
        "evaluate": (medkit.evaluation.folder, "evaluate_folder", ["skin", "--data", "d"]),
        "report": (
            medkit.reports.report,
            "write_report",
            ["skin", "--out", str(tmp_path / "r.html")],
        ),
        "export": (medkit_exporters, "export_models", []),
        "parity": (medkit.evaluation.parity, "check_parity", []),
        "classify": (medkit.batch.run, "classify_files", [".", "--out", "o.csv"]),
        "inspect": (medkit.models.inspection, "inspect_file", ["m.tflite"]),
        "tasks": (medkit.models.catalogue, "list_tasks", []),
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
    assert result.stderr == ("medkit: interrupted; no row was written\n")
    captured(monkeypatch, medkit_exporters, "export_models", KeyboardInterrupt())
    result = run("export")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "medkit: interrupted"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("clasify .", "unknown command 'clasify'; did you mean classify? accepted: classify, "),
        ("diagnose .", "unknown command 'diagnose'; accepted: classify, "),
        ("--plugn x", "unknown option --plugn; did you mean --plugin? 'medkit -h' explains"),
        (
            "classify . --uot o.csv",
            "unknown option --uot; did you mean --out? 'medkit ",
        ),
        ("classify . --zzz", "unknown option --zzz; 'medkit classify -h' explains the options"),
        ("inspect", "missing argument 'FILE'; 'medkit inspect -h' explains the options"),
        ("classify . --out o.csv --task pnuemonia", "unknown task 'pnuemonia'; did you mean pneum"),
        ("classify . --out o.csv --task Skin", "unknown task 'Skin'; did you mean skin?"),
        ("classify . --out o.csv --runtime onxx", "unknown runtime 'onxx'; did you mean onnx?"),
        ("classify . --out o.csv --engine thread", "unknown engine 'thread'; did you mean threads"),
        ("export skni", "unknown task 'skni'; did you mean skin?"),
        ("export skin --format onx --data .", "unknown format 'onx'; did you mean onnx?"),
        ("evaluate skin --data . --precision int", "unknown precision 'int'; did you mean int8?"),
        ("evaluate skin --data . --runtime tf-lite", "unknown runtime 'tf-lite'; did you mean lit"),
        ("train skin --data . --recipe sed", "unknown recipe 'sed' for skin; did you mean seed?"),
        ("train skin --data . --on-conflict drp", "unknown policy 'drp' for conflicts; did you m"),
    ],
)
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(
    line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    result = run(*line.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"medkit: error: {told}")


# What people see


@pytest.mark.parametrize("command", ["export", "parity", "classify"])
def test_what_is_asked_for_is_on_standard_output_and_remarks_are_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    captured_export(monkeypatch)
    captured_parity(monkeypatch)
    captured_classify(monkeypatch)
    arguments = [".", "--out", "o.csv"] if command == "classify" else []
    result = run(command, *arguments)
    assert result.exit_code == 0
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
    # Files are what an export and a classification are for; figures are what a parity run is for.
    told, other = result.stderr, result.stdout
    if command == "parity":
        told, other = other, told
    assert other == ""
    told = " ".join(told.split())
    for text in expected[command]:
        assert text in told


def test_a_folder_is_shown_as_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "runs[bold]/[/old] 日本"
    summary = ClassifySummary({}, ok=1, errors=0, models={}, seconds=1.0, out=f"{name}/o.csv")
    captured(monkeypatch, medkit.batch.run, "classify_files", summary)
    assert f"rows in {name}/o.csv" in run("classify", ".", "--out", "o.csv").stderr
    path = Path(name) / "pneumonia/model-int8.tflite"
    file = dataclasses.replace(exported_file(), path=path)
    captured(monkeypatch, medkit_exporters, "export_models", [file])
    assert f"written to {name}\n" in run("export").stderr


# Classification for real


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
