"""Batch classification: from files and folders to one row for each image."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medkit.bundles import load_bundle
from medkit.decisions import BALANCED, get_point
from medkit.errors import ModelFileError, UsageError
from medkit.listing import Found, counting, find_images
from medkit.pipeline import predict
from medkit.rows import STDOUT, Row, check_output, open_writer
from medkit.runtimes import Model, load_model
from medkit.tasks import TASKS, Task, get_task

AUTO = "auto"
"""The task that stands for: look at each image's colour."""


@dataclass(frozen=True)
class ClassifyOptions:
    """What to classify, with what, and where to.

    Attributes
    ----------
    inputs, include, exclude
        As for :func:`medkit.listing.walk`.
    out
        As for :func:`medkit.rows.open_writer`.
    task
        Name of the task of all images, or ``auto``: a grey image is taken
        for a chest X-ray, a coloured one for dermoscopy.
    model
        A model file for all images, in place of the task's own.
    operating_point
        Name of the operating point that turns probabilities into labels.
    batch_size
        Images in one inference, at least 1.
    threads
        Threads for one inference; ``None`` leaves it to the runtime.
    trained
        Folder of bundles, as for :func:`medkit.bundles.load_bundle`.
    """

    inputs: tuple[Path, ...]
    out: str | Path = STDOUT
    task: str = AUTO
    model: Path | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    operating_point: str = BALANCED
    batch_size: int = 16
    threads: int | None = None
    trained: Path | None = None


@dataclass(frozen=True)
class ClassifySummary:
    """What a run came to.

    Attributes
    ----------
    counts
        Images by task and label, for those that occurred.
    ok, errors
        Rows by status.
    seconds
        Duration of the whole call.
    out
        Where the rows are.
    """

    counts: dict[tuple[str, str], int]
    ok: int
    errors: int
    seconds: float
    out: str | Path

    @property
    def images_per_second(self) -> float:
        """Rows, those with an error included, by the duration."""
        return (self.ok + self.errors) / self.seconds


class Observer(Protocol):
    """Who is told of progress, always in the thread that called :func:`classify_files`."""

    def total(self, count: int) -> None:
        """Take the number of rows to come; at most one call, between any two rows."""

    def row(self, row: Row) -> None:
        """Take a row that has just been written."""


class Silent:
    """An observer that takes no notice."""

    def total(self, count: int) -> None:
        """Take the number of rows to come."""

    def row(self, row: Row) -> None:
        """Take a row."""


def classify_files(
    options: ClassifyOptions,
    observer: Observer = Silent(),  # noqa: B008
) -> ClassifySummary:
    """Classify images and write one row for each input, in the order of the listing.

    A file that cannot be classified is a row with its reason and stops
    nothing. Whatever ends the run early, rows written by then stay.

    Raises
    ------
    UsageError
        If the options cannot be obeyed, or there is no image
        (:class:`~medkit.errors.NoImagesError`). Nothing is written then.
    ModelFileError, MissingExtraError
        If a model is missing or cannot be loaded.
    MedkitError
        If a row cannot be written.
    BrokenPipeError
        If the reader of standard output has gone; see
        :func:`medkit.rows.open_writer`.
    """
    started = time.perf_counter()
    check_output(options.out)
    found, models = _prepare(options)
    counts: Counter[tuple[str, str]] = Counter()
    errors = 0
    with (
        open_writer(options.out, models.labels) as writer,
        closing(predict(found, models, options.batch_size)) as rows,
        counting(options.inputs, options.include, options.exclude) as total,
    ):
        told = False
        for row in rows:
            writer.write(row)
            if row.status == "ok":
                counts[row.task, row.label] += 1
            else:
                errors += 1
            if not told and total.done():
                observer.total(total.result())
                told = True
            observer.row(row)
    seconds = time.perf_counter() - started
    return ClassifySummary(dict(counts), counts.total(), errors, seconds, options.out)


def predict_paths(options: ClassifyOptions) -> Iterator[Row]:
    """Classify images and give the rows instead of writing them; ``options.out`` is not used.

    Raises
    ------
    UsageError, ModelFileError, MissingExtraError
        As :func:`classify_files`, and by the call itself wherever nothing is
        written there.
    """
    found, models = _prepare(options)
    return predict(found, models, options.batch_size)


class _Models:
    """The models of a run, each loaded when its first image comes.

    What is asked for by name is loaded at once, and with ``auto`` every model
    is looked for, so that an absence is known before any row.
    """

    def __init__(self, options: ClassifyOptions) -> None:
        self._options = options
        self._loaded: dict[str, Model] = {}
        self._paths: dict[str, Path] = {}
        self.operating_point = options.operating_point
        self.fixed = None if options.task == AUTO else get_task(options.task)
        if options.model is not None:
            model = load_model(options.model, options.threads)
            if self.fixed is not None and self.fixed.name != model.card.task:
                raise UsageError(
                    f"{options.model} is a model for {model.card.task}, not for "
                    f"{self.fixed.name}; leave out the task, or name another model"
                )
            self.fixed = get_task(model.card.task)
            get_point(model.card.operating_points, self.operating_point)
            self._loaded[self.fixed.name] = model
        elif self.fixed is not None:
            self.get(self.fixed)
        else:
            for task in TASKS.values():
                try:
                    self._paths[task.name] = self._find(task)
                except ModelFileError as error:
                    raise ModelFileError(f"{error}; or name the other task with --task") from None

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that can occur."""
        tasks = TASKS.values() if self.fixed is None else [self.fixed]
        return tuple(label for task in tasks for label in task.labels)

    def get(self, task: Task) -> Model:
        """Return the model of a task."""
        if task.name not in self._loaded:
            path = self._paths.get(task.name) or self._find(task)
            self._loaded[task.name] = load_model(path, self._options.threads)
        return self._loaded[task.name]

    def _find(self, task: Task) -> Path:
        """Return the verified file of a task; verifying reads the whole file, so once is enough."""
        bundle = load_bundle(task, self._options.trained)
        get_point(bundle.operating_points, self.operating_point)
        return bundle.smallest_export("tflite")


def _prepare(options: ClassifyOptions) -> tuple[Iterator[Found], _Models]:
    """Check all that can be checked before the first row, cheapest first."""
    if options.task not in (AUTO, *TASKS):
        raise UsageError(f"unknown task {options.task!r}; accepted: {AUTO}, {', '.join(TASKS)}")
    for name, number in (("batch size", options.batch_size), ("threads", options.threads)):
        if number is not None and number < 1:
            raise UsageError(f"{name} {number} is too small; give 1 or more")
    found = find_images(options.inputs, options.include, options.exclude)
    return found, _Models(options)
