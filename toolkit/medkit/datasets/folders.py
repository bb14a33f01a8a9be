"""The reader of labelled folders: a folder with a folder of images for each class.

Every command that takes labelled images reads them here. An image in a
folder below a class folder, such as a patient's, has the label of the class.
Every other image is named with the reason why it is left out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medkit.datasets.labels import Labels, fold
from medkit.errors import DatasetLayoutError
from medkit.images.formats.registry import HEAD, extensions, image_formats

SPLIT_NAMES = frozenset(
    {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}
)
"""Usual names of the folders of splits, in small letters."""

HIDDEN = "in hidden files and folders"
"""Reason why an image that a person would not see is left out."""

MAC_FOLDER = "__MACOSX"
"""Folder of an archive that was packed on a Mac; what lies in it are no images."""


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
        """The folder below the class folder that the file lies in; empty for none."""
        return self.inside.partition("/")[0] if "/" in self.inside else ""


@dataclass(frozen=True)
class LeftOut:
    """An image file that has no label, and why; ``name`` is relative to the labelled folder."""

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
    """

    root: Path
    files: tuple[LabelledFile, ...]
    left_out: tuple[LeftOut, ...] = field(default=())

    def remarks(self) -> list[str]:
        """Return lines on images that a reader might not expect to be in, or to be out."""
        nested = [file for file in self.files if file.subfolder]
        lines = summed_up(self.left_out)
        if nested:
            lines.insert(
                0,
                f"{len(nested):,} of {len(self.files):,} images lie in folders below their class "
                f"folders, such as {nested[0].name}",
            )
        return lines


def summed_up(left_out: Sequence[LeftOut]) -> list[str]:
    """Return one line for each reason why images are left out."""
    by_reason: dict[str, list[str]] = {}
    for each in left_out:
        by_reason.setdefault(each.reason, []).append(each.name)
    return [
        f"left out: {len(names):,} image{'s' * (len(names) > 1)} {reason}"
        f"{', such as' if len(names) > 1 else ':'} {names[0]}"
        for reason, names in by_reason.items()
    ]


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
        folder of another class or of a split, or if a folder cannot be read.
    """
    files: list[LabelledFile] = []
    left_out: list[LeftOut] = []
    unknown: list[str] = []
    for entry in entries_of(root):
        hidden = is_hidden(entry)
        if not entry.is_dir():
            if is_image(entry):
                reason = HIDDEN if hidden else "beside the class folders"
                left_out.append(LeftOut(entry.name, reason))
            continue
        if hidden or (label := labels.label_of(entry.name)) == "":
            reason = HIDDEN if hidden else "in folders that the labels map leaves out"
            left_out += [LeftOut(_name(path, root), reason) for path in images_below(entry)]
        elif label is None:
            if next(images_below(entry), None) is not None:
                unknown.append(entry.name)
        else:
            files += _read_class(root, entry, label, labels, left_out)
    if unknown:
        whose = "no class of the task" if labels.names else "no class"
        raise DatasetLayoutError(
            f"{root} holds folders that are {whose}: {unknown}; {labels.how_to_name(unknown)}"
        )
    order = {name: index for index, name in enumerate(labels.names or ())}
    files.sort(key=lambda file: (order.get(file.label, 0), file.name))
    return LabelledFolder(root, tuple(files), tuple(left_out))


def _read_class(
    root: Path, folder: Path, label: str, labels: Labels, left_out: list[LeftOut]
) -> Iterator[LabelledFile]:
    """Yield the images in a class folder, and in the folders below it."""
    below: list[tuple[Path, tuple[Path, ...]]] = [(folder, (folder.resolve(),))]
    while below:
        place, above = below.pop()
        for entry in entries_of(place):
            if is_hidden(entry):
                found = images_below(entry) if entry.is_dir() else iter([entry] * is_image(entry))
                left_out += [LeftOut(_name(path, root), HIDDEN) for path in found]
            elif entry.is_dir():
                _check_subfolder(entry, label, labels)
                # A link may lead to a folder that it lies in.
                if (target := entry.resolve()) not in above:
                    below.append((entry, (*above, target)))
            elif is_image(entry):
                inside = entry.relative_to(folder).as_posix()
                yield LabelledFile(entry, _name(entry, root), label, inside)


def _check_subfolder(folder: Path, label: str, labels: Labels) -> None:
    """Refuse a folder below a class folder whose images may have another label."""
    other = labels.label_of(folder.name) if labels.names else label
    if other not in (None, label):
        raise DatasetLayoutError(
            f"{folder} has the name of another class than the folder that it lies in, so the label "
            "of its images cannot be told; move it beside the class folders, or away"
        )
    if fold(folder.name) in SPLIT_NAMES:
        raise DatasetLayoutError(
            f"{folder} has the name of a split and lies in a class folder; lay the images out as "
            "SPLIT/CLASS/IMAGE"
        )


def entries_of(folder: Path) -> list[Path]:
    """Return all that is in a folder, by name.

    Raises
    ------
    DatasetLayoutError
        If it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DatasetLayoutError(
            f"folder {folder} cannot be read: {error.strerror}; name one that can"
        ) from error


def visible_folders(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that a person would see, by name."""
    return [entry for entry in entries_of(folder) if entry.is_dir() and not is_hidden(entry)]


def is_hidden(entry: Path) -> bool:
    """Whether a person does not see it; archives that were packed on a Mac hold both kinds."""
    return entry.name.startswith(".") or entry.name == MAC_FOLDER


def is_image(path: Path) -> bool:
    """Whether a file is an image: by its suffix, or else by its first bytes.

    A link that leads nowhere is one by its suffix. It fails when it is read,
    and is not passed over.
    """
    suffixed = path.suffix.lower() in extensions() and not is_hidden(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False  # a pipe would wait forever
    except OSError:
        return suffixed
    if suffixed:
        return True
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return any(known.accepts(head) for known in image_formats())


def images_below(folder: Path) -> Iterator[Path]:
    """Yield the image files in a folder and in those below it; links to folders are not followed.

    A folder that cannot be read has none.
    """
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if is_image(path := Path(place, name)):
                yield path


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
