"""One export run: every asked format and precision of every asked task."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from medkit.bundles import (
    FORMATS,
    Bundle,
    check_writable,
    export_name,
    file_record,
    load_bundle,
    replacing,
    write_manifest,
)
from medkit.datasets import check_layout, check_seed, load_tensors, locate_dataset, without_twins
from medkit.errors import ExportError, MissingExtraError, UsageError
from medkit.images import contract_for
from medkit.metrics import evaluate_test_split
from medkit.modelcard import write_card
from medkit.runtimes import load_model, predict_all
from medkit.runtimes.keras import import_tensorflow
from medkit.splits import FOREIGN_DATA, Splits, splits_of
from medkit.tasks import TASKS, Task
from medkit_exporters.calibration import DEFAULT_COUNT, check_count
from medkit_exporters.ladder import LADDERS, Attempt
from medkit_exporters.settings import Settings

if TYPE_CHECKING:
    from medkit_exporters.bench import Bench, Candidate

DEFAULT_DROP = 1.0
"""Points of accuracy, and hundredths of AUC, that an export may lose."""

_TIMED_RUNS = 15


@dataclass(frozen=True)
class ExportOptions:
    """Arguments of an export.

    Attributes
    ----------
    tasks
        What to export; both tasks by default.
    formats, precisions
        Every combination is written.
    data
        Folder with the data sets (or, for one task, that set itself). Its
        training images calibrate int8; on its official test split every
        file is measured for the manifest.
    trained
        Folder of bundles; ``None`` is where the shipped models lie.
    calibration_images
        Size of the calibration set.
    seed
        Decides which training images calibrate.
    max_drop
        Points of accuracy, and hundredths of AUC, by which a file may differ
        from the original on validation images; beyond, the next rung of the
        ladder is tried.
    """

    tasks: tuple[Task, ...] = tuple(TASKS.values())
    formats: tuple[str, ...] = tuple(FORMATS)
    precisions: tuple[str, ...] = ("int8",)
    data: Path | None = None
    trained: Path | None = None
    calibration_images: int = DEFAULT_COUNT
    seed: int = 0
    max_drop: float = DEFAULT_DROP


@dataclass(frozen=True)
class ExportedFile:
    """One written file.

    Attributes
    ----------
    path, task, format, precision
        What it is.
    bytes
        Its size.
    ratio
        Its size against the Keras original's, which is compressed.
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
        Called with a line before each lengthy step.

    Returns
    -------
    list of ExportedFile
        In the order of tasks, formats and precisions.

    Raises
    ------
    UsageError
        For arguments that cannot be obeyed, before TensorFlow is imported.
    ModelFileError
        If a bundle or its original is missing or damaged.
    ExportError
        If a converted file does not keep what its name promises; nothing is
        left under that name that was not there before.
    """
    bundles = _check(options)
    splits = {
        bundle.task.name: splits_of(bundle, options.data)
        for bundle in bundles
        if options.data is not None
    }

    import_tensorflow("export")
    from medkit_exporters.bench import Bench
    from medkit_exporters.source import open_source

    written: list[ExportedFile] = []
    for bundle in bundles:
        note(f"{bundle.task.name}: loading {bundle.keras_path.name}")
        source, divided = open_source(bundle.keras_path), splits.get(bundle.task.name)
        if divided is not None and not divided.as_trained:
            note(f"{bundle.task.name}: {FOREIGN_DATA}")
        if divided is None:
            note(f"{bundle.task.name}: without data nothing is compared; medkit parity does it")
        bench = Bench(
            bundle, source, divided, options.calibration_images, options.seed, options.max_drop
        )
        for export_format in options.formats:
            kept: dict[str, ExportedFile] = {}
            for precision in options.precisions:
                # The ladder may have ended at a precision that is asked for as well.
                if precision not in kept:
                    file = _export_one(bundle, bench, export_format, precision, divided, note)
                    kept[file.precision] = file
            written += kept.values()
    return written


def _check(options: ExportOptions) -> list[Bundle]:
    """Refuse what cannot work before anything heavy is imported; open the bundles."""
    for given, known, what in (
        (options.formats, tuple(FORMATS), "format"),
        (options.precisions, tuple(LADDERS), "precision"),
    ):
        unknown = [word for word in given if word not in known]
        if unknown or not given:
            problem = f"unknown {what} {', '.join(map(repr, unknown))}" if unknown else f"no {what}"
            raise UsageError(f"{problem}; accepted: {', '.join(known)}")
    check_seed(options.seed)
    check_count(options.calibration_images)
    if not 0 <= options.max_drop <= 100:
        raise UsageError(f"a drop of {options.max_drop} points; accepted: 0 to 100")
    if options.data is None:
        if "int8" in options.precisions:
            raise UsageError(
                "int8 is calibrated on training images: give their folder with --data DIR or "
                "MEDKIT_DATA, or ask for --fp16 or --fp32"
            )
    else:
        for task in options.tasks:
            check_layout(task, locate_dataset(task, options.data))
    needed = [("tensorflow", "tensorflow")]
    if "onnx" in options.formats:
        needed += [("tf2onnx", "tf2onnx"), ("onnxruntime", "onnxruntime")]
    for module, package in needed:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(package, "export", "export")
    bundles = [load_bundle(task, options.trained) for task in options.tasks]
    for bundle in bundles:
        bundle.verify(bundle.keras_path)
        check_writable(bundle.folder)
    return bundles


def _export_one(
    bundle: Bundle,
    bench: Bench,
    export_format: str,
    asked: str,
    splits: Splits | None,
    note: Callable[[str], None],
) -> ExportedFile:
    """Climb the ladder of a precision, and keep the first file that passes."""
    exporter = _exporter(export_format)
    attempts: list[Attempt] = []
    tried_before: set[tuple[Settings, int]] = set()
    for rung in LADDERS[asked]:
        # Of little data, no more images are left to calibrate on: the same file again.
        conversion = rung.settings, bench.images_of(rung)
        if conversion in tried_before:
            continue
        tried_before.add(conversion)
        after = f" after {attempts[-1].failures[0]}" if attempts else ""
        note(f"{bundle.task.name}: {export_format} {asked}: {rung.name}{after}")
        attempt, candidate = bench.attempt(exporter, rung)
        attempts.append(attempt)
        if attempt.passed and candidate is not None:
            return _keep(bundle, export_format, candidate, attempts, splits)
    tried = "; ".join(f"{attempt.rung}: {attempt.failures[0]}" for attempt in attempts)
    raise ExportError(
        f"{bundle.task.name}: no {export_format} file asked for as {asked} decides like the "
        f"original, and none was written ({tried}); allow more with --max-drop, or look at the "
        "training data"
    )


def _keep(
    bundle: Bundle,
    export_format: str,
    candidate: Candidate,
    attempts: list[Attempt],
    splits: Splits | None,
) -> ExportedFile:
    """Write a file that passed, and enter it in the manifest in place of what it supersedes."""
    card = candidate.card
    path = bundle.folder / export_name(export_format, card.precision)
    with replacing(path) as temporary:
        temporary.write_bytes(candidate.content)
        # Loaded and run before it gets its name: a file that no runtime takes is none.
        milliseconds = time_one_image(temporary)
        metrics = _measure(temporary, bundle.task, splits) if splits is not None else None
    record = file_record(path)
    entry: dict[str, Any] = {
        **record,
        "format": export_format,
        "precision": card.precision,
        "temperature": card.temperature,
        "operating_points": {n: point.to_dict() for n, point in card.operating_points.items()},
        "ladder": [attempt.to_dict() for attempt in attempts],
    }
    if candidate.calibration is not None:
        entry["calibration"] = candidate.calibration
    if metrics is not None:
        entry["metrics"] = metrics
    # A file of an earlier run that is smaller than the ladder now allows must not be preferred.
    exports = bundle.manifest["exports"]
    left = {export_name(export_format, attempt.precision) for attempt in attempts} - {path.name}
    superseded = left & exports.keys()
    for name in superseded:
        del exports[name]
    exports[path.name] = entry
    write_manifest(bundle.folder, bundle.manifest)
    write_card(bundle)
    for name in superseded:
        (bundle.folder / name).unlink(missing_ok=True)
    return ExportedFile(
        path=path,
        task=bundle.task.name,
        format=export_format,
        precision=card.precision,
        bytes=record["bytes"],
        ratio=record["bytes"] / bundle.keras_path.stat().st_size,
        milliseconds=milliseconds,
        attempts=tuple(attempts),
    )


def _measure(path: Path, task: Task, splits: Splits) -> dict[str, Any]:
    """Return a file's figures on the official test split, in the form of the original's."""
    model = load_model(path)
    images, labels = load_tensors(splits.test, contract_for(task))
    probabilities = predict_all(model, images)
    if not np.isfinite(probabilities).all():
        raise ExportError(f"{path.suffix} export gives a probability that is not finite")
    return evaluate_test_split(
        task, labels, probabilities, model.card.operating_points, without_twins(splits.dataset)
    )


def _exporter(export_format: str) -> ModuleType:
    """Return the module that writes a format; all have the same functions and constants."""
    if export_format == "tflite":
        from medkit_exporters import tflite

        return tflite
    from medkit_exporters import onnx

    return onnx


def time_one_image(path: Path) -> float:
    """Return the median time, in milliseconds, that a model file takes for one grey image."""
    model = load_model(path)
    image = np.full((1, *model.card.input_contract.shape), 128, dtype=np.uint8)
    times = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        model.predict(image)
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1000)
