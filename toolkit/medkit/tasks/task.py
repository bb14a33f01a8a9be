"""A task: one question about images, its answers, and the pixels that it is asked of."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from medkit.defaults import AUTO, BETWEEN_LABELS
from medkit.errors import ModelFileError, UsageError
from medkit.images.contract import InputContract
from medkit.records import read_record

TOML_NAME = "task.toml"
"""File that describes a task in its folder of models."""

TASK_NAME = "task.json"
"""The older form of that file. It is still read."""

GREY, COLOURED, ANY_COLOUR = "grey", "coloured", "any"
"""What the images of a task can be."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")

_LONGEST_NAME = 64

_DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in range(10)
}
"""Names that Windows keeps for devices; no folder there can have one."""

_DIVIDERS = f"/{BETWEEN_LABELS}"
"""Characters that a label cannot have: the one of folders, and the one between several labels."""


@dataclass(frozen=True)
class DatasetLayout:
    """The layout of a published data set on the disk.

    Attributes
    ----------
    train, test
        Names of the split folders.
    folders
        Known names of the data set's own folder.
    source
        Origin of the data, with their licence.
    test_sha256
        SHA-256 over the names and contents of the test split's images, as
        :func:`medkit.datasets.splits.digest_of` gives it; empty if it is not known.
    """

    train: str
    test: str
    folders: tuple[str, ...]
    source: str
    test_sha256: str = ""

    def is_published(self, sha256: Mapping[str, str]) -> bool:
        """Whether a run's data are the published ones, as far as their test split tells.

        Parameters
        ----------
        sha256
            Hash of each split by its name, as a manifest holds it.
        """
        return not self.test_sha256 or sha256.get("test") == self.test_sha256


