"""A run's plan: all that its options resolve to, once, before anything is written.

Whatever can be wrong with the options shows here, the cheapest checks first:
words, numbers, paths, then packages, then models.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from medkit.batch.chunk import Job, TaskModel
from medkit.batch.columns import added_columns, columns_for
from medkit.batch.destination import (
    Output,
    check_apart,
    checked_record,
    output_format,
    record_to_continue,
)
from medkit.batch.engines.registry import Engine, get_engine
from medkit.batch.listing import Inputs, ListedImage, find_images
from medkit.batch.options import ClassifyOptions
from medkit.batch.routing import BY_COLOUR, ByColour, OneTask, Routing
from medkit.batch.run_record import ModelIdentity, RunIdentity, RunRecord
from medkit.defaults import AUTO, STDIN
from medkit.errors import MedkitError, ModelFileError, UsageError
from medkit.files import sha256_of
from medkit.images.entries import PassedOver
from medkit.images.formats.registry import rules
from medkit.models.bundle import Bundle, load_bundle, task_beside
from medkit.models.points import get_point
from medkit.models.runtimes.base import Model
from medkit.models.runtimes.loading import (
    ModelSpec,
    check_threads,
    load_model,
    runtime_for,
    usual_runtime,
)
from medkit.models.runtimes.registry import Runtime, get_runtime, runtimes
from medkit.system.cores import available_cores
from medkit.system.names import name_in_rows
from medkit.tasks import TASKS, Task, get_task, own_tasks, task_names, trained_folder
from medkit.wording import unknown

_MOST_WORKERS = 16
"""Workers, beyond which cores join in inferences: each holds a model of its own, and what is
done in Python between decoding and inference is done by one at a time."""

MOST_BATCH = 1024
"""Images in one inference at most: far beyond what is faster, and within any memory."""


@dataclass(frozen=True)
class Plan:
    """All that the options of a run resolve to.

    Attributes
    ----------
    inputs
        Images of the run.
    images
        The listing, to be walked once.
    passed_over
        Is told, while it is walked, of what is passed over.
    job
        All that a worker must know.
    engine
        Spreads the work.
    batch_size
        Images in one inference.
    identity
        All that the rows depend on.
    output
        Output of the rows; ``None`` if they are not written.
    """

    inputs: Inputs
    images: Iterator[ListedImage]
    passed_over: PassedOver
    job: Job
    engine: Engine
    batch_size: int
    identity: RunIdentity
    output: Output | None


@dataclass(frozen=True)
class Workers:
    """The use of the cores: the number of workers, and of threads for each inference."""

    count: int
    threads: int | None


@dataclass(frozen=True)
class _Models:
    """The models of a run, and how images get to them."""

    models: Mapping[str, TaskModel]
    routing: Routing
    opened: Mapping[str, Model] = field(default_factory=dict)


def make_plan(options: ClassifyOptions, *, writes: bool = True, stop: Event | None = None) -> Plan:
    """Resolve the options of a run; nothing is written.

    Parameters
    ----------
    options
        The arguments.
    writes
        Whether rows go to ``options.out``; else that is not looked at.
    stop
        Once it is set, no more paths of a list are waited for.

    Raises
    ------
    UsageError
        If the options cannot be obeyed, or there is no image
        (:class:`~medkit.errors.NoImagesError`).
    ModelFileError, MissingExtraError
        If a model is missing or cannot be loaded.
    """
    written = output_format(options) if writes else None
    if writes:
        check_apart(options)
    record = record_to_continue(options) if writes else None
    check_task(options.task, options.trained)
    _check_runtime(options.runtime)
    engine = get_engine(options.engine)
    check_sizes(options.batch_size, options.threads)
    inputs = Inputs(
        options.inputs,
        options.include,
        options.exclude,
        options.from_file,
        options.all_files,
        options.absolute_paths,
    )
    passed_over = PassedOver()
    images = find_images(inputs, passed_over, stop)
    workers = _workers(options)
    found = _find_models(options, workers.threads, record)
    job = Job(
        models=found.models,
        routing=found.routing,
        operating_point=options.operating_point,
        limits=options.limits,
        workers=workers.count,
        opened=found.opened,
    )
    identity = _identity(options, inputs, found)
    output = None
    if written is not None:
        labels = [label for each in found.models.values() for label in each.task.labels]
        record = checked_record(Path(options.out), record, identity)
        columns = columns_for(labels)
        output = Output(Path(options.out), written, columns, record, options.retry_errors)
    return Plan(inputs, images, passed_over, job, engine, options.batch_size, identity, output)


def check_task(word: str, trained: Path | None = None) -> None:
    """Raise :class:`UsageError` unless a word names a task, or stands for the built-in ones."""
    if word not in (AUTO, *TASKS) and word not in (known := task_names(trained)):
        raise UsageError(unknown("task", word, (AUTO, *known)))


def no_choice(error: ModelFileError, trained: Path | None) -> MedkitError:
    """Return the error for the task ``auto`` where the models of a built-in task are missing.

    Parameters
    ----------
    error
        What is wrong with the models.
    trained
        Folder of models, as in :class:`~medkit.batch.options.ClassifyOptions`.
    """
    others = ", ".join(own_tasks(trained))
    if not others:
        return ModelFileError(f"{error}; or name the other task with --task")
    built_in = " and ".join(task.name for task in BY_COLOUR)
    root = trained or trained_folder()
    if any((root / task.name).is_dir() for task in BY_COLOUR):
        return ModelFileError(f"{error}; or name another task with --task: {others}")
    return UsageError(
        f"the task {AUTO} chooses between {built_in}, and {root} holds no models of these; "
        f"name the task with --task: {others}"
    )


def check_sizes(batch_size: int, threads: int | None) -> None:
    """Raise :class:`UsageError` for numbers that would ask for nothing, or for all the memory."""
    if not 1 <= batch_size <= MOST_BATCH:
        raise UsageError(f"batch size {batch_size}; accepted: 1 to {MOST_BATCH}")
    check_threads(threads)


def share_out(threads: int | None) -> Workers:
    """Share the cores out between workers and their inferences.

    Parameters
    ----------
    threads
        Number of cores to use; ``None`` for all that the process may use.
    """
    cores = threads or available_cores()
    count = min(cores, _MOST_WORKERS)
    return Workers(count, cores // count)


def _check_runtime(word: str | None) -> None:
    if word is not None and word not in (AUTO, *runtimes()):
        raise UsageError(unknown("runtime", word, (AUTO, *runtimes())))


def _workers(options: ClassifyOptions) -> Workers:
    """Return how many workers there are; one, where a library has threads of its own."""
    asked: Runtime | None = None
    if options.runtime is not None and options.runtime != AUTO:
        asked = get_runtime(options.runtime)
    elif options.model is not None:
        asked = runtime_for(options.model)
    if asked is not None and asked.own_threads:
        return Workers(1, options.threads)
    return share_out(options.threads)


def _find_models(
    options: ClassifyOptions, threads: int | None, record: RunRecord | None
) -> _Models:
    """Return the models of a run.

    A model that is asked for is opened at once, and with the task ``auto``
    every model is looked for, so that an absence is known before any row.
    """
    if options.model is not None:
        return _given_model(options, threads)
    if options.task != AUTO:
        found = _task_model(get_task(options.task, options.trained), options, threads, record)
        name = found.task.name
        return _Models({name: found}, OneTask(found.route), {name: found.open()})
    models = {}
    for task in BY_COLOUR:
        try:
            models[task.name] = _task_model(task, options, threads, record)
        except ModelFileError as error:
            raise no_choice(error, options.trained) from None
    grey, coloured = (models[task.name].route for task in BY_COLOUR)
    routing = ByColour(grey, coloured)
    return _Models(models, routing)


def _given_model(options: ClassifyOptions, threads: int | None) -> _Models:
    """Open the model file that was named; its card tells the task."""
    assert options.model is not None
    runtime = runtime_for(options.model, None if options.runtime == AUTO else options.runtime)
    model = load_model(options.model, threads, runtime.name)
    task = task_beside(options.model, model.card.task, options.trained)
    if options.task not in (AUTO, task.name):
        raise UsageError(
            f"{options.model} is a model for {task.name}, not for {options.task}; "
            "leave out the task, or name another model"
        )
    model.card.check(task, model.card.contract, options.model)
    get_point(model.card.operating_points, options.operating_point)
    spec = ModelSpec(options.model, runtime.name, sha256_of(options.model), threads)
    found = TaskModel(task, model.card.contract, spec)
    return _Models({task.name: found}, OneTask(found.route), {task.name: model})


def _task_model(
    task: Task, options: ClassifyOptions, threads: int | None, record: RunRecord | None
) -> TaskModel:
    """Return a task's verified file and its runtime.

    With the runtime ``auto``, the fastest is measured now, unless an earlier
    run has found it and its file is still the same.
    """
    bundle = load_bundle(task, options.trained)
    get_point(bundle.operating_points, options.operating_point)
    name = options.runtime or usual_runtime(bundle).name
    if name != AUTO:
        runtime = get_runtime(name)
        runtime.require()
        path = bundle.file_with(runtime.suffix)
    elif (before := _found_before(bundle, record)) is not None:
        path, name = before
    else:
        from medkit.models.fastest import fastest_choice

        choice = fastest_choice(bundle, options.batch_size, threads)
        path, name = choice.path, choice.runtime
    spec = ModelSpec(path, name, bundle.manifest.listed[path.name].sha256, threads)
    return TaskModel(task, bundle.contract, spec)


def _found_before(bundle: Bundle, record: RunRecord | None) -> tuple[Path, str] | None:
    """Return what an earlier run found fastest, if its file is still what it was."""
    before = record.models.get(bundle.task.name) if record is not None else None
    if before is None or before.runtime not in runtimes():
        return None
    entry = bundle.manifest.exports.get(before.file)
    if entry is None or entry.sha256 != before.sha256:
        return None
    path = bundle.folder / before.file
    bundle.verify(path)
    return path, before.runtime


def _identity(options: ClassifyOptions, inputs: Inputs, found: _Models) -> RunIdentity:
    """Return what the rows of a run depend on."""
    listed = inputs.from_file
    return RunIdentity(
        inputs=tuple(map(_real, inputs.paths)),
        # Of several, the spelling begins the names of the rows.
        spelling=_printed(map(os.fspath, inputs.paths)) if inputs.spelled else (),
        include=_printed(inputs.include),
        exclude=_printed(inputs.exclude),
        task=options.task,
        operating_point=options.operating_point,
        batch_size=options.batch_size,
        limits=options.limits,
        models={
            name: ModelIdentity(
                each.spec.path.name, each.spec.sha256, each.spec.runtime, each.contract.hash
            )
            for name, each in found.models.items()
        },
        formats=rules(),
        columns=added_columns(),
        from_file="" if listed is None else STDIN if inputs.is_stream else _real(listed),
        folder="" if listed is None else _real(Path()),
        all_files=inputs.all_files,
        absolute_paths=inputs.absolute,
        excel=options.excel,
    )


def _real(path: Path) -> str:
    return _printable(os.path.realpath(path))


def _printable(path: str) -> str:
    return name_in_rows(path).encode("utf-8", "backslashreplace").decode()


def _printed(patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(_printable, patterns))
