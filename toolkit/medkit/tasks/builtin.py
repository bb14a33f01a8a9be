"""The tasks that are built in. Their models ship with medkit."""

from __future__ import annotations

from medkit.defaults import PNEUMONIA_NAME, SKIN_NAME
from medkit.images.contract import InputContract
from medkit.tasks.task import DatasetLayout, Task, TaskNotes

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