@dataclass(frozen=True)
class TaskNotes:
    """Notes on a task for people. They go into the model card.

    Attributes
    ----------
    misuse
        Uses that are wrong for these models, besides those that are wrong for all.
    licence
        Licence of the trained weights.
    traps
        Properties of the data that mislead people who train or measure on them.
    """

    misuse: str = ""
    licence: str = ""
    traps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """One classification task.

    Attributes
    ----------
    name
        The word for it on the command line, and its folder in ``trained/``.
    title
        Title of the task, for people.
    labels
        Class names in output order. They are also the names of a data set's
        class folders. The order is fixed here, and never that of a listing.
    contract
        Input contract: how an image file becomes a tensor.
    positive
        The label whose probability is the score of a two-class task;
        ``None`` for a task with more classes.
    alert
        The label that must not be missed. The operating points are for it.
        A multi-label task may leave it empty: each of its labels has a
        threshold of its own.
    screening_sensitivity
        The operating point ``high-sensitivity`` finds at least this share of
        the alert label's validation images, 0..1; in a multi-label task, of
        each label's.
    multi_label
        Whether an image can have several labels, or none. Each label is then
        decided for itself.
    images
        What its images are: :data:`GREY`, :data:`COLOURED` or :data:`ANY_COLOUR`;
        empty for what the channels tell. A row of another image has a note.
    layout
        Layout of the published data set on the disk; ``None`` if there is none.
    notes
        Notes for people.

    Raises
    ------
    ValueError
        If the values contradict each other.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    contract: InputContract
    positive: str | None
    alert: str = ""
    screening_sensitivity: float = 0.95
    multi_label: bool = False
    images: str = ""
    layout: DatasetLayout | None = None
    notes: TaskNotes = field(default_factory=TaskNotes)

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.title.strip() or not self.title.isprintable():
            raise ValueError(f"title is {self.title!r}; accepted: one line of printable characters")
        check_labels(self.labels)
        if self.alert not in self.labels and (self.alert or not self.multi_label):
            raise ValueError(f"alert is {self.alert!r}; accepted: one of {list(self.labels)}")
        if self.positive is not None and self.multi_label:
            raise ValueError(
                f"positive is {self.positive!r}; accepted: none in a multi-label task, in which "
                "each label has a threshold of its own"
            )
        if self.positive is not None and (len(self.labels) != 2 or self.positive != self.labels[1]):
            accepted = f"{self.labels[1]!r}, the second" if len(self.labels) == 2 else "none"
            raise ValueError(
                f"positive is {self.positive!r}; accepted: {accepted} of {len(self.labels)} labels"
            )
        if self.images not in ("", GREY, COLOURED, ANY_COLOUR):
            raise ValueError(
                f"images is {self.images!r}; accepted: {GREY!r}, {COLOURED!r} or {ANY_COLOUR!r}"
            )
        if not 0 < self.screening_sensitivity <= 1:
            raise ValueError(
                f"screening_sensitivity is {self.screening_sensitivity}; accepted: above 0, up to 1"
            )

    @property
    def binary(self) -> bool:
        """Whether one score and a threshold decide."""
        return self.positive is not None

    @property
    def alert_index(self) -> int | None:
        """Index of the label that must not be missed; ``None`` if the task names none."""
        return self.labels.index(self.alert) if self.alert else None

    @property
    def channels(self) -> int:
        """1 for grey input, 3 for RGB."""
        return self.contract.channels

    @property
    def published(self) -> DatasetLayout:
        """The layout of the published data set.

        Raises
        ------
        UsageError
            If the task has none.
        """
        if self.layout is None:
            raise UsageError(
                f"task {self.name} has no published data set with a test split; "
                f"describe the folders of its data as layout in its {TOML_NAME}, with a folder of "
                f"images for each of {list(self.labels)}"
            )
        return self.layout

    def to_dict(self) -> dict[str, Any]:
        """Return the task as ``task.json`` holds it."""
        return {**asdict(self), "contract": self.contract.to_dict()}

    @classmethod
    def from_dict(cls, stored: Any, where: str) -> Task:
        """Read a task.

        Raises
        ------
        ModelFileError
            If a field is missing or wrong; the message names it.
        ContractMismatchError
            If this version does not perform the task's input contract.
        """
        if isinstance(stored, dict) and isinstance(stored.get("contract"), dict):
            stored = {**stored, "contract": InputContract.from_dict(stored["contract"], where)}
        try:
            return read_record(cls, stored)
        except ValueError as error:
            raise ModelFileError(f"{where}: {error}") from error


def check_name(name: str) -> None:
    """Raise :class:`ValueError` for a task's name that cannot be a word and a folder everywhere."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ValueError(
            f"name is {name!r}; accepted: up to {_LONGEST_NAME} small letters, digits, - and _, "
            "with a letter or a digit first"
        )
    if name == AUTO:
        raise ValueError(f"name is {name!r}, the word for a choice by colour; choose another")
    if name in _DEVICES:
        raise ValueError(f"name is {name!r}, which no folder on Windows can have; choose another")


def check_labels(labels: tuple[str, ...]) -> None:
    """Raise :class:`ValueError` for labels that cannot be class folders and columns.

    Two labels that differ only in case, in spaces and underscores, or in the
    form of their accents would share a class folder or a column ``p_...``.
    """
    seen: dict[str, str] = {}
    for label in labels:
        if not label or label != label.strip():
            raise ValueError(
                f"labels holds {label!r}; accepted: texts that are not empty, without spaces at "
                "their ends"
            )
        hidden = label.startswith(".")
        if hidden or not label.isprintable() or any(letter in _DIVIDERS for letter in label):
            raise ValueError(
                f"labels holds {label!r}; accepted: printable characters without "
                f"{' and '.join(_DIVIDERS)}, and no dot first"
            )
        column = _column_of(label)
        if (other := seen.get(column)) is not None:
            raise ValueError(
                f"labels holds {label!r} twice"
                if other == label
                else f"labels holds {other!r} and {label!r}, which one class folder or column "
                "would stand for; rename one of them"
            )
        seen[column] = label
    if len(labels) < 2:
        raise ValueError(f"labels is {list(labels)}; accepted: two or more different ones")


def _column_of(label: str) -> str:
    """Return a label as its column and its class folder are told apart."""
    return unicodedata.normalize("NFC", label).casefold().replace(" ", "_")
