"""The layout of a data set on the disk, and the images in it.

A data set is a folder with a folder for each split. Each split has a folder
for each class, as Kaggle ships them. The task decides the order of the
classes; the order of a listing never does.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medkit.errors import DatasetLayoutError
from medkit.images.formats.registry import extensions
from medkit.tasks import TASKS, Task

DATA_VARIABLE = "MEDKIT_DATA"
"""Environment variable that names the folder of the data sets."""

HOW_TO_GET_DATA = (
    "download 'Chest X-Ray Images (Pneumonia)' and 'Skin Cancer: 9 classes, ISIC' from Kaggle, "
    "put them as chest_xray/ and skin_cancer_isic/ into one folder, and name it with --data DIR "
    f"or {DATA_VARIABLE}"
)
"""Where the data sets come from and how they are named, as the end of an error."""

_PATIENT = re.compile(r"^(person\d+)_|^((?:NORMAL2-)?IM-\d+)-")
"""The patient in an X-ray's file name: ``person12_virus_3``, ``NORMAL2-IM-0501-0001``."""

_ISIC = re.compile(r"^ISIC_(\d{7})")


@dataclass(frozen=True)
class Item:
    """One labelled image file.

    Attributes
    ----------
    path
        The file.
    name
        Path of the file relative to the data set, with forward slashes.
    label
        Index into the task's labels.
    sha256
        Hash of the file's bytes, in hexadecimal.
    group
        The patient if the file name tells one, else the stem of the file
        name. All images of a group stay in the same split.
    """

    path: Path
    name: str
    label: int
    sha256: str
    group: str

    @property
    def source(self) -> str:
        """The contribution to the ISIC archive; see :func:`source_of`."""
        return source_of(self.path.name)


@dataclass(frozen=True)
class Dataset:
    """One data set in its two official splits.

    Attributes
    ----------
    task
        Task that the images are labelled for.
    root
        The folder with the split folders.
    train, test
        The images of each split, by class and then by file name.
    """

    task: Task
    root: Path
    train: tuple[Item, ...]
    test: tuple[Item, ...]


def locate_dataset(task: Task, root: Path) -> Path:
    """Find a task's data set: ``root`` itself, or a folder in it that has a known name.

    Commands for several tasks use it to find each data set in one ``--data``.

    Raises
    ------
    DatasetLayoutError
        If no such folder holds the split folders.
    UsageError
        If the task has no published data set.
    """
    for folder in (root, *(root / name for name in task.published.folders)):
        if (folder / task.published.train).is_dir() and (folder / task.published.test).is_dir():
            return folder
    raise DatasetLayoutError(
        f"no {task.name} data in {root}: found {_listing(root)}; expected "
        f"{task.published.train}/ and {task.published.test}/, or a folder "
        f"{' or '.join(repr(name) for name in task.published.folders)} that holds them"
    )


def read_dataset(task: Task, root: Path) -> Dataset:
    """Check the layout of a data set and hash its files.

    Parameters
    ----------
    task
        Names the folders that must be there.
    root
        The folder with the split folders. A split ``val`` is allowed and not
        read: Kaggle's has 16 images, which are too few to choose a model on.

    Raises
    ------
    DatasetLayoutError
        If a split or class folder is missing, misspelt, superfluous or
        empty. The message says what was found and what is expected.
    UsageError
        If the task has no published data set.
    """
    check_layout(task, root)
    return Dataset(
        task=task,
        root=root,
        train=_items(task, root, task.published.train),
        test=_items(task, root, task.published.test),
    )


def check_layout(task: Task, root: Path) -> None:
    """Check the split and class folders of a data set; read no image.

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
    for split in (task.published.train, task.published.test):
        if not (root / split).is_dir():
            raise DatasetLayoutError(
                f"{root} has no folder {split!r}: found {_listing(root)}; expected {expected}"
                + _hint(task, root)
            )
        _check_classes(task, root / split)


def _check_classes(task: Task, split: Path) -> None:
    found = {entry.name for entry in split.iterdir() if entry.is_dir() and _visible(entry)}
    missing = [label for label in task.labels if label not in found]
    extra = sorted(found.difference(task.labels))
    if missing or extra:
        problems = [f"missing {missing}"] * bool(missing) + [f"not known {extra}"] * bool(extra)
        raise DatasetLayoutError(
            f"class folders of {split} do not fit task {task.name}: {', '.join(problems)}; "
            f"expected exactly {list(task.labels)}"
        )
    empty = [label for label in task.labels if not class_images(split / label)]
    if empty:
        raise DatasetLayoutError(
            f"no image in {[str(split / label) for label in empty]}; "
            f"expected files with a suffix of {', '.join(sorted(extensions()))}"
        )


def _hint(task: Task, root: Path) -> str:
    """Name the folder that was probably meant: one level below or above, or another task's."""
    for folder in (*sorted(entry for entry in root.iterdir() if entry.is_dir()), root.parent):
        if (folder / task.published.train).is_dir() and (folder / task.published.test).is_dir():
            return f"; did you mean {folder}?"
    for other in TASKS.values():
        if other is not task and (root / other.published.train / other.labels[0]).is_dir():
            return f"; this looks like the data of task {other.name}"
    return ""


def _listing(folder: Path) -> str:
    if not folder.is_dir():
        return "a file" if folder.exists() else "no such folder"
    names = sorted(entry.name for entry in folder.iterdir() if _visible(entry))
    shown = ", ".join(repr(name) for name in names[:6])
    return (shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")) or "nothing"


def _visible(entry: Path) -> bool:
    # Archives that were packed on a Mac contain both kinds.
    return not entry.name.startswith(".") and entry.name != "__MACOSX"


def visible_folders(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that a person would see, by name."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and _visible(entry))


def class_images(folder: Path) -> list[Path]:
    """Return the files in a class folder that have an image's suffix, by name."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() in extensions() and _visible(entry) and entry.is_file()
    )


def _items(task: Task, root: Path, split: str) -> tuple[Item, ...]:
    items = []
    for index, label in enumerate(task.labels):
        for path in class_images(root / split / label):
            items.append(
                Item(
                    path=path,
                    name=path.relative_to(root).as_posix(),
                    label=index,
                    sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                    group=patient_of(path.name),
                )
            )
    return tuple(items)


def patient_of(file_name: str) -> str:
    """Return the patient that an X-ray's file name tells, else the stem of the name."""
    match = _PATIENT.match(file_name)
    return (match.group(1) or match.group(2)) if match else Path(file_name).stem


def source_of(file_name: str) -> str:
    """Return the contribution to the ISIC archive that a file name tells, else ``""``.

    The archive numbered its images in the order of the contributions.
    HAM10000 has the numbers 24306 to 34320 (Tschandl et al. 2018). Each
    thousand of the other numbers counts as a contribution of its own.
    """
    match = _ISIC.match(file_name)
    if match is None:
        return ""
    number = int(match.group(1))
    return "HAM10000" if 24306 <= number <= 34320 else f"ISIC_{number // 1000:04d}xxx"


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
