"""The images that files and folders on a command line stand for, in a fixed order.

Folders are read one at a time while the walk goes on. What is kept of a
folder are its names, as an array of bytes: a million take some twenty
megabytes, and are read and sorted within two seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from threading import Event, Thread

import numpy as np
from numpy.typing import NDArray

from medkit.errors import MedkitError, NoImagesError, UsageError
from medkit.images.formats.registry import extensions

_ARCHIVE_LITTER = "__MACOSX"
"""Folder of resource forks in archives packed on macOS; its "images" are none."""

_BLOCK = 4096  # entries that are held as Python's objects at a time


@dataclass(frozen=True)
class ListedImage:
    """One image, or one folder that could not be looked into.

    Attributes
    ----------
    path
        Path of the file.
    name
        Name of the file in the output, with forward slashes; see :func:`walk`.
    error
        Reason why there is nothing to open; empty for an image.
    """

    path: Path
    name: str
    error: str = ""


def check_inputs(inputs: Sequence[Path]) -> None:
    """Raise :class:`UsageError` unless every argument is a file, or a folder that can be listed."""
    if not inputs:
        raise UsageError("nothing to classify; give image files or folders")
    for argument in inputs:
        if os.path.isdir(argument):
            try:
                os.scandir(argument).close()
            except OSError as error:
                raise UsageError(f"folder {argument} cannot be read: {error.strerror}") from error
        elif not os.path.exists(argument):
            raise UsageError(f"no file or folder {argument}; check the path")
        elif not os.path.isfile(argument):
            raise UsageError(f"{argument} is neither a file nor a folder; give one of these")


class InputFolders:
    """Knows where the folders on a command line are, and whether they still are.

    Parameters
    ----------
    inputs
        Files and folders; files are not looked after.
    patience
        Seconds that a folder has for an answer.
    """

    def __init__(self, inputs: Sequence[Path], patience: float) -> None:
        self._known = {path: _identity(path) for path in inputs if os.path.isdir(path)}
        self._patience = patience

    def check(self) -> None:
        """Raise :class:`MedkitError` if a folder has gone, or does not answer."""
        for path in self._known:
            there: list[bool] = []
            # A network folder that hangs does so for whoever asks.
            asking = Thread(target=self._ask, args=(path, there), daemon=True)
            asking.start()
            asking.join(self._patience)
            if there != [True]:
                raise MedkitError(
                    f"folder {path} has gone; once it is back, continue with --resume"
                )

    def _ask(self, path: Path, there: list[bool]) -> None:
        """Answer whether a folder is the one that it was.

        Where a network folder was mounted, an empty one is left. One that
        was mounted again is another to the system, but not empty.
        """
        there.append(_identity(path) == self._known[path] or not _is_empty(path))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_empty(path: Path) -> bool:
    """Whether a folder has no entries, or cannot be listed."""
    try:
        with os.scandir(path) as scan:
            return next(scan, None) is None
    except OSError:
        return True


def find_images(
    inputs: Sequence[Path], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Iterator[ListedImage]:
    """Check the arguments, make sure that each holds an image, and walk.

    Parameters
    ----------
    inputs, include, exclude
        As for :func:`walk`.

    Raises
    ------
    UsageError
        If an argument does not exist or cannot be listed.
    NoImagesError
        If an argument holds nothing to classify. Both are raised by the call,
        not by the first step of the iterator; only as much is listed as it
        takes to find one image in each.
    """
    check_inputs(inputs)
    for argument in inputs:
        if not any(True for _ in _entries([argument], include, exclude)):
            passing = " that the include and exclude patterns let through"
            raise NoImagesError(
                f"no image{passing if include or exclude else ''} in {argument}; "
                f"accepted in a folder: {', '.join(sorted(extensions()))}"
            )
    return walk(inputs, include, exclude)


def walk(
    inputs: Sequence[Path], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Iterator[ListedImage]:
    """List the images lazily: arguments as given, each folder depth-first and sorted.

    Files and sub-folders of a folder are sorted together by the bytes of
    their names, which in UTF-8 is the order of code points. A file in a
    folder counts if its suffix, in any case, is in
    :func:`medkit.images.formats.registry.extensions`; hidden entries (leading dot) do not.
    Links to files are followed, links to folders are not, and what is neither
    file nor folder is never opened. A link that leads nowhere counts, and
    fails when it is opened. A file given as an argument counts whatever its
    suffix.

    Parameters
    ----------
    inputs
        Files and folders. One given twice is listed twice.
    include
        Patterns of :mod:`fnmatch`, in which ``*`` also matches a slash. If
        there are any, a file must match one. They are compared, ignoring
        case, with the path relative to the argument and with the bare name.
    exclude
        Patterns of the same kind; a file that matches one is left out, and
        so is a sub-folder with all that it holds.

    Yields
    ------
    ListedImage
        With a single argument, ``name`` is the path relative to it, or the
        own name of a file. With several, names could clash, so each begins
        with its argument as typed. A sub-folder that cannot be listed is
        yielded in its place, with ``error`` set.
    """
    for argument in inputs:
        typed = argument.as_posix()
        if not os.path.isdir(argument):
            if _wanted(argument.name, include, exclude):
                yield ListedImage(argument, typed if len(inputs) > 1 else argument.name)
            continue
        prefix = f"{typed.rstrip('/')}/" if len(inputs) > 1 else ""
        for relative, error in _walk_folder(argument, include, exclude):
            yield ListedImage(argument / relative, f"{prefix}{relative}", error)


def count_images(
    inputs: Sequence[Path],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    stop: Event | None = None,
) -> int:
    """Return how many entries :func:`walk` yields, or has yielded when ``stop`` is set."""
    count = 0
    for _ in _entries(inputs, include, exclude):
        if stop is not None and stop.is_set():
            break
        count += 1
    return count


@contextmanager
def counting(
    inputs: Sequence[Path], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Iterator[Future[int]]:
    """Run :func:`count_images` on a thread, which ends with the block at the latest."""
    stop = Event()
    with ThreadPoolExecutor(1, "medkit-count") as pool:
        try:
            yield pool.submit(count_images, inputs, include, exclude, stop)
        finally:
            stop.set()


def _entries(
    inputs: Sequence[Path], include: Sequence[str], exclude: Sequence[str]
) -> Iterator[None]:
    """Give as often as :func:`walk` does, in no order and without keeping names."""
    for argument in inputs:
        if not os.path.isdir(argument):
            if _wanted(argument.name, include, exclude):
                yield
            continue
        folders = [""]
        while folders:
            relative = folders.pop()
            prefix = f"{relative}/" if relative else ""
            try:
                for name, is_folder in _scan(argument / relative):
                    if not _wanted(prefix + name, () if is_folder else include, exclude):
                        continue
                    if is_folder:
                        folders.append(prefix + name)
                    else:
                        yield
            except OSError:
                yield  # it is an entry itself


def _walk_folder(
    root: Path, include: Sequence[str], exclude: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield relative path and error. A stack of its own knows no recursion limit."""
    stack: list[Iterator[tuple[str, bool]]] = [iter([("", True)])]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        relative, is_folder = entry
        if relative and not _wanted(relative, () if is_folder else include, exclude):
            continue
        if not is_folder:
            yield relative, ""
            continue
        try:
            stack.append(_in_order(root, relative))
        except OSError as error:
            yield relative, f"folder cannot be read: {error.strerror}"


