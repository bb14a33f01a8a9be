"""Parity: whether exports decide like their Keras original, on the same image files.

Each image is read once. Its pixels go through the original, and through every
export on every runtime that can run it. :mod:`medkit.evaluation.rules` says
which differences pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.location import HOW_TO_GET_DATA, check_layout, locate_dataset
from medkit.datasets.sampling import load_tensors
from medkit.datasets.splits import FOREIGN_DATA, Splits, splits_of
from medkit.errors import ExportError, ImageError, ModelFileError, UsageError
from medkit.evaluation.comparison import Comparison, compare
from medkit.evaluation.diagnosis import diagnose
from medkit.evaluation.outputs import Images, ModelRun, Outputs
from medkit.evaluation.rules import SAME_FILE
from medkit.extras import require
from medkit.files import write_json
from medkit.images.formats.registry import extensions
from medkit.images.reading import load_tensor
from medkit.models.bundle import Bundle, load_bundle
from medkit.models.card import read_card
from medkit.models.formats import format_of
from medkit.models.manifest import Calibration
from medkit.models.operators.summary import check_promise, summarise_operators
from medkit.models.runtimes.base import Model, predict_all
from medkit.models.runtimes.keras import KerasModel
from medkit.models.runtimes.loading import models_of, runtime_for
from medkit.tasks import TASKS, Task


@dataclass(frozen=True)
class ParityOptions:
    """Arguments of a parity run.

    Attributes
    ----------
    tasks
        The built-in ones by default.
    data
        Folder with the data sets. Their official test splits are used, and
        the images that were held out for validation. ``None`` uses ``samples``.
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
    """The images of one bundle's comparisons, and each model's outputs for them.

    Attributes
    ----------
    bundle
        The original and its exports.
    pixels
        uint8, shape (n, height, width, channels).
    images
        Names and labels of the n files.
    original
        Outputs of the original for these images.
    exports
        Outputs of each export on its first runtime, by file name.
    """

    bundle: Bundle
    pixels: NDArray[np.uint8]
    images: Images
    original: Outputs
    exports: dict[str, Outputs]


@dataclass(frozen=True)
class Parity:
    """The result of a parity run.

    Attributes
    ----------
    comparisons
        One comparison for each export and each runtime that can run it.
    evidence
        The evidence of each bundle.
    """

    comparisons: tuple[Comparison, ...]
    evidence: tuple[Evidence, ...]

    @property
    def passed(self) -> bool:
        """Whether no rule was broken."""
        return all(comparison.passed for comparison in self.comparisons)


def check_parity(options: ParityOptions, note: Callable[[str], None] = lambda text: None) -> Parity:
    """Compare every export of the bundles with its Keras original.

    Parameters
    ----------
    options
        The arguments.
    note
        Called with a line before each lengthy step.

    Returns
    -------
    Parity
        The result, with one comparison for each exported file that a manifest
        lists and each runtime that can run it.

    Raises
    ------
    UsageError
        If there are neither data nor samples, or no export to compare.
    ModelFileError
        If a listed file is missing or damaged, or was made from another original.
    MissingExtraError
        If a package that a comparison needs is not installed, before an image
        is read.
    """
    require("compare exports with their originals", "scipy", "sklearn")
    if options.data is None and options.samples is None:
        raise UsageError(f"parity needs images: {HOW_TO_GET_DATA}")
    bundles = [load_bundle(task, options.trained) for task in options.tasks]
    for bundle in bundles:
        _check_files(bundle)
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
    """Give the comparisons of a bundle's exports, and keep the outputs of each export."""
    bundle, pixels, images, original = held.bundle, held.pixels, held.images, held.original
    task = bundle.task
    for name, entry in bundle.manifest.exports.items():
        for model in models_of(bundle.folder / name, note):
            _check_origin(bundle, model)
            note(f"{task.name}: through {name} on {model.runtime}")
            found = Outputs(predict_all(model, pixels), model.card.operating_points)
            run = ModelRun(name, entry.precision, model.runtime)
            compared = compare(task, run, original, found, images)
            if name not in held.exports:
                held.exports[name] = found
                broken = [
                    *_broken_promises(bundle, name),
                    *_broken_hygiene(entry.calibration, splits),
                ]
                compared = compared.failing(*broken)
                if not compared.passed:
                    note(f"{task.name}: looking for the cause")
                    causes = diagnose(task, model, keras, pixels, original)
                    compared = compared.failing(*causes)
            else:
                # Two runtimes must decide alike on one file. Which of them is right is
                # decided by the comparison with the original, so labels are left out.
                first, unlabelled = held.exports[name], Images(images.names, None)
                same = compare(task, run, first, found, unlabelled, SAME_FILE[entry.precision])
                lines = (f"against the file's first runtime: {line}" for line in same.failures)
                compared = compared.failing(*lines)
            yield compared


