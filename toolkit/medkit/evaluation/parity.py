"""Parity: whether exports decide like their Keras original, on the same image files.

Each image is read once. Its pixels go through the original, and through every
export on every runtime that can run it. :mod:`medkit.evaluation.rules` says
which differences pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.division import Splits
from medkit.datasets.entries import is_hidden, is_image
from medkit.datasets.labels import Labels
from medkit.datasets.layout import Item, labelled_items
from medkit.datasets.location import HOW_TO_GET_DATA, check_layout, locate
from medkit.datasets.measured import list_measured, measured_items, read_measured, reads_table
from medkit.datasets.recorded import has_record, recorded_splits, unseen_items
from medkit.datasets.sampling import load_tensors
from medkit.datasets.splits import splits_of
from medkit.errors import ExportError, ImageError, ModelFileError, UsageError
from medkit.evaluation.comparison import Comparison, compare
from medkit.evaluation.diagnosis import diagnose
from medkit.evaluation.outputs import Images, ModelRun, Outputs
from medkit.evaluation.rules import SAME_FILE
from medkit.extras import require
from medkit.files import write_json
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
from medkit.wording import counted

ONLY_BYTES = (
    "calibration images are looked for among these by the bytes of their files; one that was "
    "saved anew is not found"
)
"""Remark on images that are not those of the training run, whose pixels no manifest holds."""


@dataclass(frozen=True)
class ParityOptions:
    """Arguments of a parity run.

    Attributes
    ----------
    tasks
        Tasks or their names; the built-in ones by default.
    data
        A set with its splits, or a folder that holds it: the test split is
        used, and the images that were held out for validation. Or a single
        labelled folder, all of it. ``None`` uses ``samples``.
    samples
        Folder with a folder of unlabelled images for each task.
    trained
        Folder of bundles; ``None`` is where the shipped models lie.
    spellings
        Other spellings of class folders; see
        :func:`medkit.datasets.labels.read_labels_map`.
    """

    tasks: tuple[Task | str, ...] = tuple(TASKS.values())
    data: Path | None = None
    samples: Path | None = None
    trained: Path | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)


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
    remarks
        Lines on the images, such as how many are left out and why.
    """

    comparisons: tuple[Comparison, ...]
    evidence: tuple[Evidence, ...]
    remarks: tuple[str, ...] = ()

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
            _check_data(bundle, options)
    evidence = []
    comparisons: list[Comparison] = []
    remarks: list[str] = []
    for bundle in bundles:
        note(f"{bundle.task.name}: reading images")
        read = _images(bundle, options)
        pixels, images = read.pixels, read.images
        remarks += (f"{bundle.task.name}: {line}" for line in read.remarks)
        note(f"{bundle.task.name}: {counted(len(pixels), 'image')} through the Keras original")
        keras = KerasModel(bundle.keras_path)
        original = Outputs(predict_all(keras, pixels), bundle.operating_points)
        held = Evidence(bundle, pixels, images, original, {})
        comparisons += _compare_exports(held, keras, read, note)
        evidence.append(held)
    return Parity(tuple(comparisons), tuple(evidence), tuple(remarks))


