"""Batch classification: from files and folders to one row for each image."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from threading import Event, Lock, local
from typing import Any, Protocol

from medkit.bundles import Bundle, format_run_by, listed_files, load_bundle, sha256_of
from medkit.cores import available_cores
from medkit.decisions import BALANCED, get_point
from medkit.errors import ModelFileError, UsageError
from medkit.images import contract_for
from medkit.limits import DEFAULT_LIMITS, Limits
from medkit.listing import Found, Whereabouts, counting, find_images
from medkit.pipeline import most_in_work, predict
from medkit.resume import (
    Kept,
    begin,
    check_record,
    finish_record,
    has_rows,
    read_record,
    record_path,
    remaining,
    repair,
    sole_writer,
)
from medkit.rows import STDOUT, Row, check_output, open_writer, output_errors
from medkit.runtimes import DEFAULT_RUNTIME, MOST_THREADS, RUNTIMES, Model, load_model
from medkit.tasks import TASKS, Task, get_task

_MOST_WORKERS = 16
"""Workers, beyond which cores join in inferences: each holds a model of its own, and what is
done in Python between decoding and inference is done by one at a time."""

MOST_BATCH = 1024
"""Images in one inference at most: far beyond what is faster, and within any memory."""

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
    resume
        Keep the rows of an output that is there, and do what is missing; see
        :mod:`medkit.resume`.
    overwrite
        Replace an output that is there.
    limits
        What one image may cost; one that costs more is an error row.
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
    resume: bool = False
    overwrite: bool = False
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True)
class ClassifySummary:
    """What a run came to.

    Attributes
    ----------
    counts
        Images by task and label, for those that occurred.
    ok, errors
        Rows by status, those that were kept of an earlier run included.
    kept
        How many these were.
    models
        By task, the file and the runtime that were used.
    seconds
        Duration of the whole call.
    out
        Where the rows are.
    interrupted
        Whether the run was ended before the last image.
    """

    counts: dict[tuple[str, str], int]
    ok: int
    errors: int
    models: dict[str, str]
    seconds: float
    out: str | Path
    kept: int = 0
    interrupted: bool = False

    @property
    def images_per_second(self) -> float:
        """Rows of this run, those with an error included, by the duration."""
        return (self.ok + self.errors - self.kept) / self.seconds


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
    ending: Event | None = None,
) -> ClassifySummary:
    """Classify images and write one row for each input, in the order of the listing.

    A file that cannot be classified is a row with its reason and stops
    nothing. Whatever ends the run early, rows written by then stay, and an
    output in a file can be continued.

    Parameters
    ----------
    options
        The arguments.
    observer
        Who is told of progress.
    ending
        Set by another thread or a signal's handler, it ends the run after
        the images that are in work.

    Raises
    ------
    UsageError
        If the options cannot be obeyed, or there is no image
        (:class:`~medkit.errors.NoImagesError`). Nothing is written then.
    ModelFileError, MissingExtraError
        If a model is missing or cannot be loaded.
    MedkitError
        If a row cannot be written, or a folder of images vanishes.
    BrokenPipeError
        If the reader of standard output has gone; see
        :func:`medkit.rows.open_writer`.
    """
    started = time.perf_counter()
    check_output(options.out)
    _check_existing(options)
    found, models, workers = _prepare(options)
    to_file = str(options.out) != STDOUT
    with sole_writer(Path(options.out)) if to_file else nullcontext():
        return _classify_rest(options, observer, ending, (found, models, workers), started)


def _classify_rest(
    options: ClassifyOptions,
    observer: Observer,
    ending: Event | None,
    prepared: tuple[Iterator[Found], _Models, int],
    started: float,
) -> ClassifySummary:
    """Classify what an output does not hold yet."""
    found, models, workers = prepared
    record, kept, found, again = _begin(options, found, models, workers, ending)
    counts, errors = Counter(kept.counts), kept.errors
    with (
        open_writer(options.out, models.labels, append=kept.rows > 0) as writer,
        closing(_predict(options, found, models, workers, ending)) as rows,
        ExitStack() as stack,
    ):
        total, told = None, False
        for row in islice(rows, again, None):
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
                observer.total(total.result() - kept.rows)
                told = True
            observer.row(row)
    interrupted = ending is not None and ending.is_set() and next(found, None) is not None
    if not interrupted and str(options.out) != STDOUT:
        finish_record(Path(options.out), record, counts.total() + errors, errors)
    return ClassifySummary(
        dict(counts),
        counts.total(),
        errors,
        models.used,
        time.perf_counter() - started,
        options.out,
        kept.rows,
        interrupted,
    )


def _check_existing(options: ClassifyOptions) -> None:
    """Refuse to replace an output unless that is asked for."""
    if options.resume and options.overwrite:
        raise UsageError("an output is either continued or replaced; give one of both")
    if str(options.out) == STDOUT:
        if options.resume:
            raise UsageError("standard output cannot be continued; name a file")
        return
    out = Path(options.out)
    with output_errors(str(out)):
        record_path(out).exists()  # its name may be too long where that of the output is not
    if options.resume and out.exists() and not out.is_file():
        raise UsageError(f"{out} cannot be continued: it is no file; name another output")
    if has_rows(out) and not (options.resume or options.overwrite):
        raise UsageError(
            f"{options.out} exists; continue it with --resume, or replace it with --overwrite"
        )


def _begin(
    options: ClassifyOptions,
    found: Iterator[Found],
    models: _Models,
    workers: int,
    ending: Event | None,
) -> tuple[dict[str, Any], Kept, Iterator[Found], int]:
    """Prepare the output.

    Returns
    -------
    record, kept, images, again
        The output's record, what it holds already, and what is still to be
        done; of that the first ``again`` images have rows.
    """
    if str(options.out) == STDOUT:
        return {}, Kept(), found, 0
    out, kept, again, record = Path(options.out), Kept(), 0, {}
    if options.resume and has_rows(out):
        record = read_record(out)
        models.adopt(record.get("models"))
        check_record(out, record, {**_facts(options), "models": models.identity()})
        if record.get("emptied"):
            kept = repair(out, models.labels)
        if kept.rows:
            found, again = remaining(found, out, models.labels, options.batch_size)
        if record.get("finished") is None and os.name == "posix":
            from medkit.quarantine import tried_out

            suspects = again + most_in_work(workers, options.batch_size)
            found = tried_out(found, suspects, options.limits, ending)
    if not kept.rows:
        record = begin(out, {**_facts(options), "models": models.identity()})
    return record, kept, found, again


def _facts(options: ClassifyOptions) -> dict[str, Any]:
    """Return the arguments that the rows depend on."""
    # Of several, the spelling begins the names of the rows.
    spelled = [os.fspath(path) for path in options.inputs] if len(options.inputs) > 1 else []
    return {
        "inputs": [_printable(os.path.realpath(path)) for path in options.inputs],
        "spelling": [_printable(path) for path in spelled],
        "include": list(options.include),
        "exclude": list(options.exclude),
        "task": options.task,
        "operating point": options.operating_point,
        "batch size": options.batch_size,
        "limits": asdict(options.limits),
    }


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


def predict_paths(options: ClassifyOptions) -> Iterator[Row]:
    """Classify images and give the rows instead of writing them; ``options.out`` is not used.

    Raises
    ------
    UsageError, ModelFileError, MissingExtraError
        As :func:`classify_files`, and by the call itself wherever nothing is
        written there.
    """
    found, models, workers = _prepare(options)
    return _predict(options, found, models, workers)


def _predict(
    options: ClassifyOptions,
    found: Iterator[Found],
    models: _Models,
    workers: int,
    ending: Event | None = None,
) -> Generator[Row, None, None]:
    """Give the rows, as long as the folders are there that the images come from."""
    whereabouts = Whereabouts(options.inputs, options.limits.seconds)
    rows = predict(found, models, options.batch_size, workers, ending, options.limits)
    with closing(rows):
        for row in rows:
            if row.status != "ok":
                whereabouts.check()
            yield row


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
        self._found: dict[str, tuple[Bundle, Path | None, str]] = {}
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
            if self._runtime != AUTO:  # an earlier run may have found what is fastest
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

    def adopt(self, stored: Any) -> None:
        """Use what an earlier run found fastest, if its files are still what they were."""
        for name, (bundle, path, _) in list(self._found.items()):
            way = stored.get(name) if isinstance(stored, dict) else None
            if path is not None or not isinstance(way, dict):
                continue
            file, runtime = str(way.get("file")), str(way.get("runtime"))
            listed = bundle.manifest.get("exports", {}).get(file, {})
            if listed and listed["sha256"] == way.get("sha256") and runtime in RUNTIMES:
                bundle.verify(bundle.folder / file)
                self._found[name] = bundle, bundle.folder / file, runtime

    def identity(self) -> dict[str, dict[str, str]]:
        """Return what the rows depend on, by task: file, hash, runtime and input contract.

        What is fastest is measured now, and kept for this run.
        """
        found = {}
        for name in [self.fixed.name] if self.fixed is not None else list(TASKS):
            if name in self._found:
                bundle, path, runtime = self._resolved(name)
                sha256 = listed_files(bundle.manifest)[path.name]["sha256"]
            else:
                path, runtime = self._first[name].path, self._first[name].runtime
                sha256 = sha256_of(path)
            contract = contract_for(get_task(name)).hash
            found[name] = {
                "file": path.name,
                "sha256": sha256,
                "runtime": runtime,
                "contract": contract,
            }
        return found

    @property
    def used(self) -> dict[str, str]:
        """By task, the file and the runtime in use."""
        return {task: f"{m.path.name} on {m.runtime}" for task, m in self._first.items()}

    def _load(self, task: Task) -> Model:
        _, path, runtime = self._resolved(task.name)
        self._first[task.name] = load_model(path, self._threads, runtime)
        return self._first[task.name]

    def _resolved(self, name: str) -> tuple[Bundle, Path, str]:
        """Return the bundle of a task, the file that is used, and the runtime."""
        bundle, path, runtime = self._found[name]
        if path is None:
            from medkit.fastest import fastest_way

            way = fastest_way(bundle, self._options.batch_size, self._threads)
            path, runtime = way.path, way.runtime
            self._found[name] = bundle, path, runtime
        return bundle, path, runtime

    @property
    def _runtime(self) -> str:
        return self._options.runtime or DEFAULT_RUNTIME

    def _find(self, task: Task) -> tuple[Bundle, Path | None, str]:
        """Return a task's bundle, verified file and runtime; no file yet if they are measured.

        Verifying reads the whole file, so once is enough.
        """
        bundle = load_bundle(task, self._options.trained)
        get_point(bundle.operating_points, self.operating_point)
        runtime = self._runtime
        return bundle, None if runtime == AUTO else _file_for(bundle, runtime), runtime


def _file_for(bundle: Bundle, runtime: str) -> Path:
    """Return the verified file of a bundle that a runtime runs."""
    if runtime == "keras":
        bundle.verify(bundle.keras_path)
        return bundle.keras_path
    return bundle.smallest_export(format_run_by(RUNTIMES[runtime]))


def _prepare(options: ClassifyOptions) -> tuple[Iterator[Found], _Models, int]:
    """Check all that can be checked before the first row, cheapest first."""
    check_task(options.task)
    if options.runtime not in (None, AUTO, *RUNTIMES):
        accepted = ", ".join((AUTO, *RUNTIMES))
        raise UsageError(f"unknown runtime {options.runtime!r}; accepted: {accepted}")
    check_sizes(options.batch_size, options.threads)
    found = find_images(options.inputs, options.include, options.exclude)
    suffix = options.model.suffix.lower() if options.model is not None else ""
    if "keras" in (options.runtime, suffix.removeprefix(".")):
        # TensorFlow spreads every product over threads of its own.
        return found, _Models(options, options.threads), 1
    workers, threads = share_out(options.threads)
    return found, _Models(options, threads), workers


def check_task(word: str) -> None:
    """Raise :class:`UsageError` unless a word names a task, or stands for either."""
    if word not in (AUTO, *TASKS):
        raise UsageError(f"unknown task {word!r}; accepted: {AUTO}, {', '.join(TASKS)}")


def check_sizes(batch_size: int, threads: int | None) -> None:
    """Raise :class:`UsageError` for numbers that would ask for nothing, or for all the memory."""
    if not 1 <= batch_size <= MOST_BATCH:
        raise UsageError(f"batch size {batch_size}; accepted: 1 to {MOST_BATCH}")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"{threads} threads; accepted: 1 to {MOST_THREADS}")


def share_out(threads: int | None) -> tuple[int, int]:
    """Return how many workers there are, and threads of each one's inferences.

    Parameters
    ----------
    threads
        Cores to keep busy; ``None`` for all that the process may use.
    """
    cores = threads or available_cores()
    workers = min(cores, _MOST_WORKERS)
    return workers, cores // workers