def write_parity_json(parity: Parity, path: Path) -> None:
    """Write the comparisons as a JSON list, atomically; an infinite difference is null."""
    write_json(path, [item.to_dict() for item in parity.comparisons])


def _check_files(bundle: Bundle) -> None:
    """Check that a bundle's files are whole, and that what runs them is installed."""
    exports = [bundle.folder / name for name in bundle.manifest.exports]
    if not exports:
        raise UsageError(
            f"{bundle.folder} has no export to compare; make one with: "
            f"medkit export {bundle.task.name} --int8"
        )
    for path in (bundle.keras_path, *exports):
        runtime_for(path).require()
        format_of(path).require()
    for path in (bundle.keras_path, *exports):
        bundle.verify(path)
    contract = read_card(bundle.keras_path).contract
    if contract != bundle.contract:
        raise ModelFileError(
            f"{bundle.keras_path} has input contract {contract.hash}, and its manifest "
            f"{bundle.contract.hash}; restore it"
        )


def _images(
    bundle: Bundle, options: ParityOptions
) -> tuple[NDArray[np.uint8], Images, Splits | None]:
    """Read the official test split and validation, or the samples."""
    if options.data is not None:
        splits = splits_of(bundle, options.data)
        items = (*splits.test, *splits.validation)
        pixels, labels = load_tensors(items, bundle.contract)
        return pixels, Images([item.name for item in items], labels), splits
    folder = (options.samples or Path()) / bundle.task.name
    paths = sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in extensions() and path.name[0] != "." and path.is_file()
    )
    if not paths:
        raise UsageError(
            f"no sample image in {folder}; expected one or more of {bundle.task.title}"
        )
    tensors = []
    for path in paths:
        try:
            tensors.append(load_tensor(path, bundle.contract))
        except ImageError as error:
            raise UsageError(f"{path}: {error}; remove or replace the file") from error
    return np.stack(tensors), Images([path.name for path in paths], None), None


def _broken_promises(bundle: Bundle, name: str) -> list[str]:
    """Say where a file does not compute in what its name promises."""
    try:
        check_promise(
            summarise_operators(bundle.folder / name), bundle.manifest.exports[name].precision
        )
    except ExportError as error:
        return [str(error)]
    return []


def _broken_hygiene(calibration: Calibration | None, splits: Splits | None) -> list[str]:
    """Say which calibration images of a file are not training images."""
    if splits is None or calibration is None:
        return []
    train = {item.sha256 for item in splits.train}
    held_out = {item.sha256: item.name for item in splits.test}
    if splits.as_trained:
        held_out |= {item.sha256: item.name for item in splits.validation}
        strangers = [sha256 for sha256 in calibration.files if sha256 not in train]
    else:
        strangers = [sha256 for sha256 in calibration.files if sha256 in held_out]
    if not strangers:
        return []
    named = [held_out[sha256] for sha256 in strangers if sha256 in held_out]
    where = f", such as {named[0]}" if named else ""
    return [
        f"{len(strangers)} of its {len(calibration.files)} calibration images are none of the "
        f"training images{where}; export it again"
    ]


def _check_origin(bundle: Bundle, model: Model) -> None:
    """Raise :class:`ModelFileError` unless an export's card fits its bundle's manifest."""
    card, entry = model.card, bundle.manifest.exports[model.path.name]
    temperature, points = bundle.temperature, bundle.operating_points
    if entry.temperature is not None and entry.operating_points is not None:
        # They were fitted again to the quantised scores.
        temperature, points = entry.temperature, entry.operating_points
    for what, found, expected in (
        ("task", card.task, bundle.task.name),
        ("labels", list(card.labels), list(bundle.task.labels)),
        ("input contract", card.contract.hash, bundle.contract.hash),
        ("source model", card.source_sha256, bundle.keras_sha256),
        ("temperature", card.temperature, temperature),
        ("operating points", card.operating_points, points),
        ("precision", card.precision, entry.precision),
    ):
        if found != expected:
            raise ModelFileError(
                f"{model.path} has {what} {found}, and its bundle {expected}; export it again"
            )
