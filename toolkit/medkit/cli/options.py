"""Options and arguments that several commands take, and what they check before any work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from medkit.cli import completion
from medkit.defaults import PNEUMONIA_NAME, SKIN_NAME, STDOUT
from medkit.errors import DatasetLayoutError, MedkitError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from medkit.tasks import Task

IMAGES, MODEL, OUTPUT = "Images", "Model", "Output"
SPEED, LIMITS, TRAINING = "Speed", "Limits of an image", "Training"
"""Panels of the help, which an option names as its ``rich_help_panel``."""

TASK_NAMES = f"{PNEUMONIA_NAME}, {SKIN_NAME}, or a task of your own"

Result = TypeVar("Result")
Report = tuple[Path | None, Callable[[Result, Path], object]]
"""A file, if one was named, and what writes what was found to it."""

DATA_HELP = (
    "Labelled images: a folder with a folder for each class, a set with such folders in its "
    "splits, or a folder of sets."
)
"""What every command says of labelled images."""

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help=f"{DATA_HELP} [env: MEDKIT_DATA]", rich_help_panel=IMAGES
    ),
]
LabelsMapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--labels-map",
        metavar="FILE|SPELLING=LABEL",
        help="What a class folder of another name is; SPELLING= leaves it out. Repeat it, or "
        "name a file with one such pair a line.",
        rich_help_panel=IMAGES,
    ),
]
TrainedOption = Annotated[
    Path | None,
    typer.Option(
        "--trained",
        metavar="DIR",
        help="Folder with a model folder for each task. [default: MEDKIT_TRAINED, or the shipped "
        "models, and your own]",
        rich_help_panel=MODEL,
    ),
]
TasksArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TASK ...]",
        help=f"{TASK_NAMES}. [default: {PNEUMONIA_NAME} and {SKIN_NAME}]",
        autocompletion=completion.tasks,
    ),
]
MeasuredTasksArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TASK ...]",
        help=f"{TASK_NAMES}. [default: {PNEUMONIA_NAME} and {SKIN_NAME}, if the data hold images "
        "of them]",
        autocompletion=completion.tasks,
    ),
]
BatchSizeOption = Annotated[
    int,
    typer.Option(
        "--batch-size", metavar="N", help="Images in one inference.", rich_help_panel=SPEED
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="Number of cores to use. [default: all]",
        rich_help_panel=SPEED,
    ),
]


def tasks_of(names: list[str] | None, trained: Path | None = None) -> tuple[Task, ...]:
    """Return the tasks of some names; without a name, those that are built in."""
    from medkit.tasks import TASKS, get_task

    return tuple(get_task(name, trained) for name in dict.fromkeys(names or TASKS))


def tasks_held(
    tasks: tuple[Task, ...],
    data: Path,
    spellings: Mapping[str, str],
    trained: Path | None = None,
) -> tuple[Task, ...]:
    """Return those tasks that a folder holds images of, and name the others to the user.

    Raises
    ------
    DatasetLayoutError
        If it holds images of none. The tasks of the folder of models that can be named are told.
    """
    from medkit.datasets.location import tasks_in
    from medkit.tasks import own_tasks

    try:
        held = tasks_in(tasks, data, spellings)
    except DatasetLayoutError as error:
        others = ", ".join(own_tasks(trained))
        raise DatasetLayoutError(
            f"{error}; or name another task: {others}" if others else str(error)
        ) from None
    for task in tasks:
        if task not in held:
            typer.echo(f"{task.name}: left out, {data} holds no images of it", err=True)
    return held


@contextmanager
def fresh_reports(paths: Iterable[Path | None], given: Path | None = None) -> Iterator[None]:
    """Refuse reports that cannot be written before any work, and remove what is there.

    An old report must not outlive a run that fails. It stays if a package is
    absent, so that no run began.

    Parameters
    ----------
    paths
        The reports; ``None`` for one that is not asked for.
    given
        A file that the command reads, and that no report may replace.

    Raises
    ------
    UsageError
        If a report cannot be written, is named twice, or is the given file.
    """
    before: dict[Path, bytes] = {}
    seen: dict[Path | str, str] = {}
    if given:
        seen[given.resolve()] = f"{given} is read; name another file for the report"
    for path in paths:
        if is_stdout(path):
            if STDOUT in seen:
                raise UsageError("two reports cannot both go to standard output; name a file")
            if sys.stdout is None:
                raise UsageError("standard output is closed; name a file for the report")
            seen[STDOUT] = ""
        elif path is not None:
            target, content = _checked(path, seen)
            if content is not None:
                before[target] = content
    for target in before:
        try:
            target.unlink()
        except OSError as error:
            raise UsageError(
                f"{target} cannot be replaced: {error.strerror}; name another file"
            ) from error
    try:
        yield
    except MissingExtraError:
        for target, content in before.items():
            target.write_bytes(content)
        raise


def _checked(path: Path, seen: dict[Path | str, str]) -> tuple[Path, bytes | None]:
    """Return where a report will lie and what is there; note the place among those seen."""
    from medkit.files import check_writable

    try:
        target = path.resolve()
        if target in seen:
            raise UsageError(seen[target])
        seen[target] = f"{path} is named for two reports; name two files"
        check_writable(target.parent)
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no regular file; name another")
        return target, path.read_bytes() if path.is_file() else None
    except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
        raise UsageError(f"{path} cannot be written: {error}; name another file") from error


def write_reports(found: Result, reports: Iterable[Report[Result]]) -> None:
    """Write what a command found to every file that was named."""
    for path, write in reports:
        if path is not None:
            with report_file(path) as target:
                write(found, target)


@contextmanager
def report_file(path: Path) -> Iterator[Path]:
    """Give the file for a report; what is written for ``-`` goes on to standard output."""
    if not is_stdout(path):
        yield path
        return
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="medkit-") as folder:
        target = Path(folder, "report")
        yield target
        content = target.read_bytes()
    with stdout_errors():
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


@contextmanager
def stdout_errors() -> Iterator[None]:
    """Turn an error of the operating system about standard output into one of medkit's."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_stdout()
        raise MedkitError(
            f"standard output cannot be written: {error.strerror}; make room, or send it elsewhere"
        ) from error


def drop_stdout() -> None:
    """Send what is still buffered for standard output nowhere, or it would raise again at exit."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_stdout(report: Path | None) -> bool:
    """Whether a report goes to standard output instead of a file."""
    return report is not None and str(report) == STDOUT
