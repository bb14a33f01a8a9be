"""Parity: whether exports decide like their Keras original, on the same image files.

Every file goes from disk to probability through both. What must hold is
written once, in :data:`BUDGETS`, and a number that is not finite fails.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from medkit.bundles import Bundle, load_bundle, replacing
from medkit.datasets import check_layout, load_tensors, locate_dataset, read_dataset
from medkit.decisions import BALANCED, OperatingPoint, decide
from medkit.errors import ImageError, ModelFileError, UsageError
from medkit.images import EXTENSIONS, contract_for, load_tensor
from medkit.metrics import area_under_curve
from medkit.runtimes import Model, load_model, predict_all
from medkit.tasks import TASKS, Task

DATA_VARIABLE = "MEDKIT_DATA"
"""Environment variable that names the folder of the data sets."""

HOW_TO_GET_DATA = (
    "download 'Chest X-Ray Images (Pneumonia)' and 'Skin Cancer: 9 classes, ISIC' from Kaggle, "
    "put them as chest_xray/ and skin_cancer_isic/ into one folder, and name it with --data DIR "
    f"or {DATA_VARIABLE}"
)


@dataclass(frozen=True)
class Budget:
    """How far an export may stray from its original.

    Attributes
    ----------
    probability
        Largest difference of any probability; ``None`` for no bound.
    accuracy, auc
        Largest difference, 0..1, either way. One image more or less is
        always allowed for accuracy: a small test set has no finer step.
    agreement
        Smallest share of images on which both decide alike. One image that
        differs is always allowed.
    """

    probability: float | None
    accuracy: float
    auc: float
    agreement: float


BUDGETS = {
    "fp32": Budget(probability=1e-4, accuracy=0.01, auc=0.01, agreement=0.97),
    "fp16": Budget(probability=1e-2, accuracy=0.01, auc=0.01, agreement=0.97),
    "int8": Budget(probability=None, accuracy=0.01, auc=0.01, agreement=0.97),
}
"""The budget of each precision."""


@dataclass(frozen=True)
class Comparison:
    """One export held against its original.

    Attributes
    ----------
    task, file, precision, runtime
        What was compared.
    images
        Number of image files.
    original_accuracy, export_accuracy, original_auc, export_auc
        On labelled images, 0..1; ``None`` on images without labels.
    agreement
        Share of images on which both decide alike.
    largest_difference
        Of any probability.
    failures
        One line for each broken rule, by what and by how much.
    """

    task: str
    file: str
    precision: str
    runtime: str
    images: int
    original_accuracy: float | None
    export_accuracy: float | None
    original_auc: float | None
    export_auc: float | None
    agreement: float
    largest_difference: float
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no rule was broken."""
        return not self.failures


@dataclass(frozen=True)
class ParityOptions:
    """Arguments of a parity run.

    Attributes
    ----------
    tasks
        Both by default.
    data
        Folder with the data sets, of which the official test splits are
        used; ``None`` falls back on ``samples``.
    samples
        Folder with a folder of unlabelled images for each task.
    trained
        Folder of bundles; ``None`` is where the shipped models lie.
    """

    tasks: tuple[Task, ...] = tuple(TASKS.values())
    data: Path | None = None
    samples: Path | None = None
    trained: Path | None = None


def check_parity(
    options: ParityOptions, note: Callable[[str], None] = lambda text: None
) -> list[Comparison]:
    """Hold every export of the bundles against its Keras original.

    Parameters
    ----------
    options
        The arguments.
    note
        Called with a line before each lengthy step.

    Returns
    -------
    list of Comparison
        One for each exported file that a manifest lists.

    Raises
    ------
    UsageError
        If there are neither data nor samples, or no export to compare.
    ModelFileError
        If a listed file is missing or damaged, or was made from another original.
    """
    if options.data is None and options.samples is None:
        raise UsageError(f"parity needs images: {HOW_TO_GET_DATA}")
    bundles = [load_bundle(task, options.trained) for task in options.tasks]
    for bundle in bundles:
        _verify_files(bundle)
        if options.data is not None:
            check_layout(bundle.task, locate_dataset(bundle.task, options.data))
    comparisons = []
    for bundle in bundles:
        note(f"{bundle.task.name}: reading images")
        images, labels = _images(bundle.task, options)
        note(f"{bundle.task.name}: {len(images)} images through the Keras original")
        original = predict_all(load_model(bundle.keras_path), images)
        for name in bundle.manifest["exports"]:
            note(f"{bundle.task.name}: through {name}")
            model = load_model(bundle.folder / name)
            _check_origin(bundle, model)
            exported = predict_all(model, images)
            comparisons.append(
                compare(
                    bundle.task,
                    name,
                    bundle.manifest["exports"][name]["precision"],
                    model.runtime,
                    original,
                    exported,
                    labels,
                    bundle.operating_points[BALANCED],
                )
            )
    return comparisons


