"""Options and arguments that several commands take, and what they check before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from medkit.defaults import PNEUMONIA_NAME, SKIN_NAME
from medkit.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from medkit.tasks import Task

TASK_NAMES = f"{PNEUMONIA_NAME} or {SKIN_NAME}"

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
    typer.Option("--data", metavar="DIR", help=f"{DATA_HELP} [env: MEDKIT_DATA]"),
]
LabelsMapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--labels-map",
        metavar="FILE|SPELLING=LABEL",
        help="What a class folder of another name is; SPELLING= leaves it out. Repeat it, or "
        "name a file with one such pair a line.",
    ),
]
TrainedOption = Annotated[
    Path | None,
    typer.Option(
        "--trained",
        metavar="DIR",
        help="Folder with a model folder for each task. [default: the shipped models]",
    ),
]
TasksArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TASK ...]", help=f"{TASK_NAMES}. [default: both]"),
]
BatchSizeOption = Annotated[
    int, typer.Option("--batch-size", metavar="N", help="Images in one inference.")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="Number of cores to use. [default: all]"),
]


def tasks_of(names: list[str] | None, trained: Path | None = None) -> tuple[Task, ...]:
    """Return the tasks of some names; without a name, those that are built in."""
    from medkit.tasks import TASKS, get_task

    return tuple(get_task(name, trained) for name in dict.fromkeys(names or TASKS))


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
    from medkit.files import check_writable

    before: dict[Path, bytes] = {}
    seen = {given.resolve(): f"{given} is read; name another file for the report"} if given else {}
    for path in paths:
        if path is None:
            continue
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
            if path.is_file():
                before[target] = path.read_bytes()
        except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
            raise UsageError(f"{path} cannot be written: {error}; name another file") from error
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


def write_reports(found: Result, reports: Iterable[Report[Result]]) -> None:
    """Write what a command found to every file that was named."""
    for path, write in reports:
        if path is not None:
            write(found, path)
