"""One worker thread a core, each doing the whole of the work.

A worker reads and decodes the images of a chunk and runs them through a model
of its own on one thread. Nothing is handed over between, so that no core
waits for another, and Pillow and the runtimes let go of Python's lock while
they compute.

A worker that does not return from an image in time, as when a network folder
hangs, is given up: the image gets its row, and another worker takes over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from dataclasses import replace
from queue import SimpleQueue
from threading import Event, Thread, current_thread

from medkit.batch.chunk import Chunk, Job, classify_chunk
from medkit.batch.engines.registry import register_engine
from medkit.batch.rows import Row
from medkit.images.limits import GRACE, Clock, took_too_long

_AHEAD = 2
"""Chunks in the queue for each worker, beside the one in work: rows of a slow file hold back
those after it, and workers must not run dry meanwhile."""

_FAREWELL = 2.0
"""Seconds that are waited for workers at the end: a second Ctrl-C is to end a run that hangs."""


class Threads:
    """The engine of a single machine."""

    name = "threads"

    def run(
        self, chunks: Iterator[Chunk], job: Job, stop: Event
    ) -> Generator[list[Row], None, None]:
        """Give the rows of each chunk; see :class:`medkit.batch.engines.registry.Engine`."""
        running: deque[_Work] = deque()
        pool = _WorkerPool(job)
        try:
            while not stop.is_set() and (chunk := next(chunks, None)):
                running.append(pool.take(chunk))
                if len(running) > _most_running(job.workers):
                    yield pool.rows_of(running.popleft())
            while running:
                yield pool.rows_of(running.popleft())
        finally:
            # After an interruption or an error, a worker ends with the image that it is at.
            pool.dismiss()

    def most_in_work(self, workers: int) -> int:
        """Return how many chunks may have been begun without rows being given."""
        return _most_running(workers) + 2  # one taken too much, one being written


def _most_running(workers: int) -> int:
    return workers * (1 + _AHEAD)


class _Work:
    """A chunk, and how far a worker has come with it.

    Attributes
    ----------
    chunk
        The images.
    future
        Their rows, once there are all.
    at
        The place of the image that is being read and decoded, and since
        when; ``None`` before and after.
    worker
        The thread that works on it.
    given_up
        Whether the worker is no longer waited for.
    """

    def __init__(self, chunk: Chunk, stop: Event) -> None:
        self.chunk = chunk
        self.future: Future[list[Row]] = Future()
        self.at: tuple[int, Clock] | None = None
        self.worker: Thread | None = None
        self.given_up = False
        self._stop = stop

    def begin(self, place: int, clock: Clock) -> bool:
        """Take note that an image is begun; return whether to go on."""
        if self._stop.is_set() or self.given_up:
            return False
        self.at = place, clock
        return True

    def decoded(self) -> None:
        """Take note that no image is being read any more."""
        self.at = None


class _WorkerPool:
    """Worker threads. An executor would wait for one that hangs, even at the process's end."""

    def __init__(self, job: Job) -> None:
        self._job, self._models = job, job.pool()
        self._stop = Event()
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        self._workers: list[Thread] = []
        for _ in range(job.workers):
            self._employ()

    def take(self, chunk: Chunk) -> _Work:
        """Have images classified when a worker is free."""
        work = _Work(chunk, self._stop)
        self._waiting.put(work)
        return work

    def rows_of(self, work: _Work) -> list[Row]:
        """Return a chunk's rows when they are there; an image that takes too long gets its row."""
        while True:
            at = work.at
            if at is not None and at[1].left + GRACE <= 0 and not work.future.done():
                work = self._without(at[0], work)
                at = None
            try:
                patience = self._job.limits.seconds if at is None else max(at[1].left, 0)
                return work.future.result(timeout=patience + GRACE)
            except TimeoutError:
                if work.future.done():
                    # It ended in the moment that the wait did, or it is its own error.
                    return work.future.result()

    def dismiss(self) -> None:
        """End the workers with the image that they are at, if it does not take long."""
        self._stop.set()
        until = time.monotonic() + _FAREWELL
        for _ in self._workers:
            self._waiting.put(None)
        for worker in self._workers:
            worker.join(max(until - time.monotonic(), 0))

    def _employ(self, work: _Work | None = None) -> None:
        worker = Thread(target=self._run, args=(work,), name="medkit-worker", daemon=True)
        self._workers.append(worker)
        worker.start()

    def _run(self, work: _Work | None) -> None:
        while work := work or self._next():
            work.worker = current_thread()
            try:
                rows = classify_chunk(work.chunk, self._job, self._models, work)
            except BaseException as error:
                work.future.set_exception(error)
            else:
                work.future.set_result(rows)
            if work.given_up:
                return
            work = None

    def _next(self) -> _Work | None:
        work = self._waiting.get()
        if work is None:
            # A worker that was employed in the place of another has no end of its own.
            self._waiting.put(None)
        return work

    def _without(self, place: int, work: _Work) -> _Work:
        """Give up a worker; let a new one do the chunk again but for the image that held it up."""
        work.given_up = True
        if work.worker is not None:
            self._workers.remove(work.worker)
        images = list(work.chunk)
        images[place] = replace(images[place], error=took_too_long(self._job.limits))
        again = _Work(tuple(images), self._stop)
        self._employ(again)
        return again


register_engine(Threads())
