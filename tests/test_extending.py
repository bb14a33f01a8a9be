"""Six changes from outside of the package, as docs/extending.md shows them.

The examples are the very blocks of the page. Each is one module on Python's
path, which the command line is told to load; nothing of medkit is changed.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n# (toy_\w+)\.py\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page's examples as modules; return their folder."""
    folder = tmp_path_factory.mktemp("toys")
    for name, code in BLOCK.findall((ROOT / "docs/extending.md").read_text(encoding="utf-8")):
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    assert len(list(folder.iterdir())) == 6
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Make a folder with three grey images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.new("L", (50, 40), 60 * number).save(folder / f"{number}.png")
    return folder


def medkit(
    toys: Path, *arguments: Any, cwd: Path | None = None, status: int = 0, **environment: str
) -> str:
    """Run the command line with the toys on Python's path; return what it tells."""
    done = subprocess.run(
        [sys.executable, "-m", "medkit", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(toys), "COLUMNS": "200", **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def classify(
    toys: Path, plugin: str, images: Path, out: Path, *options: Any, status: int = 0
) -> str:
    """Classify with a plug-in and the task of the X-rays."""
    asked = ["classify", images, "--out", out, "--task", "pneumonia", *options]
    return medkit(toys, "--plugin", plugin, *asked, status=status)


def test_an_image_format_is_one_file(
    toys: Path, images: Path, pooled_models: Path, tmp_path: Path
) -> None:
    levels = np.full((40, 50), 120, np.uint8)
    (images / "3.pgm").write_bytes(b"P5\n50 40\n255\n" + levels.tobytes())
    (images / "4.pgm").write_bytes(b"P5\n50 40\n255\n torn")
    Image.fromarray(levels).save(images / "2.png")
    out = tmp_path / "o.csv"
    classify(toys, "toy_format", images, out, "--trained", pooled_models, status=3)
    found = {row.pop("path"): row for row in rows(out)}
    assert list(found) == ["0.png", "1.png", "2.png", "3.pgm", "4.pgm"]
    assert found["3.pgm"] == found["2.png"]
    assert found["4.pgm"]["error"].startswith("cannot be decoded")
    record = json.loads((tmp_path / "o.csv.run.json").read_text())
    assert record["formats"]["PGM"] == "pgm:first-image"


def test_a_run_is_not_continued_without_the_format_that_it_began_with(
    toys: Path, images: Path, pooled_models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.csv"
    classify(toys, "toy_format", images, out, "--trained", pooled_models)
    asked = ["classify", images, "--out", out, "--task", "pneumonia", "--trained", pooled_models]
    told = medkit(toys, *asked, "--resume", status=2)
    assert 'was written with formats PGM "pgm:first-image", and this run has null' in told


def test_a_task_is_one_file_beside_its_models(toys: Path, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    subprocess.run([sys.executable, toys / "toy_task.py"], cwd=tmp_path, check=True)
    # The folder of the published data sets is set, and holds nothing for this task.
    medkit(
        toys,
        "export",
        "brightness",
        "--fp32",
        "--trained",
        "mine",
        cwd=tmp_path,
        MEDKIT_DATA="data",
    )
    out = tmp_path / "o.csv"
    asked = ["--out", out, "--task", "brightness", "--trained", "mine"]
    for runtime in ("litert", "onnx", "keras"):
        told = medkit(
            toys, "classify", images, *asked, "--runtime", runtime, "--overwrite", cwd=tmp_path
        )
        assert "not a diagnosis" in told
        assert [row["label"] for row in rows(out)] == ["dark", "dark", "dark"]
    Image.new("L", (50, 40), 250).save(images / "9.png")
    model = tmp_path / "mine/brightness/model-fp32.tflite"
    medkit(toys, "classify", images, "--out", out, "--model", model, "--overwrite")
    assert [row["label"] for row in rows(out)][-1] == "bright"
    assert float(rows(out)[-1]["p_bright"]) > 0.9
    # The labels of the task in another order would turn every answer around.
    described = model.with_name("task.toml")
    text = described.read_text()
    turned = re.sub(r"labels = \[.*?\]", 'labels = ["bright", "dark"]', text, flags=re.DOTALL)
    described.write_text(turned.replace('positive = "bright"', 'positive = "dark"'))
    told = medkit(toys, "classify", images, "--out", out, "--model", model, "--overwrite", status=1)
    assert "its labels ['dark', 'bright'] differs from that of task brightness" in told
    manifest = model.with_name("manifest.json")
    listed = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**listed, "labels": ["bright", "dark"]}))
    told = medkit(toys, "classify", images, *asked, "--overwrite", cwd=tmp_path, status=1)
    assert "its labels ['dark', 'bright'] differs from that of task brightness" in told
    assert [row["label"] for row in rows(out)][-1] == "bright"


def test_an_output_is_one_file(
    toys: Path, images: Path, pooled_models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.tsv"
    classify(toys, "toy_output", images, out, "--trained", pooled_models, "--batch-size", "1")
    whole = out.read_bytes()
    header, *lines = whole.decode().splitlines()
    assert json.loads(header.split("\t")[0]) == "path"
    assert [json.loads(line.split("\t")[0]) for line in lines] == ["0.png", "1.png", "2.png"]
    out.write_bytes(whole[:-20])
    classify(
        toys, "toy_output", images, out, "--trained", pooled_models, "--batch-size", "1", "--resume"
    )
    assert out.read_bytes() == whole


def test_a_runtime_is_one_file(
    toys: Path, images: Path, pooled_models: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    out, usual = tmp_path / "o.csv", tmp_path / "usual.csv"
    model = ["--model", pooled_models / "pneumonia/model-fp32.onnx", "--trained", pooled_models]
    told = classify(toys, "toy_runtime", images, out, *model, "--runtime", "onnx-gpu")
    assert "model-fp32.onnx on ONNX Runtime on a graphics card" in told
    classify(toys, "toy_runtime", images, usual, *model)
    assert out.read_bytes() == usual.read_bytes()
    refused = classify(
        toys, "toy_column", images, out, *model, "--runtime", "onnx-gpu", "--overwrite", status=2
    )
    assert "accepted: auto, litert, onnx, openvino, keras" in refused


def test_an_engine_is_one_file(
    toys: Path, images: Path, pooled_models: Path, tmp_path: Path
) -> None:
    (images / "broken.png").write_bytes(b"no image")
    out, usual = tmp_path / "o.csv", tmp_path / "usual.csv"
    options = ["--trained", pooled_models, "--batch-size", "1", "--threads", "2"]
    classify(toys, "toy_engine", images, out, *options, "--engine", "processes", status=3)
    classify(toys, "toy_engine", images, usual, *options, status=3)
    assert out.read_bytes() == usual.read_bytes()


def test_a_column_is_one_file(
    toys: Path, images: Path, pooled_models: Path, tmp_path: Path
) -> None:
    (images / "3.pgm").write_bytes(b"P5\n50 40\n255\n" + bytes(2000))
    out = tmp_path / "o.csv"
    asked = ["classify", images, "--out", out, "--task", "pneumonia", "--trained", pooled_models]
    medkit(toys, *asked, MEDKIT_PLUGINS="toy_format,toy_column")
    names = "path,status,task,label,confidence,p_NORMAL,p_PNEUMONIA,error,notes,levels"
    assert out.read_text().splitlines()[0] == names
    assert {row["path"]: row["levels"] for row in rows(out)} == {
        **{f"{number}.png": "" for number in range(3)},
        "3.pgm": "256",
    }
    told = medkit(toys, *asked, "--resume", MEDKIT_PLUGINS="toy_format", status=2)
    assert 'was written with columns ["levels"], and this run has []' in told


def test_a_plug_in_that_is_not_there_is_named(toys: Path) -> None:
    told = medkit(toys, "--plugin", "no_such_plugin", "classify", ".", "--out", "-", status=2)
    assert told.splitlines()[-1].startswith("medkit: error: plug-in 'no_such_plugin' cannot be")
