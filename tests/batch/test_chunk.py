"""Chunks: from images to rows, and what becomes of an image that cannot be classified."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fakemodels import (
    NOT_A_NUMBER,
    FakeModel,
    Models,
    Watcher,
    broken,
    coloured,
    expected,
    grey,
    options,
)
from medkit.batch import chunk
from medkit.batch.chunk import Chunk, Job, classify_chunk
from medkit.batch.listing import ListedImage
from medkit.batch.rows import Row
from medkit.batch.run import classify_files, predict_paths
from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.images.limits import Clock, Limits
from medkit.images.reading import load_tensor, read_image
from medkit.models.points import OperatingPoint
from medkit.models.runtimes import loading
from medkit.models.runtimes.loading import load_model
from medkit.tasks import PNEUMONIA, SKIN, TASKS


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


# Chunks with real models


class Supervisor:
    """Keeps what it is told, and stops the worker at one place.

    Parameters
    ----------
    stop
        Place of the image that is not begun; ``None`` for none.
    """

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.told: list[int | str] = []

    def begin(self, place: int, clock: Clock) -> bool:
        self.told.append(place)
        return place != self.stop

    def decoded(self) -> None:
        self.told.append("decoded")


@pytest.fixture
def mixed(tmp_path: Path) -> Chunk:
    """Make a chunk of a coloured, a broken, a grey, an unlisted and a coloured image."""
    coloured(tmp_path / "0.png", 180)
    broken(tmp_path / "1.png")
    grey(tmp_path / "2.png", 90)
    coloured(tmp_path / "4.png", 150)
    found = [ListedImage(tmp_path / f"{place}.png", f"x/{place}.png") for place in range(5)]
    found[3] = replace(found[3], error="cannot be read: Permission denied")
    return tuple(found)


def test_rows_of_a_chunk_are_in_its_order_and_say_what_the_model_says_of_each_image_alone(
    mixed: Chunk, make_job: Callable[..., Job]
) -> None:
    job, supervisor = make_job("pneumonia", "skin"), Supervisor()
    rows = classify_chunk(mixed, job, job.pool(), supervisor)
    assert [row.path for row in rows] == [listed.name for listed in mixed]
    assert [row.task for row in rows] == ["skin", "", "pneumonia", "", "skin"]
    assert [row.status for row in rows] == ["ok", "error", "ok", "error", "ok"]
    assert rows[3].error == "cannot be read: Permission denied"
    assert supervisor.told == [0, 1, 2, 3, 4, "decoded"]
    for listed, row in zip(mixed, rows, strict=True):
        if row.status == "ok":
            model = load_model(job.models[row.task].spec.path)
            (values,) = model.predict(load_tensor(listed.path, model.card.contract)[None])
            alone = dict(zip(TASKS[row.task].labels, values.tolist(), strict=True))
            assert row.probabilities == pytest.approx(alone, abs=1e-6)
            assert row.confidence == row.probabilities[row.label]


def test_an_error_row_names_the_task_where_there_is_only_one(
    mixed: Chunk, make_job: Callable[..., Job]
) -> None:
    job = make_job("skin")
    rows = classify_chunk(mixed, job, job.pool(), Supervisor())
    assert [row.task for row in rows] == ["skin"] * 5
    assert [row.status for row in rows] == ["ok", "error", "ok", "error", "ok"]


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_chunk_that_is_stopped_gives_no_row_and_begins_no_further_image(
    mixed: Chunk, make_job: Callable[..., Job], place: int
) -> None:
    job, supervisor = make_job("pneumonia", "skin"), Supervisor(stop=place)
    assert classify_chunk(mixed, job, job.pool(), supervisor) == []
    assert supervisor.told == list(range(place + 1))


def test_a_job_can_be_sent_to_another_process_which_opens_the_models_itself(
    mixed: Chunk, make_job: Callable[..., Job]
) -> None:
    job = make_job("skin")
    here = replace(job, opened={"skin": job.models["skin"].spec.open()})
    there = pickle.loads(pickle.dumps(here))
    assert there == here
    assert there.opened == {}
    rows = classify_chunk(mixed, here, here.pool(), Supervisor())
    assert classify_chunk(mixed, there, there.pool(), Supervisor()) == rows
