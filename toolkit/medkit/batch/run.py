"""Batch classification: from files and folders to one row for each image."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from threading import Event

from medkit.batch.chunk import Chunk
from medkit.batch.destination import Output
from medkit.batch.engines.registry import WorkersDiedError
from medkit.batch.listing import ListedImage, counting
from medkit.batch.observers import Observer, Silent
from medkit.batch.options import ClassifyOptions
from medkit.batch.outputs.registry import Recovered
from medkit.batch.plan import Plan, make_plan
from medkit.batch.resume import (
    ResumeState,
    and_what_has_gone,
    names_tried_again,
    only_without_errors,
    remaining,
    sole_writer,
    taking_out,
    without_errors,
    without_row,
)
from medkit.batch.routing import least_side
from medkit.batch.rows import ERROR, OK, SKIPPED, Row
from medkit.batch.run_record import (
    RunRecord,
    beginning,
    emptied,
    finish_record,
    has_rows,
    reopened,
    trying_again,
)
from medkit.batch.whereabouts import InputFolders
from medkit.errors import MedkitError
from medkit.images.entries import PassedOver
from medkit.images.notes import NOTES
from medkit.models.runtimes.base import one_line
from medkit.models.runtimes.registry import get_runtime


@dataclass(frozen=True)
class ClassifySummary:
    """The result of a run.

    Attributes
    ----------
    counts
        Number of images by task and label, for those that occurred; in a
        multi-label task, by all labels that a row holds.
    ok, errors
        Number of rows by status. Rows kept from an earlier run are included.
    models
        The file and the runtime that were used, by task.
    seconds
        Duration of the whole call.
    out
        The file with the rows.
    kept
        Number of rows kept from an earlier run.
    interrupted
        Whether the run ended before the last image.
    passed_over
        What was passed over in folders: how many by suffix, and how many
        hidden, without a suffix and the like. Complete unless interrupted.
    skipped
        Number of rows for these, if they were asked for.
    notes
        Number of rows with each note, of those that this run wrote; see
        :mod:`medkit.images.notes`.
    """

    counts: dict[tuple[str, str], int]
    ok: int
    errors: int
    models: dict[str, str]
    seconds: float
    out: str | os.PathLike[str]
    kept: int = 0
    interrupted: bool = False
    passed_over: PassedOver = field(default_factory=PassedOver)
    skipped: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of all rows, those kept from an earlier run included."""
        return self.ok + self.errors + self.skipped

    @property
    def images_per_second(self) -> float:
        """Rows of this run, those with an error included, by the duration."""
        return (self.rows - self.kept) / self.seconds


