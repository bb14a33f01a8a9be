"""The reader of labelled folders: a folder with a folder of images for each class.

Every command that takes labelled images reads them here. An image in a
folder below a class folder, such as a patient's, has the label of the class.
Every other image is named with the reason why it is left out, and every other
file is counted.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medkit.datasets.entries import (
    check_link,
    entries_of,
    files_below,
    images_below,
    is_folder,
    is_hidden,
    is_image,
    real_path,
)
from medkit.datasets.labels import Labels, fold, fold_name
from medkit.errors import DatasetLayoutError
from medkit.images.entries import Kind, PassedOver
from medkit.system.names import name_in_rows
from medkit.wording import counted

SPLIT_NAMES = frozenset(
    {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}
)
"""Usual names of the folders of splits, in small letters."""

HIDDEN = "in hidden files and folders"
"""Reason why an image that a person would not see is left out."""

MAPPED_AWAY = "in folders that the labels map leaves out"
"""Reason why an image is left out that the user does not want."""

READ_TWICE = "behind links to images that are read elsewhere"
"""Reason why an image is left out that would count twice."""

_DATE = re.compile(r"(19|20)\d\d([-_.]?\d\d){0,2}")
"""A year, a month or a day, as folders are sorted by them."""


@dataclass(frozen=True)
class LabelledFile:
    """An image file, and the label of the class folder that it lies in.

    Attributes
    ----------
    path
        The file.
    name
        Path of the file relative to the labelled folder, with forward slashes.
    label
        The label.
    inside
        Path of the file relative to its class folder, with forward slashes.
    """

    path: Path
    name: str
    label: str
    inside: str

    @property
    def subfolder(self) -> str:
        """The patient's folder below the class folder; empty for none.

        It is the first one whose name is no year or date: folders are sorted
        as ``PATIENT/STUDY`` or as ``2021/PATIENT``. If all are dates, it is
        the whole path. A folder with the name of the class is none.
        """
        folders = [
            name for name in self.inside.split("/")[:-1] if fold_name(name) != fold(self.label)
        ]
        return next((name for name in folders if not _DATE.fullmatch(name)), "/".join(folders))


@dataclass(frozen=True)
class LeftOut:
    """An image file that has no label, and why; ``name`` is relative to the folder that is read."""

    name: str
    reason: str


@dataclass(frozen=True)
class LabelledFolder:
    """The content of a labelled folder.

    Attributes
    ----------
    root
        The folder.
    files
        The labelled images: by label in the task's order, and then by name.
    left_out
        Every other image file.
    passed_over
        Counts of the files that are no images of an accepted format.
    twice
        Names of image files that are links to one file under several labels.
    """

    root: Path
    files: tuple[LabelledFile, ...]
    left_out: tuple[LeftOut, ...] = field(default=())
    passed_over: PassedOver = field(default_factory=PassedOver)
    twice: tuple[str, ...] = ()

    def remarks(self) -> list[str]:
        """Return lines on images that a reader might not expect to be in, or to be out."""
        lines = []
        nested = [file for file in self.files if "/" in file.inside]
        if nested:
            lines.append(
                f"{len(nested):,} of {len(self.files):,} images lie in folders below their class "
                f"folders, such as {nested[0].name}",
            )
        if self.twice:
            lines.append(
                f"{counted(len(self.twice), 'image')} under several labels, by links to the same "
                f"file, such as {self.twice[0]}"
            )
        return lines + summed_up(self.left_out, self.passed_over)


def summed_up(left_out: Sequence[LeftOut], passed_over: PassedOver | None = None) -> list[str]:
    """Return one line for each reason why images are left out, and one on the other files."""
    by_reason: dict[str, list[str]] = {}
    for each in left_out:
        by_reason.setdefault(each.reason, []).append(each.name)
    lines = [
        f"left out: {len(names):,} image{'s' * (len(names) > 1)} {reason}"
        f"{', such as' if len(names) > 1 else ':'} {names[0]}"
        for reason, names in by_reason.items()
    ]
    return [*lines, f"passed over: {passed_over}"] if passed_over else lines


def read_labelled_folder(root: Path, labels: Labels) -> LabelledFolder:
    """List the images of a labelled folder. No image is decoded.

    Parameters
    ----------
    root
        Holds class folders.
    labels
        Tells what their names stand for.

    Raises
    ------
    DatasetLayoutError
        If a folder with images stands for no label, if a class folder holds a
        folder of another class or of a split, if two class folders lead to the
        same folder, if a link in place of a folder leads nowhere, or if a
        folder cannot be read.
    """
    reader = _Reader(root, labels)
    unknown: list[str] = []
    for entry in entries_of(root):
        hidden = is_hidden(entry)
        if not is_folder(entry):
            if not hidden and labels.names and labels.label_of(entry.name):
                check_link(entry)
            reader.take_beside(entry, HIDDEN if hidden else "beside the class folders")
        elif hidden or (label := labels.label_of(entry.name)) == "":
            reader.leave_out(entry, HIDDEN if hidden else MAPPED_AWAY)
        elif label is not None:
            reader.read_class(entry, label)
        elif next(images_below(entry), None) is not None:
            unknown.append(name_in_rows(entry.name))
        else:
            reader.count(entry)
    if unknown:
        whose = "no class of the task" if labels.names else "no class"
        raise DatasetLayoutError(
            f"{root} holds folders that are {whose}: {unknown}; {labels.how_to_name(unknown)}"
        )
    return reader.result()


class _Reader:
    """Gathers what a labelled folder holds.

    Parameters
    ----------
    root, labels
        As for :func:`read_labelled_folder`.
    """

    def __init__(self, root: Path, labels: Labels) -> None:
        self._root, self._labels = root, labels
        self._files: list[LabelledFile] = []
        self._left_out: list[LeftOut] = []
        self._passed_over = PassedOver()
        # The label of each folder that was read, by the place where it lies without links.
        self._read: dict[Path, tuple[str, Path]] = {}
        # Without a task, the folders beside each other tell what is a class.
        self._classes = {} if labels.names else _labels_beside(root, labels)

    def take_beside(self, entry: Path, reason: str) -> None:
        """Name an image that has no label; count any other file."""
        if is_image(entry):
            self._left_out.append(LeftOut(self._name(entry), reason))
        else:
            self._passed_over.add(entry.name, _kind_of(entry))

    def leave_out(self, folder: Path, reason: str) -> None:
        """Name the images in a folder that is not read. One that cannot be read matters to none."""
        for path in _images_if_readable(folder):
            self._left_out.append(LeftOut(self._name(path), reason))

    def count(self, folder: Path) -> None:
        """Count the files in a folder that holds no image and stands for no label."""
        for path in files_below(folder):
            self._passed_over.add(path.name, _kind_of(path))

    def read_class(self, folder: Path, label: str) -> None:
        """Take the images in a class folder, and in the folders below it."""
        # Links are followed last: what lies both behind one and in a folder has the
        # folder's name.
        below, links = [folder], deque[Path]()
        while below or links:
            place = below.pop() if below else links.popleft()
            if not self._is_new(place, label):
                continue
            inner = []
            for entry in entries_of(place):
                if not is_folder(entry):
                    self._take(folder, entry, label)
                elif is_hidden(entry):
                    self.leave_out(entry, HIDDEN)
                elif self._label_below(entry, label) == "":
                    self.leave_out(entry, MAPPED_AWAY)
                elif entry.is_symlink():
                    links.append(entry)
                else:
                    inner.append(entry)
            below += reversed(inner)

    def _take(self, folder: Path, entry: Path, label: str) -> None:
        if is_hidden(entry) or not is_image(entry):
            if not is_hidden(entry):
                check_link(entry)
            self.take_beside(entry, HIDDEN)
            return
        inside = entry.relative_to(folder).as_posix()
        self._files.append(LabelledFile(entry, self._name(entry), label, inside))

    def _is_new(self, place: Path, label: str) -> bool:
        """Whether the images in a folder are still to be read.

        Raises
        ------
        DatasetLayoutError
            If they were read with another label.
        """
        known, first = self._read.setdefault(real_path(place), (label, place))
        if first is place:
            return True
        if fold(known) != fold(label):
            raise DatasetLayoutError(
                f"{place} and {first} are the same folder by a link, so the label of its images "
                f"cannot be told: {known} or {label}; remove the link"
            )
        self.leave_out(place, READ_TWICE)
        return False

    def _label_below(self, folder: Path, label: str) -> str:
        """Return the label of a folder below a class folder, empty if it is left out.

        Raises
        ------
        DatasetLayoutError
            If its images may have another label.
        """
        if self._labels.names or fold_name(folder.name) in self._labels.spellings:
            other = self._labels.label_of(folder.name)
        else:
            other = self._classes.get(fold_name(folder.name))
        if other == "":
            return ""
        if other is not None and fold(other) != fold(label):
            raise DatasetLayoutError(
                f"{folder} has the name of another class than the folder that it lies in, so the "
                "label of its images cannot be told; move it beside the class folders, or away"
            )
        if fold(folder.name) in SPLIT_NAMES:
            raise DatasetLayoutError(
                f"{folder} has the name of a split and lies in a class folder; lay the images out "
                "as SPLIT/CLASS/IMAGE"
            )
        return label

    def result(self) -> LabelledFolder:
        """Return what was gathered; a link to a file that is there with the same label is out."""
        order = {name: index for index, name in enumerate(self._labels.names or ())}
        files = sorted(self._files, key=lambda file: (order.get(file.label, 0), file.name))
        by_place: dict[Path, list[LabelledFile]] = {}
        parents: dict[Path, Path] = {}
        for file in files:
            parent = file.path.parent
            if parent not in parents:
                parents[parent] = real_path(parent)
            place = parents[parent] / file.path.name
            if file.path.is_symlink():
                place = real_path(file.path)
            by_place.setdefault(place, []).append(file)
        again: set[str] = set()
        twice: list[str] = []
        for same in by_place.values():
            kept: dict[str, LabelledFile] = {}
            for file in sorted(same, key=lambda file: file.path.is_symlink()):
                if kept.setdefault(fold(file.label), file) is not file:
                    again.add(file.name)
            if len(kept) > 1:
                twice += [file.name for file in kept.values()]
        return LabelledFolder(
            self._root,
            tuple(file for file in files if file.name not in again),
            (*self._left_out, *(LeftOut(name, READ_TWICE) for name in sorted(again))),
            self._passed_over,
            tuple(twice),
        )

    def _name(self, path: Path) -> str:
        return relative_name(path, self._root)


def relative_name(path: Path, root: Path) -> str:
    """Return the path of a file relative to a folder, the same in every locale."""
    return name_in_rows(path.relative_to(root).as_posix())


def images_beside(root: Path, splits: Collection[Path]) -> list[LeftOut]:
    """Return the images in a set that lie beside its splits.

    Parameters
    ----------
    root
        The set.
    splits
        The folders of its splits that are read. Another one, such as the
        published ``val``, is known by its name and is not mentioned.
    """
    found = []
    for entry in entries_of(root):
        hidden = is_hidden(entry)
        if not is_folder(entry):
            if is_image(entry):
                reason = HIDDEN if hidden else "beside the split folders"
                found.append(LeftOut(relative_name(entry, root), reason))
        elif entry not in splits and fold(entry.name) not in SPLIT_NAMES:
            reason = HIDDEN if hidden else "in folders beside the splits"
            found += [
                LeftOut(relative_name(path, root), reason) for path in _images_if_readable(entry)
            ]
    return found


def _labels_beside(root: Path, labels: Labels) -> dict[str, str]:
    """Return the label of each visible folder, by its folded name."""
    return {
        fold_name(entry.name): labels.label_of(entry.name) or ""
        for entry in entries_of(root)
        if not is_hidden(entry) and is_folder(entry)
    }


def _images_if_readable(folder: Path) -> Iterator[Path]:
    """Yield the images in a folder that is not measured, as far as it can be read."""
    try:
        yield from images_below(folder)
    except DatasetLayoutError:
        return


def _kind_of(entry: Path) -> Kind:
    """Say what a file is that is no image, for the count of what was passed over."""
    if is_hidden(entry):
        return Kind.HIDDEN
    if not entry.exists():
        return Kind.LINK_TO_NOTHING
    return Kind.UNSURE if entry.is_file() else Kind.NO_FILE
