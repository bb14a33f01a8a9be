"""``medkit classify``: its options, its rows and figures, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commandruns import DISCLAIMER, PROGRAM, captured_classify, read_csv, run, xray_model
from medkit.batch.options import ClassifyOptions
from medkit.images.limits import Limits
from medkit.tasks import PNEUMONIA


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
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it runs in the background ignore Ctrl-C, and medkit obeys that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
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
