"""A folder of hostile files: a row for each, and bounds on what they cost."""

from __future__ import annotations

import csv
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import hostile
from medkit.batch.observers import Silent
from medkit.batch.options import ClassifyOptions
from medkit.batch.outputs.csv import path_from_csv
from medkit.batch.rows import Row
from medkit.batch.run import classify_files, predict_paths
from medkit.errors import MedkitError
from medkit.images.bounded_file import bounded
from medkit.images.limits import Limits

MOST_MEMORY = 300_000  # kilobytes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with every file of the corpus."""
    folder = tmp_path_factory.mktemp("hostile")
    for file in hostile.corpus():
        (folder / file.name).parent.mkdir(exist_ok=True)
        (folder / file.name).write_bytes(file.content)
    return folder


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Return a folder with one good image."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("L", (20, 20), 90).save(folder / "good.png")
    return folder


def rows_of(*inputs: Path, trained: Path, **others: Any) -> dict[str, Row]:
    """Classify, and return the rows by name; every name has one."""
    rows = list(predict_paths(ClassifyOptions(inputs, trained=trained, **others)))
    by_name = {row.path: row for row in rows}
    assert len(by_name) == len(rows)
    return by_name


MEASURED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module("medkit", run_name="__main__")
finally:
    lines = open("/proc/self/status").read().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""
"""Runs medkit, and tells its peak memory in kilobytes."""


# The corpus


