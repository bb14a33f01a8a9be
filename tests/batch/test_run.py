"""Batch classification with models that are known functions of the pixels."""

from __future__ import annotations

import csv
import io
import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fakemodels import Models, Watcher, coloured, expected, grey, mixture, options
from medkit.batch import path_lists, plan
from medkit.batch import run as module
from medkit.batch.listing import ListedImage, find_images
from medkit.batch.options import ClassifyOptions
from medkit.batch.rows import Row
from medkit.batch.run import classify_files, predict_paths
from medkit.tasks import TASKS


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16, 100])
@pytest.mark.parametrize("seed", range(3))
def test_each_file_has_its_own_row_in_order_whatever_the_batches(
    tmp_path: Path, models: Models, batch_size: int, seed: int
) -> None:
    made = mixture(tmp_path, 45, seed)
    rows = list(predict_paths(options(tmp_path, batch_size=batch_size)))
    assert [row.path for row in rows] == [name for name, _ in made]
    for row, (name, task) in zip(rows, made, strict=True):
        if task is None:
            assert (row.status, row.task, row.label) == ("error", "", "")
            assert row.error
            assert row.probabilities == {}
        else:
            probabilities = expected(tmp_path / name, task)
            assert (row.status, row.task, row.error) == ("ok", task.name, "")
            assert row.probabilities == pytest.approx(probabilities)
            assert row.label == max(probabilities, key=probabilities.__getitem__)
            assert row.confidence == row.probabilities[row.label]
    assert all(max(model.batches) <= batch_size for model in models.values())