def _compare_exports(
    held: Evidence, keras: KerasModel, read: _Read, note: Callable[[str], None]
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
                    *_broken_hygiene(entry.calibration, read),
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
    bundle.check_original("parity")
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


@dataclass(frozen=True)
class _Read:
    """The images of one bundle's comparisons.

    Attributes
    ----------
    pixels, images
        As :class:`Evidence` holds them.
    items
        The same images with the hashes of their files; empty for samples.
    splits
        The splits of the training run; ``None`` if the images are others.
    remarks
        Lines on the images, for people.
    """

    pixels: NDArray[np.uint8]
    images: Images
    items: tuple[Item, ...] = ()
    splits: Splits | None = None
    remarks: tuple[str, ...] = ()


def _check_data(bundle: Bundle, options: ParityOptions) -> None:
    """Refuse labelled images that do not fit a task. No image is read."""
    task, labels = bundle.task, Labels.of(bundle.task, options.spellings)
    if has_record(bundle):
        return  # its images are found by their bytes
    if reads_table(task, options.data or Path(), labels):
        list_measured(task, options.data or Path(), labels)
        return
    found = locate(task, options.data or Path(), labels)
    if found.test is not None and task.layout is not None and bundle.manifest.recipe is not None:
        check_layout(task, found.root, labels)
    else:
        read_measured(found, labels)


def _images(bundle: Bundle, options: ParityOptions) -> _Read:
    """Read the labelled images, or the samples."""
    if options.data is not None:
        return _labelled(bundle, options.data, options.spellings)
    folder = (options.samples or Path()) / bundle.task.name
    paths = sorted(path for path in folder.glob("*") if is_image(path) and not is_hidden(path))
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
    return _Read(np.stack(tensors), Images([path.name for path in paths], None))


def _labelled(bundle: Bundle, data: Path, spellings: Mapping[str, str]) -> _Read:
    """Read the test and the validation split of a training run's set, or a labelled folder."""
    task, labels = bundle.task, Labels.of(bundle.task, spellings)
    remarks: list[str] = []
    splits = _splits(bundle, data, spellings)
    if splits is not None:
        items = (*splits.test, *splits.validation)
        remarks += splits.lines()
    elif reads_table(task, data, labels):
        _, items, told = measured_items(task, data, spellings)
        remarks += told
    else:
        found = locate(task, data, labels)
        folder, lines = read_measured(found, labels)
        items = labelled_items(task, found.measured, folder.files)
        remarks += lines
    if splits is None:
        items = unseen_items(items, bundle.folder, task)
    calibrated = any(entry.calibration for entry in bundle.manifest.exports.values())
    if calibrated and not (splits and (splits.as_trained or splits.held_out)):
        remarks.append(ONLY_BYTES)
    pixels, truth = load_tensors(task, items, bundle.contract)
    images = Images([item.name for item in items], truth)
    return _Read(pixels, images, items, splits, tuple(remarks))


def _splits(bundle: Bundle, data: Path, spellings: Mapping[str, str]) -> Splits | None:
    """Return the splits of a training run's set; ``None`` for other labelled images."""
    if has_record(bundle):
        return recorded_splits(bundle, data, spellings)
    labels = Labels.of(bundle.task, spellings)
    if reads_table(bundle.task, data, labels):
        return None
    found = locate(bundle.task, data, labels)
    if found.test is None or bundle.task.layout is None or bundle.manifest.recipe is None:
        return None
    return splits_of(bundle, data, spellings)


def _broken_promises(bundle: Bundle, name: str) -> list[str]:
    """Say where a file does not compute in what its name promises."""
    try:
        check_promise(
            summarise_operators(bundle.folder / name), bundle.manifest.exports[name].precision
        )
    except ExportError as error:
        return [str(error)]
    return []


def _broken_hygiene(calibration: Calibration | None, read: _Read) -> list[str]:
    """Say which calibration images of a file are measured here, or are not training images."""
    if calibration is None:
        return []
    splits = read.splits
    measured = read.items if splits is None or splits.as_trained else splits.test
    held_out = {item.sha256: item.name for item in measured}
    if splits is not None and splits.held_out:
        strangers = [sha256 for sha256 in calibration.files if sha256 in splits.held_out]
    elif splits is not None and splits.as_trained:
        train = {item.sha256 for item in splits.train}
        strangers = [sha256 for sha256 in calibration.files if sha256 not in train]
    else:
        strangers = [sha256 for sha256 in calibration.files if sha256 in held_out]
    if not strangers:
        return []
    named = [held_out[sha256] for sha256 in strangers if sha256 in held_out]
    where = f", such as {named[0]}" if named else ""
    total = f"{len(strangers)} of its {len(calibration.files)} calibration images"
    if splits is None:
        return [f"{total} are measured here{where}; measure it on others"]
    return [f"{total} are none of the training images{where}; export it again"]


def _check_origin(bundle: Bundle, model: Model) -> None:
    """Raise :class:`ModelFileError` unless an export's card fits its bundle's manifest."""
    card, entry = model.card, bundle.manifest.exports[model.path.name]
    temperature, points = bundle.temperature, bundle.operating_points
    if entry.temperature is not None and entry.operating_points is not None:
        # They were fitted again to the quantised scores.
        temperature, points = entry.temperature, entry.operating_points
    # One of its sources is the original; another is a file that was adopted as it is.
    source = card.source_sha256 if card.source_sha256 in bundle.sources else bundle.keras_sha256
    for what, found, expected in (
        ("task", card.task, bundle.task.name),
        ("labels", list(card.labels), list(bundle.task.labels)),
        ("input contract", card.contract.hash, bundle.contract.hash),
        ("source model", card.source_sha256, source),
        ("temperature", card.temperature, temperature),
        ("operating points", card.operating_points, points),
        ("precision", card.precision, entry.precision),
    ):
        if found != expected:
            raise ModelFileError(
                f"{model.path} has {what} {found}, and its bundle {expected}; export it again"
            )
