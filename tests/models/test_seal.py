"""Damage to model files is told before anything of them runs."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medkit.errors import ModelFileError
from medkit.models.bundle import file_record, load_bundle
from medkit.models.formats import format_of
from medkit.models.manifest import write_manifest
from medkit.models.runtimes.loading import load_model
from medkit.models.seal import is_sealed, is_whole, sealed
from medkit.tasks import TASKS
from modelfiles import unsealed

SUFFIXES = (".tflite", ".onnx")
SHIPPED = [(task, f"model-int8{suffix}") for task in TASKS for suffix in SUFFIXES]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_sealed_file_is_whole_until_a_byte_changes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    for content in (b"", b"x", random.Random(0).randbytes(3_000_000)):
        whole = sealed(content, format_of(path).seal)
        assert whole.startswith(content)
        path.write_bytes(whole)
        assert is_sealed(path)
        assert is_whole(path)
        for place in {0, len(content) // 2, len(content), len(whole) - 70, len(whole) - 1}:
            changed = bytearray(whole)
            changed[place] ^= 1
            path.write_bytes(changed)
            assert not is_sealed(path) or not is_whole(path)
        path.write_bytes(whole + b"\n")
        assert not is_sealed(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"x" * 300])
def test_a_file_without_a_seal_is_told(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    assert not is_sealed(path)
    assert not is_whole(path)


@pytest.mark.parametrize(("task", "name"), SHIPPED)
def test_the_shipped_files_are_sealed(task: str, name: str) -> None:
    path = load_bundle(task).folder / name
    assert is_sealed(path)
    assert is_whole(path)


@pytest.mark.parametrize(("task", "name"), SHIPPED)
def test_a_shipped_file_with_any_bit_flipped_is_refused_wherever_it_lies(
    task: str, name: str, tmp_path: Path
) -> None:
    bundle = load_bundle(task)
    shutil.copytree(bundle.folder, tmp_path / task)
    copied = load_bundle(task, tmp_path)
    path, alone = copied.folder / name, tmp_path / name
    shutil.copy(path, alone)
    rng = random.Random(f"{task} {name}")
    flips = 250  # of four files: a thousand
    for _ in range(flips):
        place, bit = rng.randrange(path.stat().st_size), 1 << rng.randrange(8)
        flip(path, place, bit)
        with pytest.raises(ModelFileError, match="SHA-256 is not the one"):
            copied.verify(path)
        flip(path, place, bit)
        place = rng.randrange(alone.stat().st_size)
        flip(alone, place, bit)
        with pytest.raises(ModelFileError):
            load_model(alone)
        flip(alone, place, bit)
    assert load_model(alone).card.task == task


@pytest.mark.parametrize("task", TASKS)
def test_a_shipped_original_with_any_bit_flipped_is_refused(task: str, tmp_path: Path) -> None:
    bundle = load_bundle(task)
    shutil.copytree(bundle.folder, tmp_path / task)
    copied = load_bundle(task, tmp_path)
    path = copied.keras_path
    rng = random.Random(task)
    for _ in range(50):
        place, bit = rng.randrange(path.stat().st_size), 1 << rng.randrange(8)
        flip(path, place, bit)
        with pytest.raises(ModelFileError, match="SHA-256 is not the one"):
            copied.verify(path)
        flip(path, place, bit)


def test_a_lone_original_with_a_bit_flipped_in_what_it_holds_is_refused(tmp_path: Path) -> None:
    from medkit.models.runtimes.keras import check_archive

    path = tmp_path / "model.keras"
    shutil.copy(load_bundle("pneumonia").keras_path, path)
    check_archive(path)
    rng = random.Random(0)
    size = path.stat().st_size
    for _ in range(300):
        # Behind the data lies the archive's directory, whose dates nobody needs.
        place, bit = rng.randrange(1000, size - 1000), 1 << rng.randrange(8)
        flip(path, place, bit)
        with pytest.raises(ModelFileError):
            check_archive(path)
        flip(path, place, bit)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_the_first_version_needs_its_manifest(
    pooled_models: Path, tmp_path: Path, suffix: str
) -> None:
    folder = tmp_path / "skin"
    shutil.copytree(pooled_models / "skin", folder)
    path = folder / f"model-fp32{suffix}"
    content = path.read_bytes()
    path.write_bytes(unsealed(content, suffix))
    with pytest.raises(ModelFileError, match="has no seal, and no manifest.json beside it lists"):
        load_model(path)
    manifest = load_bundle("skin", tmp_path).manifest
    entry = replace(manifest.exports[path.name], **vars(file_record(path)))
    write_manifest(folder, manifest.with_export(path.name, entry))
    assert load_model(path).card.task == "skin"


def test_a_damaged_file_ends_a_run_with_one_line_and_no_row(
    pooled_models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.tflite"
    shutil.copy(pooled_models / "skin/model-fp32.tflite", path)
    flip(path, 900, 1)
    out = tmp_path / "o.csv"
    command = ["classify", Path(__file__).parents[1] / "samples", "--model", path, "--out", out]
    done = subprocess.run(
        [sys.executable, "-m", "medkit", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"medkit: error: {path} is damaged or was changed: its bytes are not those of its seal; "
        "copy or export it again\n"
    )
    assert not out.exists()


def flip(path: Path, place: int, bit: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        (byte,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte ^ bit]))
