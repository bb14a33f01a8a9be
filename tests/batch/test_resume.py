"""Runs that were killed, and are continued: every row once, and the same bytes in the end."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from medkit.batch import columns, quarantine
from medkit.batch.engines.registry import WorkersDiedError
from medkit.batch.engines.threads import Threads
from medkit.batch.observers import Silent
from medkit.batch.options import ClassifyOptions
from medkit.batch.outputs.csv import path_from_csv
from medkit.batch.outputs.lines import LineSink
from medkit.batch.resume import sole_writer
from medkit.batch.rows import Row
from medkit.batch.run import ClassifySummary, classify_files
from medkit.batch.run_record import record_path
from medkit.errors import MedkitError, UsageError

NAMES = [
    *(f"{number:02}.png" for number in range(17)),
    "=1+1.png",
    'quoted "name".png',
    "comma, and\nline break.png",
    "\u202eright to left.png",
    os.fsdecode(b"not utf-8 \xff.png"),
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images of all kinds of names, one of them broken."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        Image.new("L", (20, 20), 10 * number).save(folder / name)
    (folder / "05.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def options(images: Path, pooled_models: Path, tmp_path: Path) -> ClassifyOptions:
    return ClassifyOptions(
        (images,), tmp_path / "o.csv", "pneumonia", batch_size=4, threads=2, trained=pooled_models
    )


def finish(options: ClassifyOptions) -> tuple[bytes, ClassifySummary]:
    """Run, and return the output's bytes and the summary."""
    summary = classify_files(options)
    return Path(options.out).read_bytes(), summary


# What is kept, and what is done


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_wherever_an_output_is_torn_the_finished_file_is_the_same(
    options: ClassifyOptions, tmp_path: Path, suffix: str
) -> None:
    options = replace(options, out=tmp_path / f"o.{suffix}")
    whole, undisturbed = finish(options)
    assert undisturbed.kept == 0
    rng = random.Random(0)
    for cut in [0, 1, len(whole) - 1, len(whole), *rng.sample(range(len(whole)), 40)]:
        Path(options.out).write_bytes(whole[:cut])
        again, summary = finish(replace(options, resume=True))
        assert again == whole
        assert (summary.counts, summary.ok, summary.errors) == (
            undisturbed.counts,
            undisturbed.ok,
            undisturbed.errors,
        )


def test_only_rows_that_were_missing_are_told_and_counted_as_work(
    options: ClassifyOptions,
) -> None:
    whole, _ = finish(options)
    lines = whole.split(b"\n")
    Path(options.out).write_bytes(b"\n".join(lines[:11]) + b"\n")
    told: list[Row] = []

    class Watcher(Silent):
        def row(self, row: Row) -> None:
            told.append(row)

    summary = classify_files(replace(options, resume=True), Watcher())
    assert summary.kept == 10
    assert len(told) == len(NAMES) - 10
    assert summary.ok + summary.errors == len(NAMES)


def test_a_finished_run_has_nothing_left_to_do(options: ClassifyOptions) -> None:
    whole, _ = finish(options)
    again, summary = finish(replace(options, resume=True))
    assert again == whole
    assert summary.kept == len(NAMES)


def test_without_an_output_a_run_begins(options: ClassifyOptions) -> None:
    whole, summary = finish(replace(options, resume=True))
    assert summary.kept == 0
    assert whole.count(b"\n") >= len(NAMES)


def test_files_that_came_and_went_cost_no_row_and_double_none(
    options: ClassifyOptions, images: Path
) -> None:
    whole, _ = finish(options)
    lines = whole.split(b"\n")
    Path(options.out).write_bytes(b"\n".join(lines[:9]) + b"\n")
    (images / "02.png").unlink()
    Image.new("L", (20, 20), 3).save(images / "03b.png")
    again, summary = finish(replace(options, resume=True))
    names = [line.split(b",")[0].decode() for line in again.split(b"\n") if line.endswith(b",")]
    assert names.count("02.png") == 1
    assert names.count("03b.png") == 1
    assert len(names) == len(set(names))
    assert summary.ok + summary.errors == len(NAMES) + 1


# What is refused


def test_an_output_is_not_replaced_unless_asked(options: ClassifyOptions) -> None:
    whole, _ = finish(options)
    message = "o.csv exists; continue it with --resume, or replace it with --overwrite"
    with pytest.raises(UsageError, match=message):
        classify_files(options)
    Path(options.out).write_text("other")
    with pytest.raises(UsageError, match="exists"):
        classify_files(options)
    assert finish(replace(options, overwrite=True))[0] == whole


