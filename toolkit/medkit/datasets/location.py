"""Where labelled images lie, and whether their folders fit a task.

Labelled images are a single labelled folder, with a folder for each class; or
a set, which has a labelled folder for each split; or a folder that holds one
of these under a known name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medkit.datasets.entries import (
    check_link,
    entries_of,
    is_folder,
    is_hidden,
    visible_folders,
    was_folder,
)
from medkit.datasets.folders import read_labelled_folder
from medkit.datasets.labels import Labels, fold
from medkit.errors import DatasetLayoutError
from medkit.images.formats.registry import extensions
from medkit.tasks import TASKS, Task
from medkit.wording import nearest

DATA_VARIABLE = "MEDKIT_DATA"
"""Environment variable that names the folder of the data sets."""

_SPLITS = ({"train", "training"}, {"test", "testing"})
"""Names that mean the same split."""

_A_SLIP = 0.75  # share of letters that a name with a slip has in common with what was meant

HOW_TO_GET_DATA = (
    "download 'Chest X-Ray Images (Pneumonia)' and 'Skin Cancer: 9 classes, ISIC' from Kaggle, "
    "put them as chest_xray/ and skin_cancer_isic/ into one folder, and name it with --data DIR "
    f"or {DATA_VARIABLE}"
)
"""Where the data sets come from and how they are named, as the end of an error."""


@dataclass(frozen=True)
class Located:
    """Where the labelled images of a task lie.

    Attributes
    ----------
    root
        A labelled folder, or the set that holds one for each split.
    train, test
        The labelled folders of a set's splits; ``None`` for a single labelled folder.
    """

    root: Path
    train: Path | None = None
    test: Path | None = None

    @property
    def splits(self) -> tuple[Path, ...]:
        """The labelled folders of a set; none for a single labelled folder."""
        return (self.train, self.test) if self.train and self.test else ()

    @property
    def measured(self) -> Path:
        """The labelled folder to measure a model on: the test split of a set."""
        return self.test or self.root


def split_names(task: Task) -> tuple[str, str]:
    """Return the names of the training and the test split's folders."""
    return (task.layout.train, task.layout.test) if task.layout else ("train", "test")


def locate(task: Task, data: Path, labels: Labels | None = None) -> Located:
    """Find a task's labelled images: in ``data``, or in a folder in it that has a known name.

    Parameters
    ----------
    task
        The task.
    data
        A labelled folder, a set with its splits, or a folder that holds one of
        these under the name of the task or of its published data set.
    labels
        Names of class folders; ``None`` for the task's labels.

    Raises
    ------
    DatasetLayoutError
        If there are no such folders, or if it cannot be told which are meant.
    """
    labels = labels or Labels.of(task)
    if found := find(task, data, labels):
        return found
    train, test = split_names(task)
    folders = [folder.name for folder in visible_folders(data)]
    raise DatasetLayoutError(
        f"no class folder of {task.name} in {data}: found {_listing(data)}; expected some of "
        f"{list(task.labels)}, or {train}/ and {test}/ with them, or a folder "
        f"{' or '.join(map(repr, _set_names(task)))} that holds one of these"
        f"{labels.probably(folders)}"
    )


def find(task: Task, data: Path, labels: Labels) -> Located | None:
    """Find a task's labelled images as :func:`locate` does; ``None`` if there are none.

    Raises
    ------
    DatasetLayoutError
        If ``data`` is no folder, or if it cannot be told which images are meant.
    """
    if not is_folder(data):
        raise DatasetLayoutError(f"{data} is no folder; give one with a folder for each class")
    if found := _look(task, data, labels):
        return found
    inside = [
        found
        for folder in visible_folders(data)
        if _names_set(task, folder) and (found := _look(task, folder, labels))
    ]
    if len(inside) > 1:
        places = " and in ".join(str(found.root) for found in inside)
        raise DatasetLayoutError(f"images for {task.name} lie in {places}; name one of them")
    return inside[0] if inside else None


