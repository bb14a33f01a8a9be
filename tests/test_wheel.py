"""The wheel: what it holds, and that it classifies in an empty environment."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "tests" / "samples"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def test_it_holds_int8_files_and_manifests_but_no_original(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    trained = {name for name in names if name.startswith("medkit/trained/")}
    files = (
        "MODEL_CARD.md",
        "manifest.json",
        "model-int8.onnx",
        "model-int8.tflite",
        "seed.json",
    )
    assert trained == {
        f"medkit/trained/{task}/{n}" for task in ("pneumonia", "skin") for n in files
    }
    assert {"medkit/py.typed", "medkit_exporters/py.typed"} <= names
    assert not [name for name in names if name.endswith(".keras") or "tests/" in name]


def test_it_is_under_100_megabytes(wheel: Path) -> None:
    assert wheel.stat().st_size < 100 * MEGABYTE


def test_it_classifies_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    binaries = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    pip = [binaries / "python", "-m", "pip", "install", "--quiet"]
    requirements = ROOT / "requirements" / "base.txt"
    subprocess.run([*pip, "--require-hashes", "-r", requirements], check=True)
    subprocess.run([*pip, "--no-deps", wheel], check=True)

    out = tmp_path / "preds.csv"
    done = subprocess.run(
        [binaries / "medkit", "classify", SAMPLES, "--out", out],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert len(rows) == len(list(SAMPLES.rglob("*.png")))
    assert {row["status"] for row in rows} == {"ok"}
    # The folder decides which task an image was made for; its colour must tell the same.
    assert [row["task"] for row in rows] == [row["path"].split("/")[0] for row in rows]

    listed = subprocess.run(
        [binaries / "python", "-m", "pip", "list"], check=True, capture_output=True, text=True
    )
    assert "tensorflow" not in listed.stdout