def test_an_empty_file_is_no_output_that_could_be_lost(options: ClassifyOptions) -> None:
    whole, _ = finish(options)
    for resume in (False, True):
        Path(options.out).write_bytes(b"")
        record_path(Path(options.out)).unlink()
        assert finish(replace(options, resume=resume))[0] == whole


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"batch_size": 5}, "batch size 4, and this run has 5"),
        ({"operating_point": "high-sensitivity"}, 'operating point "balanced"'),
        ({"exclude": ("0*",)}, "exclude "),
        ({"task": "auto"}, 'task "pneumonia", and this run has "auto"'),
    ],
)
def test_a_run_is_not_continued_with_other_arguments(
    options: ClassifyOptions, changes: dict[str, Any], name: str
) -> None:
    whole, _ = finish(options)
    with pytest.raises(UsageError, match=name):
        classify_files(replace(options, resume=True, **changes))
    assert Path(options.out).read_bytes() == whole


def test_a_run_is_not_continued_with_another_model(
    options: ClassifyOptions, pooled_models: Path
) -> None:
    whole, _ = finish(options)
    other = pooled_models / "pneumonia/model-fp32.onnx"
    with pytest.raises(
        UsageError,
        match=r'models pneumonia file "model-int8.tflite", and this run has "model-fp32.onnx"',
    ):
        classify_files(replace(options, trained=None, model=other, resume=True))
    assert Path(options.out).read_bytes() == whole


def test_rows_without_a_record_or_of_another_program_are_not_continued(
    options: ClassifyOptions,
) -> None:
    whole, _ = finish(options)
    out = Path(options.out)
    out.write_bytes(b"path,label\n1.png,sick\n")
    with pytest.raises(UsageError, match="does not begin with the columns of this run"):
        classify_files(replace(options, resume=True))
    out.write_bytes(whole[: whole.index(b"\n") + 1] + b"1.png,sick\n")
    with pytest.raises(UsageError, match="holds a row that medkit did not write"):
        classify_files(replace(options, resume=True))
    record_path(out).write_text("{ torn")
    with pytest.raises(UsageError, match=r"run.json cannot be read"):
        classify_files(replace(options, resume=True))
    record_path(out).unlink()
    with pytest.raises(UsageError, match=r"no o.csv.run.json beside it"):
        classify_files(replace(options, resume=True))


def test_both_ways_at_once_and_standard_output_are_refused(options: ClassifyOptions) -> None:
    with pytest.raises(UsageError, match="give one of them"):
        classify_files(replace(options, resume=True, overwrite=True))
    with pytest.raises(UsageError, match="standard output cannot be continued"):
        classify_files(replace(options, out="-", resume=True))


def test_another_process_that_writes_is_not_written_against(options: ClassifyOptions) -> None:
    pytest.importorskip("fcntl")
    whole, _ = finish(options)
    Path(options.out).write_bytes(whole[:200])
    for how in ({"resume": True}, {"overwrite": True}):
        with sole_writer(Path(options.out)):
            with pytest.raises(UsageError, match=r"another process is writing to .*o.csv; wait"):
                classify_files(replace(options, **how))
            assert Path(options.out).read_bytes() == whole[:200]
    assert finish(replace(options, resume=True))[0] == whole


def test_the_same_spelling_in_another_folder_is_another_run(
    options: ClassifyOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(options.inputs[0], tmp_path / "elsewhere/images")
    monkeypatch.chdir(tmp_path)
    asked = replace(options, inputs=(Path("images"),))
    whole, _ = finish(asked)
    # The same folder by another name is the same run.
    assert finish(replace(options, resume=True))[0] == whole
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="was written with inputs "):
        classify_files(replace(asked, resume=True))


def test_nothing_is_lost_where_the_record_cannot_be_written(options: ClassifyOptions) -> None:
    Path(options.out).write_text("precious")
    record_path(Path(options.out)).mkdir()
    with pytest.raises(MedkitError, match=r"o.csv.run.json cannot be written: Is a directory"):
        classify_files(replace(options, overwrite=True))
    assert Path(options.out).read_text() == "precious"


def test_rows_that_a_killed_replacement_left_are_not_taken_for_its_own(
    options: ClassifyOptions,
) -> None:
    whole, _ = finish(options)
    record = record_path(Path(options.out))
    stored = json.loads(record.read_text())
    Path(options.out).write_bytes(whole.replace(b"NORMAL,", b"normal,"))
    record.write_text(json.dumps({**stored, "emptied": False}))
    assert finish(replace(options, resume=True))[0] == whole


def test_an_output_behind_a_link_is_written_where_the_link_leads(
    options: ClassifyOptions, tmp_path: Path
) -> None:
    whole, _ = finish(options)
    (tmp_path / "link.csv").symlink_to(tmp_path / "o.csv")
    Path(options.out).write_text("old")
    classify_files(replace(options, out=tmp_path / "link.csv", overwrite=True))
    assert (tmp_path / "link.csv").is_symlink()
    assert Path(options.out).read_bytes() == whole


