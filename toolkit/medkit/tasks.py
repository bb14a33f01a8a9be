"""Tasks: what is decided, from which pixels, and how it is called.

Two tasks are built in. Any other is a file ``task.json`` in its folder of
models, ``trained/<name>/``: see :func:`known_tasks`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medkit.defaults import AUTO, PNEUMONIA_NAME, SKIN_NAME
from medkit.errors import ModelFileError, UsageError
from medkit.files import read_json
from medkit.images.contract import InputContract
from medkit.records import read_record
from medkit.wording import unknown

TASK_NAME = "task.json"
"""File that describes a task in its folder of models."""

TRAINED_VARIABLE = "MEDKIT_TRAINED"
"""Environment variable that names another folder of models."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


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
    screening_sensitivity
        The operating point ``high-sensitivity`` finds at least this share of
        the alert label's validation images, 0..1.
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
    alert: str
    screening_sensitivity: float = 0.95
    layout: DatasetLayout | None = None
    notes: TaskNotes = field(default_factory=TaskNotes)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name == AUTO:
            raise ValueError(
                f"name {self.name!r} is not accepted; use small letters, digits, - and _, and not "
                f"the word {AUTO}"
            )
        # Labels are names of folders and columns, and a column has underscores for spaces.
        different = {label.replace(" ", "_") for label in self.labels}
        if len(self.labels) < 2 or len(different) < len(self.labels):
            raise ValueError(f"labels {list(self.labels)}; accepted: two or more different ones")
        for label in self.labels:
            if not label.strip() or not label.isprintable() or "/" in label:
                raise ValueError(f"label {label!r}; accepted: printable characters without /")
        if self.alert not in self.labels:
            raise ValueError(f"alert {self.alert!r} is not one of the labels {list(self.labels)}")
        if self.positive is not None and (len(self.labels) != 2 or self.positive != self.labels[1]):
            raise ValueError(
                f"positive {self.positive!r}; accepted: the second of two labels, or null"
            )
        if not 0 < self.screening_sensitivity <= 1:
            raise ValueError(
                f"screening_sensitivity {self.screening_sensitivity}; accepted: above 0, up to 1"
            )

    @property
    def binary(self) -> bool:
        """Whether one score and a threshold decide."""
        return self.positive is not None

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
                f"describe the folders of its data as layout in its {TASK_NAME}, with a folder of "
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
            raise ModelFileError(f"{where} describes no task ({error}); correct it") from error


PNEUMONIA = Task(
    name=PNEUMONIA_NAME,
    title="pneumonia on paediatric chest X-rays",
    labels=("NORMAL", "PNEUMONIA"),
    contract=InputContract(width=128, height=128, channels=1),
    positive="PNEUMONIA",
    alert="PNEUMONIA",
    screening_sensitivity=0.98,
    layout=DatasetLayout(
        train="train",
        test="test",
        folders=("chest_xray",),
        source="Kermany et al. 2018, Chest X-Ray Images (Pneumonia), CC BY 4.0",
        test_sha256="1a63ce4d0215c8a01988f3c27b6cd9f306de0db71e997f8505f408f72c4abea6",
    ),
    notes=TaskNotes(
        misuse="It has seen children of one to five years only, never an adult's chest, and "
        "only the question pneumonia or not: every other disease is called one of the two.",
        licence="Apache-2.0; the data are CC BY 4.0 (Kermany et al. 2018)",
        traps=(
            "The training and the test X-rays differ: a threshold that is right on validation "
            "calls too many healthy test images pneumonia, which is where published models lose "
            "their specificity. The operating points are therefore chosen on changed validation "
            "images.",
            "170 patient names occur in both official splits. The numbers may have been given "
            "anew, so it cannot be told whether they are the same children.",
            "The official validation split has 16 images, too few to choose anything on; "
            "validation is cut from the training split by patient.",
        ),
    ),
)