def tasks_in(
    tasks: Sequence[Task], data: Path, spellings: Mapping[str, str] | None = None
) -> tuple[Task, ...]:
    """Return those of some tasks that a folder holds labelled images of.

    Raises
    ------
    DatasetLayoutError
        If it holds none of any, or as :func:`find` raises it.
    """
    held = tuple(task for task in tasks if find(task, data, Labels.of(task, spellings)))
    if not held:
        names = " or ".join(task.name for task in tasks)
        labels = [label for task in tasks for label in task.labels]
        known = Labels(tuple(labels), spellings or {})
        folders = [folder.name for folder in visible_folders(data)]
        raise DatasetLayoutError(
            f"no class folder of {names} in {data}: found {_listing(data)}; expected some of "
            f"{labels}, or splits with them{known.probably(folders)}"
        )
    return held


def task_meant(name: str, data: Path) -> Task | None:
    """Return the built-in task that a name with a slip means; ``None`` if it means none.

    Names such as ``skin2`` and ``pneumonia-adults`` have no slip: they say
    that a task is like another.

    Parameters
    ----------
    name
        The name of no task, as it was given.
    data
        A folder. A task is meant only if it holds all its class folders.

    Raises
    ------
    DatasetLayoutError
        If a folder cannot be read, or if it cannot be told which images are meant.
    """
    meant = nearest(name, TASKS, alike=_A_SLIP)
    if meant is None or re.fullmatch(rf"{meant}[-_\d].*", name) or not is_folder(data):
        return None
    task = TASKS[meant]
    labels = Labels.of(task)
    located = find(task, data, labels)
    for folder in (located.splits or (located.root,)) if located else ():
        if {labels.label_of(each.name) for each in visible_folders(folder)} >= set(task.labels):
            return task
    return None


def _set_names(task: Task) -> tuple[str, ...]:
    """Return the names by which a folder of sets may hold a task's images."""
    return (*(task.layout.folders if task.layout else ()), task.name)


def _names_set(task: Task, folder: Path) -> bool:
    return fold(folder.name) in map(fold, _set_names(task))


def _look(task: Task, folder: Path, labels: Labels) -> Located | None:
    """Say what labelled images a folder holds itself."""
    for entry in entries_of(folder):
        if was_folder(entry) and (labels.label_of(entry.name) or _is_split_name(task, entry)):
            check_link(entry)
    # A folder that the labels map leaves out has an empty label, and is no class.
    inner = [inside for inside in visible_folders(folder) if labels.label_of(inside.name)]
    classes = [inside.name for inside in inner if not _is_set(task, inside, labels)]
    train, test = (split_folder(folder, name) for name in split_names(task))
    if train and test and classes:
        raise DatasetLayoutError(
            f"{folder} holds class folders ({classes[0]}) beside the splits {train.name} and "
            f"{test.name}, so it cannot be told which are meant; name one of them, or move the "
            "class folders away"
        )
    if train and test:
        return Located(folder, train, test)
    return Located(folder) if classes else None


def _is_set(task: Task, folder: Path, labels: Labels) -> bool:
    """Whether a folder with a class's name is a set: it has a set's name, and holds other classes.

    ``NORMAL/NORMAL`` is a class folder, and so is ``PNEUMONIA/PNEUMONIA``: the
    label of its images is the same by both names.
    """
    if not _names_set(task, folder):
        return False
    own, inner = labels.label_of(folder.name), visible_folders(folder)
    splits = [split_folder(folder, name) for name in split_names(task)]
    return any(labels.label_of(inside.name) not in (None, "", own) for inside in inner) or (
        all(splits) and any(visible_folders(split) for split in splits if split)
    )


def _is_split_name(task: Task, entry: Path) -> bool:
    return any(fold(entry.name) in _same_split(name) for name in split_names(task))


def _same_split(name: str) -> set[str]:
    """Return the names, folded, by which a split may be called."""
    usual = next((names for names in _SPLITS if fold(name) in names), set())
    return {fold(name), *usual}


def split_folder(root: Path, name: str) -> Path | None:
    """Return the folder of a split, however it is spelt; ``None`` if there is none.

    Parameters
    ----------
    root
        The set.
    name
        One of a task's :func:`split_names`. ``training`` counts as ``train``, and
        ``testing`` as ``test``.

    Raises
    ------
    DatasetLayoutError
        If there are several.
    """
    names = _same_split(name)
    found = [folder for folder in visible_folders(root) if fold(folder.name) in names]
    if len(found) > 1:
        raise DatasetLayoutError(
            f"{root} holds the split {name} as {' and as '.join(each.name for each in found)}; "
            "leave one of them there"
        )
    return found[0] if found else None


