"""What a run does when the system fails it: disks that fill, folders and readers that go."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from medkit.batch.observers import Silent
from medkit.batch.options import ClassifyOptions
from medkit.batch.rows import Row
from medkit.batch.run import classify_files
from medkit.batch.run_record import record_path
from medkit.errors import MedkitError

COUNT = 400
PROGRAM = [sys.executable, "-m", "medkit", "classify"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of images; not to be changed."""
    folder = tmp_path_factory.mktemp("images")
    Image.new("L", (20, 20), 90).save(folder / "000.png")
    for number in range(1, COUNT):
        os.link(folder / "000.png", folder / f"{number:03}.png")
    return folder


@pytest.fixture
def options(images: Path, pooled_models: Path, tmp_path: Path) -> ClassifyOptions:
    return ClassifyOptions(
        (images,), tmp_path / "o.csv", "pneumonia", batch_size=4, threads=2, trained=pooled_models
    )


@pytest.fixture(scope="module")
def whole(images: Path, pooled_models: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of an undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "o.csv"
    classify_files(
        ClassifyOptions((images,), out, "pneumonia", batch_size=4, trained=pooled_models)
    )
    return out.read_bytes()


def can_mount() -> bool:
    """Whether a process can have a file system of its own."""
    if shutil.which("unshare") is None:
        return False
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/tmp"]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(
    not can_mount(), reason="LOUDLY: no small disk was filled: mounting is not allowed"
)
def test_a_disk_that_fills_ends_the_run_with_one_line_and_what_is_there_can_be_continued(
    options: ClassifyOptions, whole: bytes, tmp_path: Path
) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    command = [*PROGRAM, str(options.inputs[0]), "--out", str(disk / "o.csv")]
    command += ["--task", "pneumonia", "--batch-size", "4", "--trained", str(options.trained)]
    script = f"""
        mount -t tmpfs -o size=16k none {disk} || exit 99
        "$@" 2> {kept}/first; echo $? > {kept}/first-status
        cp {disk}/o.csv {kept}/torn.csv
        mount -o remount,size=1m {disk} || exit 99
        "$@" --resume 2> {kept}/second; echo $? > {kept}/second-status
        cp {disk}/o.csv {kept}/whole.csv
    """
    subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", *command], check=True)
    lines = (kept / "first").read_text().splitlines()
    assert lines == [
        f"medkit: error: {disk}/o.csv cannot be written: No space left on device; put that right "
        "and continue with --resume, or name another output"
    ]
    assert (kept / "first-status").read_text() == "1\n"
    torn = (kept / "torn.csv").read_bytes()
    assert 8000 < len(torn) < len(whole)
    assert whole.startswith(torn)
    assert (kept / "second-status").read_text() == "0\n"
    assert (kept / "whole.csv").read_bytes() == whole


@pytest.mark.skipif(os.name != "posix", reason="LOUDLY: no limit of a file's size here")
def test_a_limit_of_a_files_size_is_like_a_full_disk(
    options: ClassifyOptions, whole: bytes, tmp_path: Path
) -> None:
    limited = (
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_module('medkit', run_name='__main__')"
    )
    arguments = [options.inputs[0], "--out", options.out, "--trained", options.trained]
    others = ["--task", "pneumonia", "--batch-size", "4"]
    done = subprocess.run(
        [sys.executable, "-c", limited, "medkit", "classify", *map(str, arguments), *others],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot be written: File too large; put that right and continue" in done.stderr
    assert Path(options.out).stat().st_size == 9000
    classify_files(replace(options, resume=True))
    assert Path(options.out).read_bytes() == whole


def remove(out: Path) -> None:
    out.unlink()


def remove_folder(out: Path) -> None:
    shutil.rmtree(out.parent)


def put_another(out: Path) -> None:
    out.rename(out.with_suffix(".old"))
    out.write_text("someone else's\n")


@pytest.mark.parametrize("change", [remove, remove_folder, put_another])
def test_an_output_that_vanishes_ends_the_run_at_once(
    options: ClassifyOptions, change: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    out, rows = folder / "o.csv", 0

    class Vanishing(Silent):
        def row(self, row: Row) -> None:
            nonlocal rows
            rows += 1
            if rows == 10:
                change(out)

    with pytest.raises(MedkitError, match=r"o.csv cannot be written: .*; put that right"):
        classify_files(replace(options, out=out), Vanishing())
    assert rows == 10
    assert not out.exists() or out.read_text() == "someone else's\n"


def test_rows_are_saved_to_the_disk_while_a_run_goes_on_and_at_its_end(
    options: ClassifyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr("medkit.batch.outputs.lines.os.fsync", saved.append)
    classify_files(options)
    rarely = len(saved)
    saved.clear()
    monkeypatch.setattr("medkit.batch.outputs.lines._SAVE_EVERY", 0.0)
    classify_files(replace(options, overwrite=True))
    assert len(saved) >= COUNT + rarely - 1


def test_a_disk_that_fails_when_rows_are_saved_ends_the_run(
    options: ClassifyOptions, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    fsync, calls = os.fsync, 0

    def fail(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr("medkit.batch.outputs.lines._SAVE_EVERY", 0.0)
    monkeypatch.setattr("medkit.batch.outputs.lines.os.fsync", fail)
    with pytest.raises(MedkitError, match="cannot be written: Input/output error"):
        classify_files(options)
    monkeypatch.undo()
    classify_files(replace(options, resume=True))
    assert Path(options.out).read_bytes() == whole


def test_a_disk_that_fills_before_the_record_leaves_an_earlier_output_alone(
    options: ClassifyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(options.out).write_text("precious")

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(MedkitError, match=r"o.csv.run.json cannot be written: No space left"):
        classify_files(replace(options, overwrite=True))
    monkeypatch.undo()
    assert Path(options.out).read_text() == "precious"
    assert [path.name for path in Path(options.out).parent.iterdir()] == ["o.csv"]


def test_a_record_that_cannot_be_written_at_the_end_keeps_every_row(
    options: ClassifyOptions, whole: bytes
) -> None:
    class Blocking(Silent):
        def row(self, row: Row) -> None:
            if row.path == "000.png":
                record_path(Path(options.out)).unlink()
                record_path(Path(options.out)).mkdir()

    with pytest.raises(MedkitError, match=r"o.csv.run.json"):
        classify_files(options, Blocking())
    assert Path(options.out).read_bytes() == whole


def test_a_reader_that_goes_ends_the_run_quietly(options: ClassifyOptions, images: Path) -> None:
    command = [*PROGRAM, str(images), "--out", "-", "--trained", str(options.trained)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.stdout.close()
        errors = process.stderr.read()
        process.wait()
    assert process.returncode == 141
    assert b"Traceback" not in errors
    assert [row[0] for row in csv.reader(line.decode() for line in lines)] == [
        "path",
        "000.png",
        "001.png",
    ]