@dataclass
class _Tally:
    """Counts of the rows written so far. Rows kept from an earlier run are included."""

    counts: Counter[tuple[str, str]]
    errors: int
    skipped: int
    tasks: set[str]
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Count a row."""
        self.tasks.add(row.task)
        self.notes.update(row.notes)
        self.errors += row.status == ERROR
        self.skipped += row.status == SKIPPED
        if row.status == OK:
            self.counts[row.task, row.label] += 1

    @property
    def rows(self) -> int:
        """Number of all rows."""
        return self.counts.total() + self.errors + self.skipped


def classify_files(
    options: ClassifyOptions,
    observer: Observer = Silent(),  # noqa: B008
    ending: Event | None = None,
) -> ClassifySummary:
    """Classify images and write one row for each input, in the order of the listing.

    A file that cannot be classified is a row with its reason and stops
    nothing. Whatever ends the run early, rows written by then stay, and an
    output in a file can be continued. A run that fails before its first row
    leaves everything as it was.

    Parameters
    ----------
    options
        The arguments.
    observer
        Observer of the progress.
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
        :func:`medkit.batch.outputs.lines.open_lines`.
    """
    started = time.perf_counter()
    stop = ending or Event()
    plan = make_plan(options, stop=stop)
    assert plan.output is not None
    output = plan.output
    tally, kept, interrupted = _Tally(Counter(), 0, 0, set()), 0, True
    with ExitStack() as stack:
        stack.callback(observer.end)
        stack.enter_context(suppress(_StoppedEarlyError))
        if output.is_file:
            stack.enter_context(sole_writer(output.path))
        goes_on = _where_to_go_on(plan, output, stop, stack)
        held = goes_on.kept
        kept = held.rows
        tasks = {task for task, _ in held.counts}
        tally = _Tally(Counter(held.counts), held.errors, held.skipped, tasks)
        if kept:
            observer.kept(kept)
        with closing(_rows(plan, goes_on.images, stop)) as rows:
            record = _write(plan, output, goes_on, rows, tally, observer, stop)
        interrupted = stop.is_set() and _may_go_on(plan, goes_on.images)
        if record is not None and not interrupted:
            finish_record(output.path, record, tally.rows, tally.errors, plan.passed_over)
    return ClassifySummary(
        counts=dict(tally.counts),
        ok=tally.counts.total(),
        errors=tally.errors,
        models=_models_used(plan, tally.tasks),
        seconds=time.perf_counter() - started,
        out=options.out,
        kept=kept,
        interrupted=interrupted,
        passed_over=plan.passed_over,
        skipped=tally.skipped,
        notes={note: tally.notes[note] for note in NOTES if tally.notes[note]},
    )


def _may_go_on(plan: Plan, images: Iterator[ListedImage]) -> bool:
    """Whether images are left, as far as that is known; a list that comes slowly may go on."""
    return plan.inputs.is_stream or next(images, None) is not None


def predict_paths(options: ClassifyOptions, observer: Observer | None = None) -> Iterator[Row]:
    """Classify images and give the rows instead of writing them; ``options.out`` is not used.

    Parameters
    ----------
    options
        The arguments.
    observer
        Observer of the progress.

    Raises
    ------
    UsageError, ModelFileError, MissingExtraError
        In the same cases as :func:`classify_files`. The call itself raises the
        errors that :func:`classify_files` raises before it writes anything.
    """
    plan = make_plan(options, writes=False)
    rows = _rows(plan, plan.images, Event())
    return rows if observer is None else _observed(rows, plan, observer)


def _observed(rows: Generator[Row, None, None], plan: Plan, observer: Observer) -> Iterator[Row]:
    """Give rows, and tell an observer of each."""
    with ExitStack() as stack:
        stack.callback(observer.end)
        stack.enter_context(closing(rows))
        for row, count in _with_total(rows, plan):
            if count is not None:
                observer.total(count)
            observer.row(row)
            yield row


def _with_total(rows: Iterator[Row], plan: Plan) -> Iterator[tuple[Row, int | None]]:
    """Give rows, the first after the counting has ended with the number of all inputs."""
    first = next(rows, None)
    if first is None:
        return
    # Not before: listing a large folder twice at once would delay the first row.
    with counting(plan.inputs) as total:
        told = False
        for row in chain([first], rows):
            known = not told and total.done()
            told = told or known
            yield row, total.result() if known else None


class _StoppedEarlyError(Exception):
    """A run was told to end before its first row, and leaves the output as it was."""


def _where_to_go_on(plan: Plan, output: Output, stop: Event, stack: ExitStack) -> ResumeState:
    """Return the rows that the output already holds, and the images that are still to be done.

    Images that may have crashed the earlier run are tried out first.
    """
    record, kept, images, again = output.record, Recovered(), plan.images, 0
    make_room, trying = None, record.tried_again if record is not None else ()
    if record is not None and record.emptied and has_rows(output.path):
        held = kept = output.format.recover(output.path, output.columns)
        if output.retry_errors and held.errors:
            sound = without_errors(held)
            trying = names_tried_again(sound, trying)
            make_room = stack.enter_context(taking_out(output.path, sound))
            kept = only_without_errors(held, sound)
            images = without_row(images, kept)
        elif kept.rows:
            images, again = remaining(images, kept, plan.batch_size)
        filling = tuple(islice(images, again))
        images = and_what_has_gone(images, kept, trying, plan.inputs)
        first = next(images, None)
        if first is None:
            return ResumeState(record, held, iter(()), 0)
        images = chain(filling, [first], images)
    else:
        images = and_what_has_gone(images, kept, trying, plan.inputs)
    if record is not None and record.finished is not None:
        # From here on, an image can kill the run, and the next one must know.
        record = reopened(output.path, record)
    if record is not None and os.name == "posix":
        from medkit.batch.quarantine import screen_suspects

        suspects = again + plan.engine.most_in_work(plan.job.workers) * plan.batch_size
        side = least_side(plan.job.routing)
        images = screen_suspects(images, suspects, plan.job.limits, side, stop)
    return ResumeState(record, kept, images, again, make_room, trying)


def _rows(plan: Plan, images: Iterator[ListedImage], stop: Event) -> Generator[Row, None, None]:
    """Give the rows, as long as the folders are there that the images come from."""
    folders = InputFolders(plan.inputs.paths, plan.job.limits.seconds)
    taken = given = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal taken
        while chunk := tuple(islice(images, plan.batch_size)):
            taken += len(chunk)
            yield chunk

    with closing(plan.engine.run(chunks(), plan.job, stop)) as done:
        for row in chain.from_iterable(_of_live_workers(done, plan)):
            given += 1
            if row.status == ERROR:
                folders.check()
            yield row
    if not stop.is_set() and (given != taken or next(images, None) is not None):
        raise WorkersDiedError(
            f"the engine {plan.engine.name} ended before every image had one row; "
            f"{_how_to_go_on(plan)}"
        )


def _of_live_workers(done: Iterator[list[Row]], plan: Plan) -> Iterator[list[Row]]:
    """Give the rows of each chunk; whatever an engine raises beside medkit's errors ends it."""
    try:
        yield from done
    except MedkitError:
        raise
    except Exception as error:
        raise WorkersDiedError(
            f"the engine {plan.engine.name} failed ({type(error).__name__}: {one_line(error)}); "
            f"{_how_to_go_on(plan)}"
        ) from error


