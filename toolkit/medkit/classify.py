"""Batch classification: from files and folders to one row for each image."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, local
from typing import Protocol

from medkit.bundles import FORMATS, Bundle, load_bundle
from medkit.cores import available_cores
from medkit.decisions import BALANCED, get_point
from medkit.errors import ModelFileError, UsageError
from medkit.listing import Found, counting, find_images
from medkit.pipeline import predict
from medkit.rows import STDOUT, Row, check_output, open_writer
from medkit.runtimes import DEFAULT_RUNTIME, MOST_THREADS, RUNTIMES, Model, load_model
from medkit.tasks import TASKS, Task, get_task

_MOST_WORKERS = 16
"""Workers, beyond which cores join in inferences: each holds a model of its own, and what is
done in Python between decoding and inference is done by one at a time."""

AUTO = "auto"
"""The task that stands for: look at each image's colour; and the runtime for: the fastest."""


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
    runtime
        One of :data:`medkit.runtimes.RUNTIMES`; ``auto`` for the fastest on
        this machine of what has passed parity; ``None`` for LiteRT, or what
        the suffix of ``model`` calls for.
    batch_size
        Images in one inference, at least 1.
    threads
        Cores to keep busy; ``None`` for all that the process may use. The
        rows are the same whatever their number.
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
    runtime: str | None = None
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
    models
        By task, the file and the runtime that were used.
    seconds
        Duration of the whole call.
    out
        Where the rows are.
    """

    counts: dict[tuple[str, str], int]
    ok: int
    errors: int
    models: dict[str, str]
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
    found, models, workers = _prepare(options)
    counts: Counter[tuple[str, str]] = Counter()
    errors = 0
    with (
        open_writer(options.out, models.labels) as writer,
        closing(predict(found, models, options.batch_size, workers)) as rows,
        ExitStack() as stack,
    ):
        total, told = None, False
        for row in rows:
            if total is None:
                # Not before: listing a large folder twice at once would delay the first row.
                arguments = (options.inputs, options.include, options.exclude)
                total = stack.enter_context(counting(*arguments))
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
    return ClassifySummary(dict(counts), counts.total(), errors, models.used, seconds, options.out)


def predict_paths(options: ClassifyOptions) -> Iterator[Row]:
    """Classify images and give the rows instead of writing them; ``options.out`` is not used.

    Raises
    ------
    UsageError, ModelFileError, MissingExtraError
        As :func:`classify_files`, and by the call itself wherever nothing is
        written there.
    """
    found, models, workers = _prepare(options)
    return predict(found, models, options.batch_size, workers)


class _Models:
    """The models of a run, each loaded when its first image comes, once for every worker.

    What is asked for by name is loaded at once, and with ``auto`` every model
    is looked for, so that an absence is known before any row.
    """

    def __init__(self, options: ClassifyOptions, threads: int | None) -> None:
        self._options, self._threads = options, threads
        self._first: dict[str, Model] = {}
        self._given: set[str] = set()
        self._lock, self._own = Lock(), local()
        self._found: dict[str, tuple[Bundle, Path | None]] = {}
        self.operating_point = options.operating_point
        self.fixed = None if options.task == AUTO else get_task(options.task)
        if options.model is not None:
            runtime = None if options.runtime == AUTO else options.runtime
            model = load_model(options.model, threads, runtime)
            if self.fixed is not None and self.fixed.name != model.card.task:
                raise UsageError(
                    f"{options.model} is a model for {model.card.task}, not for "
                    f"{self.fixed.name}; leave out the task, or name another model"
                )
            self.fixed = get_task(model.card.task)
            get_point(model.card.operating_points, self.operating_point)
            self._first[self.fixed.name] = model
        elif self.fixed is not None:
            self._found[self.fixed.name] = self._find(self.fixed)
            self._load(self.fixed)
        else:
            for task in TASKS.values():
                try:
                    self._found[task.name] = self._find(task)
                except ModelFileError as error:
                    raise ModelFileError(f"{error}; or name the other task with --task") from None

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that can occur."""
        tasks = TASKS.values() if self.fixed is None else [self.fixed]
        return tuple(label for task in tasks for label in task.labels)

    def get(self, task: Task) -> Model:
        """Return the calling thread's model of a task."""
        own: dict[str, Model] = self._own.__dict__
        if task.name not in own:
            with self._lock:
                first = self._first.get(task.name) or self._load(task)
                unused = task.name not in self._given
                self._given.add(task.name)
            own[task.name] = first if unused else first.another()
        return own[task.name]

    @property
    def used(self) -> dict[str, str]:
        """By task, the file and the runtime in use."""
        return {task: f"{m.path.name} on {m.runtime}" for task, m in self._first.items()}

    def _load(self, task: Task) -> Model:
        bundle, path = self._found[task.name]
        runtime = self._runtime
        if path is None:
            from medkit.fastest import fastest_way

            way = fastest_way(bundle, self._options.batch_size, self._threads)
            path, runtime = way.path, way.runtime
        self._first[task.name] = load_model(path, self._threads, runtime)
        return self._first[task.name]

    @property
    def _runtime(self) -> str:
        return self._options.runtime or DEFAULT_RUNTIME

    def _find(self, task: Task) -> tuple[Bundle, Path | None]:
        """Return the bundle of a task and the verified file; ``None`` if that is to be measured.

        Verifying reads the whole file, so once is enough.
        """
        bundle = load_bundle(task, self._options.trained)
        get_point(bundle.operating_points, self.operating_point)
        return bundle, None if self._runtime == AUTO else _file_for(bundle, self._runtime)


def _file_for(bundle: Bundle, runtime: str) -> Path:
    """Return the verified file of a bundle that a runtime runs."""
    if runtime == "keras":
        bundle.verify(bundle.keras_path)
        return bundle.keras_path
    (export_format,) = (name for name, runs in FORMATS.items() if runs == RUNTIMES[runtime])
    return bundle.smallest_export(export_format)


def _prepare(options: ClassifyOptions) -> tuple[Iterator[Found], _Models, int]:
    """Check all that can be checked before the first row, cheapest first."""
    if options.task not in (AUTO, *TASKS):
        raise UsageError(f"unknown task {options.task!r}; accepted: {AUTO}, {', '.join(TASKS)}")
    if options.runtime not in (None, AUTO, *RUNTIMES):
        accepted = ", ".join((AUTO, *RUNTIMES))
        raise UsageError(f"unknown runtime {options.runtime!r}; accepted: {accepted}")
    for name, number in (("batch size", options.batch_size), ("threads", options.threads)):
        if number is not None and number < 1:
            raise UsageError(f"{name} {number} is too small; give 1 or more")
    if options.threads is not None and options.threads > MOST_THREADS:
        raise UsageError(f"{options.threads} threads; accepted: 1 to {MOST_THREADS}")
    found = find_images(options.inputs, options.include, options.exclude)
    workers, threads = _share_out(options)
    return found, _Models(options, threads), workers


def _share_out(options: ClassifyOptions) -> tuple[int, int | None]:
    """Return how many workers there are, and threads of each one's inferences."""
    suffix = options.model.suffix.lower() if options.model is not None else ""
    if "keras" in (options.runtime, suffix.removeprefix(".")):
        # TensorFlow spreads every product over threads of its own.
        return 1, options.threads
    cores = options.threads or available_cores()
    workers = min(cores, _MOST_WORKERS)
    return workers, cores // workers
