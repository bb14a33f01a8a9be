"""The labelled images of a data set, with what their files and names tell.

The task decides the order of the classes; the order of a listing never does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from medkit.datasets.fingerprints import Fingerprint
from medkit.datasets.folders import (
    LabelledFile,
    LeftOut,
    images_beside,
    read_labelled_folder,
    relative_name,
    summed_up,
)
from medkit.datasets.labels import Labels, nfc
from medkit.datasets.location import check_layout, split_names
from medkit.errors import DatasetLayoutError
from medkit.images.entries import PassedOver
from medkit.system.names import name_in_rows
from medkit.tasks import Task

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
        Index into the task's labels; of an image of a multi-label task, the
        first of ``labels``, or -1 if it has none.
    sha256
        Hash of the file's bytes, in hexadecimal.
    group
        The patient if the file name tells one; else the patient's folder
        below the class folder (see
        :attr:`~medkit.datasets.folders.LabelledFile.subfolder`); else the stem
        of the file name.
        All images of a group stay in the same split.
    pixels
        Hash of the decoded pixels; empty if they were not looked at, or
        cannot be decoded.
    key
        Name that does not depend on how folders are spelt, in NFC; empty if
        that is ``name``.
    labels
        Indices of all labels of an image of a multi-label task, ascending;
        empty for an image without a label, and in every other task.
    """

    path: Path
    name: str
    label: int
    sha256: str
    group: str
    pixels: str = ""
    key: str = ""
    labels: tuple[int, ...] = ()

    @property
    def content(self) -> str:
        """What the same images have in common: the pixels if they are known, else the bytes."""
        return self.pixels or self.sha256

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
    left_out
        Image files of both splits, and beside them, that have no label.
    passed_over
        Counts of the files of both splits that are no images.
    labels
        Tells what the names of the class folders stand for.
    """

    task: Task
    root: Path
    train: tuple[Item, ...]
    test: tuple[Item, ...]
    left_out: tuple[LeftOut, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver, compare=False)
    labels: Labels | None = field(default=None, compare=False)

    def remarks(self) -> list[str]:
        """Return lines on images that are left out, and on what the labels map names in vain."""
        return [
            *summed_up(self.left_out, self.passed_over),
            *(self.labels.remarks() if self.labels else ()),
        ]


def read_dataset(
    task: Task,
    root: Path,
    labels: Labels | None = None,
    fingerprints: Mapping[Path, Fingerprint] | None = None,
) -> Dataset:
    """Check the layout of a data set and hash its files.

    Parameters
    ----------
    task
        Names the folders that must be there.
    root
        The folder with the split folders. A split ``val`` is allowed and not
        read: Kaggle's has 16 images, which are too few to choose a model on.
    labels
        Names of class folders; ``None`` for the task's labels.
    fingerprints
        Those of the files, with which images are compared by their pixels;
        ``None`` compares them by their bytes.

    Raises
    ------
    DatasetLayoutError
        If a split or class folder is missing, misspelt, superfluous or
        empty. The message says what was found and what is expected.
    UsageError
        If the task has no published data set.
    """
    labels = labels or Labels.of(task)
    folders = check_layout(task, root, labels)
    files, left_out, passed_over = [], images_beside(root, folders), PassedOver()
    for folder, name in zip(folders, split_names(task), strict=True):
        found = read_labelled_folder(folder, labels)
        files.append([(name, file) for file in found.files])
        left_out += [LeftOut(f"{folder.name}/{each.name}", each.reason) for each in found.left_out]
        passed_over.update(found.passed_over)
    train, test = (
        labelled_items(task, root, [file for _, file in split], fingerprints, name)
        for split, name in zip(files, split_names(task), strict=True)
    )
    return Dataset(task, root, train, test, tuple(left_out), passed_over, labels)


def labelled_files(task: Task, root: Path, labels: Labels | None = None) -> list[Path]:
    """Return the paths of the images that :func:`read_dataset` reads.

    Raises
    ------
    DatasetLayoutError, UsageError
        In the same cases.
    """
    labels = labels or Labels.of(task)
    folders = check_layout(task, root, labels)
    return [file.path for each in folders for file in read_labelled_folder(each, labels).files]


def labelled_items(
    task: Task,
    root: Path,
    files: Iterable[LabelledFile],
    fingerprints: Mapping[Path, Fingerprint] | None = None,
    split: str = "",
) -> tuple[Item, ...]:
    """Hash labelled files, in their order.

    Parameters
    ----------
    task
        Gives each label its index.
    root
        The folder that names are relative to.
    files
        The files.
    fingerprints
        As for :func:`read_dataset`.
    split
        The task's name of the split that the files lie in; empty for none.

    Raises
    ------
    DatasetLayoutError
        If a file cannot be read.
    """
    given = list(files)

    def hashed(file: LabelledFile) -> tuple[str, str]:
        if fingerprints is not None and (taken := fingerprints[file.path]).sha256:
            return taken.sha256, taken.pixels
        try:
            return hashlib.sha256(file.path.read_bytes()).hexdigest(), ""
        except OSError as error:
            raise DatasetLayoutError(
                f"{file.path} cannot be read: {error.strerror}; remove or replace the file"
            ) from error

    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(hashed, given))
    return tuple(
        Item(
            path=file.path,
            name=relative_name(file.path, root),
            label=task.labels.index(file.label),
            sha256=sha256,
            group=group_of(file),
            pixels=pixels,
            key=nfc("/".join(filter(None, (split, file.label, name_in_rows(file.inside))))),
        )
        for file, (sha256, pixels) in zip(given, hashes, strict=True)
    )


def group_of(file: LabelledFile) -> str:
    """Return what all images of a patient have in common; see :class:`Item`."""
    told = patient_of(file.path.name)
    return nfc(
        name_in_rows(told if told != file.path.stem or not file.subfolder else file.subfolder)
    )


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
