"""An export run: every requested format and precision of every requested task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medkit.datasets.conflicts import deduplicated_mask
from medkit.datasets.division import Splits
from medkit.datasets.labels import Labels
from medkit.datasets.location import check_layout, locate_dataset
from medkit.datasets.recorded import has_record
from medkit.datasets.sampling import check_seed, load_tensors
from medkit.datasets.splits import splits_of
from medkit.defaults import CALIBRATION_IMAGES, MAX_DROP, PRECISION, SEED
from medkit.errors import ExportError, UsageError
from medkit.evaluation.metrics import evaluate_test_split
from medkit.extras import require
from medkit.files import check_writable, replacing
from medkit.models.bundle import Bundle, file_record, load_bundle
from medkit.models.figures import Metrics
from medkit.models.formats import export_name
from medkit.models.manifest import ExportEntry
from medkit.models.runtimes.base import predict_all
from medkit.models.runtimes.keras import import_tensorflow
from medkit.models.runtimes.loading import load_model
from medkit.models.runtimes.registry import get_runtime
from medkit.reports.modelcard import write_card
from medkit.tasks import TASKS, Task
from medkit.wording import Remark, unknown
from medkit_exporters.calibration import check_count
from medkit_exporters.formats.registry import KnownExporter, get_exporter, known_exporters
from medkit_exporters.ladder import LADDERS, Attempt
from medkit_exporters.settings import Settings

if TYPE_CHECKING:
    from medkit_exporters.candidates import Candidate, CandidateBuilder

MODULES = (*get_runtime("keras").needs, "h5py", "scipy", "sklearn", "jinja2")
"""Modules of optional packages that every export needs, beside those of its formats."""

_TIMED_RUNS = 15


@dataclass(frozen=True)
class ExportOptions:
    """Arguments of an export.

    Attributes
    ----------
    tasks
        Tasks to export, or their names; the built-in tasks by default.
    formats, precisions
        Every combination is written.
    data
        Folder with the data sets, or, for one task, that data set itself.
        Its training images calibrate int8. On its official test split every
        file is measured for the manifest.
    trained
        Folder of bundles; ``None`` for the models that ship.
    calibration_images
        Size of the calibration set.
    seed
        Decides which training images calibrate.
    max_drop
        Points of accuracy, and hundredths of AUC, by which a file may differ
        from the original on validation images. If it differs by more, the
        next rung of the ladder is tried.
    spellings
        Other spellings of class folders; see
        :func:`medkit.datasets.labels.read_labels_map`.
    """

    tasks: tuple[Task | str, ...] = tuple(TASKS.values())
    formats: tuple[str, ...] = field(default_factory=lambda: tuple(known_exporters()))
    precisions: tuple[str, ...] = (PRECISION,)
    data: Path | None = None
    trained: Path | None = None
    calibration_images: int = CALIBRATION_IMAGES
    seed: int = SEED
    max_drop: float = MAX_DROP
    spellings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    Attributes
    ----------
    path, task, format, precision
        Path, task, format and precision of the file.
    bytes
        Size of the file.
    ratio
        Size of the file divided by the size of the Keras original, which is compressed.
    milliseconds
        Median time of one image on this machine, one at a time.
    attempts
        The rungs of the ladder that were tried; the last is this file.
    """

    path: Path
    task: str
    format: str
    precision: str
    bytes: int
    ratio: float
    milliseconds: float
    attempts: tuple[Attempt, ...]


def export_models(
    options: ExportOptions, note: Callable[[str], None] = lambda text: None
) -> list[ExportedFile]:
    """Convert Keras originals and list the files in their bundles' manifests.

    Parameters
    ----------
    options
        The arguments.
    note
        Called with a line before each lengthy step, and with a line for what
        a conversion left as it was.

    Returns
    -------
    list of ExportedFile
        The files, in the order of tasks, formats and precisions.

    Raises
    ------
    UsageError
        If the arguments cannot be obeyed. It is raised before TensorFlow is imported.
    MissingExtraError
        If a package is absent, before anything is read.
    ModelFileError
        If a bundle or its original is missing or damaged.
    ExportError
        If no file decides like the original. The files of earlier exports
        stay as they were.
    """
    exporters = _check_arguments(options)
    require(
        "export models",
        *MODULES,
        *(module for exporter in exporters for module in exporter.all_needs),
        extra="export",
    )
    bundles = _open_bundles(options)
    splits = {
        bundle.task.name: splits_of(bundle, options.data, options.spellings)
        for bundle in bundles
        if options.data is not None
    }

    import_tensorflow("export")
    from medkit_exporters.candidates import CandidateBuilder
    from medkit_exporters.quantize.source import open_source

    written: list[ExportedFile] = []
    for opened in bundles:
        bundle, task = opened, opened.task.name
        note(f"{task}: loading {bundle.keras_path.name}")
        source, divided = open_source(bundle.keras_path), splits.get(task)
        for line in divided.lines() if divided is not None else ():
            note(Remark(f"{task}: {line}"))
        if divided is None:
            note(Remark(f"{task}: without data nothing is compared; medkit parity does it"))
        builder = CandidateBuilder(
            bundle, source, divided, options.calibration_images, options.seed, options.max_drop
        )
        for exporter in exporters:
            kept: dict[str, ExportedFile] = {}
            for precision in options.precisions:
                # The ladder may have ended at a precision that is requested as well.
                if precision not in kept:
                    climbed = climb(bundle, builder, exporter, precision, note)
                    bundle, file = keep(bundle, exporter, climbed, divided)
                    kept[file.precision] = file
            written += kept.values()
    return written