@pytest.mark.parametrize("first", [grey, coloured])
def test_rows_come_while_files_are_still_unread(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    first(tmp_path / "000.png", 150)
    for index in range(1, 60):
        coloured(tmp_path / f"{index:03}.png", 150)
    listed: list[ListedImage] = []

    def listing(*arguments: Any) -> Iterator[ListedImage]:
        for found in find_images(*arguments):
            listed.append(found)
            yield found

    monkeypatch.setattr(plan, "find_images", listing)
    rows = predict_paths(options(tmp_path, batch_size=2, threads=2))
    assert next(rows).path == "000.png"
    assert len(listed) < 30
    assert len(list(rows)) == 59


def test_rows_are_in_the_file_when_they_are_announced(tmp_path: Path, models: Models) -> None:
    for index in range(5):
        grey(tmp_path / f"{index}.png", index)
    out = tmp_path / "o.csv"

    class Reader(Watcher):
        def row(self, row: Row) -> None:
            super().row(row)
            assert out.read_bytes().count(b"\n") == 1 + len(self.rows)

    watcher = Reader()
    classify_files(options(tmp_path, out=out, batch_size=2), watcher)
    assert len(watcher.rows) == 5


def test_summary_output_and_observer_agree(tmp_path: Path, models: Models) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    made = mixture(folder, 20, seed=1)
    watcher = Watcher()
    out = tmp_path / "o.csv"
    summary = classify_files(options(folder, out=out), watcher)
    written = list(csv.DictReader(io.StringIO(out.read_text(), newline="")))
    assert [row["path"] for row in written] == [row.path for row in watcher.rows]
    assert summary.errors == sum(task is None for _, task in made)
    assert summary.ok == sum(summary.counts.values()) == 20 - summary.errors
    decided = Counter((row["task"], row["label"]) for row in written if row["status"] == "ok")
    assert summary.counts == decided
    assert summary.out == out
    assert summary.images_per_second == pytest.approx(20 / summary.seconds)
    assert watcher.totals in ([], [20])


def test_the_total_is_told_once_it_is_known(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        grey(tmp_path / f"{index}.png", index)
    total: Future[int] = Future()

    @contextmanager
    def counting(*_: Any) -> Iterator[Future[int]]:
        yield total

    class Telling(Watcher):
        def row(self, row: Row) -> None:
            super().row(row)
            if len(self.rows) == 2:
                assert self.totals == []
                total.set_result(3)

    monkeypatch.setattr(module, "counting", counting)
    watcher = Telling()
    classify_files(options(tmp_path, out=tmp_path / "o.csv"), watcher)
    assert watcher.totals == [3]


def test_an_interrupt_keeps_the_rows_before_it(tmp_path: Path, models: Models) -> None:
    for index in range(9):
        grey(tmp_path / f"{index}.png", index)

    class Interrupter(Watcher):
        def row(self, row: Row) -> None:
            super().row(row)
            if len(self.rows) == 3:
                raise KeyboardInterrupt

    out = tmp_path / "o.csv"
    with pytest.raises(KeyboardInterrupt):
        classify_files(options(tmp_path, out=out, batch_size=2), Interrupter())
    assert out.read_bytes().count(b"\n") == 1 + 3


# Memory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="LOUDLY: only Linux tells")
def test_memory_does_not_grow_with_the_number_of_images(
    pooled_models: Path, tmp_path: Path
) -> None:
    peaks = []
    for count in (200, 4000):
        folder = tmp_path / str(count)
        folder.mkdir()
        grey(folder / "0.png", 90, (300, 300))
        for index in range(1, count):
            os.link(folder / "0.png", folder / f"{index}.png")
        code = (
            "import sys; from pathlib import Path\n"
            "from medkit.batch.run import ClassifyOptions, classify_files\n"
            "folder, out, trained = map(Path, sys.argv[1:])\n"
            "options = ClassifyOptions((folder,), out, 'pneumonia', threads=2, trained=trained)\n"
            "print(classify_files(options).ok)\n"
            "lines = Path('/proc/self/status').read_text().splitlines()\n"
            "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))"
        )
        arguments = [folder, tmp_path / f"{count}.csv", pooled_models]
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=True,
        )
        ok, peak = map(int, done.stdout.split())
        assert ok == count
        peaks.append(peak)
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize("runtime", ["litert", "onnx"])
def test_batches_and_threads_change_no_row_of_the_shipped_models(runtime: str) -> None:
    samples = Path(__file__).parents[1] / "samples"
    asked = options(samples, runtime=runtime)
    alone = list(predict_paths(replace(asked, batch_size=1, threads=1)))
    assert {row.task for row in alone} == set(TASKS)
    for row, same in zip(
        predict_paths(replace(asked, batch_size=7, threads=3)), alone, strict=True
    ):
        assert (row.path, row.status, row.label) == (same.path, same.status, same.label)
        assert row.probabilities == pytest.approx(same.probabilities, abs=1e-6)


def test_what_is_doubtful_about_a_row_is_noted_and_counted(tmp_path: Path, models: Models) -> None:
    levels = np.arange(1, 65, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(levels * 60).save(tmp_path / "a.png")  # 12 bits in 16
    coloured(tmp_path / "b.png", 150)
    Image.new("L", (90, 30), 99).save(tmp_path / "c.png")
    Image.new("RGBA", (30, 20), (90, 90, 90, 0)).save(tmp_path / "d.png")
    grey(tmp_path / "e.png", 100)
    (tmp_path / "f.png").write_bytes(b"broken")
    out = tmp_path / "o.csv"
    summary = classify_files(options(tmp_path, out=out, task="pneumonia"))
    with out.open(newline="") as stream:
        assert {row["path"]: row["notes"] for row in csv.DictReader(stream)} == {
            "a.png": "depth guessed",
            "b.png": "colour unexpected",
            "c.png": "shape unusual",
            "d.png": "alpha ignored",
            "e.png": "",
            "f.png": "",
        }
    assert summary.notes == {
        "depth guessed": 1,
        "alpha ignored": 1,
        "colour unexpected": 1,
        "shape unusual": 1,
    }


# Lists that come slowly


@pytest.mark.parametrize(("come", "taken"), [(b"a.png\nb.png\nc.p", 2), (b"a.p", 0), (b"", 0)])
def test_a_run_that_waits_for_a_path_ends_when_it_is_told_and_can_be_continued(
    tmp_path: Path,
    pooled_models: Path,
    monkeypatch: pytest.MonkeyPatch,
    come: bytes,
    taken: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a.png", "b.png", "c.png", "d.png"]
    for number, name in enumerate(names):
        Image.new("L", (20, 20), 50 * number).save(name)
    reader, writer = os.pipe()
    os.write(writer, come)
    ending, reads = Event(), itertools.count(0 if come else 1)

    def told_while_it_waits(stream: Any, stop: Event | None) -> bytes | None:
        if next(reads) == 1:
            ending.set()
        return next_block(stream, stop)

    next_block = path_lists._next_block
    asked = ClassifyOptions(
        out="o.csv",
        task="pneumonia",
        batch_size=3,
        trained=pooled_models,
        from_file=Path(f"/dev/fd/{reader}"),
    )
    closing = Timer(30, os.close, (writer,))
    closing.start()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(path_lists, "_next_block", told_while_it_waits)
            summary = classify_files(asked, ending=ending)
    finally:
        closing.cancel()
        os.close(reader)
    os.close(writer)
    assert (summary.interrupted, summary.rows) == (True, taken)
    Path("list").write_text("\n".join(names))
    with Path("list").open("rb") as stdin:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stdin))
        summary = classify_files(replace(asked, from_file=Path("-"), resume=True))
    assert (summary.interrupted, summary.kept) == (False, taken)
    with Path("o.csv").open() as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == names