SKIN = Task(
    name=SKIN_NAME,
    title="nine diagnoses on dermoscopy",
    labels=(
        "actinic keratosis",
        "basal cell carcinoma",
        "dermatofibroma",
        "melanoma",
        "nevus",
        "pigmented benign keratosis",
        "seborrheic keratosis",
        "squamous cell carcinoma",
        "vascular lesion",
    ),
    contract=InputContract(width=128, height=128, channels=3),
    positive=None,
    alert="melanoma",
    # Some melanomas look like common moles; to find the last of them, every
    # mole would have to be called one.
    screening_sensitivity=0.95,
    layout=DatasetLayout(
        train="Train",
        test="Test",
        folders=(
            "skin_cancer_isic",
            "Skin cancer ISIC The International Skin Imaging Collaboration",
        ),
        source="ISIC archive, in part HAM10000, CC BY-NC 4.0",
        test_sha256="92327eaa39dd920d8650a5cb4c2a5038cc0719d3446ec193163d6c0258d51712",
    ),
    notes=TaskNotes(
        misuse="It misses melanomas; a mole that it calls harmless may not be. It knows nine "
        "diagnoses and calls everything else one of them, healthy skin included.",
        licence="research only: the data are CC BY-NC 4.0 (ISIC archive, HAM10000)",
        traps=(
            "155 images lie under two labels, 18 of them in training and test at once. Whoever "
            "trains on both copies teaches a contradiction, and whoever keeps the 18 trains on "
            "the test.",
            "The sources give the class away: all nevi but one and all test melanomas come from "
            "one contribution to the archive (ISIC_0000xxx), most training melanomas from others, "
            "all basal cell carcinomas from HAM10000. A network fine-tuned plainly found none of "
            "the 16 test melanomas while a random validation split promised 0.72 accuracy.",
            "Blue and black-rimmed pictures in training are mostly nevi, in the test split "
            "melanomas as often: the cast of an image must not decide, so training changes it at "
            "random.",
        ),
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in (PNEUMONIA, SKIN)}
"""The tasks that are built in, by name."""


def trained_folder() -> Path:
    """Return the folder of models: ``MEDKIT_TRAINED``, the wheel's own, or the repository's."""
    named = os.environ.get(TRAINED_VARIABLE)
    return Path(named) if named else shipped_folder()


def shipped_folder() -> Path:
    """Return the folder of the models that ship: the wheel's own, or the repository's."""
    package = Path(__file__).resolve().parent
    installed = package / "trained"
    return installed if installed.is_dir() else package.parents[1] / "trained"


def known_tasks(trained: Path | None = None) -> Mapping[str, Task]:
    """Return every task by name: the built-in ones, and those in a folder of models.

    Parameters
    ----------
    trained
        Folder with a folder for each task; ``None`` for :func:`trained_folder`.

    Raises
    ------
    ModelFileError
        If a ``task.json`` there cannot be read. The message names the field.
    """
    names = task_names(trained)
    return {name: get_task(name, trained) for name in names}


def task_names(trained: Path | None = None) -> tuple[str, ...]:
    """Return the name of every task that :func:`known_tasks` gives. No file is read."""
    root = trained or trained_folder()
    others = sorted(path.parent.name for path in root.glob(f"*/{TASK_NAME}"))
    return tuple(dict.fromkeys((*others, *TASKS)))


def read_task(path: Path) -> Task:
    """Read the ``task.json`` of a folder of models.

    Raises
    ------
    ModelFileError
        If it cannot be read, or names another task than its folder.
    """
    try:
        stored = read_json(path)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); restore it") from error
    task = Task.from_dict(stored, str(path))
    if task.name != path.parent.name or task.name in TASKS:
        raise ModelFileError(
            f"{path} describes the task {task.name!r}; name it as its folder, and not as one of "
            f"the built-in tasks {', '.join(TASKS)}"
        )
    return task


def get_task(name: str, trained: Path | None = None) -> Task:
    """Return the task called ``name``.

    Parameters
    ----------
    name
        The word for it.
    trained
        As for :func:`known_tasks`.

    Raises
    ------
    UsageError
        If there is no such task.
    ModelFileError
        If its ``task.json`` cannot be read.
    """
    if name in TASKS:
        return TASKS[name]
    # A task beside it that cannot be read is no reason to refuse this one.
    names = task_names(trained)
    if name not in names:
        raise UsageError(unknown("task", name, names))
    return read_task((trained or trained_folder()) / name / TASK_NAME)
