"""The images that files, folders and lists on a command line stand for, in a fixed order.

Folders are read one at a time while the walk goes on. What is kept of a
folder are its names, as an array of bytes: a million take some twenty
megabytes, and are read and sorted within two seconds. A list of paths is read
as it comes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain, islice
from pathlib import Path
from threading import Event

import numpy as np
from numpy.typing import NDArray

from medkit.batch.path_lists import check_list, is_stream, read_list
from medkit.batch.patterns import Patterns
from medkit.errors import NoImagesError, UsageError
from medkit.images.entries import Kind, PassedOver, reason_for, scan, suffix_of
from medkit.images.formats.registry import extensions
from medkit.images.recognition import may_be_image
from medkit.system.names import name_in_rows, name_on_disk

_BLOCK = 4096  # entries that are held as Python's objects at a time

_KINDS = tuple(Kind)  # making one of its number takes ten times as long
_FOLDERS = (Kind.FOLDER, Kind.HIDDEN_FOLDER, Kind.LINKED_FOLDER)
_FILES = (Kind.UNSURE, Kind.HIDDEN)


@dataclass(frozen=True)
class ListedImage:
    """One input that has a row.

    Attributes
    ----------
    path
        Path of the file.
    name
        Name of the file in the output, with forward slashes; see :func:`walk`.
    error
        Reason why there is nothing to open; empty for an image.
    skipped
        Whether it was passed over, so that its row is no error.
    """

    path: Path
    name: str
    error: str = ""
    skipped: bool = False


@dataclass(frozen=True)
class Inputs:
    """The inputs of a run, as a person gives them.

    Attributes
    ----------
    paths
        Files and folders. One given twice is listed twice.
    include, exclude
        Patterns; see :class:`medkit.batch.patterns.Patterns`.
    from_file
        A list of more files and folders; see
        :func:`medkit.batch.path_lists.read_list`.
    all_files
        List what is passed over as well.
    absolute
        Name files by their absolute paths.
    """

    paths: tuple[Path, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    from_file: Path | None = None
    all_files: bool = False
    absolute: bool = False

    @property
    def is_stream(self) -> bool:
        """Whether the inputs can be walked only once, because a stream names them."""
        return self.from_file is not None and is_stream(self.from_file)

    @property
    def spelled(self) -> bool:
        """Whether names in rows begin with an argument as typed, because there are several."""
        return len(self.paths) > 1 or self.from_file is not None

    def path_of(self, name: str) -> Path:
        """Return the path of the input with this name in a row."""
        path = Path(name_on_disk(name))
        if self.spelled or self.absolute:
            return path
        (argument,) = self.paths
        return argument / path if os.path.isdir(argument) else argument


def check_inputs(inputs: Inputs) -> None:
    """Raise :class:`UsageError` unless every argument is a file, or a folder that can be listed."""
    if not inputs.paths and inputs.from_file is None:
        raise UsageError("nothing to classify; give image files or folders, or --from-file")
    for argument in inputs.paths:
        if os.path.isdir(argument):
            try:
                os.scandir(argument).close()
            except OSError as error:
                raise UsageError(f"folder {argument} cannot be read: {error.strerror}") from error
        elif not os.path.exists(argument):
            raise UsageError(f"no file or folder {argument}; check the path")
        elif not os.path.isfile(argument):
            raise UsageError(f"{argument} is neither a file nor a folder; give one of these")
    if inputs.from_file is not None:
        check_list(inputs.from_file)


def find_images(
    inputs: Inputs, passed: PassedOver | None = None, stop: Event | None = None
) -> Iterator[ListedImage]:
    """Check the arguments, make sure that each holds an image, and walk.

    Parameters
    ----------
    inputs, passed, stop
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
    patterns = Patterns(inputs.include, inputs.exclude)
    passing = " that the include and exclude patterns let through" if patterns.any else ""
    for argument in inputs.paths:
        seen = PassedOver()
        one = Inputs((argument,), inputs.include, inputs.exclude, all_files=inputs.all_files)
        if not any(True for _ in _Lister(one, seen).in_no_order()):
            among = f" (passed over: {seen})" if seen else ""
            raise NoImagesError(
                f"no image{passing} in {argument}{among}; "
                f"accepted in a folder: {', '.join(sorted(extensions()))}"
            )
    found = walk(inputs, passed, stop)
    if inputs.paths:
        return found
    first = next(found, None)
    if first is not None:
        return chain([first], found)
    if stop is not None and stop.is_set():
        return found
    raise NoImagesError(f"no path{passing} in the list {inputs.from_file}; check the list")


