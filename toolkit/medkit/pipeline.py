"""The pipeline of a batch classification: decode ahead, gather batches, infer, keep order.

Images are decoded by a few threads, a bounded number ahead of the models.
Each task's images are gathered into batches, and rows are held back only
until those before them are done, so they come out in the order of the
listing while the run goes on, and memory does not grow with the input.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medkit.decisions import decide, get_point
from medkit.errors import ImageError
from medkit.images import (
    COLOUR_THRESHOLD,
    colourfulness,
    contract_for,
    image_to_tensor,
    open_image,
)
from medkit.listing import Found
from medkit.rows import Row
from medkit.runtimes import Model
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task

_DECODERS = min(4, os.cpu_count() or 1)


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
        """Return the model of a task, loading it if need be."""


@dataclass
class _Image:
    """A decoded image on its way to a row."""

    name: str
    task: Task
    tensor: NDArray[np.uint8]
    row: Row | None = None


def predict(found: Iterator[Found], models: Models, batch_size: int) -> Generator[Row, None, None]:
    """Give one row for each found image, in order; see the module's docstring."""
    waiting: deque[_Image | Row] = deque()
    batches: dict[str, list[_Image]] = {name: [] for name in TASKS}
    with closing(_decode_ahead(found, models.fixed, batch_size)) as decoded:
        for item in decoded:
            waiting.append(item)
            if isinstance(item, _Image):
                batch = batches[item.task.name]
                batch.append(item)
                if len(batch) == batch_size:
                    _infer(batch, models)
            yield from _finished(waiting)
            if len(waiting) >= 2 * batch_size:
                _infer(_oldest(batches, waiting), models)
                yield from _finished(waiting)
    while waiting:
        _infer(_oldest(batches, waiting), models)
        yield from _finished(waiting)


def _finished(waiting: deque[_Image | Row]) -> Iterator[Row]:
    """Take rows from the front, up to the first that is not there yet."""
    while waiting:
        first = waiting[0]
        row = first if isinstance(first, Row) else first.row
        if row is None:
            return
        waiting.popleft()
        yield row


def _oldest(batches: dict[str, list[_Image]], waiting: deque[_Image | Row]) -> list[_Image]:
    """Return the batch that all the others wait for: it begins with the first in the queue."""
    return next(batch for batch in batches.values() if batch and batch[0] is waiting[0])


def _infer(batch: list[_Image], models: Models) -> None:
    """Give each image of a batch its row, and empty the batch."""
    task = batch[0].task
    model = models.get(task)
    probabilities = model.predict(np.stack([image.tensor for image in batch]))
    point = get_point(model.card.operating_points, models.operating_point)
    decided = decide(task, np.nan_to_num(probabilities), point)
    for image, values, index in zip(batch, probabilities, decided, strict=True):
        if np.isfinite(values).all():
            by_label = dict(zip(task.labels, values.tolist(), strict=True))
            label = task.labels[index]
            image.row = Row(image.name, "ok", task.name, label, by_label[label], by_label)
        else:
            image.row = _error_row(image.name, task, "the model's output is not finite")
    batch.clear()


def _decode_ahead(
    found: Iterator[Found], fixed: Task | None, batch_size: int
) -> Generator[_Image | Row, None, None]:
    """Decode on threads, in order, a batch ahead of what has been taken."""
    ahead = max(batch_size, 2 * _DECODERS)
    running: deque[Future[_Image | Row]] = deque()
    with ThreadPoolExecutor(_DECODERS, "medkit-decode") as pool:
        try:
            for item in found:
                running.append(pool.submit(_decode, item, fixed))
                if len(running) > ahead:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _decode(found: Found, fixed: Task | None) -> _Image | Row:
    if found.error:
        return _error_row(found.name, fixed, found.error)
    try:
        image = open_image(found.path)
        task = fixed or (PNEUMONIA if colourfulness(image) < COLOUR_THRESHOLD else SKIN)
        return _Image(found.name, task, image_to_tensor(image, contract_for(task)))
    except ImageError as error:
        return _error_row(found.name, fixed, str(error))
    except MemoryError:
        return _error_row(found.name, fixed, "not enough memory to decode")
    except Exception as error:
        # Whatever a strange file sets off costs its own row and no other.
        reason = " ".join(str(error).split())
        return _error_row(found.name, fixed, f"{type(error).__name__}: {reason}")


def _error_row(name: str, task: Task | None, error: str) -> Row:
    return Row(name, "error", task.name if task else "", error=error)
