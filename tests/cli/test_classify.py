"""``medkit classify``: its options, its rows and figures, and how it ends."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import medkit.batch.run
from commandruns import DISCLAIMER, PROGRAM, captured_classify, read_csv, run, xray_model
from medkit.batch.options import ClassifyOptions
from medkit.batch.rows import Row
from medkit.cli.views.classify import ClassifyProgress
from medkit.images.limits import Limits
from medkit.tasks import PNEUMONIA


def test_classify_takes_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = captured_classify(monkeypatch)
    assert run("classify", "a.png", "b", "-o", "o.csv").exit_code == 0
    line = (
        "classify a.png --out - --task skin --model m.onnx --include *.png --include x "
        "--exclude y --exclude z --runtime openvino --batch-size 4 --threads 2 --trained t "
        "--from-file l.txt --all-files --absolute-paths --excel --retry-errors "
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
            from_file=Path("l.txt"),
            all_files=True,
            absolute_paths=True,
            excel=True,
            resume=True,
            retry_errors=True,
            overwrite=True,
            limits=Limits(50, 2.5, 9, 500),
        ),
    ]


def test_rows_with_errors_exit_3(monkeypatch: pytest.MonkeyPatch) -> None:
    captured_classify(monkeypatch, errors=2)
    result = run("classify", ".", "--out", "o.csv")
    assert result.exit_code == 3
    assert "2 errors" in result.stderr


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
    assert "1 error;" in ended.stderr
    assert DISCLAIMER in ended.stderr
    assert ended.stderr.splitlines()[-1] == "loaded"


def test_the_environment_names_the_models(tiny_exported: Path, xrays: Path) -> None:
    arguments = ["classify", xrays, "--out", "-", "--task", "pneumonia"]
    result = run(*arguments, env={"MEDKIT_TRAINED": str(tiny_exported)})
    assert result.exit_code == 0
    assert len(read_csv(result.stdout)) == 3


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


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Make a folder of more images than are classified before a signal comes."""
    folder = tmp_path / "many"
    folder.mkdir()
    Image.new("L", (900, 900), 90).save(folder / "00000.png")
    for index in range(1, 20_000):
        os.link(folder / "00000.png", folder / f"{index:05}.png")
    return folder


