"""What the entries of a folder are: images, folders, and what is passed over.

A file counts as an image by its suffix, without being opened, so that a
million are listed within seconds. Files with other suffixes, or with none,
are opened for their first bytes, unless their suffix says that they are
something else.
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

_OF_OTHER_FILES = (
    # text, tables and documents
    "txt md rst log pdf rtf html htm xml json jsonl yaml yml toml ini cfg csv tsv "
    "doc docx xls xlsx ods odt ppt pptx url lnk "
    # programs
    "py pyc ipynb sh bat ps1 js css c h cpp java r exe dll so "
    # archives
    "zip gz tar tgz bz2 xz 7z rar zst iso "
    # data and models
    "npy npz h5 hdf5 mat pkl pt pth onnx tflite keras parquet db sqlite nii nrrd mha mhd "
    # film, sound, drawings and halves of files
    "mp4 avi mov mkv mp3 wav svg part crdownload"
)
_NO_IMAGES = frozenset(f".{suffix}" for suffix in _OF_OTHER_FILES.split())
"""Suffixes of files that are passed over without being opened: in a folder of images, those
that lie beside images a thousand times."""

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
    NO_IMAGE = 3
    HIDDEN = 4
    HIDDEN_FOLDER = 5
    LINKED_FOLDER = 6
    LINK_TO_NOTHING = 7
    NO_FILE = 8


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
    Kind.NO_IMAGE: "no image, by its suffix",
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
                yield name, Kind.NO_IMAGE if suffix in _NO_IMAGES else Kind.UNSURE
            elif entry.is_symlink():
                yield name, _behind_link(entry.path, suffix, suffix in accepted)
            else:
                yield name, Kind.NO_FILE


def _behind_link(path: str, suffix: str, listed: bool) -> Kind:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return Kind.IMAGE if listed else Kind.LINK_TO_NOTHING
    if S_ISDIR(mode):
        return Kind.LINKED_FOLDER
    if not S_ISREG(mode):
        return Kind.NO_FILE
    if listed:
        return Kind.IMAGE
    return Kind.NO_IMAGE if suffix in _NO_IMAGES else Kind.UNSURE


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
