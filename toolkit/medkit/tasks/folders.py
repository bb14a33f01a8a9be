"""Where tasks and their models lie: what ships, what the environment names, and the user's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from medkit.errors import ModelFileError, UsageError
from medkit.tasks.builtin import TASKS
from medkit.tasks.described import read_task, task_file
from medkit.tasks.task import TASK_NAME, TOML_NAME, Task
from medkit.wording import unknown

TRAINED_VARIABLE = "MEDKIT_TRAINED"
"""Environment variable that names another folder of models."""


def trained_folder() -> Path:
    """Return the folder of models: ``MEDKIT_TRAINED``, the wheel's own, or the repository's."""
    named = os.environ.get(TRAINED_VARIABLE)
    return Path(named) if named else shipped_folder()


def shipped_folder() -> Path:
    """Return the folder of the models that ship: the wheel's own, or the repository's."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "trained"
    return installed if installed.is_dir() else package.parents[1] / "trained"


def user_folder() -> Path | None:
    """Return the user's folder of models, which need not exist; ``None`` for one without a home.

    It is ``medkit/models`` among the data of the user's programs, which is
    ``~/.local/share`` on Linux, ``~/Library/Application Support`` on macOS,
    and ``%LOCALAPPDATA%`` on Windows.
    """
    from platformdirs import user_data_path

    try:
        return user_data_path("medkit", appauthor=False) / "models"
    except RuntimeError:
        return None


def folder_for_new() -> Path:
    """Return the folder that gets models of new tasks: ``MEDKIT_TRAINED``, or the user's.

    Raises
    ------
    UsageError
        If the user has none.
    """
    named = os.environ.get(TRAINED_VARIABLE)
    folder = Path(named) if named else user_folder()
    if folder is None:
        raise UsageError(f"there is no home folder for models; name one with {TRAINED_VARIABLE}")
    return folder


def folders_of_models(trained: Path | None = None) -> tuple[Path, ...]:
    """Return the folders in which tasks of one's own are looked for.

    Parameters
    ----------
    trained
        A folder that was named for this call: then it alone is looked into.
        Else it is :func:`trained_folder`, and besides :func:`user_folder`.
    """
    if trained is not None:
        return (trained,)
    first, own = trained_folder(), user_folder()
    return (first,) if own is None or own.resolve() == first.resolve() else (first, own)


def own_tasks(trained: Path | None = None) -> dict[str, tuple[Path, ...]]:
    """Return the tasks that are described in folders of models, without those that are built in.

    Parameters
    ----------
    trained
        As for :func:`folders_of_models`.

    Returns
    -------
    dict
        By name, the folders that have its description; they are not read.
    """
    found: dict[str, list[Path]] = {}
    for root in folders_of_models(trained):
        described = [path for name in (TOML_NAME, TASK_NAME) for path in root.glob(f"*/{name}")]
        for folder in sorted({path.parent for path in described}):
            if folder.name not in TASKS:
                found.setdefault(folder.name, []).append(folder)
    return {name: tuple(found[name]) for name in sorted(found)}


def folder_of(name: str, trained: Path | None = None) -> Path:
    """Return the folder of a task's models, which need not exist.

    Parameters
    ----------
    name
        Name of the task.
    trained
        As for :func:`folders_of_models`. The models of a built-in task lie
        there, or in :func:`trained_folder`, and never in the user's folder.

    Raises
    ------
    ModelFileError
        If two folders describe a task of that name.
    """
    found = () if name in TASKS else own_tasks(trained).get(name, ())
    if len(found) > 1:
        places = " and in ".join(str(folder.parent) for folder in found)
        raise ModelFileError(
            f"the task {name} lies in {places}; name one of these folders with --trained"
        )
    return found[0] if found else (trained or trained_folder()) / name


def known_tasks(trained: Path | None = None) -> Mapping[str, Task]:
    """Return every task by name: the built-in ones, and those in the folders of models.

    Parameters
    ----------
    trained
        As for :func:`folders_of_models`.

    Raises
    ------
    ModelFileError
        If a ``task.toml`` there cannot be read. The message names the field.
    """
    names = task_names(trained)
    return {name: get_task(name, trained) for name in names}


def task_names(trained: Path | None = None) -> tuple[str, ...]:
    """Return the name of every task that :func:`known_tasks` gives. No file is read."""
    return (*own_tasks(trained), *TASKS)


def get_task(name: str, trained: Path | None = None) -> Task:
    """Return the task called ``name``.

    Parameters
    ----------
    name
        The word for it.
    trained
        Folder with a folder for each task. By default the one that
        ``MEDKIT_TRAINED`` names, else what ships, and the user's own besides.

    Raises
    ------
    UsageError
        If there is no such task.
    ModelFileError
        If its ``task.toml`` cannot be read, or if two folders describe it.
    """
    if name in TASKS:
        return TASKS[name]
    # A task beside it that cannot be read is no reason to refuse this one.
    names = task_names(trained)
    if name not in names:
        raise UsageError(unknown("task", name, names))
    described = task_file(folder_of(name, trained))
    if described is None:
        raise UsageError(unknown("task", name, [each for each in names if each != name]))
    return read_task(described)


def as_task(task: str | Task, trained: Path | None = None) -> Task:
    """Return a task that is given by its name, as :func:`get_task` does, or itself."""
    return get_task(task, trained) if isinstance(task, str) else task