def ended_by(number: int, command: list[str], out: Path, *, first: bool = False) -> tuple[int, str]:
    """Send a signal to a run that has begun; return its status and what it says last.

    ``first`` has it run as the first process of a PID namespace, as in a container.
    """
    process = subprocess.Popen(
        ["unshare", "-rpf", *command] if first else command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it runs in the background ignore Ctrl-C, and medkit obeys that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    while not out.exists() or out.read_bytes().count(b"\n") < 50:
        assert process.poll() is None
        time.sleep(0.01)
    target = process.pid
    if first:
        target = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    os.kill(target, number)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.kill(target, signal.SIGKILL)
    text = out.read_text()
    assert text.endswith("\n")
    names = [row["path"] for row in read_csv(text)]
    assert 49 <= len(names) < 20_000
    assert names == [f"{index:05}.png" for index in range(len(names))]
    return process.returncode, errors.splitlines()[-1]


def test_ctrl_c_during_classification_keeps_whole_rows_in_order_and_exits_130(
    tiny_exported: Path, many: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.csv"
    command = [*PROGRAM, "classify", str(many), "--out", str(out), *xray_model(tiny_exported)]
    assert ended_by(signal.SIGINT, command, out) == (
        130,
        f"medkit: interrupted; the rows until then are in {out}; continue with the same command "
        "and --resume",
    )


def may_have_a_namespace() -> bool:
    """Whether a process can be the first one of a PID namespace."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rpf", "true"], check=False).returncode == 0


@pytest.mark.parametrize(
    "first",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                not may_have_a_namespace(), reason="LOUDLY: no PID namespace can be made here"
            ),
        ),
    ],
)
def test_sigterm_ends_a_run_as_ctrl_c_does_also_as_process_1_and_exits_143(
    tiny_exported: Path, many: Path, tmp_path: Path, first: bool
) -> None:
    out = tmp_path / "o.csv"
    command = [*PROGRAM, "classify", str(many), "--out", str(out), *xray_model(tiny_exported)]
    assert ended_by(signal.SIGTERM, command, out, first=first) == (
        143,
        f"medkit: terminated; the rows until then are in {out}; continue with the same command "
        "and --resume",
    )
    rows = out.read_text()
    for index in range(1000, 20_000):
        (many / f"{index:05}.png").unlink()
    assert run(*command[len(PROGRAM) :], "--resume").exit_code == 0
    assert out.read_text().startswith(rows)
    assert len(read_csv(out.read_text())) >= 1000


def test_a_second_sigterm_ends_at_once_with_the_same_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def twice(options: Any, observer: Any, ending: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        assert ending.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(medkit.batch.run, "classify_files", twice)
    result = run("classify", ".", "--out", "o.csv")
    assert (result.exit_code, result.stderr) == (
        143,
        "medkit: terminated; no row was written\n",
    )
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_signal_that_the_caller_ignores_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    captured_classify(monkeypatch)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert run("classify", ".", "--out", "o.csv").exit_code == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


# What is passed over, and lists


def test_the_summary_tells_what_was_passed_over(tiny_exported: Path, xrays: Path) -> None:
    model = xray_model(tiny_exported)
    assert "passed over" not in run("classify", xrays, "--out", "-", *model).stderr
    for name in ("a.txt", "b.txt", "c.zip", ".d", "scan.dcm"):
        (xrays / name).write_bytes(b"text")
    Image.new("L", (50, 40)).save(xrays / "IM_0001", "JPEG")
    result = run("classify", xrays, "--out", "-", *model)
    assert "passed over: 2 .txt, 1 " in result.stderr
    assert "; --all-files gives them rows" in result.stderr
    assert [row["path"] for row in read_csv(result.stdout)][-1] == "'IM_0001"
    result = run("classify", xrays, "--out", "-", "--all-files", *model)
    assert result.exit_code == 0
    assert "9 files in" in result.stderr
    rows = read_csv(result.stdout)
    assert [row["status"] for row in rows].count("skipped") == 5


def test_a_list_is_taken_from_a_file_or_standard_input(
    tiny_exported: Path, xrays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(xrays)
    Path("list").write_text("0.png\n\n./2.png\nmissing.png\n")
    model = xray_model(tiny_exported)
    result = run("classify", "--from-file", "list", "--out", "-", *model)
    assert result.exit_code == 3
    rows = read_csv(result.stdout)
    assert [row["path"] for row in rows] == ["0.png", "./2.png", "missing.png"]
    assert rows[2]["error"] == "file not found"
    command = [*PROGRAM, "classify", "--from-file", "-", "--out", "-", *model]
    done = subprocess.run(
        command, input=Path("list").read_bytes(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout.decode()) == (3, result.stdout)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--out", "-"), "nothing to classify; give image files or folders, or --from-file"),
        (("--out", "-", "--from-file", "no"), "the list no cannot be read: No such file"),
        (("--out", "-", "--from-file", "."), "the list . cannot be read: Is a directory"),
        (("--out", "-", "--from-file", os.devnull), "no path in the list /dev/null; check"),
        (("--out", "o.csv", ".", "--retry-errors"), "--retry-errors continues an output; give"),
        (("--out", "o.jsonl", ".", "--excel"), "--excel is for CSV, and o.jsonl is none; name"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    arguments: tuple[str, ...], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("classify", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"medkit: error: {line}")
    assert result.stderr.count("\n") == 1


def test_the_bar_of_a_continued_run_begins_with_the_rows_that_are_there() -> None:
    shown = io.StringIO()
    progress = ClassifyProgress(Console(file=shown, force_terminal=True, width=100))
    with progress:
        progress.kept(900)
        progress.total(1000)
        progress.row(Row("a.png", "ok"))
        assert progress.done == 901
    assert "901/1000" in shown.getvalue()


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