def test_the_corpus_holds_at_least_300_distinct_bad_files() -> None:
    files = hostile.corpus()
    assert len({file.name for file in files}) == len(files)
    assert len({file.content for file in files if file.reason}) >= 300


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="LOUDLY: only Linux tells")
def test_every_hostile_file_has_its_row_within_5_seconds_and_300_megabytes(
    corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.csv"
    command = ["medkit", "classify", corpus, "--out", out, "--max-seconds", "5"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    with out.open(newline="", encoding="utf-8") as stream:
        found = {row["path"]: (row["status"], row["error"]) for row in csv.DictReader(stream)}
    wrong = {}
    for file in hostile.corpus():
        status_word, error = found.pop(file.name)
        if status_word != ("error" if file.reason else "ok") or not error.startswith(file.reason):
            wrong[file.name] = status_word, error
    assert wrong == {}
    assert found == {}
    assert int(done.stdout) < MOST_MEMORY
    assert "Traceback" not in done.stderr
    assert not re.search(r"\w(Decode|State|Lib)\w*: |More samples", done.stderr), "decoders' own"


# What is in a folder but is no file


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="LOUDLY: no pipes on this system")
def test_pipes_sockets_and_devices_are_never_opened(good: Path, pooled_models: Path) -> None:
    os.mkfifo(good / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(good)  # a socket's path may have a hundred characters
        try:
            server.bind("socket.png")
        finally:
            os.chdir(here)
        (good / "device.png").symlink_to("/dev/zero")
        (good / "pipe-link.png").symlink_to("pipe.png")
        assert set(rows_of(good, trained=pooled_models)) == {"good.png"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="LOUDLY: no pipes on this system")
def test_a_file_that_becomes_a_pipe_after_it_was_listed_is_not_waited_for(
    good: Path, pooled_models: Path
) -> None:
    rows = predict_paths(
        ClassifyOptions((good / "good.png",), trained=pooled_models, threads=1, batch_size=1)
    )
    (good / "good.png").unlink()
    os.mkfifo(good / "good.png")
    assert [row.error for row in rows] == ["is no regular file"]


def test_links_to_files_are_followed_and_links_to_folders_are_not(
    good: Path, tmp_path: Path, pooled_models: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("L", (20, 20), 10).save(outside / "other.png")
    (good / "file-link.png").symlink_to(outside / "other.png")
    (good / "folder-link").symlink_to(outside)
    (good / "folder-link.png").symlink_to(outside)
    (good / "up").symlink_to(good)
    (good / "loop.png").symlink_to("loop.png")
    (good / "nowhere.png").symlink_to("gone.png")
    rows = rows_of(good, trained=pooled_models)
    assert {name: row.error for name, row in rows.items()} == {
        "file-link.png": "",
        "good.png": "",
        "loop.png": "cannot be decoded: Too many levels of symbolic links",
        "nowhere.png": "file not found",
    }


def test_a_folder_with_an_images_name_is_walked(good: Path, pooled_models: Path) -> None:
    (good / "folder.png").mkdir()
    (good / "good.png").rename(good / "folder.png" / "good.png")
    assert set(rows_of(good, trained=pooled_models)) == {"folder.png/good.png"}


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="LOUDLY: root may read every file"
)
def test_a_file_without_permission_is_a_row(good: Path, pooled_models: Path) -> None:
    (good / "good.png").chmod(0)
    rows = rows_of(good, trained=pooled_models)
    assert rows["good.png"].error == "no permission to read the file"


@pytest.mark.skipif(
    not Path("/proc/self/mem").exists(), reason="LOUDLY: no file that cannot be read"
)
def test_a_file_whose_reads_fail_is_a_row(good: Path, pooled_models: Path) -> None:
    (good / "failing.png").symlink_to("/proc/self/mem")  # a regular file; its first page is not
    rows = rows_of(good, trained=pooled_models)
    assert rows["failing.png"].status == "error"
    assert rows["good.png"].status == "ok"


# Files that change meanwhile


def change_after_first_row(
    change: Callable[[Path], object], folder: Path, trained: Path, out: Path
) -> dict[str, str]:
    """Classify three images, one at a time, and change the last when the first has its row."""

    class Changing(Silent):
        def row(self, row: Row) -> None:
            if row.path == "0.png":
                change(folder / "9.png")

    options = ClassifyOptions((folder,), out, trained=trained, batch_size=1, threads=1)
    for name in [*map(str, range(10))]:
        Image.new("L", (20, 20), 90).save(folder / f"{name}.png")
    classify_files(options, Changing())
    with out.open(newline="") as stream:
        return {row["path"]: row["error"] for row in csv.DictReader(stream)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Path.unlink, "file not found"),
        (lambda path: path.write_bytes(b""), hostile.FOREIGN),
        (lambda path: path.write_bytes(path.read_bytes()[:45]), "cannot be decoded: "),
        (lambda path: path.write_bytes(b"\xff\xd8\xff" + bytes(99)), "cannot be decoded: "),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder, not a file"),
    ],
)
def test_a_file_that_changes_or_vanishes_is_a_row_and_costs_no_other(
    change: Callable[[Path], object], reason: str, tmp_path: Path, pooled_models: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    errors = change_after_first_row(change, folder, pooled_models, tmp_path / "o.csv")
    assert len(errors) == 10
    assert errors.pop("9.png").startswith(reason)
    assert set(errors.values()) == {""}


def test_a_file_that_grows_while_it_is_read_is_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "growing.png"
    path.write_bytes(b"0123456789")
    with bounded(path, Limits()) as file:
        path.write_bytes(b"0123456789" * 1000)
        assert file.read() == b"0123456789"
        assert file.read(5) == b""


# Folders that vanish


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_a_folder_that_vanishes_stops_the_run_and_leaves_what_can_be_continued(
    left: str, tmp_path: Path, pooled_models: Path
) -> None:
    folder, away = tmp_path / "share", tmp_path / "away"
    folder.mkdir()
    for number in range(40):
        Image.new("L", (20, 20), 5 * number).save(folder / f"{number:02}.png")
    options = ClassifyOptions(
        (folder,), tmp_path / "whole.csv", trained=pooled_models, batch_size=2, threads=2
    )
    classify_files(options)

    class Unmounting(Silent):
        def row(self, row: Row) -> None:
            if row.path == "07.png":
                folder.rename(away)
                if left == "an empty folder":
                    folder.mkdir()

    out = tmp_path / "o.csv"
    with pytest.raises(MedkitError, match=r"share has gone; once it is back, .* --resume"):
        classify_files(replace(options, out=out), Unmounting())
    with out.open(newline="") as stream:
        assert {row["status"] for row in csv.DictReader(stream)} == {"ok"}
    if left == "an empty folder":
        folder.rmdir()
    away.rename(folder)
    classify_files(replace(options, out=out, resume=True))
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


# Names


def hostile_names() -> Iterator[bytes]:
    yield from (b"line\nfeed.png", b"return\r.png", b'"quotes".png', b"commas,,.png", b"tab\t.png")
    yield from (b"=1+2.png", b"+1.png", b"-1.png", b"@x.png", b"'=1.png", b"=cmd|' C calc'!A0.png")
    yield from (bytes([control]) + b".png" for control in (*range(1, 32), 127))
    yield from ("\u202egnp.exe.png".encode(), "\u200f\u2066.png".encode(), "\ufeff.png".encode())
    yield from (b"\xff\xfe.png", b"caf\xe9.png", b"\xed\xb2\x80.png", b"\xf0\x9f\x92.png")
    yield from (b"n" * 251 + b".png", ("\u65e5" * 83).encode() + b".png")
    yield from (b" .png", b"  lead.png", b"trail .png", b"$(id).png", b"`id`.png", b";id.png")
    yield from (b"-o.png", b"--resume.png", b"%s%n.png", b"{0}.png", b"[red]x.png", b"\\udcff.png")
    yield from ("e\u0301.png".encode(), "\u00e9.png".encode(), b"NUL.png", b"con.PNG")


@pytest.mark.skipif(sys.platform != "linux", reason="LOUDLY: names are not bytes here")
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_whatever_a_file_is_called_it_has_one_row_and_its_name_can_be_recovered(
    suffix: str, tmp_path: Path, pooled_models: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    names = set(hostile_names())
    Image.new("L", (20, 20), 90).save(folder / "first.png")
    content = (folder / "first.png").read_bytes()
    (folder / "first.png").unlink()
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(content)
    out = tmp_path / f"o.{suffix}"
    summary = classify_files(ClassifyOptions((folder,), out, trained=pooled_models))
    assert summary.ok == len(names)
    with out.open(newline="", encoding="utf-8") as stream:
        if suffix == "jsonl":
            found = [json.loads(line)["path"] for line in stream]
        else:
            found = [path_from_csv(row["path"]) for row in csv.DictReader(stream)]
    assert set(map(os.fsencode, found)) == names
    assert len(found) == len(names)
