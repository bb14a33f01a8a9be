"""Which folders of a labelled set are splits and which are classes, where no task says so."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from medkit.datasets.entries import (
    check_link,
    entries_of,
    images_below,
    is_folder,
    is_image,
    visible_folders,
)
from medkit.datasets.folders import SPLIT_NAMES
from medkit.datasets.labels import LABELS_MAP_OPTION, Labels, fold, fold_name
from medkit.errors import DatasetLayoutError
from medkit.tasks import TASKS

_KNOWN = frozenset(fold(label) for task in TASKS.values() for label in task.labels)


def splits_in(root: Path, labels: Labels, only: Collection[str] | None = None) -> dict[str, Path]:
    """Return the labelled folder of each split; without splits, ``root`` under the name ``""``.

    Parameters
    ----------
    root
        A labelled folder, or a set with its splits.
    labels
        Names of class folders, if they are known.
    only
        Names of the folders in ``root`` to look at; ``None`` for all.

    Raises
    ------
    DatasetLayoutError
        If there is no such folder, or if splits and classes cannot be told apart.
    """
    if not is_folder(root):
        raise DatasetLayoutError(f"{root} is no folder; give one with a folder for each class")
    for entry in entries_of(root):
        if fold(entry.name) in SPLIT_NAMES or _names_class(entry.name, labels):
            check_link(entry)
    folders = [
        folder
        for folder in visible_folders(root)
        if (only is None or folder.name in only)
        and labels.label_of(folder.name) != ""
        # A split whose files are all of other types must not vanish.
        and (next(images_below(folder), None) or _is_laid_out(folder))
    ]
    splits = [folder for folder in folders if _is_split(root, folder, labels)]
    # With a task, a folder that is neither split nor class is named as left out.
    classes = [
        folder
        for folder in folders
        if folder not in splits and (not labels.names or _names_class(folder.name, labels))
    ]
    if splits and classes:
        raise DatasetLayoutError(
            f"{classes[0]} lies beside the split {splits[0].name}, and is none itself; expected "
            f"{root}/CLASS/IMAGE or {root}/SPLIT/CLASS/IMAGE, move the others away"
        )
    return {folder.name: folder for folder in splits} or {"": root}


def _is_split(root: Path, folder: Path, labels: Labels) -> bool:
    """Whether a folder holds class folders, and is none itself.

    Raises
    ------
    DatasetLayoutError
        If that cannot be told, or if the folder is a set of its own.
    """
    if fold(folder.name) in SPLIT_NAMES:
        return True
    inner = {inside.name for inside in visible_folders(folder)}
    if _names_class(folder.name, labels):
        return False
    if any(fold(name) in SPLIT_NAMES for name in inner):
        raise DatasetLayoutError(
            f"{folder} holds splits of its own, so it is a set; name that folder, or the task with "
            "--task, or move it away"
        )
    if labels.names:
        return any(_names_class(name, labels) for name in inner)
    if any(is_image(entry) for entry in entries_of(folder)):
        return False
    if any(_names_class(name, labels) for name in inner):
        return True
    raise DatasetLayoutError(
        f"{folder} holds folders and no image, so it cannot be told whether {folder.name!r} is a "
        f"class or a split of {root}; name the task with --task, or a class with "
        f"{LABELS_MAP_OPTION} 'FOLDER=LABEL'"
    )


def _is_laid_out(folder: Path) -> bool:
    """Whether a folder has the name of a split, and folders in it."""
    return fold(folder.name) in SPLIT_NAMES and bool(visible_folders(folder))


def _names_class(name: str, labels: Labels) -> bool:
    """Whether a name is known as that of a class."""
    if labels.names:
        return name in labels
    return fold_name(name) in _KNOWN or fold_name(name) in labels.spellings
