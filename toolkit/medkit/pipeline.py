"""The pipeline of a batch classification: one worker a core, each doing the whole of the work.

The listing is cut into chunks of a batch. A worker thread reads and decodes
the images of a chunk and runs them through a model of its own on one thread:
nothing is handed over between, so that no core waits for another, and Pillow
and the runtimes let go of Python's lock while they compute. Chunks are a
bounded number ahead of the rows that have been taken, and rows come out in
the order of the listing, so memory does not grow with the input.

A worker that does not return from an image in time, as when a network folder
hangs, is given up: the image gets its row, and another worker takes over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from queue import SimpleQueue
from threading import Event, Thread, current_thread
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medkit.decisions import decide, get_point
from medkit.errors import ImageError, MedkitError
from medkit.images import contract_for, image_to_tensor, open_image, route
from medkit.limits import DEFAULT_LIMITS, GRACE, Clock, Limits, took_too_long
from medkit.listing import Found
from medkit.rows import Row
from medkit.runtimes import Model, one_line
from medkit.tasks import Task

_AHEAD = 2
"""Chunks in the queue for each worker, beside the one in work: rows of a slow file hold back
those after it, and workers must not run dry meanwhile."""

_FAREWELL = 2.0
"""Seconds that are waited for workers at the end: a second Ctrl-C is to end a run that hangs."""


class Models(Protocol):
    """Where the pipeline gets a task's model.

    Attributes
    ----------
    fixed
        The task of all images, if given.
    operating_point
        Name of the operating point by which every model decides.
    """

    fixed: Task | None
    operating_point: str

    def get(self, task: Task) -> Model:
        """Return the calling thread's model of a task, loading it if need be."""


@dataclass(frozen=True)
class _Image:
    """A decoded image."""

    place: int
    name: str
    tensor: NDArray[np.uint8]