def test_what_was_fastest_once_is_used_again(
    images: Path, tiny_exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = ClassifyOptions(
        (images,), tmp_path / "o.csv", "pneumonia", runtime="auto", trained=tiny_exported
    )
    whole, _ = finish(options)
    record = record_path(Path(options.out))
    stored = json.loads(record.read_text())
    runtimes = {"model-int8.tflite": "litert", "model-int8.onnx": "onnx"}
    found = stored["models"]["pneumonia"]
    name = next(name for name in runtimes if name != found["file"])
    manifest = json.loads((tiny_exported / "pneumonia/manifest.json").read_text())
    sha256 = manifest["exports"][name]["sha256"]
    found |= {"file": name, "sha256": sha256, "runtime": runtimes[name]}
    record.write_text(json.dumps(stored))
    Path(options.out).write_bytes(whole[:150])
    summary = classify_files(replace(options, resume=True))
    assert name in summary.models["pneumonia"]


def test_room_that_a_power_cut_left_empty_is_cut_off_with_all_behind_it(
    options: ClassifyOptions,
) -> None:
    whole, _ = finish(options)
    lines = whole.splitlines(keepends=True)
    for torn in (bytes(500), bytes(500) + b"\n", bytes(60) + b"half,a,row\n" + lines[-1]):
        Path(options.out).write_bytes(b"".join(lines[:9]) + torn)
        again, summary = finish(replace(options, resume=True))
        assert again == whole
        assert summary.kept == 8


def test_a_record_that_is_removed_meanwhile_is_written_anew(options: ClassifyOptions) -> None:
    class Removing(Silent):
        def row(self, row: Row) -> None:
            record_path(Path(options.out)).unlink(missing_ok=True)

    classify_files(options, Removing())
    record = json.loads(record_path(Path(options.out)).read_text())
    assert record["finished"]
    assert record["models"]["pneumonia"]["sha256"]


@pytest.mark.parametrize(
    "content", ["", "no json", "[]", "7", "NaN", '{"models": 5}', "[" * 100_000, '{"medkit": []}']
)
def test_a_record_that_is_none_is_refused_in_one_line(
    options: ClassifyOptions, content: str
) -> None:
    whole, _ = finish(options)
    record_path(Path(options.out)).write_text(content)
    with pytest.raises(UsageError) as caught:
        classify_files(replace(options, resume=True))
    assert "--overwrite" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert Path(options.out).read_bytes() == whole


@pytest.mark.parametrize(
    "models", [5, [], {"pneumonia": "x"}, {"pneumonia": {"file": []}}, {"pneumonia": {"file": "x"}}]
)
def test_a_record_of_strange_models_is_refused_with_any_runtime(
    images: Path, tiny_exported: Path, tmp_path: Path, models: object, monkeypatch: Any
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = ClassifyOptions(
        (images,), tmp_path / "o.csv", "pneumonia", runtime="auto", trained=tiny_exported
    )
    finish(options)
    record = record_path(Path(options.out))
    record.write_text(json.dumps({**json.loads(record.read_text()), "models": models}))
    with pytest.raises(UsageError, match=r"run\.json cannot be read \(models"):
        classify_files(replace(options, resume=True))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="LOUDLY: no pipes on this system")
def test_a_pipe_is_not_continued(options: ClassifyOptions) -> None:
    os.mkfifo(options.out)
    with pytest.raises(UsageError, match="cannot be continued: it is no file"):
        classify_files(replace(options, resume=True))


def test_an_output_whose_record_would_have_too_long_a_name_is_refused_before_it_is_made(
    options: ClassifyOptions, tmp_path: Path
) -> None:
    out = tmp_path / ("n" * 250 + ".csv")
    with pytest.raises(MedkitError, match="cannot be written: File name too long"):
        classify_files(replace(options, out=out))
    assert not out.exists()


# How a run ends


def test_the_record_tells_of_arguments_models_and_the_end(options: ClassifyOptions) -> None:
    finish(options)
    record = json.loads(record_path(Path(options.out)).read_text())
    assert record["batch size"] == 4
    assert record["models"]["pneumonia"]["file"] == "model-int8.tflite"
    assert len(record["models"]["pneumonia"]["sha256"]) == 64
    assert record["models"]["pneumonia"]["contract"]
    assert record["finished"]
    assert (record["rows"], record["errors"]) == (len(NAMES), 1)


def test_a_run_that_is_told_to_end_finishes_what_is_in_work_and_can_be_continued(
    options: ClassifyOptions,
) -> None:
    whole, _ = finish(options)
    ending = Event()

    class Ender(Silent):
        def row(self, row: Row) -> None:
            ending.set()

    options = replace(options, batch_size=1, threads=1, overwrite=True)
    summary = classify_files(options, Ender(), ending)
    assert summary.interrupted
    assert 1 <= summary.ok + summary.errors < len(NAMES)
    assert json.loads(record_path(Path(options.out)).read_text())["finished"] is None
    rows = Path(options.out).read_bytes()
    assert whole.startswith(rows)
    assert finish(replace(options, overwrite=False, resume=True))[0] == whole


def test_a_run_that_is_told_to_end_before_its_first_row_leaves_the_output_as_it_was(
    options: ClassifyOptions,
) -> None:
    whole, _ = finish(options)
    record = record_path(Path(options.out)).read_bytes()
    ending = Event()
    ending.set()
    summary = classify_files(replace(options, overwrite=True), Silent(), ending)
    assert (summary.interrupted, summary.ok, summary.errors) == (True, 0, 0)
    assert Path(options.out).read_bytes() == whole
    assert record_path(Path(options.out)).read_bytes() == record
    new = Path(options.out).with_name("new.csv")
    assert classify_files(replace(options, out=new), Silent(), ending).interrupted
    assert not new.exists()


def test_a_column_that_fails_at_the_first_row_leaves_the_output_as_it_was(
    options: ClassifyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = finish(options)
    record = record_path(Path(options.out)).read_bytes()
    monkeypatch.setattr(columns, "_ADDED", [])
    columns.register_column(columns.Column("mine", "number", lambda row: 1 / 0))
    with pytest.raises(MedkitError, match="the column 'mine' fails for 00.png .ZeroDivisionError"):
        classify_files(replace(options, overwrite=True))
    assert Path(options.out).read_bytes() == whole
    assert record_path(Path(options.out)).read_bytes() == record


def test_workers_that_die_before_the_first_row_leave_the_record_that_tells_what_was_in_work(
    options: ClassifyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(Threads):
        def run(self, chunks: Any, job: Any, stop: Any) -> Any:
            raise RuntimeError("a worker has gone")
            yield

    monkeypatch.setattr("medkit.batch.plan.get_engine", lambda name: Dying())
    with pytest.raises(WorkersDiedError, match="the engine threads failed .RuntimeError: a worker"):
        classify_files(options)
    monkeypatch.undo()
    tried: list[int] = []

    def screened(found: Any, count: int, *others: Any) -> Any:
        tried.append(count)
        return found

    monkeypatch.setattr(quarantine, "screen_suspects", screened)
    assert classify_files(replace(options, resume=True)).ok
    assert tried


@pytest.mark.parametrize("given", [0, 3])
def test_an_engine_that_ends_too_early_is_not_taken_for_one_that_has_finished(
    options: ClassifyOptions, monkeypatch: pytest.MonkeyPatch, given: int
) -> None:
    whole, _ = finish(options)

    class Lazy(Threads):
        def run(self, chunks: Any, job: Any, stop: Any) -> Any:
            for rows, _ in zip(super().run(chunks, job, stop), range(given), strict=False):
                yield rows

    monkeypatch.setattr("medkit.batch.plan.get_engine", lambda name: Lazy())
    with pytest.raises(WorkersDiedError, match="ended before every image had one row"):
        classify_files(replace(options, overwrite=True))
    monkeypatch.undo()
    assert finish(replace(options, resume=True))[0] == whole


def test_a_run_that_is_complete_stays_so_if_it_is_told_to_end_while_it_is_continued(
    options: ClassifyOptions,
) -> None:
    whole, _ = finish(options)
    ending = Event()
    ending.set()
    summary = classify_files(replace(options, resume=True), Silent(), ending)
    assert not summary.interrupted
    assert Path(options.out).read_bytes() == whole
    assert json.loads(record_path(Path(options.out)).read_text())["finished"]


def test_a_run_whose_record_holds_the_title_of_a_runtime_is_continued(
    options: ClassifyOptions,
) -> None:
    whole, _ = finish(options)
    path = record_path(Path(options.out))
    record = json.loads(path.read_text())
    assert record["models"]["pneumonia"]["runtime"] == "litert"
    record["models"]["pneumonia"]["runtime"] = "LiteRT"
    path.write_text(json.dumps(record))
    Path(options.out).write_bytes(whole[:-30])
    assert finish(replace(options, resume=True))[0] == whole


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="LOUDLY: there is no /dev/full here")
def test_a_full_disk_ends_with_one_line_and_leaves_what_can_be_continued(
    options: ClassifyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = finish(options)
    os.unlink(options.out)
    write, count = LineSink.write, 0

    with open("/dev/full", "wb", buffering=0) as full:

        def failing(self: LineSink, row: Row) -> None:
            nonlocal count
            count += 1
            if count == 8:
                self._stream = full
            write(self, row)

        monkeypatch.setattr(LineSink, "write", failing)
        with pytest.raises(MedkitError, match="No space left on device; put that right"):
            classify_files(options)
    monkeypatch.undo()
    assert finish(replace(options, resume=True))[0] == whole


# Rows with an error that are tried again


def rows_of(out: str | Path) -> list[dict[str, str]]:
    with open(out, newline="", encoding="utf-8-sig") as stream:
        return [{**row, "path": path_from_csv(row["path"])} for row in csv.DictReader(stream)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_what_failed_is_tried_again_and_stands_last(
    options: ClassifyOptions, images: Path, tmp_path: Path, suffix: str
) -> None:
    options = replace(options, out=tmp_path / f"o.{suffix}", retry_errors=False)
    (images / "09.png").write_bytes(b"")
    whole, before = finish(options)
    assert before.errors == 2
    Image.new("L", (20, 20), 50).save(images / "05.png")
    Path(options.out).chmod(0o640)
    again, after = finish(replace(options, resume=True, retry_errors=True))
    lines, failed = whole.splitlines(keepends=True), [b"05.png", b"09.png"]
    kept = [line for line in lines if not any(name in line[:20] for name in failed)]
    assert again.startswith(b"".join(kept))
    last = again.splitlines()[-2:]
    assert [name in line for name, line in zip(failed, last, strict=True)] == [True, True]
    assert b"ok" in last[0]
    assert b"error" in last[1]
    assert len(again.splitlines()) == len(lines)
    assert (after.ok, after.errors, after.kept) == (len(NAMES) - 1, 1, len(NAMES) - 2)
    assert Path(options.out).stat().st_mode & 0o777 == 0o640
    record = json.loads(record_path(Path(options.out)).read_text())
    assert (record["rows"], record["errors"]) == (len(NAMES), 1)
    assert finish(replace(options, resume=True))[0] == again


def test_without_an_error_there_is_nothing_to_try_again(
    options: ClassifyOptions, images: Path
) -> None:
    (images / "05.png").unlink()
    whole, _ = finish(options)
    inode = Path(options.out).stat().st_ino
    asked = replace(options, resume=True, retry_errors=True)
    assert finish(asked)[0] == whole
    Path(options.out).write_bytes(whole[:300])
    assert finish(asked)[0] == whole
    assert Path(options.out).stat().st_ino == inode


def test_where_every_row_failed_all_are_tried_again(options: ClassifyOptions, images: Path) -> None:
    good = {path: path.read_bytes() for path in images.iterdir()}
    for path in good:
        path.write_bytes(b"")
    assert finish(options)[1].ok == 0
    for path, content in good.items():
        path.write_bytes(content)
    assert finish(replace(options, resume=True, retry_errors=True))[1].errors == 1
    assert [row["path"] for row in rows_of(options.out)] == sorted(NAMES, key=os.fsencode)


def test_what_failed_and_has_gone_keeps_a_row(options: ClassifyOptions, images: Path) -> None:
    finish(options)
    (images / "05.png").unlink()
    summary = classify_files(replace(options, resume=True, retry_errors=True))
    assert summary.errors == 1
    last = rows_of(options.out)[-1]
    assert (last["path"], last["error"]) == ("05.png", "file not found")


def test_a_folder_that_could_not_be_read_gives_way_to_its_images(
    options: ClassifyOptions, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "sub").mkdir()
    Image.new("L", (20, 20), 3).save(images / "sub/a.png")
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert finish(options)[1].errors == 2
    monkeypatch.undo()
    assert finish(replace(options, resume=True, retry_errors=True))[1].errors == 1
    assert [row["path"] for row in rows_of(options.out)][-2:] == ["05.png", "sub/a.png"]


def test_a_run_that_fails_before_its_first_new_row_keeps_the_rows_with_an_error(
    options: ClassifyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = finish(options)
    asked = replace(options, resume=True, retry_errors=True)
    ending = Event()
    ending.set()
    assert classify_files(asked, Silent(), ending).interrupted
    assert Path(options.out).read_bytes() == whole

    class Dying(Threads):
        def run(self, chunks: Any, job: Any, stop: Any) -> Any:
            raise RuntimeError("a worker has gone")
            yield

    monkeypatch.setattr("medkit.batch.plan.get_engine", lambda name: Dying())
    with pytest.raises(WorkersDiedError):
        classify_files(asked)
    assert Path(options.out).read_bytes() == whole


def test_while_rows_are_tried_again_no_other_process_writes(
    options: ClassifyOptions, images: Path
) -> None:
    pytest.importorskip("fcntl")
    finish(options)
    refused: list[str] = []

    class Other(Silent):
        def row(self, row: Row) -> None:
            with pytest.raises(UsageError) as caught, sole_writer(Path(options.out)):
                pass
            refused.append(str(caught.value))

    classify_files(replace(options, resume=True, retry_errors=True), Other())
    assert "another process is writing" in refused[0]


def test_trying_again_without_an_output_to_continue_is_refused(options: ClassifyOptions) -> None:
    with pytest.raises(UsageError, match="--retry-errors continues an output; give --resume"):
        classify_files(replace(options, retry_errors=True))


def test_a_run_killed_while_it_tries_again_has_one_row_for_each_image_in_the_end(
    images: Path, pooled_models: Path, tmp_path: Path
) -> None:
    content = (images / "00.png").read_bytes()
    for number in range(600):
        (images / f"x{number:04}.png").write_bytes(content if number % 3 else b"")
    out = tmp_path / "o.csv"
    command = [sys.executable, "-m", "medkit", "classify", str(images), "--out", str(out)]
    command += ["--task", "pneumonia", "--trained", str(pooled_models), "--batch-size", "4"]
    names = sorted(path.name for path in images.iterdir())
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 3
    assert sum(row["status"] == "error" for row in rows_of(out)) == 201
    for number in range(0, 600, 3):
        (images / f"x{number:04}.png").write_bytes(content)
    rng, kills = random.Random(3), 0
    for again in range(12):
        retry = ["--retry-errors"] if again % 3 else []
        process = subprocess.Popen([*command, "--resume", *retry], stderr=subprocess.PIPE)
        # From the moment on that the new output takes the old one's place.
        inode, until = out.stat().st_ino, time.monotonic() + rng.uniform(0.3, 1.0)
        while process.poll() is None and time.monotonic() < until and out.stat().st_ino == inode:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.01))
        if process.poll() is None:
            process.kill()
            kills += 1
        _, errors = process.communicate(timeout=60)
        assert b"Traceback" not in errors
        found = [row["path"] for row in rows_of(out) if None not in row.values()]
        assert len(found) == len(set(found))
    retry = ["--resume", "--retry-errors"]
    done = subprocess.run([*command, *retry], check=False, capture_output=True)
    assert done.returncode == 3
    rows = rows_of(out)
    assert sorted(row["path"] for row in rows) == names
    assert [row["path"] for row in rows if row["status"] == "error"] == ["05.png"]
    assert kills > 5


KILLED_AT_A_ROW = """
import os, signal, sys
from pathlib import Path
from medkit.batch.observers import Silent
from medkit.batch.options import ClassifyOptions
from medkit.batch.run import classify_files

images, out, trained, rows = sys.argv[1:]
left = int(rows)

class Killing(Silent):
    def row(self, row):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

classify_files(
    ClassifyOptions(
        (Path(images),), Path(out), "pneumonia", batch_size=4, threads=2, trained=Path(trained),
        resume=True, retry_errors=True,
    ),
    Killing(),
)
"""


@pytest.mark.parametrize("all_failed", [False, True])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_failed_file_that_has_gone_keeps_its_row_when_the_run_is_killed(
    options: ClassifyOptions,
    images: Path,
    pooled_models: Path,
    tmp_path: Path,
    *,
    all_failed: bool,
    again: bool,
    suffix: str,
) -> None:
    options = replace(options, out=tmp_path / f"o.{suffix}")
    for name in NAMES if all_failed else ("01.png", "02.png", "09.png", NAMES[-1]):
        (images / name).write_bytes(b"")
    finish(options)
    gone = ["09.png", NAMES[-1]]
    for name in gone:
        (images / name).unlink()
    for rows in (1, 2) if again else (1,):
        command = [sys.executable, "-c", KILLED_AT_A_ROW, images, options.out, pooled_models]
        killed = subprocess.run([*map(str, command), str(rows)], check=False)
        assert killed.returncode == -signal.SIGKILL
    (images / "05.png").unlink()  # only after its row had been taken out
    for _ in range(2):
        classify_files(replace(options, resume=True))
        if suffix == "jsonl":
            found = [json.loads(line) for line in Path(options.out).read_text().splitlines()]
        else:
            found = rows_of(options.out)
        assert sorted(row["path"] for row in found) == sorted(NAMES)
        reasons = {row["path"]: row["error"] for row in found}
        assert [reasons[name] for name in gone] == ["file not found"] * 2
    record = json.loads(record_path(Path(options.out)).read_text())
    assert "tried again" not in record


@pytest.mark.parametrize(
    "moment",
    ["medkit.batch.resume.replacing", "medkit.batch.outputs.csv.CsvOutput.open"],
    ids=["before the failed rows are taken out", "before the first new row"],
)
def test_a_kill_around_the_taking_out_loses_no_row_and_doubles_none(
    options: ClassifyOptions, images: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    finish(options)
    (images / "05.png").unlink()

    def killed(*arguments: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(moment, killed)
        with pytest.raises(KeyboardInterrupt):
            classify_files(replace(options, resume=True, retry_errors=True))
    record = json.loads(record_path(Path(options.out)).read_text())
    assert record["tried again"] == ["05.png"]
    classify_files(replace(options, resume=True))
    assert sorted(row["path"] for row in rows_of(options.out)) == sorted(NAMES)


def test_a_file_that_is_listed_twice_and_failed_once_has_two_rows_in_the_end(
    options: ClassifyOptions, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    asked = replace(options, inputs=(Path("00.png"), Path("00.png"), Path("01.png")))
    whole, _ = finish(asked)
    out = Path(options.out)
    lines = whole.splitlines(keepends=True)
    out.write_bytes(b"".join([*lines[:2], b"00.png,error,,,,,,it was so,\n", lines[3]]))
    assert classify_files(replace(asked, resume=True, retry_errors=True)).errors == 0
    assert sorted(row["path"] for row in rows_of(out)) == ["00.png", "00.png", "01.png"]


# Names that are written in another way


@pytest.mark.skipif(sys.platform != "linux", reason="LOUDLY: names are not bytes here")
@pytest.mark.parametrize("first", ["C", "C.UTF-8"])
def test_a_run_that_goes_on_in_another_locale_neither_doubles_nor_loses_a_row(
    images: Path, pooled_models: Path, tmp_path: Path, first: str
) -> None:
    for name in ("é.png", "e\u0301.png", "日本.png", "z.png", "ä/ö.png"):
        path = images / name
        path.parent.mkdir(exist_ok=True)
        os.link(images / "00.png", path)
    locales = {
        "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        "C.UTF-8": {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"},
    }
    (second,) = set(locales) - {first}
    # With two arguments, names begin with them.
    command = [sys.executable, "-m", "medkit", "classify", str(images), str(images / "ä")]
    command += ["--exclude", "日*", "--task", "pneumonia", "--trained", str(pooled_models), "--out"]

    def bytes_of(out: Path, *others: str, locale: str) -> bytes:
        environment = {**os.environ, **locales[locale]}
        done = subprocess.run(
            [*command, str(out), *others], env=environment, check=False, capture_output=True
        )
        assert done.returncode == 3, done.stderr
        return out.read_bytes()

    whole = bytes_of(tmp_path / "whole.csv", locale=second)
    assert "é.png".encode() in whole
    assert "日本".encode() not in whole
    out = tmp_path / "o.csv"
    assert bytes_of(out, locale=first) == whole
    assert bytes_of(out, "--resume", locale=second) == whole
    out.write_bytes(whole[: len(whole) // 2])
    assert bytes_of(out, "--resume", locale=second) == whole


def test_rows_that_an_older_version_wrote_in_another_locale_are_known_again(
    options: ClassifyOptions, images: Path
) -> None:
    Image.new("L", (20, 20), 3).save(images / "é.png")
    whole, _ = finish(options)
    Path(options.out).write_bytes(whole.replace("é.png".encode(), rb"\udcc3\udca9.png"))
    assert finish(replace(options, resume=True))[1].kept == len(NAMES) + 1


@pytest.mark.parametrize("retry", [False, True])
def test_names_whose_accents_another_system_took_apart_are_known_again(
    options: ClassifyOptions, images: Path, retry: bool
) -> None:
    for name in ("über.png", "größe.png", "naïve.png"):
        Image.new("L", (20, 20), 3).save(images / name)
    (images / "naïve.png").write_bytes(b"")
    finish(options)
    for name in ("über.png", "größe.png", "naïve.png"):
        (images / name).rename(images / unicodedata.normalize("NFD", name))
    Image.new("L", (20, 20), 3).save(images / "new.png")
    asked = replace(options, resume=True, retry_errors=retry)
    assert finish(asked)[1].ok == len(NAMES) + 2
    names = [unicodedata.normalize("NFC", row["path"]) for row in rows_of(options.out)]
    assert sorted(names) == sorted(
        unicodedata.normalize("NFC", path.name) for path in images.iterdir()
    )


@pytest.mark.parametrize("kept", ["é.png", "e\u0301.png"])
def test_two_files_whose_names_only_look_alike_have_a_row_each(
    options: ClassifyOptions, images: Path, kept: str
) -> None:
    Image.new("L", (20, 20), 3).save(images / kept)
    finish(options)
    for name in ("é.png", "e\u0301.png"):
        Image.new("L", (20, 20), 3).save(images / name)
    if len(list(images.iterdir())) == len(NAMES) + 1:
        pytest.skip("LOUDLY: here both are the same file")
    classify_files(replace(options, resume=True))
    names = [row["path"] for row in rows_of(options.out)]
    assert sorted(names) == sorted(path.name for path in images.iterdir())


# Lists, and what is asked for beside


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_list_is_continued_where_it_was_and_refused_elsewhere(
    options: ClassifyOptions,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    monkeypatch.chdir(images)
    paths = [*NAMES, "missing.png"]
    (tmp_path / "list").write_bytes(b"\0".join(map(os.fsencode, paths)))
    asked = replace(options, inputs=(), from_file=tmp_path / "list", out=tmp_path / f"o.{suffix}")
    whole, summary = finish(asked)
    assert (summary.ok, summary.errors) == (len(NAMES) - 1, 2)
    for cut in (0, 200, len(whole) // 2, len(whole)):
        Path(asked.out).write_bytes(whole[:cut])
        assert finish(replace(asked, resume=True))[0] == whole
    content = (tmp_path / "list").read_bytes()
    Path(asked.out).write_bytes(whole[: len(whole) // 2])
    stdin = SimpleNamespace(buffer=io.BytesIO(content))
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(UsageError, match='was written with from file ".*list", .* has "-"'):
        classify_files(replace(asked, from_file=Path("-"), resume=True))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match='was written with folder ".*images"'):
        classify_files(replace(asked, resume=True))


def test_a_list_on_standard_input_can_be_continued(
    options: ClassifyOptions, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    content = b"\0".join(map(os.fsencode, NAMES))

    def run(*others: Any, **changes: Any) -> bytes:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        return finish(replace(options, inputs=(), from_file=Path("-"), **changes))[0]

    whole = run()
    Path(options.out).write_bytes(whole[: len(whole) // 2])
    assert run(resume=True) == whole


def test_a_file_for_excel_is_continued_as_one(options: ClassifyOptions) -> None:
    asked = replace(options, excel=True)
    whole, _ = finish(asked)
    assert whole.startswith(b"\xef\xbb\xbfpath,")
    for cut in (0, 2, 300, len(whole)):
        Path(options.out).write_bytes(whole[:cut])
        assert finish(replace(asked, resume=True))[0] == whole
    again, _ = finish(replace(asked, resume=True, retry_errors=True))
    assert again.startswith(b"\xef\xbb\xbfpath,")
    assert again.count(b"\xef\xbb\xbf") == 1
    assert sorted(row["path"] for row in rows_of(options.out)) == sorted(NAMES)
    with pytest.raises(UsageError, match="was written with excel true, and this run has false"):
        finish(replace(options, resume=True))
    with pytest.raises(UsageError, match="--excel is for CSV"):
        finish(replace(asked, out=Path(options.out).with_suffix(".jsonl")))


def test_what_is_passed_over_is_in_the_summary_the_record_and_on_request_the_rows(
    options: ClassifyOptions, images: Path
) -> None:
    for name in ("notes.txt", ".hidden", "odd", "real.dcm", "more.txt"):
        (images / name).write_bytes(b"text")
    passed = {".txt": 2, ".dcm": 1, "hidden": 1, "without a suffix": 1}
    whole, summary = finish(options)
    assert (summary.passed_over, summary.skipped, summary.rows) == (passed, 0, len(NAMES))
    record = json.loads(record_path(Path(options.out)).read_text())
    assert record["passed over"] == passed
    Path(options.out).write_bytes(whole[:200])
    assert finish(replace(options, resume=True))[1].passed_over == passed
    with pytest.raises(UsageError, match="was written with all files false, and this run has true"):
        classify_files(replace(options, all_files=True, resume=True))
    asked = replace(options, all_files=True, overwrite=True)
    whole, summary = finish(asked)
    assert (summary.passed_over, summary.skipped, summary.errors) == (passed, 5, 1)
    rows = rows_of(options.out)
    assert sorted(row["path"] for row in rows) == sorted(path.name for path in images.iterdir())
    skipped = {row["path"]: row["error"] for row in rows if row["status"] == "skipped"}
    assert skipped["notes.txt"] == "no image of an accepted format, by its first bytes"
    assert {row["label"] for row in rows if row["status"] == "skipped"} == {""}
    Path(options.out).write_bytes(whole[:400])
    again, summary = finish(replace(asked, overwrite=False, resume=True))
    assert again == whole
    assert (summary.skipped, summary.errors) == (5, 1)


def test_rows_that_are_kept_count_as_done(options: ClassifyOptions) -> None:
    whole, _ = finish(options)
    Path(options.out).write_bytes(b"".join(whole.splitlines(keepends=True)[:11]))
    told: list[tuple[str, int]] = []

    class Counting(Silent):
        def kept(self, count: int) -> None:
            told.append(("kept", count))

        def total(self, count: int) -> None:
            told.append(("total", count))

        def row(self, row: Row) -> None:
            told.append(("row", 1))
            time.sleep(0.05)

    classify_files(replace(options, resume=True), Counting())
    assert told[0] == ("kept", 10)
    assert ("total", len(NAMES)) in told
    assert told.count(("row", 1)) == len(NAMES) - 10


def test_a_run_killed_at_50_moments_ends_in_the_bytes_of_one_left_alone(
    images: Path, pooled_models: Path, tmp_path: Path
) -> None:
    for number in range(1500):
        os.link(images / "00.png", images / f"x{number:04}.png")
    whole, out = tmp_path / "whole.csv", tmp_path / "killed.csv"
    command = [sys.executable, "-m", "medkit", "classify", str(images), "--out"]
    others = ["--task", "pneumonia", "--trained", str(pooled_models), "--batch-size", "4"]
    done = subprocess.run([*command, str(whole), *others], check=False, capture_output=True)
    assert done.returncode == 3
    size, rng = whole.stat().st_size, random.Random(7)
    kills = 0
    for target in sorted(rng.sample(range(size), 50)):
        process = subprocess.Popen(
            [*command, str(out), *others, "--resume"], stderr=subprocess.PIPE
        )
        while process.poll() is None and (not out.exists() or out.stat().st_size < target):
            time.sleep(0.001)
        if process.poll() is None:
            process.kill()
            kills += 1
        _, errors = process.communicate(timeout=60)
        assert b"Traceback" not in errors
    done = subprocess.run(
        [*command, str(out), *others, "--resume"], check=False, capture_output=True
    )
    assert done.returncode == 3
    assert out.read_bytes() == whole.read_bytes()
    assert kills > 10
