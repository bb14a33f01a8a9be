"""The two tasks: their labels, in an order that never changes, and their data."""

from __future__ import annotations

from dataclasses import dataclass

from medkit.errors import UsageError


@dataclass(frozen=True)
class Task:
    """One classification task.

    Attributes
    ----------
    name
        The word used on the command line and for the folder in ``trained/``.
    title
        What it decides, for people.
    labels
        Class names in output order. They are also the names of the data
        set's class folders, so the order is fixed here and not by a listing.
    channels
        1 for greyscale input, 3 for RGB.
    positive
        The label whose probability is the score of a two-class task;
        ``None`` for a task with more classes.
    alert
        The label that must not be missed: what the operating points are for.
    screening_sensitivity
        Share of the alert label's validation images that the operating point
        ``high-sensitivity`` finds, at least, 0..1.
    train_folder, test_folder
        Names of the split folders as Kaggle ships them.
    dataset_folders
        Names under which the data set itself is known to lie.
    source
        Where the data come from.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    channels: int
    positive: str | None
    alert: str
    screening_sensitivity: float
    train_folder: str
    test_folder: str
    dataset_folders: tuple[str, ...]
    source: str

    @property
    def binary(self) -> bool:
        """Whether one score and a threshold decide."""
        return self.positive is not None


PNEUMONIA = Task(
    name="pneumonia",
    title="pneumonia on paediatric chest X-rays",
    labels=("NORMAL", "PNEUMONIA"),
    channels=1,
    positive="PNEUMONIA",
    alert="PNEUMONIA",
    screening_sensitivity=0.98,
    train_folder="train",
    test_folder="test",
    dataset_folders=("chest_xray",),
    source="Kermany et al. 2018, Chest X-Ray Images (Pneumonia), CC BY 4.0",
)

SKIN = Task(
    name="skin",
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
    channels=3,
    positive=None,
    alert="melanoma",
    # Some melanomas look like common moles; to find the last of them, every
    # mole would have to be called one.
    screening_sensitivity=0.95,
    train_folder="Train",
    test_folder="Test",
    dataset_folders=(
        "skin_cancer_isic",
        "Skin cancer ISIC The International Skin Imaging Collaboration",
    ),
    source="ISIC archive, in part HAM10000, CC BY-NC 4.0",
)

TASKS: dict[str, Task] = {task.name: task for task in (PNEUMONIA, SKIN)}


def get_task(name: str) -> Task:
    """Return the task called ``name``; raise :class:`UsageError` for any other word."""
    try:
        return TASKS[name]
    except KeyError:
        raise UsageError(f"unknown task {name!r}; accepted: {', '.join(TASKS)}") from None
