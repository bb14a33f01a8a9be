"""Batch classification with models that are known functions of the pixels."""

from __future__ import annotations

import csv
import io
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, active_count, get_ident
from threading import enumerate as enumerate_threads
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medkit.batch import chunk, plan
from medkit.batch import run as module
from medkit.batch.engines import threads as engine
from medkit.batch.listing import ListedImage, find_images
from medkit.batch.options import ClassifyOptions
from medkit.batch.rows import Row
from medkit.batch.run import classify_files, predict_paths
from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.errors import ModelFileError, NoImagesError, UsageError
from medkit.images.limits import Limits
from medkit.images.reading import open_image, read_image
from medkit.models.card import ModelCard
from medkit.models.manifest import FileRecord
from medkit.models.points import OperatingPoint, OperatingPoints
from medkit.models.runtimes import loading
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task

NOT_A_NUMBER = 251
"""Grey level of an image for which the models give no number."""


def points_of(task: Task) -> OperatingPoints:
    """Return one point that takes the likeliest label, and one that takes the alert's for all."""
    return {
        BALANCED: OperatingPoint(BALANCED),
        HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, task.alert, 0.01),
    }


class FakeModel:
    """A model whose probabilities can be told from the mean grey level of an image."""

    runtime = "fake"

    def __init__(self, task: Task, points: OperatingPoints | None = None) -> None:
        contract = task.contract
        self.path = Path(f"{task.name}.tflite")
        self.card = ModelCard(
            task.name, task.labels, contract, 1.0, points or points_of(task), "int8", "0"
        )
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def another(self) -> FakeModel:
        """Return a model for another thread; the batches of all are listed together."""
        other = FakeModel(TASKS[self.card.task], self.card.operating_points)
        other.batches = self.batches
        return other

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.threads.add(get_ident())
        assert len(self.threads) == 1, "one model in two threads"
        self.batches.append(len(images))
        levels = images.reshape(len(images), -1).mean(axis=1)
        classes = len(self.card.labels)
        raw = np.full((len(images), classes), 0.1 / (classes - 1), np.float32)
        raw[np.arange(len(images)), levels.astype(int) % classes] = 0.9
        raw[:, -1] += levels / 10_000
        raw[levels == NOT_A_NUMBER, 0] = np.nan
        return raw


Models = dict[str, FakeModel]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    """Stand in for the trained models; hold those loaded by task, in order of loading."""
    loaded: Models = {}

    def bundle(task: Task, trained: Path | None = None) -> Any:
        return SimpleNamespace(
            operating_points=points_of(task),
            contract=task.contract,
            file_with=lambda suffix: Path(f"{task.name}.tflite"),
            manifest=SimpleNamespace(listed={f"{task.name}.tflite": FileRecord(0, "00")}),
        )

    def load(path: Path, threads: int | None, runtime: str | None = None) -> FakeModel:
        assert path.stem not in loaded, "loaded twice"
        return loaded.setdefault(path.stem, FakeModel(TASKS[path.stem]))

    monkeypatch.setattr(plan, "load_bundle", bundle)
    monkeypatch.setattr(plan, "load_model", load)
    monkeypatch.setattr(loading, "load_model", load)
    monkeypatch.setattr(plan, "sha256_of", lambda path: "00")
    return loaded


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.rows: list[Row] = []

    def total(self, count: int) -> None:
        self.totals.append(count)

    def row(self, row: Row) -> None:
        self.rows.append(row)


def grey(path: Path, level: int, size: tuple[int, int] = (16, 16)) -> None:
    Image.new("L", size, level).save(path)


