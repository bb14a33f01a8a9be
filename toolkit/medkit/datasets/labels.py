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
from medkit.tasks import Task

LABELS_MAP_OPTION = "--labels-map"
"""The option that gives spellings; see :func:`read_labels_map`."""

_ALIKE = 0.7  # share of letters that a near miss has in common with what was meant


def fold(name: str) -> str:
    """Return a name as names are compared: in NFC, and without regard to case."""
    return nfc(nfc(name).casefold())


def nfc(name: str) -> str:
    """Return a name in NFC: some systems store an accent apart from its letter."""
    return unicodedata.normalize("NFC", name)


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that names what was probably meant, or nothing."""
    by_fold = {_plain(each): each for each in known}
    close = get_close_matches(_plain(name), by_fold, n=1, cutoff=_ALIKE)
    return f"; did you mean {by_fold[close[0]]!r}?" if close else ""


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
    """

    names: tuple[str, ...] | None
    spellings: Mapping[str, str] = field(default_factory=dict)

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
        spelt = self.spellings.get(fold(folder))
        if spelt is not None:
            return spelt
        if self.names is None:
            return folder
        return next((name for name in self.names if fold(name) == fold(folder)), None)

    def __contains__(self, folder: str) -> bool:
        """Whether a folder's name stands for a label, or for one that is left out."""
        return self.label_of(folder) is not None

    def how_to_name(self, folders: Sequence[str]) -> str:
        """Return the end of a message on folders that stand for no label: what to do."""
        first, names = folders[0], self.names or ()
        return (
            f"accepted: {list(names)}; rename it, or say what it is with {LABELS_MAP_OPTION} "
            f"{first + '=LABEL'!r}, or leave it out with {LABELS_MAP_OPTION} {first + '='!r}"
            f"{near_miss(first, names)}"
        )


def read_labels_map(given: Sequence[str], tasks: Sequence[Task] = ()) -> dict[str, str]:
    """Read the spellings of class folders.

    Parameters
    ----------
    given
        Each is ``spelling=label``, or a UTF-8 text file with one such pair a
        line; empty lines and lines that begin with ``#`` do not count. The
        last ``=`` divides. A pair without a label leaves the folder out.
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
    pairs = [pair for text in given for pair in _pairs(text)]
    known = [label for task in tasks for label in task.labels]
    found: dict[str, str] = {}
    for where, pair in pairs:
        spelling, divided, label = (part.strip() for part in pair.rpartition("="))
        if not divided or not spelling:
            raise UsageError(
                f"{LABELS_MAP_OPTION} {where}: {pair!r} is no pair and no file; accepted: "
                "spelling=label, or a text file with one such pair a line"
            )
        if label and tasks and fold(label) not in map(fold, known):
            raise UsageError(
                f"{LABELS_MAP_OPTION} {where}: no task here has the label {label!r}; accepted: "
                f"{list(dict.fromkeys(known))}{near_miss(label, known)}"
            )
        if fold(found.setdefault(fold(spelling), label)) != fold(label):
            raise UsageError(
                f"{LABELS_MAP_OPTION} {where}: {spelling!r} is {found[fold(spelling)]!r} already; "
                "give each spelling once"
            )
    return found


def _pairs(given: str) -> list[tuple[str, str]]:
    """Return the pairs of one argument, each with where it stands."""
    path = Path(given)
    try:
        if not path.is_file():
            return [(repr(given), given)]
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "is no UTF-8 text"
        raise UsageError(
            f"{LABELS_MAP_OPTION} {given} cannot be read: {reason}; name a text file with a "
            "spelling=label a line"
        ) from error
    return [
        (f"{given}, line {number}", line)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
