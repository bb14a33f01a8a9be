"""Outputs that may be written, and those that are refused before anything is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from medkit.batch.options import ClassifyOptions
from medkit.batch.run import classify_files
from medkit.errors import UsageError


@pytest.fixture
def options(tmp_path: Path, pooled_models: Path) -> ClassifyOptions:
    """A run over a list, an image and a model file, that may replace its output."""
    Image.new("L", (20, 20), 100).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text(f"{tmp_path / 'a.png'}\n")
    model = tmp_path / "model.tflite"
    shutil.copy(pooled_models / "pneumonia/model-fp32.tflite", model)
    return ClassifyOptions(
        (tmp_path / "a.png",), model=model, from_file=tmp_path / "list.csv", overwrite=True
    )


@pytest.mark.parametrize("name", ["list.csv", "a.png", "model.tflite"])
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("out", ["o.csv", "o.jsonl"])
def test_an_output_that_is_an_input_by_another_name_is_refused_and_left_as_it_was(
    options: ClassifyOptions, tmp_path: Path, name: str, link: Callable[..., None], out: str
) -> None:
    before = (tmp_path / name).read_bytes()
    link(tmp_path / out, tmp_path / name)
    there = sorted(os.listdir(tmp_path))
    with pytest.raises(UsageError, match=f"{out} is also an input, .*; name another output"):
        classify_files(replace(options, out=tmp_path / out))
    assert (tmp_path / name).read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == there


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_list_is_not_replaced_by_the_rows_of_its_own_files(
    options: ClassifyOptions, tmp_path: Path, *, overwrite: bool
) -> None:
    before = (tmp_path / "list.csv").read_bytes()
    with pytest.raises(UsageError, match=r"list.csv is also an input"):
        classify_files(replace(options, out=tmp_path / "list.csv", overwrite=overwrite))
    assert (tmp_path / "list.csv").read_bytes() == before


def test_the_record_beside_an_output_replaces_no_input(
    options: ClassifyOptions, tmp_path: Path
) -> None:
    listed = (tmp_path / "list.csv").rename(tmp_path / "o.csv.run.json")
    with pytest.raises(UsageError, match=r"o.csv.run.json is also an input"):
        classify_files(replace(options, from_file=listed, out=tmp_path / "o.csv"))
    assert not (tmp_path / "o.csv").exists()


def test_a_list_that_a_shell_makes_standard_input_is_not_replaced(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("a.png\n")
    command = [sys.executable, "-m", "medkit", "classify", "--from-file", "-", "--overwrite"]
    with listed.open() as stdin:
        done = subprocess.run(
            [*command, "-o", "list.csv"],
            check=False,
            stdin=stdin,
            capture_output=True,
            cwd=tmp_path,
            text=True,
        )
    assert done.returncode == 2
    assert "list.csv is also an input" in done.stderr
    assert listed.read_text() == "a.png\n"


def test_an_earlier_output_of_other_inputs_may_be_replaced(
    options: ClassifyOptions, tmp_path: Path
) -> None:
    for _ in range(2):
        assert classify_files(replace(options, out=tmp_path / "o.csv")).rows == 2