def walk(
    inputs: Inputs, passed: PassedOver | None = None, stop: Event | None = None
) -> Iterator[ListedImage]:
    """List the images lazily: arguments as given, each folder depth-first and sorted.

    Files and sub-folders of a folder are sorted together by the bytes of
    their names, which in UTF-8 is the order of code points, in any locale. A
    file in a folder counts if its suffix, in any case, is in
    :func:`medkit.images.formats.registry.extensions`, or if it has another
    suffix or none and begins as an accepted image does. Hidden entries
    (leading dot), links to folders, and what is neither file nor folder are
    passed over; see :mod:`medkit.images.entries`. A file that is given as an
    argument, or in a list, counts whatever it is called.

    Parameters
    ----------
    inputs
        What is to be listed.
    passed
        Is told of what is passed over. The counts are complete at the end.
    stop
        Once it is set, no more paths of a list are waited for.

    Yields
    ------
    ListedImage
        With a single argument, ``name`` is the path relative to it, or the
        own name of a file. With several, names could clash, so each begins
        with its argument as typed; so it does with a list. A sub-folder that
        cannot be listed is yielded in its place, with ``error`` set, and so
        is a folder of a list that holds no image. With ``all_files``, what is
        passed over is yielded as ``skipped``.
    """
    return _Lister(inputs, PassedOver() if passed is None else passed, stop).in_order()


def count_images(inputs: Inputs, stop: Event | None = None) -> int | None:
    """Return how many entries :func:`walk` yields, or has yielded when ``stop`` is set.

    It is ``None`` for a list that can be read only once.
    """
    if inputs.is_stream:
        return None
    count = 0
    for _ in _Lister(inputs, PassedOver()).in_no_order():
        if stop is not None and stop.is_set():
            break
        count += 1
    return count


@contextmanager
def counting(inputs: Inputs) -> Iterator[Future[int | None]]:
    """Run :func:`count_images` on a thread, which ends with the block at the latest."""
    stop = Event()
    with ThreadPoolExecutor(1, "medkit-count") as pool:
        try:
            yield pool.submit(count_images, inputs, stop)
        finally:
            stop.set()


@dataclass(frozen=True)
class _Argument:
    """A file or folder that was given, and what names in rows begin with."""

    path: Path
    name: str
    prefix: str
    from_list: bool


class _Step(Enum):
    """What is to be done with an entry of a folder."""

    TAKE = auto()
    ENTER = auto()
    PASS_OVER = auto()
    LEAVE_OUT = auto()