def coloured(path: Path, red: int, size: tuple[int, int] = (16, 16)) -> None:
    Image.new("RGB", size, (red, 100, 100 - red // 2)).save(path)


def broken(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n no image follows")


def expected(path: Path, task: Task) -> dict[str, float]:
    """Compute the probabilities of a file alone."""
    tensor = np.asarray(open_image(path).convert("L" if task.channels == 1 else "RGB"))
    (values,) = FakeModel(task).predict(tensor[None])
    return dict(zip(task.labels, values.tolist(), strict=True))


def mixture(folder: Path, count: int, seed: int) -> list[tuple[str, Task | None]]:
    """Make files of all kinds; return each one's name and task, ``None`` for a broken one."""
    rng = random.Random(seed)
    made: list[tuple[str, Task | None]] = []
    for index in range(count):
        name = f"{index:03}.png"
        kind = rng.choice([PNEUMONIA, SKIN, SKIN, None])
        size = (rng.randrange(3, 300), rng.randrange(3, 300))
        if kind is None:
            broken(folder / name)
        elif kind is SKIN:
            coloured(folder / name, rng.randrange(120, 200), size)
        else:
            grey(folder / name, rng.randrange(250), size)
        made.append((name, kind))
    return made


def options(*inputs: Path, **others: Any) -> ClassifyOptions:
    return ClassifyOptions(inputs=inputs, **others)


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


@pytest.mark.parametrize("threads", [1, 2, 3, 16, 40])
def test_the_rows_are_the_same_whatever_the_number_of_threads(
    tmp_path: Path, models: Models, threads: int
) -> None:
    mixture(tmp_path, 60, seed=4)
    alone = list(predict_paths(options(tmp_path, batch_size=1, threads=1)))
    models.clear()
    assert list(predict_paths(options(tmp_path, batch_size=4, threads=threads))) == alone


@pytest.mark.parametrize("count", [2, 5])
def test_what_a_model_raises_costs_only_the_images_that_it_is_about(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    for index in range(count):
        grey(tmp_path / f"{index}.png", 10 + index)
    honest = FakeModel.predict

    def picky(self: FakeModel, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if (images == 11).any():
            raise RuntimeError("node 7\nfailed to invoke")
        return honest(self, images)

    monkeypatch.setattr(FakeModel, "predict", picky)
    rows = list(predict_paths(options(tmp_path)))
    assert [row.path for row in rows] == [f"{index}.png" for index in range(count)]
    assert [row.error for row in rows if row.status == "error"] == [
        "fake failed: node 7 failed to invoke"
    ]
    assert rows[1].status == "error"


def test_a_model_that_cannot_be_loaded_by_a_worker_ends_the_run_with_its_reason(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(40):
        grey(tmp_path / f"{index:02}.png", index)

    def gone(self: FakeModel) -> FakeModel:
        raise ModelFileError("the file has gone")

    monkeypatch.setattr(FakeModel, "another", gone)
    slow = FakeModel.predict

    def waiting(self: FakeModel, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(0.05)  # so that a second worker has to come
        return slow(self, images)

    monkeypatch.setattr(FakeModel, "predict", waiting)
    with pytest.raises(ModelFileError, match="the file has gone"):
        list(predict_paths(options(tmp_path, batch_size=2, threads=2)))


def test_closing_the_rows_ends_the_workers(tmp_path: Path, models: Models) -> None:
    mixture(tmp_path, 60, seed=1)
    rows = predict_paths(options(tmp_path, batch_size=2, threads=3))
    next(rows)
    rows.close()
    assert not [thread for thread in enumerate_threads() if thread.name.startswith("medkit-worker")]


def test_a_slow_file_holds_back_those_after_it_but_loses_none(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(30):
        grey(tmp_path / f"{index:02}.png", index)

    def decode(path: Path, *others: Any) -> Image.Image:
        if path.name == "00.png":
            time.sleep(0.2)
        return read_image(path, *others)

    monkeypatch.setattr(chunk, "read_image", decode)
    rows = list(predict_paths(options(tmp_path, batch_size=2, threads=3)))
    assert [row.path for row in rows] == [f"{index:02}.png" for index in range(30)]
    assert all(row.status == "ok" for row in rows)


def test_a_file_that_is_not_read_in_time_gets_its_row_and_holds_up_no_other(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(30):
        grey(tmp_path / f"{index:02}.png", index)
    back = Event()

    def decode(path: Path, *others: Any) -> Image.Image:
        if path.name in ("03.png", "04.png", "20.png"):
            back.wait(60)  # as when a network folder hangs
        return read_image(path, *others)

    monkeypatch.setattr(chunk, "read_image", decode)
    monkeypatch.setattr(engine, "GRACE", 0.05)
    limits = Limits(seconds=0.3)
    before = active_count()
    rows = list(predict_paths(options(tmp_path, batch_size=4, threads=2, limits=limits)))
    assert [row.path for row in rows] == [f"{index:02}.png" for index in range(30)]
    assert {row.path: row.error for row in rows if row.status != "ok"} == dict.fromkeys(
        ("03.png", "04.png", "20.png"), "takes longer to read and decode than 0.3 s"
    )
    for row in rows:
        if row.status == "ok":
            assert row.probabilities == expected(tmp_path / row.path, PNEUMONIA)
    assert active_count() == before + 3  # who hangs is not waited for
    back.set()


@pytest.mark.parametrize(("threads", "batch_size"), [(1, 1), (1, 3), (2, 1), (2, 3), (3, 20)])
def test_what_is_ready_too_late_is_an_error_whether_or_not_somebody_waited(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch, threads: int, batch_size: int
) -> None:
    for index in range(12):
        grey(tmp_path / f"{index:02}.png", index)

    def decode(path: Path, *others: Any) -> Image.Image:
        image = read_image(path, *others)
        time.sleep(0.6 if path.name == "05.png" else 0)
        return image

    monkeypatch.setattr(chunk, "read_image", decode)
    asked = options(tmp_path, batch_size=batch_size, threads=threads, limits=Limits(seconds=0.5))
    late = [row.path for row in predict_paths(asked) if row.status != "ok"]
    assert late == ["05.png"]


def test_full_batches_are_used_where_one_task_is_alone(tmp_path: Path, models: Models) -> None:
    for index in range(10):
        grey(tmp_path / f"{index}.png", index)
    list(predict_paths(options(tmp_path, batch_size=4)))
    assert sorted(models["pneumonia"].batches) == [2, 4, 4]


@pytest.mark.parametrize(
    ("make", "task", "loaded"),
    [(grey, "auto", "pneumonia"), (coloured, "auto", "skin"), (grey, "skin", "skin")],
)
def test_only_the_needed_model_is_loaded(
    tmp_path: Path, models: Models, make: Any, task: str, loaded: str
) -> None:
    make(tmp_path / "a.png", 150)
    (row,) = predict_paths(options(tmp_path, task=task))
    assert list(models) == [loaded]
    assert row.task == loaded


def test_the_threshold_of_the_card_decides(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey(tmp_path / "a.png", 100)
    for threshold, label, confidence in ((0.1, "PNEUMONIA", 0.11), (0.12, "NORMAL", 0.9)):
        points = {BALANCED: OperatingPoint(BALANCED, "PNEUMONIA", threshold)}
        model = FakeModel(PNEUMONIA, points)
        monkeypatch.setattr(
            loading, "load_model", lambda path, threads, runtime, model=model: model
        )
        (row,) = predict_paths(options(tmp_path, task="pneumonia"))
        assert row.label == label
        assert row.confidence == pytest.approx(confidence)


@pytest.mark.parametrize(
    ("point", "labels"),
    [
        (BALANCED, ["NORMAL", "actinic keratosis"]),
        (HIGH_SENSITIVITY, ["PNEUMONIA", "melanoma"]),
    ],
)
def test_the_asked_operating_point_decides_for_every_task(
    tmp_path: Path, models: Models, point: str, labels: list[str]
) -> None:
    grey(tmp_path / "xray.png", 100)
    coloured(tmp_path / "yellow.png", 140)
    wanted = options(tmp_path, operating_point=point)
    rows = list(predict_paths(wanted))
    assert [row.label for row in rows] == labels
    for row, task in zip(rows, (PNEUMONIA, SKIN), strict=True):
        assert row.probabilities == pytest.approx(expected(tmp_path / row.path, task))
        assert row.confidence == row.probabilities[row.label]
    models.clear()
    assert classify_files(replace(wanted, out=tmp_path / "o.csv"), Watcher()).counts == {
        ("pneumonia", labels[0]): 1,
        ("skin", labels[1]): 1,
    }


@pytest.mark.parametrize("point", [BALANCED, HIGH_SENSITIVITY])
def test_the_asked_operating_point_of_a_model_file_decides(
    tmp_path: Path, models: Models, point: str
) -> None:
    grey(tmp_path / "a.png", 100)
    (row,) = predict_paths(options(tmp_path, model=Path("pneumonia.tflite"), operating_point=point))
    assert row.label == {BALANCED: "NORMAL", HIGH_SENSITIVITY: "PNEUMONIA"}[point]


@pytest.mark.parametrize(
    "wanted",
    [{"task": "auto"}, {"task": "skin"}, {"model": Path("skin.tflite")}],
    ids=["auto", "task", "model"],
)
def test_an_unknown_operating_point_is_refused_before_any_row(
    tmp_path: Path, models: Models, wanted: dict[str, Any]
) -> None:
    grey(tmp_path / "a.png", 100)
    out, watcher = tmp_path / "o.csv", Watcher()
    asked = options(tmp_path, out=out, operating_point="careful", **wanted)
    message = "unknown operating point 'careful'; this model has: balanced, high-sensitivity$"
    with pytest.raises(UsageError, match=message):
        classify_files(asked, watcher)
    models.clear()
    with pytest.raises(UsageError, match=message):
        predict_paths(asked)
    assert watcher.rows == []
    assert not out.exists()


def test_an_operating_point_that_one_task_lacks_is_refused_whatever_images_come(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey(tmp_path / "a.png", 100)

    def bundle(task: Task, trained: Path | None = None) -> Any:
        points = points_of(task)
        if task is SKIN:
            del points[HIGH_SENSITIVITY]
        return SimpleNamespace(
            operating_points=points,
            contract=task.contract,
            file_with=lambda suffix: Path(f"{task.name}.tflite"),
            manifest=SimpleNamespace(listed={f"{task.name}.tflite": FileRecord(0, "00")}),
        )

    monkeypatch.setattr(plan, "load_bundle", bundle)
    asked = options(tmp_path, operating_point=HIGH_SENSITIVITY)
    with pytest.raises(UsageError, match="'high-sensitivity'; this model has: balanced$"):
        predict_paths(asked)
    (row,) = predict_paths(replace(asked, task="pneumonia"))
    assert row.label == "PNEUMONIA"


def test_a_model_file_is_used_for_all_images_by_its_card(tmp_path: Path, models: Models) -> None:
    grey(tmp_path / "a.png", 100)
    coloured(tmp_path / "b.png", 150)
    rows = list(predict_paths(options(tmp_path, model=Path("skin.tflite"))))
    assert [row.task for row in rows] == ["skin", "skin"]
    assert list(models) == ["skin"]
    agreeing = options(tmp_path, model=Path("pneumonia.tflite"), task="pneumonia")
    assert {row.task for row in predict_paths(agreeing)} == {"pneumonia"}


def test_a_model_file_for_another_task_is_refused(tmp_path: Path, models: Models) -> None:
    grey(tmp_path / "a.png", 100)
    with pytest.raises(UsageError, match="is a model for skin, not for pneumonia"):
        predict_paths(options(tmp_path, model=Path("skin.tflite"), task="pneumonia"))


def test_an_output_that_is_no_number_is_an_error_row(tmp_path: Path, models: Models) -> None:
    for index, level in enumerate([10, NOT_A_NUMBER, 11]):
        grey(tmp_path / f"{index}.png", level)
    rows = list(predict_paths(options(tmp_path)))
    assert [row.status for row in rows] == ["ok", "error", "ok"]
    assert rows[1] == Row("1.png", "error", "pneumonia", error="the model's output is not finite")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(MemoryError(), "not enough memory to decode"), (KeyError("a\nb"), r"KeyError: 'a\nb'")],
)
def test_whatever_decoding_raises_costs_one_row(
    tmp_path: Path,
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    reason: str,
) -> None:
    for name in "abc":
        grey(tmp_path / f"{name}.png", 10)

    def decode(path: Path, *others: Any) -> Image.Image:
        if path.name == "b.png":
            raise error
        return read_image(path, *others)

    monkeypatch.setattr(chunk, "read_image", decode)
    rows = list(predict_paths(options(tmp_path)))
    assert [(row.path, row.error) for row in rows] == [
        ("a.png", ""),
        ("b.png", reason),
        ("c.png", ""),
    ]


def test_files_that_are_no_images_are_error_rows(tmp_path: Path, models: Models) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "empty.png").touch()
    (folder / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("text")
    rows = list(predict_paths(options(folder, tmp_path / "notes.txt")))
    assert [row.status for row in rows] == ["error"] * 3
    assert rows[1].error == "file not found"
    assert list(models) == []


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


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("auto", PNEUMONIA.labels + SKIN.labels),
        ("pneumonia", PNEUMONIA.labels),
        ("skin", SKIN.labels),
    ],
)
def test_columns_are_those_of_the_tasks_in_play(
    tmp_path: Path, models: Models, task: str, labels: tuple[str, ...]
) -> None:
    grey(tmp_path / "a.png", 10)
    classify_files(options(tmp_path, out=tmp_path / "o.csv", task=task), Watcher())
    header = (tmp_path / "o.csv").read_text().splitlines()[0].split(",")
    assert header[5:-1] == [f"p_{label.replace(' ', '_')}" for label in labels]


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


def test_without_an_image_no_model_is_loaded_and_nothing_written(
    tmp_path: Path, models: Models
) -> None:
    out = tmp_path / "o.csv"
    with pytest.raises(NoImagesError):
        classify_files(options(tmp_path, out=out, task="skin"), Watcher())
    assert list(models) == []
    assert not out.exists()


@pytest.mark.parametrize(
    "wanted",
    [{"task": "skin"}, {"task": "auto"}, {"model": Path("missing.tflite")}],
    ids=["task", "auto", "model"],
)
def test_a_missing_model_is_an_error_and_no_row(tmp_path: Path, wanted: dict[str, Any]) -> None:
    grey(tmp_path / "a.png", 10)
    watcher = Watcher()
    with pytest.raises(ModelFileError):
        classify_files(
            options(tmp_path, out=tmp_path / "o.csv", trained=tmp_path, **wanted), watcher
        )
    assert watcher.rows == []


def test_a_missing_named_model_leaves_an_earlier_output_alone(tmp_path: Path) -> None:
    grey(tmp_path / "a.png", 10)
    out = tmp_path / "o.csv"
    out.write_text("earlier")
    with pytest.raises(ModelFileError):
        classify_files(
            options(tmp_path, out=out, task="skin", trained=tmp_path, overwrite=True), Watcher()
        )
    assert out.read_text() == "earlier"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": "brain"}, "unknown task 'brain'"),
        ({"batch_size": 0}, "batch size 0; accepted: 1 to 1024"),
        ({"batch_size": 10**24}, "accepted: 1 to 1024"),
        ({"threads": 0}, "0 threads; accepted: 1 to 256"),
        ({"threads": 10**9}, "1000000000 threads; accepted: 1 to 256"),
        ({"out": "o.txt"}, "unknown suffix"),
        ({"out": "a" * 300 + ".csv"}, "cannot be used: File name too long"),
    ],
)
def test_options_that_cannot_be_obeyed_are_refused_first(
    tmp_path: Path, models: Models, wrong: dict[str, Any], message: str
) -> None:
    grey(tmp_path / "a.png", 10)
    with pytest.raises(UsageError, match=message):
        classify_files(options(tmp_path, **wrong), Watcher())
    assert list(models) == []


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