def _how_to_go_on(plan: Plan) -> str:
    if plan.output is not None and plan.output.is_file:
        return "continue with --resume, which first tries out the images that were in work"
    return "name another engine, or correct its plug-in"


def _write(
    plan: Plan,
    output: Output,
    goes_on: ResumeState,
    rows: Iterator[Row],
    tally: _Tally,
    observer: Observer,
    stop: Event,
) -> RunRecord | None:
    """Write the rows that the output does not hold yet; return the run's record, if it has one."""
    kept = goes_on.kept
    new = islice(rows, goes_on.again, None)
    record, first = _first_row(plan, output, goes_on, new, stop)
    if record is not None and first and kept.rows and goes_on.make_room is not None:
        record = trying_again(output.path, record, goes_on.tried_again)
        goes_on.make_room()
    with output.format.open(output.path, output.columns, append=kept.rows > 0) as sink:
        if record is not None and not record.emptied:
            record = emptied(output.path, record)
        rows_to_come = chain([first] if first else [], new)
        for row, count in _with_total(rows_to_come, plan):
            sink.write(row)
            tally.add(row)
            if count is not None:
                observer.total(max(count, kept.rows))
            observer.row(row)
    return record


def _first_row(
    plan: Plan, output: Output, goes_on: ResumeState, rows: Iterator[Row], stop: Event
) -> tuple[RunRecord | None, Row | None]:
    """Return the run's record and its first row, before which nothing is written.

    The record comes first: should an image kill the process, it tells of the
    run. If anything else ends the run, it is taken back.
    """
    if not output.is_file:
        return None, next(rows, None)
    if goes_on.kept.rows:
        return goes_on.record, next(rows, None)
    with beginning(output.path, plan.identity, goes_on.tried_again) as record:
        first = next(rows, None)
        if first is None and stop.is_set():
            raise _StoppedEarlyError
        if first is not None:
            for column in output.columns:
                column.of(first)  # a column of a plug-in that fails, fails before the output does
        return record, first


def _models_used(plan: Plan, tasks: set[str]) -> dict[str, str]:
    """Return the file and the runtime of each task that occurred."""
    return {
        name: f"{each.spec.path.name} on {get_runtime(each.spec.runtime).title}"
        for name, each in plan.job.models.items()
        if name in tasks
    }