class _Lister:
    """Lists inputs, and counts what it passes over."""

    def __init__(self, inputs: Inputs, passed: PassedOver, stop: Event | None = None) -> None:
        self._inputs, self._passed, self._stop = inputs, passed, stop
        self._patterns = Patterns(inputs.include, inputs.exclude)

    def in_order(self) -> Iterator[ListedImage]:
        """Give what is listed."""
        for argument in self._arguments():
            if not os.path.isdir(argument.path):
                if self._patterns.let_through(_as_matched(argument)):
                    yield ListedImage(argument.path, argument.name)
                continue
            empty = True
            for relative, error, skipped in self._in_folder(argument.path):
                empty = False
                name = argument.prefix + name_in_rows(relative) if relative else argument.name
                yield ListedImage(argument.path / relative, name, error, skipped)
            if empty and argument.from_list:
                yield ListedImage(argument.path, argument.name, "the folder holds no image")

    def in_no_order(self) -> Iterator[None]:
        """Give as often as :meth:`in_order` does, without keeping names."""
        for argument in self._arguments():
            if not os.path.isdir(argument.path):
                if self._patterns.let_through(_as_matched(argument)):
                    yield
                continue
            empty = True
            for _ in self._count_folder(argument.path):
                empty = False
                yield
            if empty and argument.from_list:
                yield

    def _arguments(self) -> Iterator[_Argument]:
        inputs = self._inputs
        for path in inputs.paths:
            typed = name_in_rows((path.absolute() if inputs.absolute else path).as_posix())
            if inputs.spelled or inputs.absolute:
                yield _Argument(path, typed, f"{typed.rstrip('/')}/", from_list=False)
            else:
                yield _Argument(path, name_in_rows(path.name), "", from_list=False)
        for line in self._lines():
            path = Path(line)
            # As it stands in the list, so that its rows can be joined with it.
            typed = path.absolute().as_posix() if inputs.absolute else line
            typed = name_in_rows(typed if os.sep == "/" else typed.replace(os.sep, "/"))
            yield _Argument(path, typed, f"{typed.rstrip('/')}/", from_list=True)

    def _lines(self) -> Iterator[str]:
        listed = self._inputs.from_file
        return iter(()) if listed is None else read_list(listed, self._stop)

    def _step(self, root: Path, relative: str, kind: Kind) -> _Step:
        """Return what is to be done with an entry."""
        if kind is Kind.IMAGE and not self._patterns.any:
            return _Step.TAKE
        if not self._patterns.let_through(relative, is_folder=kind in _FOLDERS):
            return _Step.LEAVE_OUT
        name = relative.rpartition("/")[2]
        if kind is Kind.FOLDER or (kind is Kind.HIDDEN_FOLDER and self._patterns.lead_into(name)):
            return _Step.ENTER
        takes = (
            kind is Kind.IMAGE
            or (kind in _FILES and self._patterns.bring_in(relative, suffix_of(name)))
            or (kind is Kind.UNSURE and may_be_image(os.path.join(root, relative)))
        )
        return _Step.TAKE if takes else _Step.PASS_OVER

    def _in_folder(self, root: Path) -> Iterator[tuple[str, str, bool]]:
        """Yield relative path, error, and whether it is passed over.

        A stack of its own knows no recursion limit.
        """
        stack = [iter([("", Kind.FOLDER)])]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
                continue
            relative, kind = entry
            step = self._step(root, relative, kind) if relative else _Step.ENTER
            if step is _Step.TAKE:
                yield relative, "", False
            elif step is _Step.ENTER:
                try:
                    stack.append(self._sorted(root, relative))
                except OSError as error:
                    yield relative, f"folder cannot be read: {error.strerror}", False
            elif step is _Step.PASS_OVER:
                self._passed.add(relative.rpartition("/")[2], kind)
                if self._inputs.all_files:
                    yield relative, reason_for(kind), True

    def _count_folder(self, root: Path) -> Iterator[None]:
        """Give as often as :meth:`_in_folder` does."""
        folders = [""]
        while folders:
            relative = folders.pop()
            prefix = f"{relative}/" if relative else ""
            try:
                for name, kind in self._scan(root / relative):
                    step = self._step(root, prefix + name, kind)
                    if step is _Step.ENTER:
                        folders.append(prefix + name)
                    elif step is _Step.PASS_OVER:
                        self._passed.add(name, kind)
                    if step is _Step.TAKE or (step is _Step.PASS_OVER and self._inputs.all_files):
                        yield
            except OSError:
                yield  # it is an entry itself

    def _sorted(self, root: Path, relative: str) -> Iterator[tuple[str, Kind]]:
        """Read a folder at once, and give the relative paths of its entries one by one, sorted."""
        names, kinds = _in_arrays(self._scan(root / relative))
        prefix = f"{relative}/" if relative else ""
        return (
            (prefix + os.fsdecode(name), _KINDS[kind])
            for name, kind in zip(names, kinds, strict=True)
        )

    def _scan(self, folder: Path) -> Iterator[tuple[str, Kind]]:
        """Give the entries of a folder; those that have no chance are counted, and not kept."""
        kept = self._patterns.any or self._inputs.all_files
        for name, kind in scan(folder):
            if kept or kind <= Kind.UNSURE:
                yield name, kind
            else:
                self._passed.add(name, kind)


def _as_matched(argument: _Argument) -> str:
    """Return what patterns are compared with, for a file that was given."""
    return argument.path.as_posix() if argument.from_list else argument.path.name


def _in_arrays(
    entries: Iterator[tuple[str, Kind]],
) -> tuple[NDArray[np.bytes_], NDArray[np.uint8]]:
    """Return names and kinds, sorted by the names."""
    blocks: list[NDArray[np.bytes_]] = []
    kinds: list[NDArray[np.uint8]] = []
    while block := list(islice(entries, _BLOCK)):
        blocks.append(np.array([os.fsencode(name) for name, _ in block], dtype=np.bytes_))
        kinds.append(np.array([kind for _, kind in block], dtype=np.uint8))
    if not blocks:
        return np.array([], dtype=np.bytes_), np.array([], dtype=np.uint8)
    names = np.concatenate(blocks)
    blocks.clear()
    order = np.argsort(names)
    return names[order], np.concatenate(kinds)[order]
