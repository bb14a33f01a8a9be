"""The pipeline of a batch classification: one worker a core, each doing the whole of the work.

The listing is cut into chunks of a batch. A worker thread reads and decodes
the images of a chunk and runs them through a model of its own on one thread:
nothing is handed over between, so that no core waits for another, and Pillow
and the runtimes let go of Python's lock while they compute. Chunks are a
bounded number ahead of the rows that have been taken, and rows come out in
the order of the listing, so memory does not grow with the input.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medkit.decisions import decide, get_point
from medkit.errors import ImageError, MedkitError
from medkit.images import contract_for, image_to_tensor, open_image, route
from medkit.listing import Found
from medkit.rows import Row
from medkit.runtimes import Model, one_line
from medkit.tasks import Task

_AHEAD = 2
"""Chunks in the queue for each worker, beside the one in work: rows of a slow file hold back
those after it, and workers must not run dry meanwhile."""


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
) -> Generator[Row, None, None]:
    """Give one row for each found image, in order; see the module's docstring.

    Once ``ending`` is set, no further chunk is begun: those in work are
    finished.
    """
    stop, ending = Event(), ending or Event()
    running: deque[Future[list[Row]]] = deque()
    pool = ThreadPoolExecutor(workers, "medkit-worker")
    try:
        while not ending.is_set() and (chunk := list(islice(found, batch_size))):
            running.append(pool.submit(_classify, chunk, models, stop))
            if len(running) > workers * (1 + _AHEAD):
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    finally:
        # After an interruption or an error, a worker ends with the image that it is at.
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _classify(chunk: Sequence[Found], models: Models, stop: Event) -> list[Row]:
    """Turn a chunk into its rows."""
    rows: dict[int, Row] = {}
    images: dict[str, tuple[Task, list[_Image]]] = {}
    for place, found in enumerate(chunk):
        if stop.is_set():
            return []
        decoded = _decode(found, models.fixed)
        if isinstance(decoded, Row):
            rows[place] = decoded
        else:
            task, tensor = decoded
            batch = images.setdefault(task.name, (task, []))[1]
            batch.append(_Image(place, found.name, tensor))
    for task, batch in images.values():
        for image, row in zip(batch, _infer(task, batch, models), strict=True):
            rows[image.place] = row
    return [rows[place] for place in range(len(chunk))]


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


def _decode(found: Found, fixed: Task | None) -> tuple[Task, NDArray[np.uint8]] | Row:
    if found.error:
        return _error_row(found.name, fixed, found.error)
    try:
        image = open_image(found.path)
        if fixed is None:
            return route(image)
        return fixed, image_to_tensor(image, contract_for(fixed))
    except ImageError as error:
        return _error_row(found.name, fixed, str(error))
    except MemoryError:
        return _error_row(found.name, fixed, "not enough memory to decode")
    except Exception as error:
        # Whatever a strange file sets off costs its own row and no other.
        return _error_row(found.name, fixed, f"{type(error).__name__}: {one_line(error)}")


def _error_row(name: str, task: Task | None, error: str) -> Row:
    return Row(name, "error", task.name if task else "", error=error)