def locate_dataset(task: Task, root: Path, labels: Labels | None = None) -> Path:
    """Find a task's data set with its splits, as :func:`locate` finds it.

    Raises
    ------
    DatasetLayoutError
        If there is none, or if it cannot be told which images are meant.
    UsageError
        If the task has no published data set.
    """
    if found := find_dataset(task, root, labels):
        return found
    raise DatasetLayoutError(
        f"no {task.name} data in {root}: found {_listing(root)}; expected "
        f"{task.published.train}/ and {task.published.test}/, or a folder "
        f"{' or '.join(repr(name) for name in task.published.folders)} that holds them"
    )


def find_dataset(task: Task, root: Path, labels: Labels | None = None) -> Path | None:
    """Find a data set as :func:`locate_dataset` does; ``None`` if there is none."""
    if task.published and not is_folder(root):  # a task without published data is refused
        return None
    found = find(task, root, labels or Labels.of(task))
    return found.root if found and found.splits else None


def check_layout(task: Task, root: Path, labels: Labels | None = None) -> tuple[Path, Path]:
    """Check the split and class folders of a data set, and return those of its splits.

    No image is read.

    Raises
    ------
    DatasetLayoutError, UsageError
        In the same cases as :func:`read_dataset`.
    """
    expected = (
        f"{task.published.train}/ and {task.published.test}/, each with {len(task.labels)} folders"
    )
    if not root.is_dir():
        raise DatasetLayoutError(f"no folder {root}; expected one that holds {expected}")
    found = []
    for split in split_names(task):
        folder = split_folder(root, split)
        if folder is None:
            raise DatasetLayoutError(
                f"{root} has no folder {split!r}: found {_listing(root)}; expected {expected}"
                + _hint(task, root)
            )
        _check_classes(task, folder, labels or Labels.of(task))
        found.append(folder)
    train, test = found
    return train, test


def _check_classes(task: Task, split: Path, labels: Labels) -> None:
    folders = [folder.name for folder in visible_folders(split)]
    found = {labels.label_of(name) for name in folders}
    missing = [label for label in task.labels if label not in found]
    extra = [name for name in folders if name not in labels]
    if missing or extra:
        problems = [f"missing {missing}"] * bool(missing) + [f"not known {extra}"] * bool(extra)
        other = _other_task(task, split)
        raise DatasetLayoutError(
            f"class folders of {split} do not fit task {task.name}: {', '.join(problems)}; "
            f"expected exactly {list(task.labels)}"
            + (other or (f"; {labels.how_to_name(extra)}" if extra else ""))
        )
    filled = {file.label for file in read_labelled_folder(split, labels).files}
    empty = [str(split / label) for label in task.labels if label not in filled]
    if empty:
        raise DatasetLayoutError(
            f"no image in {empty}; "
            f"expected files with a suffix of {', '.join(sorted(extensions()))}"
        )


def _hint(task: Task, root: Path) -> str:
    """Name the folder that was probably meant: one level below or above, or another task's."""
    for folder in (*visible_folders(root), root.parent):
        if all(split_folder(folder, name) for name in split_names(task)):
            return f"; did you mean {folder}?"
    return ""


def _other_task(task: Task, split: Path) -> str:
    """Name the task whose class folders a split has instead."""
    for other in TASKS.values():
        if other is not task and any(
            folder.name in other.labels for folder in visible_folders(split)
        ):
            return f"; this looks like the data of task {other.name}"
    return ""


def _listing(folder: Path) -> str:
    if not is_folder(folder):
        return "a file" if folder.exists() else "no such folder"
    names = [entry.name for entry in entries_of(folder) if not is_hidden(entry)]
    shown = ", ".join(repr(name) for name in names[:6])
    return (shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")) or "nothing"


def data_folder(given: Path | None, tasks: Sequence[Task] = ()) -> Path | None:
    """Return the folder with the data sets.

    Parameters
    ----------
    given
        A folder that was named for this call.
    tasks
        The tasks that data are wanted for; any, if there is none.

    Returns
    -------
    Path or None
        The given folder, else the one that ``MEDKIT_DATA`` names. That one
        holds published data sets, so it is not meant for a task that has none.
    """
    if given is not None:
        return given
    named = os.environ.get(DATA_VARIABLE)
    if not named or (tasks and all(task.layout is None for task in tasks)):
        return None
    return Path(named)
