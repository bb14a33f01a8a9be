"""Plug-ins that do not behave, and what comes of them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ENGINE = """
from medkit.batch.engines.registry import register_engine

class Mine:
    name = "threads"

register_engine(Mine())
"""
OUTPUT = """
from medkit.batch.outputs.registry import register_output

class Mine:
    suffix = ".csv"

register_output(Mine())
"""
FORMAT = """
from medkit.images.formats.registry import register_image_format

class Mine:
    name, extensions, rule, facts = {name!r}, (".any",), "", ()

    def accepts(self, head):
        return True

    def decode(self, file, least_side, limits):
        raise OSError("not for me")

register_image_format(Mine())
"""
RUNTIME = """
from medkit.models.runtimes.registry import Runtime, register_runtime

register_runtime(Runtime({name!r}, "Mine", {suffix!r}, "mine:Model", "mine"))
"""
MODEL_FORMAT = """
from medkit.models.formats import ModelFormat, register_format

register_format(ModelFormat("onnx", ".mine", b"", "mine:card", "mine:operators"))
"""
COLUMN = """
from medkit.batch.columns import Column, register_column

register_column(Column("p_normal", "text", lambda row: row.path))
"""


def classify(tmp_path: Path, code: str, trained: Path) -> subprocess.CompletedProcess[str]:
    """Classify one grey PNG with a plug-in."""
    (tmp_path / "mine.py").write_text(code)
    images = tmp_path / "images"
    images.mkdir()
    Image.new("L", (30, 30), 90).save(images / "a.png")
    command = [sys.executable, "-m", "medkit", "--plugin", "mine", "classify", images]
    return subprocess.run(
        [*command, "--out", tmp_path / "o.csv", "--task", "pneumonia", "--trained", trained],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (ENGINE, "there is an engine 'threads' already"),
        (OUTPUT, "there is an output with the suffix '.csv' already"),
        (FORMAT.format(name="PNG"), "there is an image format 'PNG' already"),
        (RUNTIME.format(name="onnx", suffix=".onnx"), "there is a runtime 'onnx' already"),
        (RUNTIME.format(name="auto", suffix=".onnx"), "there is a runtime 'auto' already"),
        (RUNTIME.format(name="mine", suffix=".mine"), "call register_format first"),
        (MODEL_FORMAT, "there is a model format 'onnx' already"),
        (COLUMN, "could be that of a label's probability"),
        ("1 / 0", "division by zero"),
        ("import sys; sys.exit(5)", "SystemExit: 5"),
    ],
)
def test_a_plug_in_that_cannot_be_had_ends_the_run_in_one_line(
    tmp_path: Path, pooled_models: Path, code: str, reason: str
) -> None:
    done = classify(tmp_path, code, pooled_models)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "correct the module, or name another" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "o.csv").exists()


def test_a_format_that_accepts_everything_takes_no_file_from_those_before_it(
    tmp_path: Path, pooled_models: Path
) -> None:
    done = classify(tmp_path, FORMAT.format(name="greedy"), pooled_models)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "o.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["status"] == "ok"


KILLER = """
import os, signal

class Killer:
    name, extensions, rule, facts = "killer", (".kill",), "", ()

    def accepts(self, head):
        return head.startswith(b"kill")

    def decode(self, file, least_side, limits):
        os.kill(os.getpid(), signal.SIGKILL)
"""
REGISTERED = """
from medkit.images.formats.registry import register_image_format
from killing import Killer

register_image_format(Killer())
"""


@pytest.mark.skipif(os.name != "posix", reason="LOUDLY: crashes were not tried, they are signals")
@pytest.mark.parametrize("way", ["option", "import"])
def test_a_run_that_a_plug_ins_format_has_killed_is_continued_without_the_image(
    tmp_path: Path, pooled_models: Path, way: str
) -> None:
    (tmp_path / "killing.py").write_text(KILLER)
    (tmp_path / "killer.py").write_text(REGISTERED)
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.kill").write_bytes(b"kill")
    Image.new("L", (30, 30), 90).save(images / "b.png")
    asked = ["classify", "images", "--out", "o.csv", "--task", "pneumonia"]
    asked += ["--trained", str(pooled_models)]
    # The module lies in the folder that the command is called in, and on no path.
    command = [sys.executable, "-m", "medkit", "--plugin", "killer", *asked]
    if way == "import":
        call = f"import killer; from medkit.cli.app import app; app({asked!r} + sys.argv[1:])"
        command = [sys.executable, "-c", f"import sys; {call}"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert first.returncode == -9, first.stderr
    done = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 3, done.stderr
    with (tmp_path / "o.csv").open(newline="") as stream:
        killed, other = csv.DictReader(stream)
    assert killed["error"] == "crashes the decoder (SIGKILL)"
    assert other["status"] == "ok"
    # Nor does it matter that the run has come to its end, and goes on with more images.
    (images / "c.kill").write_bytes(b"kill")
    asks: dict[str, Any] = {"cwd": tmp_path, "capture_output": True}
    assert subprocess.run([*command, "--resume"], check=False, **asks).returncode == 3
    assert subprocess.run([*command, "--resume"], check=False, **asks).returncode == 3
    with (tmp_path / "o.csv").open(newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == ["a.kill", "b.png", "c.kill"]
