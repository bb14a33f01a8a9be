"""What the entries of a folder are: images, folders, and what is passed over.

A file counts as an image by its suffix, without being opened, so that a
million are listed within seconds. Every other file is opened for its first
bytes: a name says what somebody called it, and not what it is. That takes some
ten microseconds a file, and an image takes milliseconds.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from medkit.images.formats.registry import extensions

_ARCHIVE_LITTER = "__MACOSX"
"""Folder of resource forks in archives packed on macOS; its "images" are none."""

_SUFFIX = re.compile(r"\.[a-z0-9_]{1,12}")
"""What is counted as a suffix. In ``1.2.840.113619`` and ``Dr. No`` it is none."""

_MOST_SUFFIXES = 100
"""Suffixes that are counted one by one: names of a million files may end in as many ways."""

NO_SUFFIX, OTHER_SUFFIXES = "without a suffix", "with other suffixes"


class Kind(IntEnum):
    """What an entry is, as far as the folder tells."""

    IMAGE = 0
    FOLDER = 1
    UNSURE = 2
    HIDDEN = 3
    HIDDEN_FOLDER = 4
    LINKED_FOLDER = 5
    LINK_TO_NOTHING = 6
    NO_FILE = 7


_WORDS = {
    Kind.HIDDEN: "hidden",
    Kind.HIDDEN_FOLDER: "hidden folders",
    Kind.LINKED_FOLDER: "links to folders",
    Kind.LINK_TO_NOTHING: "links to nothing",
    Kind.NO_FILE: "pipes or devices",
}
"""What is counted together, whatever its suffix."""

_ONE = {
    "hidden folders": "hidden folder",
    "links to folders": "link to a folder",
    "links to nothing": "link to nothing",
    "pipes or devices": "pipe or device",
}
"""The word for one of these."""

_REASONS = {
    Kind.UNSURE: "no image of an accepted format, by its first bytes",
    Kind.HIDDEN: "a hidden file",
    Kind.HIDDEN_FOLDER: "a hidden folder",
    Kind.LINKED_FOLDER: "a link to a folder",
    Kind.LINK_TO_NOTHING: "a link that leads nowhere",
    Kind.NO_FILE: "neither a file nor a folder",
}


def scan(folder: Path | str) -> Iterator[tuple[str, Kind]]:
    """Give the name of each entry of a folder, and what it is.

    Links to files are files, links to folders are not followed, and what is
    neither file nor folder is never opened. A link with an image's suffix
    that leads nowhere counts as an image, and fails when it is opened.

    Raises
    ------
    OSError
        If the folder cannot be listed.
    """
    accepted = extensions()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            hidden = name[0] == "." or name == _ARCHIVE_LITTER
            # The suffix is looked at first: it is there without another call.
            dot = name.rfind(".")
            suffix = name[dot:].lower() if dot > 0 else ""
            if not hidden and suffix in accepted and entry.is_file(follow_symlinks=False):
                yield name, Kind.IMAGE
            elif entry.is_dir(follow_symlinks=False):
                yield name, Kind.HIDDEN_FOLDER if hidden else Kind.FOLDER
            elif hidden:
                yield name, Kind.HIDDEN
            elif entry.is_file(follow_symlinks=False):
                yield name, Kind.UNSURE
            elif entry.is_symlink():
                yield name, _behind_link(entry.path, suffix in accepted)
            else:
                yield name, Kind.NO_FILE


def _behind_link(path: str, listed: bool) -> Kind:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return Kind.IMAGE if listed else Kind.LINK_TO_NOTHING
    if S_ISDIR(mode):
        return Kind.LINKED_FOLDER
    if not S_ISREG(mode):
        return Kind.NO_FILE
    return Kind.IMAGE if listed else Kind.UNSURE


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name, in small letters; empty if it has none to speak of."""
    dot = name.rfind(".")
    suffix = name[dot:].lower() if dot > 0 else ""
    return suffix if _SUFFIX.fullmatch(suffix) and not suffix[1:].isdigit() else ""


def reason_for(kind: Kind) -> str:
    """Return why an entry is passed over, as its row says it."""
    return _REASONS[kind]


class PassedOver(Counter[str]):
    """Counts of what was passed over: by suffix, and by what has none that matters."""

    def add(self, name: str, kind: Kind) -> None:
        """Count an entry with this name."""
        word = _WORDS.get(kind) or suffix_of(name) or NO_SUFFIX
        if word not in self and len(self) >= _MOST_SUFFIXES:
            word = OTHER_SUFFIXES
        self[word] += 1

    def __str__(self) -> str:
        """Return the counts as text, the most first: ``8 .dcm, 2 hidden``."""
        most = self.most_common(8)
        shown = [
            f"{count:,} {_ONE.get(word, word) if count == 1 else word}" for word, count in most
        ]
        more = self.total() - sum(count for _, count in most)
        return ", ".join([*shown, f"{more:,} others"] if more else shown)
