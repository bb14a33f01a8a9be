"""What lies in a folder of labelled images: folders, images, and what is neither.

Links to folders are followed everywhere. A folder that cannot be read is an
error: images that nobody saw must not be missing without a word.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from errno import EBADF, ELOOP, ENOENT, ENOTDIR
from pathlib import Path

from medkit.errors import DatasetLayoutError
from medkit.images.entries import suffix_of
from medkit.images.formats.registry import extensions
from medkit.images.recognition import may_be_image

MAC_FOLDER = "__MACOSX"
"""Folder of an archive that was packed on a Mac; what lies in it are no images."""

_NOT_THERE = {ENOENT, ENOTDIR, EBADF, ELOOP}
"""Errors that say that a link leads nowhere."""


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
        raise DatasetLayoutError(_unreadable(folder, error)) from error


def is_folder(entry: Path) -> bool:
    """Whether an entry is a folder, or a link to one.

    Raises
    ------
    DatasetLayoutError
        If that cannot be told, as in a folder that may be listed and not entered.
    """
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise DatasetLayoutError(_unreadable(entry.parent, error)) from error


def visible_folders(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that a person would see, by name."""
    return [entry for entry in entries_of(folder) if not is_hidden(entry) and is_folder(entry)]


def is_hidden(entry: Path) -> bool:
    """Whether a person does not see it; archives that were packed on a Mac hold both kinds."""
    return entry.name.startswith(".") or entry.name == MAC_FOLDER


def is_image(path: Path) -> bool:
    """Whether a file is an image: by its suffix, or else by its first bytes.

    A link that leads nowhere is one by its suffix, and a file that cannot be
    read is one. Both fail when they are read, and are not passed over.
    """
    suffixed = path.suffix.lower() in extensions() and not is_hidden(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False  # a pipe would wait forever
    except OSError:
        return suffixed
    return suffixed or may_be_image(str(path))


def was_folder(entry: Path) -> bool:
    """Whether an entry is a link that leads nowhere, and may have led to a folder of images."""
    return entry.is_symlink() and not entry.exists() and not suffix_of(entry.name)


def check_link(entry: Path) -> None:
    """Refuse a link that leads nowhere and may have led to a folder of images.

    Raises
    ------
    DatasetLayoutError
        If it is one.
    """
    if was_folder(entry):
        raise DatasetLayoutError(
            f"{entry} is a link that leads nowhere, so the images behind it would be missing; "
            "put right where it leads, or remove it"
        )


def images_below(folder: Path) -> Iterator[Path]:
    """Yield the image files in a folder and in those below it, as :func:`files_below` does."""
    return filter(is_image, files_below(folder))


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and in those below it, each folder once.

    Raises
    ------
    DatasetLayoutError
        If a folder cannot be read.
    """
    seen: set[Path] = set()
    below = [folder]
    while below:
        place = below.pop()
        if (real := real_path(place)) in seen:
            continue
        seen.add(real)
        inner = []
        for entry in entries_of(place):
            if is_folder(entry):
                inner.append(entry)
            else:
                yield entry
        below += reversed(inner)


def real_path(entry: Path) -> Path:
    """Return where an entry lies, without links."""
    return Path(os.path.realpath(entry))


def _unreadable(folder: Path, error: OSError) -> str:
    return (
        f"folder {folder} cannot be read: {error.strerror}; name one that can, or make it readable"
    )