def compare(
    task: Task,
    file: str,
    precision: str,
    runtime: str,
    original: NDArray[np.float32],
    exported: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    point: OperatingPoint,
) -> Comparison:
    """Apply the budget of ``precision`` to two sets of probabilities.

    Parameters
    ----------
    task
        The task.
    file, runtime
        For the report.
    precision
        Key of :data:`BUDGETS`.
    original, exported
        Probabilities, shape (n, classes).
    labels
        True label indices, shape (n,); ``None`` leaves accuracy and AUC out.
    point
        The operating point of both.
    """
    budget, count = BUDGETS[precision], len(original)
    if not (np.isfinite(original).all() and np.isfinite(exported).all()):
        return Comparison(
            task.name, file, precision, runtime, count, None, None, None, None,
            agreement=0.0, largest_difference=float("inf"),
            failures=("a probability is not finite",),
        )  # fmt: skip
    decided = decide(task, original, point), decide(task, exported, point)
    flips = int((decided[0] != decided[1]).sum())
    largest = float(np.abs(original - exported).max())
    failures = []
    if budget.probability is not None and largest > budget.probability:
        failures.append(f"largest difference {largest:.2g} exceeds {budget.probability:g}")
    # Compared in images, so that no rounding of a share decides.
    if flips > max(1, int((1 - budget.agreement) * count + 1e-9)):
        failures.append(
            f"agreement {1 - flips / count:.2%} is below {budget.agreement:.0%} "
            f"({flips} of {count} decided differently)"
        )
    accuracy: tuple[float | None, float | None] = (None, None)
    auc: tuple[float | None, float | None] = (None, None)
    if labels is not None:
        hits = [int((choice == labels).sum()) for choice in decided]
        accuracy = (hits[0] / count, hits[1] / count)
        if abs(hits[0] - hits[1]) > max(1, int(budget.accuracy * count + 1e-9)):
            failures.append(
                f"accuracy {hits[0] / count:.2%} became {hits[1] / count:.2%}, "
                f"more than {max(budget.accuracy, 1 / count):.2%} apart"
            )
        areas = [area_under_curve(task, labels, scores) for scores in (original, exported)]
        auc = (areas[0], areas[1])
        if not abs(areas[0] - areas[1]) <= budget.auc + 1e-9:
            failures.append(
                f"AUC {areas[0]:.4f} became {areas[1]:.4f}, more than {budget.auc:g} apart"
            )
    return Comparison(
        task.name, file, precision, runtime, count, *accuracy, *auc,
        agreement=1 - flips / count, largest_difference=largest, failures=tuple(failures),
    )  # fmt: skip


def data_folder(given: Path | None) -> Path | None:
    """Return the data folder: the given one, else that of ``MEDKIT_DATA``, else none."""
    if given is not None:
        return given
    named = os.environ.get(DATA_VARIABLE)
    return Path(named) if named else None


def write_json(comparisons: list[Comparison], path: Path) -> None:
    """Write the comparisons as a JSON list, atomically; a difference without end is null."""
    records = [{**asdict(item), "passed": item.passed} for item in comparisons]
    for record in records:
        if not np.isfinite(record["largest_difference"]):
            record["largest_difference"] = None
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps(records, indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )


def write_junit(comparisons: list[Comparison], path: Path) -> None:
    """Write the comparisons as JUnit XML, one test case an export, atomically."""
    failed = sum(not item.passed for item in comparisons)
    suite = ElementTree.Element(
        "testsuite", name="medkit parity", tests=str(len(comparisons)), failures=str(failed)
    )
    for item in comparisons:
        case = ElementTree.SubElement(suite, "testcase", classname=item.task, name=item.file)
        if item.failures:
            failure = ElementTree.SubElement(case, "failure", message="; ".join(item.failures))
            failure.text = "\n".join(item.failures)
    with replacing(path) as temporary:
        ElementTree.ElementTree(suite).write(temporary, encoding="utf-8", xml_declaration=True)


def _verify_files(bundle: Bundle) -> None:
    exports: dict[str, Any] = bundle.manifest["exports"]
    if not exports:
        raise UsageError(
            f"{bundle.folder} has no export to compare; make one with: "
            f"medkit export {bundle.task.name} --int8"
        )
    for path in (bundle.keras_path, *(bundle.folder / name for name in exports)):
        bundle.verify(path)


def _images(
    task: Task, options: ParityOptions
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    contract = contract_for(task)
    if options.data is not None:
        dataset = read_dataset(task, locate_dataset(task, options.data))
        return load_tensors(dataset.test, contract)
    folder = (options.samples or Path()) / task.name
    paths = sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in EXTENSIONS and path.name[0] != "." and path.is_file()
    )
    if not paths:
        raise UsageError(f"no sample image in {folder}; expected one or more of {task.title}")
    tensors = []
    for path in paths:
        try:
            tensors.append(load_tensor(path, contract))
        except ImageError as error:
            raise UsageError(f"{path}: {error}; remove or replace the file") from error
    return np.stack(tensors), None


def _check_origin(bundle: Bundle, model: Model) -> None:
    """Raise :class:`ModelFileError` unless an export's card speaks of this bundle's original."""
    card, listed = model.card, bundle.manifest["exports"][model.path.name]
    for what, found, expected in (
        ("source model", card.source_sha256, bundle.keras_sha256),
        ("temperature", card.temperature, bundle.temperature),
        ("operating points", card.operating_points, bundle.operating_points),
        ("precision", card.precision, listed["precision"]),
    ):
        if found != expected:
            raise ModelFileError(
                f"{model.path} has {what} {found}, and its bundle {expected}; export it again"
            )