def _check_arguments(options: ExportOptions) -> list[KnownExporter]:
    """Refuse arguments that cannot work, and return the exporters of the requested formats."""
    for given, known, what in (
        (options.formats, tuple(known_exporters()), "format"),
        (options.precisions, tuple(LADDERS), "precision"),
    ):
        for word in given:
            if word not in known:
                raise UsageError(unknown(what, word, known))
        if not given:
            raise UsageError(f"no {what}; accepted: {', '.join(known)}")
    check_seed(options.seed)
    check_count(options.calibration_images)
    if not 0 <= options.max_drop <= 100:
        raise UsageError(f"a drop of {options.max_drop} points; accepted: 0 to 100")
    if options.data is None and "int8" in options.precisions:
        raise UsageError(
            "int8 is calibrated on training images: give their folder with --data DIR or "
            "MEDKIT_DATA, or ask for --fp16 or --fp32"
        )
    return [get_exporter(name) for name in options.formats]


def _open_bundles(options: ExportOptions) -> list[Bundle]:
    """Open the bundles, and check that files and data can be read and written."""
    bundles = [load_bundle(task, options.trained) for task in options.tasks]
    for bundle in bundles:
        bundle.check_original("export")
        if options.data is not None and not has_record(bundle):
            labels = Labels.of(bundle.task, options.spellings)
            check_layout(bundle.task, locate_dataset(bundle.task, options.data, labels), labels)
        bundle.verify(bundle.keras_path)
        check_writable(bundle.folder)
    return bundles


@dataclass(frozen=True)
class Climbed:
    """A candidate that passed, and the attempts up to it."""

    candidate: Candidate
    attempts: tuple[Attempt, ...]


def climb(
    bundle: Bundle,
    builder: CandidateBuilder,
    exporter: KnownExporter,
    requested: str,
    note: Callable[[str], None],
) -> Climbed:
    """Try the rungs of a precision's ladder until a file passes."""
    about = f"{bundle.task.name}: {exporter.name}"
    attempts: list[Attempt] = []
    told: set[str] = set()
    tried_before: set[tuple[Settings, int]] = set()
    for rung in LADDERS[requested]:
        # With few training images there are no more to calibrate on: the file would be the same.
        conversion = rung.settings, builder.images_of(rung)
        if conversion in tried_before:
            continue
        tried_before.add(conversion)
        after = f" after {attempts[-1].failures[0]}" if attempts else ""
        note(f"{about} {requested}: {rung.name}{after}")
        attempt, candidate = builder.attempt(exporter, rung)
        for line in attempt.skipped:
            if line not in told:
                note(Remark(f"{about}: {line}"))
        told.update(attempt.skipped)
        attempts.append(attempt)
        if attempt.passed and candidate is not None:
            return Climbed(candidate, tuple(attempts))
    tried = "; ".join(f"{attempt.rung}: {attempt.failures[0]}" for attempt in attempts)
    raise ExportError(
        f"{about} {requested}: no file decides like the original, and none was written ({tried}); "
        "allow more with --max-drop, or look at the training data"
    )


def keep(
    bundle: Bundle, exporter: KnownExporter, climbed: Climbed, splits: Splits | None
) -> tuple[Bundle, ExportedFile]:
    """Write a file that passed, and list it in the manifest in place of what it supersedes."""
    candidate, attempts = climbed.candidate, climbed.attempts
    card = candidate.card
    path = bundle.folder / export_name(exporter.name, card.precision)
    with replacing(path) as temporary:
        temporary.write_bytes(candidate.content)
        # It is loaded and run before it gets its name: no runtime might take it.
        milliseconds = time_one_image(temporary)
        # One's own images may all have been for validation.
        has_test = splits is not None and splits.test
        metrics = _measure(temporary, bundle, splits) if splits and has_test else None
    record = file_record(path)
    entry = ExportEntry(
        bytes=record.bytes,
        sha256=record.sha256,
        precision=card.precision,
        format=exporter.name,
        temperature=card.temperature,
        graph_temperature=candidate.graph_temperature,
        operating_points=card.operating_points,
        ladder=tuple(attempt.to_record() for attempt in attempts),
        calibration=candidate.calibration,
        metrics=metrics,
    )
    # A file of an earlier run that is smaller than the ladder now allows must not be preferred.
    left = {export_name(exporter.name, attempt.precision) for attempt in attempts} - {path.name}
    superseded = tuple(name for name in bundle.manifest.exports if name in left)
    bundle = bundle.with_manifest(bundle.manifest.with_export(path.name, entry, superseded))
    write_card(bundle)
    for name in superseded:
        (bundle.folder / name).unlink(missing_ok=True)
    return bundle, ExportedFile(
        path=path,
        task=bundle.task.name,
        format=exporter.name,
        precision=card.precision,
        bytes=record.bytes,
        ratio=record.bytes / bundle.keras_path.stat().st_size,
        milliseconds=milliseconds,
        attempts=attempts,
    )


def _measure(path: Path, bundle: Bundle, splits: Splits) -> Metrics:
    """Return a file's figures on the official test split."""
    model = load_model(path)
    images, labels = load_tensors(bundle.task, splits.test, model.card.contract)
    probabilities = predict_all(model, images)
    if not np.isfinite(probabilities).all():
        raise ExportError(f"{path.suffix} export gives a probability that is not finite")
    points = model.card.operating_points
    return evaluate_test_split(
        bundle.task, labels, probabilities, points, deduplicated_mask(splits.dataset)
    )


def time_one_image(path: Path) -> float:
    """Return the median time, in milliseconds, that a model file takes for one grey image."""
    model = load_model(path)
    image = np.full((1, *model.card.contract.shape), 128, dtype=np.uint8)
    times = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        model.predict(image)
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1000)
