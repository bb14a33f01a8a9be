"""A chunk: images that go through a model together, and how they become rows.

An engine gives chunks to workers, wherever these are. What a worker needs is
a :class:`Job`, which can be sent to another process; it opens its models
itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medkit.batch.listing import ListedImage
from medkit.batch.model_pool import ModelPool
from medkit.batch.routing import Route, Routing, least_side
from medkit.batch.rows import ERROR, OK, SKIPPED, Row
from medkit.errors import ImageError, MedkitError
from medkit.images.contract import InputContract
from medkit.images.limits import Clock, Limits
from medkit.images.notes import SHAPE_UNUSUAL, UNCALIBRATED
from medkit.images.reading import read_image
from medkit.models.decisions import decide, marks, names_of
from medkit.models.points import get_point
from medkit.models.runtimes.base import Model, one_line
from medkit.models.runtimes.loading import ModelSpec
from medkit.tasks import Task

_LONGEST_SHAPE = 2
"""Sides of the training images are at most twice as long as one another."""

Chunk = tuple[ListedImage, ...]
"""Images that go through a model together."""


@dataclass(frozen=True)
class TaskModel:
    """A task, the model that decides it, and how images become the model's tensors."""

    task: Task
    contract: InputContract
    spec: ModelSpec

    def open(self) -> Model:
        """Open the model, and check that it decides this task.

        Raises
        ------
        ModelFileError, MissingExtraError
            If it cannot be opened, or is for another task, other labels or
            another contract.
        """
        model = self.spec.open()
        model.card.check(self.task, self.contract, self.spec.path)
        return model

    @property
    def route(self) -> Route:
        """The route to this task."""
        return Route(self.task.name, self.contract, self.task.images)


@dataclass(frozen=True)
class Job:
    """All that a worker must know, beside the images.

    Attributes
    ----------
    models
        Models by name of the task.
    routing
        Decides which task an image is for.
    operating_point
        Name of the operating point by which every model decides.
    limits
        Limits of one image.
    workers
        Number of chunks that are worked on at a time.
    opened
        Models that this process has opened already, by task. They stay here
        when the job is sent to another process.
    """

    models: Mapping[str, TaskModel]
    routing: Routing
    operating_point: str
    limits: Limits
    workers: int
    opened: Mapping[str, Model] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "opened": {}}

    @property
    def fixed(self) -> str:
        """The task of all images; empty if each image tells its own."""
        return next(iter(self.models)) if len(self.models) == 1 else ""

    def pool(self) -> ModelPool:
        """Return the pool that gives the threads of a process their models."""
        return ModelPool(self.models, self.opened)


class Watch(Protocol):
    """The supervisor of a worker. It may stop the worker."""

    def begin(self, place: int, clock: Clock) -> bool:
        """Take note that an image is begun; return whether to go on."""

    def decoded(self) -> None:
        """Take note that no image is being read any more."""


@dataclass(frozen=True)
class _Image:
    """A decoded image of a chunk."""

    place: int
    name: str
    tensor: NDArray[np.uint8]
    facts: Mapping[str, str]
    notes: tuple[str, ...]


def classify_chunk(chunk: Chunk, job: Job, models: ModelPool, watch: Watch) -> list[Row]:
    """Return the rows of a chunk, in order; none if it was stopped.

    An error in one file affects only the row of that file.

    Raises
    ------
    MedkitError
        If a model cannot be opened.
    """
    rows: dict[int, Row] = {}
    images: dict[str, list[_Image]] = {}
    for place, listed in enumerate(chunk):
        clock = Clock(job.limits)
        if not watch.begin(place, clock):
            return []
        decoded = _decode(place, listed, job, clock)
        if isinstance(decoded, Row):
            rows[place] = decoded
        else:
            task, image = decoded
            images.setdefault(task, []).append(image)
    watch.decoded()
    for name, batch in images.items():
        for image, row in zip(batch, _infer(job, name, batch, models.get(name)), strict=True):
            rows[image.place] = row
    return [rows[place] for place in range(len(chunk))]


def _decode(place: int, listed: ListedImage, job: Job, clock: Clock) -> tuple[str, _Image] | Row:
    """Return the task and the decoded image, or the row of an image that cannot be decoded."""
    if listed.skipped:
        return Row(listed.name, SKIPPED, error=listed.error)
    if listed.error:
        return _error_row(listed.name, job.fixed, listed.error)
    try:
        decoded = read_image(listed.path, clock.limits, clock, least_side(job.routing))
        routed = job.routing.choose(decoded.pixels)
        # What came too late is an error, whether or not somebody was waiting for it.
        clock.check()
    except ImageError as error:
        return _error_row(listed.name, job.fixed, str(error))
    except MemoryError:
        return _error_row(listed.name, job.fixed, "not enough memory to decode")
    except Exception as error:
        # Whatever a strange file sets off costs its own row and no other.
        return _error_row(listed.name, job.fixed, f"{type(error).__name__}: {one_line(error)}")
    notes = (*decoded.notes, *routed.notes, *_notes_of_shape(decoded.stored_size))
    return routed.task, _Image(place, listed.name, routed.tensor, decoded.facts, notes)


def _notes_of_shape(size: tuple[int, int]) -> tuple[str, ...]:
    """Return the note for a shape that resizing changes beyond what models have seen."""
    return (SHAPE_UNUSUAL,) if max(size) > _LONGEST_SHAPE * min(size) else ()


def _infer(job: Job, name: str, batch: Sequence[_Image], model: Model) -> list[Row]:
    """Return the row of each image. An error of a model affects only the images it is about."""
    task = job.models[name].task
    try:
        probabilities = model.predict(np.stack([image.tensor for image in batch]))
    except MedkitError:
        raise
    except Exception as error:
        if len(batch) > 1:
            return [row for image in batch for row in _infer(job, name, [image], model)]
        return [_error_row(batch[0].name, name, f"{model.runtime} failed: {one_line(error)}")]
    point = get_point(model.card.operating_points, job.operating_point)
    decided = decide(task, np.nan_to_num(probabilities), point)
    doubts = () if model.card.calibrated else (UNCALIBRATED,)
    rows = []
    labels, chosen = names_of(task, decided), marks(task, decided)
    for image, values, label, mine in zip(batch, probabilities, labels, chosen, strict=True):
        if np.isfinite(values).all():
            rows.append(
                Row(
                    image.name,
                    OK,
                    name,
                    label,
                    float((values[mine] if label else values).max()),
                    dict(zip(task.labels, values.tolist(), strict=True)),
                    notes=(*image.notes, *doubts),
                    facts=image.facts,
                )
            )
        else:
            rows.append(_error_row(image.name, name, "the model's output is not finite"))
    return rows


def _error_row(name: str, task: str, error: str) -> Row:
    return Row(name, ERROR, task, error=error)