def _in_order(root: Path, relative: str) -> Iterator[tuple[str, bool]]:
    """Read a folder at once, and give the relative paths of its entries one by one, sorted."""
    names, folders = _read_folder(root / relative)
    prefix = f"{relative}/" if relative else ""
    return (
        (prefix + os.fsdecode(name), bool(is_folder))
        for name, is_folder in zip(names, folders, strict=True)
    )


def _read_folder(folder: Path) -> tuple[NDArray[np.bytes_], NDArray[np.bool_]]:
    """Return the names of images and sub-folders, sorted, and which are folders."""
    blocks: list[NDArray[np.bytes_]] = []
    flags: list[NDArray[np.bool_]] = []
    scan = _scan(folder)
    while block := list(islice(scan, _BLOCK)):
        blocks.append(np.array([os.fsencode(name) for name, _ in block], dtype=np.bytes_))
        flags.append(np.array([is_folder for _, is_folder in block], dtype=np.bool_))
    if not blocks:
        return np.array([], dtype=np.bytes_), np.array([], dtype=np.bool_)
    names = np.concatenate(blocks)
    blocks.clear()
    order = np.argsort(names)
    return names[order], np.concatenate(flags)[order]


def _scan(folder: Path) -> Iterator[tuple[str, bool]]:
    """Give the names of images and sub-folders, each with whether it is a folder."""
    accepted = extensions()
    with os.scandir(folder) as scan:
        for entry in scan:
            name = entry.name
            if name[0] == "." or name == _ARCHIVE_LITTER:
                continue
            # The suffix is looked at first: it is there without another call.
            dot = name.rfind(".")
            suffixed = dot > 0 and name[dot:].lower() in accepted
            if suffixed and entry.is_file(follow_symlinks=False):
                yield name, False
            elif entry.is_dir(follow_symlinks=False):
                yield name, True
            elif (
                suffixed
                and entry.is_symlink()
                and (os.path.isfile(entry.path) or not os.path.exists(entry.path))
            ):
                yield name, False


def _wanted(relative: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    return (not include or _matches(relative, include)) and not _matches(relative, exclude)


def _matches(relative: str, patterns: Sequence[str]) -> bool:
    path = relative.lower()
    name = path.rpartition("/")[2]
    # "./scans/" is a habit of shells and means the folder "scans".
    plain = [pattern.lower().removeprefix("./").rstrip("/") for pattern in patterns]
    return any(fnmatchcase(text, pattern) for pattern in plain for text in (path, name))
