"""The whole chain by the command line alone: train, export, prove, classify."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from medkit.tasks import PNEUMONIA

pytest.importorskip("keras")

FILES = ["model-int8.tflite", "model-fp32.tflite", "model-int8.onnx", "model-fp32.onnx"]
RUNTIMES = {
    ".tflite": ["LiteRT", "LiteRT without XNNPACK"],
    ".onnx": ["ONNX Runtime"] + ["OpenVINO"] * (find_spec("openvino") is not None),
}


def test_from_a_data_folder_to_rows_that_agree(tiny_data: Path, tmp_path: Path) -> None:
    environment = {key: text for key, text in os.environ.items() if not key.startswith("MEDKIT_")}

    def medkit(*arguments: str | Path, out: str = "") -> str:
        """Run a command that must succeed; return what it tells, or writes into a file."""
        ended = subprocess.run(
            [sys.executable, "-m", "medkit", *map(str, arguments)],
            cwd=tmp_path,
            env=environment | {"COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        (tmp_path / out).write_text(ended.stdout) if out else None
        return ended.stderr if out else ended.stdout + ended.stderr

    data = tiny_data / "chest_xray"
    told = medkit("train", "pneumonia", "--data", data, "--out", "trained", "--on-conflict", "drop")
    assert "\ntest  " in told
    told = medkit(
        *("export", "pneumonia", "--int8", "--fp32", "--data", data),
        *("--trained", "trained", "--calibration-images", "16"),
    )
    assert all(name in told for name in FILES)
    told = medkit(
        *("parity", "pneumonia", "--data", data, "--trained", "trained"),
        *("--json", "parity.json", "--junit", "parity.xml", "--html", "parity.html"),
    )
    runs = [(name, on) for name in FILES for on in RUNTIMES[Path(name).suffix]]
    for name, runtime in runs:
        assert f"pass {name} on {runtime}\n" in told
    figures = json.loads((tmp_path / "parity.json").read_text())
    assert [(item["file"], item["runtime"]) for item in figures] == runs
    assert all(item["passed"] for item in figures)
    page = (tmp_path / "parity.html").read_text()
    assert "Every rule holds." in page
    assert all(name in page for name in FILES)

    folder = tmp_path / "trained/pneumonia"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["exports"]) == set(FILES)
    models = [("--model", folder / name) for name in (*FILES, "model.keras")]
    decided = {}
    for number, source in enumerate([*models, ("--trained", tmp_path / "trained")]):
        arguments = ("classify", data / "test", "--task", "pneumonia", *source)
        told = medkit(*arguments, "--out", "-", out=f"{number}.csv")
        assert "20 images" in told
        rows = list(csv.DictReader(io.StringIO((tmp_path / f"{number}.csv").read_text())))
        assert {row["status"] for row in rows} == {"ok"}
        decided[source[1].name] = {row["path"]: row["label"] for row in rows}

    # The bundle's own model is its int8 TFLite file.
    assert decided["trained"] == decided["model-int8.tflite"]
    original = decided["model.keras"]
    assert len(original) == 20
    right = sum(path.split("/")[0] == label for path, label in original.items())
    assert right / 20 == manifest["metrics"]["test"]["balanced"]["accuracy"]
    assert right >= 15, "easy pictures were not learned"
    for name, labels in decided.items():
        assert set(labels.values()) <= set(PNEUMONIA.labels)
        turned = sum(labels[path] != original[path] for path in original)
        assert turned <= 1, f"{name} decides {turned} of 20 images otherwise"
