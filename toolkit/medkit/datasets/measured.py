"""The labelled images that a model is measured on, with what is said about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from medkit.datasets.folders import (
    LabelledFolder,
    LeftOut,
    images_beside,
    read_labelled_folder,
    summed_up,
)
from medkit.datasets.labels import Labels
from medkit.datasets.layout import Item, labelled_items
from medkit.datasets.location import Located, locate, split_names
from medkit.datasets.own import read_own_images
from medkit.datasets.own_files import TEST, has_class_folders, list_own_files
from medkit.datasets.table import find_table
from medkit.errors import DatasetLayoutError
from medkit.tasks import Task


@dataclass(frozen=True)
class MeasuredFile:
    """An image file that a model is measured on.

    Attributes
    ----------
    path
        The file.
    name
        Its path relative to the folder of the images, with forward slashes.
    labels
        Its labels: one, unless the task is a multi-label task.
    """

    path: Path
    name: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class MeasuredFiles:
    """The image files that a model is measured on, before any is opened.

    Attributes
    ----------
    root
        The folder that names are relative to.
    files
        The files.
    left_out
        Image files that have no label.
    remarks
        Lines for people, on images that are in or out though a reader might
        not expect it.
    """

    root: Path
    files: tuple[MeasuredFile, ...]
    left_out: tuple[LeftOut, ...]
    remarks: tuple[str, ...]


def list_measured(task: Task, data: Path, labels: Labels) -> MeasuredFiles:
    """List the images to measure a model on: those of class folders, or of a table of labels.

    Of images in splits, those of the test split are listed.

    Parameters
    ----------
    task
        The task. A multi-label task takes a table.
    data
        Where they are.
    labels
        The names of the labels.

    Raises
    ------
    DatasetLayoutError, UsageError
        If there are none, or they do not fit the task.
    """
    if not reads_table(task, data, labels):
        folder, remarks = read_measured(locate(task, data, labels), labels)
        listed = (MeasuredFile(file.path, file.name, (file.label,)) for file in folder.files)
        return MeasuredFiles(folder.root, tuple(listed), folder.left_out, remarks)
    found = list_own_files(task, data, labels)
    tested = [file for file in found.files if file.split == TEST]
    return MeasuredFiles(
        found.root,
        tuple(MeasuredFile(file.path, file.name, file.labels) for file in tested or found.files),
        found.left_out,
        (*summed_up(found.left_out, found.passed_over), *labels.remarks(), *found.notes),
    )


def measured_items(
    task: Task, data: Path, spellings: Mapping[str, str]
) -> tuple[Path, tuple[Item, ...], tuple[str, ...]]:
    """Return the images of :func:`list_measured` with their hashes.

    Returns
    -------
    root, items, remarks
        As :class:`MeasuredFiles` has them.

    Raises
    ------
    DatasetLayoutError, UsageError
        In the same cases; and if a file of a table cannot be decoded.
    """
    labels = Labels.of(task, spellings)
    if reads_table(task, data, labels):
        own = read_own_images(task, data, spellings=spellings)
        return own.root, own.parts.get(TEST, own.items), tuple(own.remarks())
    found = locate(task, data, labels)
    folder, remarks = read_measured(found, labels)
    split = split_names(task)[1]
    return folder.root, labelled_items(task, found.root, folder.files, split=split), remarks


def reads_table(task: Task, data: Path, labels: Labels) -> bool:
    """Whether a table tells the labels of images, rather than the folders that they lie in.

    A multi-label task takes nothing else. Any other takes a table that is
    named, or that lies in a folder without class folders, also in splits.
    """
    if task.multi_label or find_table(data) is None:
        return task.multi_label
    return not has_class_folders(data, labels)


def read_measured(found: Located, labels: Labels) -> tuple[LabelledFolder, tuple[str, ...]]:
    """List the images to measure a model on. No image is decoded.

    Parameters
    ----------
    found
        Where they lie.
    labels
        The names of class folders.

    Returns
    -------
    folder, remarks
        The labelled folder, or the test split of a set; images beside the
        splits are among those that it leaves out. Lines for people, on
        images that are in or out though a reader might not expect it.

    Raises
    ------
    DatasetLayoutError
        If it holds no image; and as
        :func:`~medkit.datasets.folders.read_labelled_folder` raises it.
    """
    folder = read_labelled_folder(found.measured, labels)
    if not folder.files:
        passed_over = f" (passed over: {folder.passed_over})" if folder.passed_over else ""
        raise DatasetLayoutError(
            f"the class folders in {folder.root} hold no image{passed_over}; check their files"
        )
    if found.splits:
        # Names are relative to the split, which these images lie beside.
        beside = (
            LeftOut(f"../{each.name}", each.reason)
            for each in images_beside(found.root, found.splits)
        )
        folder = replace(folder, left_out=(*folder.left_out, *beside))
    return folder, (*folder.remarks(), *labels.remarks())
