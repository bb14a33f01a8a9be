"""Parity: whether exports decide like their Keras original, on the same image files.

Every file goes from disk to probability through both, and through every
runtime that can run it. Which differences pass is :mod:`medkit.comparison`'s.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from medkit.bundles import Bundle, dump_json, load_bundle, replacing
from medkit.census import check_promise, take_census
from medkit.comparison import Budget, Comparison, Images, Outputs, compare
from medkit.datasets import check_layout, load_tensors, locate_dataset
from medkit.decisions import points_from
from medkit.diagnosis import diagnose
from medkit.errors import ExportError, ImageError, ModelFileError, UsageError
from medkit.images import EXTENSIONS, contract_for, load_tensor
from medkit.runtimes import Model, models_of, predict_all
from medkit.runtimes.keras import KerasModel
from medkit.splits import FOREIGN_DATA, Splits, splits_of
from medkit.tasks import TASKS, Task

DATA_VARIABLE = "MEDKIT_DATA"
"""Environment variable that names the folder of the data sets."""

HOW_TO_GET_DATA = (
    "download 'Chest X-Ray Images (Pneumonia)' and 'Skin Cancer: 9 classes, ISIC' from Kaggle, "
    "put them as chest_xray/ and skin_cancer_isic/ into one folder, and name it with --data DIR "
    f"or {DATA_VARIABLE}"
)


_NO_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, which a file's name may."""

SAME_FILE = {
    "int8": Budget(agreement=0.98),
    "int16": Budget(agreement=0.98),
    "mixed": Budget(agreement=0.98),
    "fp16": Budget(probability=1e-2, agreement=0.99),
    "fp32": Budget(probability=1e-4, agreement=0.99),
}
"""How far two runtimes may be apart on one file: kernels round differently."""


@dataclass(frozen=True)
class ParityOptions:
    """Arguments of a parity run.

    Attributes
    ----------
    tasks
        Both by default.
    data
        Folder with the data sets, of which the official test splits and what
        was held out for validation are used; ``None`` falls back on ``samples``.
    samples
        Folder with a folder of unlabelled images for each task.
    trained
        Folder of bundles; ``None`` is where the shipped models lie.
    """

    tasks: tuple[Task, ...] = tuple(TASKS.values())
    data: Path | None = None
    samples: Path | None = None
    trained: Path | None = None


@dataclass(frozen=True)
class Evidence:
    """What one bundle's comparisons rest on.

    Attributes
    ----------
    bundle
        The original and its exports.
    pixels
        uint8, shape (n, height, width, channels).
    images
        Names and labels of the n files.
    original
        What the original makes of them.
    exports
        What each export makes of them on its first runtime, by file name.
    """

    bundle: Bundle
    pixels: NDArray[np.uint8]
    images: Images
    original: Outputs
    exports: dict[str, Outputs]


@dataclass(frozen=True)
class Parity:
    """What a parity run found.

    Attributes
    ----------
    comparisons
        One for each export and each runtime that can run it.
    evidence
        One for each bundle.
    """

    comparisons: tuple[Comparison, ...]
    evidence: tuple[Evidence, ...]

    @property
    def passed(self) -> bool:
        """Whether no rule was broken."""
        return all(comparison.passed for comparison in self.comparisons)


def check_parity(options: ParityOptions, note: Callable[[str], None] = lambda text: None) -> Parity:
    """Hold every export of the bundles against its Keras original.

    Parameters
    ----------
    options
        The arguments.
    note
        Called with a line before each lengthy step.

    Returns
    -------
    Parity
        With a comparison for each exported file that a manifest lists, and
        each runtime that can run it.

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
    evidence = []
    comparisons: list[Comparison] = []
    for bundle in bundles:
        note(f"{bundle.task.name}: reading images")
        pixels, images, splits = _images(bundle, options)
        if splits is not None and not splits.as_trained:
            note(f"{bundle.task.name}: {FOREIGN_DATA}")
        note(f"{bundle.task.name}: {len(pixels)} images through the Keras original")
        keras = KerasModel(bundle.keras_path)
        original = Outputs(predict_all(keras, pixels), bundle.operating_points)
        held = Evidence(bundle, pixels, images, original, {})
        comparisons += _compare_exports(held, keras, splits, note)
        evidence.append(held)
    return Parity(tuple(comparisons), tuple(evidence))


def _compare_exports(
    held: Evidence, keras: KerasModel, splits: Splits | None, note: Callable[[str], None]
) -> Iterator[Comparison]:
    """Give the comparisons of a bundle's exports, and keep what they make of the images."""
    bundle, pixels, images, original = held.bundle, held.pixels, held.images, held.original
    task, exports = bundle.task, bundle.manifest["exports"]
    for name, entry in exports.items():
        for model in models_of(bundle.folder / name, note):
            _check_origin(bundle, model)
            note(f"{task.name}: through {name} on {model.runtime}")
            found = Outputs(predict_all(model, pixels), model.card.operating_points)
            what = (name, entry["precision"], model.runtime)
            compared = compare(task, what, original, found, images)
            if name not in held.exports:
                held.exports[name] = found
                broken = [*_broken_promises(bundle, name), *_broken_hygiene(entry, splits)]
                compared = compared.failing(*broken)
                if not compared.passed:
                    note(f"{task.name}: looking for the cause")
                    causes = diagnose(task, model, keras, pixels, original)
                    compared = compared.failing(*causes)
            else:
                # The same file must not decide otherwise because another library runs it;
                # who is right is the other comparison's question.
                first, unlabelled = held.exports[name], Images(images.names, None)
                same = compare(task, what, first, found, unlabelled, SAME_FILE[entry["precision"]])
                lines = (f"against the file's first runtime: {line}" for line in same.failures)
                compared = compared.failing(*lines)
            yield compared


