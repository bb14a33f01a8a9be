"""The labels that names of class folders stand for.

A folder stands for a label if both are the same in NFC and without regard to
case. Any other spelling needs an entry in a map, which the user gives.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from medkit.errors import UsageError
from medkit.files import names_file
from medkit.system.names import name_in_rows
from medkit.tasks import Task

LABELS_MAP_OPTION = "--labels-map"
"""The option that gives spellings; see :func:`read_labels_map`."""

_ALIKE = 0.65  # share of letters that a near miss has in common with what was meant


def fold(name: str) -> str:
    """Return a name as names are compared: in NFC, and without regard to case."""
    return nfc(nfc(name).casefold())


def fold_name(name: str) -> str:
    """Return the name of a file or folder as names are compared, whatever the locale is."""
    return fold(name_in_rows(name))


def nfc(name: str) -> str:
    """Return a name in NFC: some systems store an accent apart from its letter."""
    return unicodedata.normalize("NFC", name)


def name_as_bytes(name: str) -> bytes:
    """Return a file's name as a digest takes it: UTF-8, and any other byte as it is."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")  # of Windows


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that names what was probably meant, or nothing."""
    close = nearest_label(name, known)
    return f"; did you mean {close!r}?" if close else ""


def nearest_label(name: str, known: Iterable[str]) -> str:
    """Return the known label that was probably meant, or nothing."""
    by_fold = {_plain(each): each for each in known}
    close = get_close_matches(_plain(name), by_fold, n=1, cutoff=_ALIKE)
    return by_fold[close[0]] if close else ""


def _plain(name: str) -> str:
    return fold(name).replace("_", " ").replace("-", " ").strip()


@dataclass(frozen=True)
class Labels:
    """The labels of class folders.

    Attributes
    ----------
    names
        The labels, in the task's order. ``None`` accepts every folder as a
        class of its own name, as an audit without a task does.
    spellings
        Other spellings, folded, with the label of each. An empty label leaves
        the folder out.
    met
        Those of the spellings that :meth:`label_of` was asked for.
    """

    names: tuple[str, ...] | None
    spellings: Mapping[str, str] = field(default_factory=dict)
    met: set[str] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def of(cls, task: Task, spellings: Mapping[str, str] | None = None) -> Labels:
        """Return the labels of a task, with those spellings that are for it.

        Parameters
        ----------
        task
            The task.
        spellings
            What :func:`read_labels_map` gave. It may be for several tasks.
        """
        own = {fold(label): label for label in task.labels}
        return cls(
            task.labels,
            {
                spelling: own.get(fold(label), "")
                for spelling, label in (spellings or {}).items()
                if not label or fold(label) in own
            },
        )

    def label_of(self, folder: str) -> str | None:
        """Return the label that a folder's name stands for.

        Returns
        -------
        str or None
            Empty for a folder that is left out; ``None`` if it stands for no label.
        """
        folded = fold_name(folder)
        spelt = self.spellings.get(folded)
        if spelt is not None:
            self.met.add(folded)
            return spelt
        if self.names is None:
            return name_in_rows(folder)
        return next((name for name in self.names if fold(name) == folded), None)

    def __contains__(self, folder: str) -> bool:
        """Whether a folder's name stands for a label, or for one that is left out."""
        return self.label_of(folder) is not None

    def remarks(self) -> list[str]:
        """Return a line on the spellings that no folder had until now."""
        unmet = [spelling for spelling in self.spellings if spelling not in self.met]
        if not unmet:
            return []
        names = " or ".join(map(repr, unmet))
        return [f"no folder that was read has the name {names} of {LABELS_MAP_OPTION}"]

    def how_to_name(self, folders: Sequence[str]) -> str:
        """Return the end of a message on folders that stand for no label: what to do."""
        first, names = folders[0], self.names or ()
        return (
            f"accepted: {list(names)}; rename it, or say what it is with {LABELS_MAP_OPTION} "
            f"{first + '=LABEL'!r}, or leave it out with {LABELS_MAP_OPTION} {first + '='!r}"
            f"{near_miss(first, names)}"
        )

    def probably(self, folders: Iterable[str]) -> str:
        """Return the end of a message that says which folders are probably misspelt, or nothing."""
        misses = [(folder, nearest_label(folder, self.names or ())) for folder in folders]
        meant = [f"{folder + '=' + label!r}" for folder, label in misses if label]
        if not meant:
            return ""
        options = " ".join(f"{LABELS_MAP_OPTION} {pair}" for pair in meant)
        return f"; if these are misspelt, rename them or give {options}"


