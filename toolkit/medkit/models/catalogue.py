"""What tasks there are, with their models and figures: read from their files, without a runtime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medkit.defaults import BALANCED
from medkit.errors import MedkitError, ModelFileError, UsageError
from medkit.files import write_json
from medkit.images.contract import InputContract
from medkit.models.bundle import KERAS_NAME, open_bundle
from medkit.models.figures import Figures
from medkit.models.manifest import MANIFEST_NAME, Manifest
from medkit.tasks import (
    TASKS,
    TOML_NAME,
    Task,
    folders_of_models,
    own_tasks,
    read_task,
    shipped_folder,
    task_file,
    trained_folder,
    user_folder,
)

SPLITS = ("test", "validation")
"""Splits whose figures tell how good a model is, the better evidence first."""

ORIGINAL = "original"
"""Word for the precision of a Keras original, as in model cards."""


@dataclass(frozen=True)
class ListedFile:
    """A model file of a task: its name, its precision, and its size in bytes."""

    name: str
    precision: str
    bytes: int


@dataclass(frozen=True)
class ListedTask:
    """A task and what there is of it.

    Attributes
    ----------
    task
        The task.
    folder
        Folder of its models.
    built_in
        Whether medkit comes with the task.
    contract
        Input contract of the models; that of the task if there are none yet.
    files
        The original and the exports; empty for a task without a model.
    calibrated
        Whether temperature and operating points were fitted to labelled images.
    split, figures
        Figures of the original on the test split, or on validation, at the
        operating point ``balanced``; ``""`` and ``None`` if none are known.
    """

    task: Task
    folder: Path
    built_in: bool
    contract: InputContract
    files: tuple[ListedFile, ...] = ()
    calibrated: bool = True
    split: str = ""
    figures: Figures | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        task, found = self.task, self.figures
        measured = None
        if found is not None:
            measured = {
                "split": self.split,
                "images": found.images,
                "accuracy": found.accuracy,
                "auc": found.auc,
            }
        return {
            "name": task.name,
            "title": task.title,
            "built_in": self.built_in,
            "folder": str(self.folder),
            "labels": list(task.labels),
            "positive": task.positive,
            "alert": task.alert,
            "multi_label": task.multi_label,
            "input": self.contract.to_dict(),
            "files": [vars(file) for file in self.files],
            "calibrated": self.calibrated,
            "figures": measured,
        }


@dataclass(frozen=True)
class Catalogue:
    """What there is in the folders of models.

    Attributes
    ----------
    folders
        The folders that were looked into.
    tasks
        The tasks: those that are built in, then the others by name.
    problems
        A line for each bundle that cannot be read or used.
    """

    folders: tuple[Path, ...]
    tasks: tuple[ListedTask, ...]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "folders": [str(folder) for folder in self.folders],
            "tasks": [task.to_dict() for task in self.tasks],
            "problems": list(self.problems),
        }


def list_tasks(trained: Path | None = None) -> Catalogue:
    """List the tasks that there are, built in and own. No model file is read.

    Parameters
    ----------
    trained
        Folder with a folder for each task. By default the one that
        ``MEDKIT_TRAINED`` names, else what ships, and the user's own besides.

    Raises
    ------
    UsageError
        If a folder that was named is none.
    """
    roots = folders_of_models(trained)
    if not roots[0].is_dir():
        raise UsageError(f"{roots[0]} is no folder; name one with a folder for each task")
    tasks: list[ListedTask] = []
    problems = list(_strangers(roots))
    for task in TASKS.values():
        if (roots[0] / task.name).is_dir():
            _add(tasks, problems, task, roots[0] / task.name)
    for name, folders in own_tasks(trained).items():
        if len(folders) > 1:
            where = " and in ".join(str(folder.parent) for folder in folders)
            problems.append(f"the task {name} lies in {where}; name one of them with --trained")
        for folder in folders:
            _add(tasks, problems, None, folder)
    return Catalogue(roots, tuple(tasks), tuple(problems))


def write_catalogue(found: Catalogue, path: Path) -> None:
    """Write everything as JSON."""
    write_json(path, found.to_dict(), ascii_only=False)


def origin_of(folder: Path) -> str:
    """Return what a folder of models is: ``shipped``, ``your own``, or ``named``."""
    resolved, own = folder.resolve(), user_folder()
    if resolved == shipped_folder().resolve():
        return "shipped"
    return "your own" if own is not None and resolved == own.resolve() else "named"


def _add(tasks: list[ListedTask], problems: list[str], task: Task | None, folder: Path) -> None:
    """Add what a folder holds to the tasks, or why it cannot be used to the problems."""
    try:
        if task is None:
            described = task_file(folder)
            if described is None:
                return
            task = read_task(described)
        tasks.append(_listed(task, folder))
        problems += _faults(tasks[-1], folder)
    except MedkitError as error:
        problems.append(str(error))


def _listed(task: Task, folder: Path) -> ListedTask:
    built_in = task.name in TASKS
    try:
        bundle = open_bundle(task, folder)
    except FileNotFoundError:
        return ListedTask(task, folder, built_in, task.contract)
    manifest = bundle.manifest
    split = next((name for name in SPLITS if BALANCED in manifest.metrics.get(name, {})), "")
    return ListedTask(
        task=task,
        folder=folder,
        built_in=built_in,
        contract=bundle.contract,
        files=tuple(_files(manifest, folder)),
        calibrated=bundle.calibrated,
        split=split,
        figures=manifest.metrics[split][BALANCED] if split else None,
    )


def _files(manifest: Manifest, folder: Path) -> Iterator[ListedFile]:
    """Give the model files; a wheel does not hold the originals that its manifests list."""
    original = manifest.files.get(KERAS_NAME)
    if original is not None and (folder / KERAS_NAME).is_file():
        yield ListedFile(KERAS_NAME, ORIGINAL, original.bytes)
    for name, entry in manifest.exports.items():
        yield ListedFile(name, entry.precision, entry.bytes)


def _faults(listed: ListedTask, folder: Path) -> Iterator[str]:
    """Say which files are not there, or are not those that the manifest lists, by their size."""
    for file in listed.files:
        path = folder / file.name
        if not path.is_file():
            yield f"{path} is missing, though {MANIFEST_NAME} lists it; export it again"
        elif path.stat().st_size != file.bytes:
            yield (
                f"{path} is damaged or was replaced: {MANIFEST_NAME} gives it {file.bytes:,} "
                "bytes; restore it, or export it again"
            )


def _strangers(roots: tuple[Path, ...]) -> Iterator[str]:
    """Name the bundles that no command would use, and say why."""
    for root in roots:
        for manifest in sorted(root.glob(f"*/{MANIFEST_NAME}")):
            folder = manifest.parent
            if folder.name not in TASKS and _is_undescribed(folder):
                yield (
                    f"{folder} holds models, and no {TOML_NAME} that says what they decide; put it "
                    "back, or move the folder away"
                )
    for root in roots[1:]:
        for name in TASKS:
            if (root / name).is_dir():
                yield (
                    f"{root / name} is not used: the models of the built-in task {name} are those "
                    f"in {trained_folder()}, or in the folder that --trained names"
                )


def _is_undescribed(folder: Path) -> bool:
    try:
        return task_file(folder) is None
    except ModelFileError:
        return False  # it has two descriptions, which is told where it is read