def data_folder(given: Path | None) -> Path | None:
    """Return the data folder: the given one, else that of ``MEDKIT_DATA``, else none."""
    if given is not None:
        return given
    named = os.environ.get(DATA_VARIABLE)
    return Path(named) if named else None


def write_json(parity: Parity, path: Path) -> None:
    """Write the comparisons as a JSON list, atomically; a difference without end is null."""
    records = [item.to_dict() for item in parity.comparisons]
    dump_json(path, records)


def write_junit(parity: Parity, path: Path) -> None:
    """Write the comparisons as JUnit XML, one test case a rule of an export, atomically."""
    root = ElementTree.Element("testsuites", name="medkit parity")
    for item in parity.comparisons:
        failed = len(item.failures)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=f"{item.task}/{item.file} on {item.runtime}",
            tests=str(len(item.gates)),
            failures=str(failed),
        )
        owner = f"{item.task}.{item.file}.{item.runtime}"
        seen: Counter[str] = Counter()
        for gate in item.gates:
            seen[gate.name] += 1
            again = f" {seen[gate.name]}" if seen[gate.name] > 1 else ""
            case = ElementTree.SubElement(
                suite, "testcase", classname=owner, name=gate.name + again
            )
            if gate.message:
                message = _NO_XML.sub("?", gate.message)
                failure = ElementTree.SubElement(case, "failure", message=message)
                failure.text = f"{gate.value:.6g} where {gate.bound:.6g} is the bound"
    with replacing(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


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
    bundle: Bundle, options: ParityOptions
) -> tuple[NDArray[np.uint8], Images, Splits | None]:
    """Read the official test split and validation, or the samples."""
    contract = contract_for(bundle.task)
    if options.data is not None:
        splits = splits_of(bundle, options.data)
        items = (*splits.test, *splits.validation)
        pixels, labels = load_tensors(items, contract)
        return pixels, Images([item.name for item in items], labels), splits
    folder = (options.samples or Path()) / bundle.task.name
    paths = sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in EXTENSIONS and path.name[0] != "." and path.is_file()
    )
    if not paths:
        raise UsageError(
            f"no sample image in {folder}; expected one or more of {bundle.task.title}"
        )
    tensors = []
    for path in paths:
        try:
            tensors.append(load_tensor(path, contract))
        except ImageError as error:
            raise UsageError(f"{path}: {error}; remove or replace the file") from error
    return np.stack(tensors), Images([path.name for path in paths], None), None


def _broken_promises(bundle: Bundle, name: str) -> list[str]:
    """Say what a file computes otherwise than its name promises."""
    try:
        check_promise(
            take_census(bundle.folder / name), bundle.manifest["exports"][name]["precision"]
        )
    except ExportError as error:
        return [str(error)]
    return []


def _broken_hygiene(entry: dict[str, Any], splits: Splits | None) -> list[str]:
    """Say which images calibrated a file that are no training images."""
    calibrated = entry.get("calibration", {}).get("files")
    if splits is None or calibrated is None:
        return []
    train = {item.sha256 for item in splits.train}
    held_out = {item.sha256: item.name for item in splits.test}
    if splits.as_trained:
        held_out |= {item.sha256: item.name for item in splits.validation}
        strangers = [sha256 for sha256 in calibrated if sha256 not in train]
    else:
        strangers = [sha256 for sha256 in calibrated if sha256 in held_out]
    if not strangers:
        return []
    named = [held_out[sha256] for sha256 in strangers if sha256 in held_out]
    where = f", such as {named[0]}" if named else ""
    return [
        f"{len(strangers)} of its {len(calibrated)} calibration images are none of the training "
        f"images{where}; export it again"
    ]


def _check_origin(bundle: Bundle, model: Model) -> None:
    """Raise :class:`ModelFileError` unless an export's card speaks of this bundle's original."""
    card, listed = model.card, bundle.manifest["exports"][model.path.name]
    temperature, points = bundle.temperature, bundle.operating_points
    if "operating_points" in listed:  # refitted to the quantised scores
        temperature = listed["temperature"]
        points = points_from(listed["operating_points"], bundle.task)
    for what, found, expected in (
        ("source model", card.source_sha256, bundle.keras_sha256),
        ("temperature", card.temperature, temperature),
        ("operating points", card.operating_points, points),
        ("precision", card.precision, listed["precision"]),
    ):
        if found != expected:
            raise ModelFileError(
                f"{model.path} has {what} {found}, and its bundle {expected}; export it again"
            )