def read_labels_map(given: Sequence[str], tasks: Sequence[Task] = ()) -> dict[str, str]:
    """Read the spellings of class folders.

    Parameters
    ----------
    given
        Each is ``spelling=label``, or a UTF-8 text file with one such pair a
        line; empty lines and lines that begin with ``#`` do not count. The
        last ``=`` divides. A pair without a label leaves the folder out. The
        spelling of a pair counts with its spaces. In a file, a spelling is
        put in double quotes if it begins with ``#`` or has spaces around it.
    tasks
        The tasks whose labels are accepted; any label is, if there is none.

    Returns
    -------
    dict
        Label by folded spelling.

    Raises
    ------
    UsageError
        If a file cannot be read, if an entry is no pair or contradicts
        another, or if no task has its label.
    """
    known = [label for task in tasks for label in task.labels]
    found: dict[str, str] = {}
    for where, spelling, label in (pair for text in given for pair in _pairs(text)):
        if tasks:
            _check_label(where, label, known)
        if fold(found.setdefault(fold(spelling), label)) != fold(label):
            raise UsageError(
                f"{LABELS_MAP_OPTION} {where}: {spelling!r} is {found[fold(spelling)]!r} already; "
                "give each spelling once"
            )
    return found


def check_labels(spellings: Mapping[str, str], task: Task) -> None:
    """Refuse a map with a label that a task does not have; see :func:`read_labels_map`.

    It is for a task that is told by a model file, after the map was read.

    Raises
    ------
    UsageError
        If there is such a label.
    """
    for spelling, label in spellings.items():
        _check_label(repr(f"{spelling}={label}"), label, task.labels)


def _check_label(where: str, label: str, known: Sequence[str]) -> None:
    if label and fold(label) not in map(fold, known):
        raise UsageError(
            f"{LABELS_MAP_OPTION} {where}: no task here has the label {label!r}; accepted: "
            f"{list(dict.fromkeys(known))}{near_miss(label, known)}"
        )


def _pairs(given: str) -> list[tuple[str, str, str]]:
    """Return the pairs of one argument, each after the place where it stands."""
    path = Path(given)
    try:
        if not names_file(given):
            return [_pair(repr(given), name_in_rows(given))]
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "is no UTF-8 text"
        raise UsageError(
            f"{LABELS_MAP_OPTION} {given} cannot be read: {reason}; name a text file with a "
            "spelling=label a line"
        ) from error
    return [
        _unquoted(_pair(f"{given}, line {number}", line))
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]


def _pair(where: str, text: str) -> tuple[str, str, str]:
    """Return where a pair stands, its spelling as it is written, and its label."""
    spelling, divided, label = text.rpartition("=")
    if not divided or not spelling.strip():
        raise UsageError(
            f"{LABELS_MAP_OPTION} {where}: {text!r} is no pair and no file; accepted: "
            "spelling=label, or a text file with one such pair a line"
        )
    return where, spelling, label.strip()


def _unquoted(pair: tuple[str, str, str]) -> tuple[str, str, str]:
    """Return a line's pair with the spelling that it stands for."""
    where, spelling, label = pair
    bare = spelling.strip()
    quoted = len(bare) > 2 and bare[0] == bare[-1] == '"'
    return where, bare[1:-1] if quoted else bare, label