def predict(
    found: Iterator[Found],
    models: Models,
    batch_size: int,
    workers: int,
    ending: Event | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Generator[Row, None, None]:
    """Give one row for each found image, in order; see the module's docstring.

    Once ``ending`` is set, no further chunk is begun: those in work are
    finished.
    """
    ending = ending or Event()
    running: deque[_Chunk] = deque()
    crew = _Crew(workers, models, limits)
    try:
        while not ending.is_set() and (items := list(islice(found, batch_size))):
            running.append(crew.take(items))
            if len(running) > _most_running(workers):
                yield from crew.rows_of(running.popleft())
        while running:
            yield from crew.rows_of(running.popleft())
    finally:
        # After an interruption or an error, a worker ends with the image that it is at.
        crew.dismiss()


def most_in_work(workers: int, batch_size: int) -> int:
    """Return how many images may have been begun and have no row yet."""
    return (_most_running(workers) + 2) * batch_size  # one taken too much, one being written


def _most_running(workers: int) -> int:
    return workers * (1 + _AHEAD)


class _Chunk:
    """Images that go through a model together, and how far a worker has come with them.

    Attributes
    ----------
    items
        The images.
    future
        Their rows, once there are all.
    at
        The place of the image that is being read and decoded, and since
        when; ``None`` before and after.
    worker
        Who is at it.
    given_up
        Whether the worker is no longer waited for.
    """

    def __init__(self, items: Sequence[Found]) -> None:
        self.items = items
        self.future: Future[list[Row]] = Future()
        self.at: tuple[int, Clock] | None = None
        self.worker: Thread | None = None
        self.given_up = False


class _Crew:
    """Worker threads. An executor would wait for one that hangs, even at the process's end."""

    def __init__(self, workers: int, models: Models, limits: Limits) -> None:
        self._models, self._limits = models, limits
        self._stop = Event()
        self._waiting: SimpleQueue[_Chunk | None] = SimpleQueue()
        self._workers: list[Thread] = []
        for _ in range(workers):
            self._employ()

    def take(self, items: Sequence[Found]) -> _Chunk:
        """Have images classified when a worker is free."""
        chunk = _Chunk(items)
        self._waiting.put(chunk)
        return chunk

    def rows_of(self, chunk: _Chunk) -> list[Row]:
        """Return a chunk's rows when they are there; an image that takes too long gets its row."""
        while True:
            at = chunk.at
            if at is not None and at[1].left + GRACE <= 0 and not chunk.future.done():
                chunk = self._without(at[0], chunk)
                at = None
            try:
                patience = self._limits.seconds if at is None else max(at[1].left, 0)
                return chunk.future.result(timeout=patience + GRACE)
            except TimeoutError:
                if chunk.future.done():
                    raise  # it is not this wait that took too long

    def dismiss(self) -> None:
        """End the workers with the image that they are at, if it does not take long."""
        self._stop.set()
        until = time.monotonic() + _FAREWELL
        for _ in self._workers:
            self._waiting.put(None)
        for worker in self._workers:
            worker.join(max(until - time.monotonic(), 0))

    def _employ(self, chunk: _Chunk | None = None) -> None:
        worker = Thread(target=self._work, args=(chunk,), name="medkit-worker", daemon=True)
        self._workers.append(worker)
        worker.start()

    def _work(self, chunk: _Chunk | None) -> None:
        while chunk := chunk or self._waiting.get():
            chunk.worker = current_thread()
            try:
                rows = _classify(chunk, self._models, self._limits, self._stop)
            except BaseException as error:
                chunk.future.set_exception(error)
            else:
                chunk.future.set_result(rows)
            if chunk.given_up:
                return
            chunk = None

    def _without(self, place: int, chunk: _Chunk) -> _Chunk:
        """Give up a worker; let a new one do the chunk again but for the image that held it up."""
        chunk.given_up = True
        if chunk.worker is not None:
            self._workers.remove(chunk.worker)
        items = list(chunk.items)
        items[place] = replace(items[place], error=took_too_long(self._limits))
        again = _Chunk(items)
        self._employ(again)
        return again


def _classify(chunk: _Chunk, models: Models, limits: Limits, stop: Event) -> list[Row]:
    """Turn a chunk into its rows."""
    rows: dict[int, Row] = {}
    images: dict[str, tuple[Task, list[_Image]]] = {}
    for place, found in enumerate(chunk.items):
        if stop.is_set() or chunk.given_up:
            return []
        clock = Clock(limits)
        chunk.at = place, clock
        decoded = _decode(found, models.fixed, clock)
        if isinstance(decoded, Row):
            rows[place] = decoded
        else:
            task, tensor = decoded
            batch = images.setdefault(task.name, (task, []))[1]
            batch.append(_Image(place, found.name, tensor))
    chunk.at = None
    for task, batch in images.values():
        for image, row in zip(batch, _infer(task, batch, models), strict=True):
            rows[image.place] = row
    return [rows[place] for place in range(len(chunk.items))]


def _infer(task: Task, batch: Sequence[_Image], models: Models) -> list[Row]:
    """Give each image of a batch its row; what a model raises costs only the images it is about."""
    model = models.get(task)
    try:
        probabilities = model.predict(np.stack([image.tensor for image in batch]))
    except MedkitError:
        raise
    except Exception as error:
        if len(batch) > 1:
            return [row for image in batch for row in _infer(task, [image], models)]
        reason = f"{model.runtime} failed: {one_line(error)}"
        return [_error_row(batch[0].name, task, reason)]
    point = get_point(model.card.operating_points, models.operating_point)
    decided = decide(task, np.nan_to_num(probabilities), point)
    rows = []
    for image, values, index in zip(batch, probabilities, decided, strict=True):
        if np.isfinite(values).all():
            by_label = dict(zip(task.labels, values.tolist(), strict=True))
            label = task.labels[index]
            rows.append(Row(image.name, "ok", task.name, label, by_label[label], by_label))
        else:
            rows.append(_error_row(image.name, task, "the model's output is not finite"))
    return rows


def _decode(found: Found, fixed: Task | None, clock: Clock) -> tuple[Task, NDArray[np.uint8]] | Row:
    if found.error:
        return _error_row(found.name, fixed, found.error)
    try:
        image = open_image(found.path, clock.limits, clock)
        if fixed is None:
            task, tensor = route(image)
        else:
            task, tensor = fixed, image_to_tensor(image, contract_for(fixed))
        # What came too late is an error, whether or not somebody was waiting for it.
        clock.check()
        return task, tensor
    except ImageError as error:
        return _error_row(found.name, fixed, str(error))
    except MemoryError:
        return _error_row(found.name, fixed, "not enough memory to decode")
    except Exception as error:
        # Whatever a strange file sets off costs its own row and no other.
        return _error_row(found.name, fixed, f"{type(error).__name__}: {one_line(error)}")


def _error_row(name: str, task: Task | None, error: str) -> Row:
    return Row(name, "error", task.name if task else "", error=error)
