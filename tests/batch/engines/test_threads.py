"""Worker threads: every row once and in order, whatever holds a worker up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, active_count
from threading import enumerate as enumerate_threads
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fakemodels import FakeModel, Models, expected, grey, mixture, options
from medkit.batch import chunk
from medkit.batch.chunk import Chunk, Job
from medkit.batch.engines import threads as engine
from medkit.batch.engines.threads import Threads
from medkit.batch.listing import ListedImage
from medkit.batch.run import predict_paths
from medkit.errors import ModelFileError
from medkit.images.limits import Limits
from medkit.images.reading import read_image
from medkit.tasks import PNEUMONIA


@pytest.mark.parametrize("threads", [1, 2, 3, 16, 40])
def test_the_rows_are_the_same_whatever_the_number_of_threads(
    tmp_path: Path, models: Models, threads: int
) -> None:
    mixture(tmp_path, 60, seed=4)
    alone = list(predict_paths(options(tmp_path, batch_size=1, threads=1)))
    models.clear()
    assert list(predict_paths(options(tmp_path, batch_size=4, threads=threads))) == alone


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


# The engine with real models


@pytest.fixture
def chunks(tmp_path: Path) -> list[Chunk]:
    """Make 40 chunks of one to four images, of which every fifth begins with a large image."""
    made: list[Chunk] = []
    for number in range(40):
        listed = []
        for place in range(1 + number % 4):
            name = f"{number:02}-{place}.png"
            large = number % 5 == 0 and place == 0
            grey(tmp_path / name, 5 * number + place, (1200, 1200) if large else (16, 16))
            listed.append(ListedImage(tmp_path / name, name))
        made.append(tuple(listed))
    return made


def names(chunks: list[Chunk]) -> list[list[str]]:
    return [[listed.name for listed in each] for each in chunks]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_rows_come_chunk_by_chunk_in_the_order_of_the_images(
    chunks: list[Chunk], make_job: Callable[..., Job], workers: int
) -> None:
    job = make_job("pneumonia", workers=workers)
    found = list(Threads().run(iter(chunks), job, Event()))
    assert [[row.path for row in rows] for rows in found] == names(chunks)
    assert {row.status for rows in found for row in rows} == {"ok"}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_stop_finishes_the_chunks_that_were_taken_and_takes_no_further_one(
    chunks: list[Chunk], make_job: Callable[..., Job], workers: int
) -> None:
    stop = Event()
    taken: list[Chunk] = []

    def taking() -> Iterator[Chunk]:
        for each in chunks:
            taken.append(each)
            if len(taken) == 7:
                stop.set()
            yield each

    found = list(Threads().run(taking(), make_job("pneumonia", workers=workers), stop))
    assert taken == chunks[:7]
    assert [[row.path for row in rows] for rows in found] == names(taken)


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_chunks_are_taken_ahead_of_the_rows_than_the_engine_says(
    chunks: list[Chunk], make_job: Callable[..., Job], workers: int
) -> None:
    threads = Threads()
    taken: list[Chunk] = []

    def taking() -> Iterator[Chunk]:
        for each in chunks:
            taken.append(each)
            yield each

    most = threads.most_in_work(workers)
    assert workers < most < len(chunks)
    rows = threads.run(taking(), make_job("pneumonia", workers=workers), Event())
    for given, _ in enumerate(rows, start=1):
        assert len(taken) - given <= most
    assert given == len(taken) == len(chunks)
