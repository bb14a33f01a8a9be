"""One export run: every asked format and precision of every asked task."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medkit.bundles import (
    FORMATS,
    PRECISIONS,
    Bundle,
    ModelCard,
    check_writable,
    export_name,
    file_record,
    load_bundle,
    replacing,
    write_manifest,
)
from medkit.datasets import (
    check_layout,
    check_seed,
    load_tensors,
    locate_dataset,
    read_dataset,
    without_twins,
)
from medkit.errors import ExportError, MissingExtraError, UsageError
from medkit.images import contract_for
from medkit.metrics import evaluate_test_split
from medkit.modelcard import write_card
from medkit.runtimes import both_classes, load_model, predict_all
from medkit.runtimes.keras import import_tensorflow
from medkit.tasks import TASKS, Task
from medkit.version import __version__
from medkit_exporters.calibration import (
    DEFAULT_COUNT,
    CalibrationSet,
    draw_calibration_set,
)

if TYPE_CHECKING:
    from medkit_exporters.source import Source

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
    """

    tasks: tuple[Task, ...] = tuple(TASKS.values())
    formats: tuple[str, ...] = tuple(FORMATS)
    precisions: tuple[str, ...] = ("int8",)
    data: Path | None = None
    trained: Path | None = None
    calibration_images: int = DEFAULT_COUNT
    seed: int = 0


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
    """

    path: Path
    task: str
    format: str
    precision: str
    bytes: int
    ratio: float
    milliseconds: float


@dataclass(frozen=True)
class _TestSplit:
    """The official test split as tensors; ``untwinned`` tells which lie in no training folder."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    untwinned: Sequence[bool]


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
    calibrations = {
        bundle.task.name: draw_calibration_set(
            bundle, options.data, options.calibration_images, options.seed
        )
        for bundle in bundles
        if "int8" in options.precisions and options.data is not None
    }

    import_tensorflow("export")
    from medkit_exporters.source import open_source

    written = []
    for bundle in bundles:
        note(f"{bundle.task.name}: loading {bundle.keras_path.name}")
        source = open_source(bundle.keras_path)
        test = None if options.data is None else _read_test_split(bundle.task, options.data)
        for export_format in options.formats:
            for precision in options.precisions:
                note(f"{bundle.task.name}: converting to {export_format} {precision}")
                calibration = calibrations.get(bundle.task.name) if precision == "int8" else None
                written.append(
                    _export_one(bundle, source, export_format, precision, calibration, test)
                )
        write_card(bundle)
    return written


def _check(options: ExportOptions) -> list[Bundle]:
    """Refuse what cannot work before anything heavy is imported; open the bundles."""
    for given, known, what in (
        (options.formats, tuple(FORMATS), "format"),
        (options.precisions, PRECISIONS, "precision"),
    ):
        unknown = [word for word in given if word not in known]
        if unknown or not given:
            problem = f"unknown {what} {', '.join(map(repr, unknown))}" if unknown else f"no {what}"
            raise UsageError(f"{problem}; accepted: {', '.join(known)}")
    check_seed(options.seed)
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
    source: Source,
    export_format: str,
    precision: str,
    calibration: CalibrationSet | None,
    test: _TestSplit | None,
) -> ExportedFile:
    exporter = _exporter(export_format)
    card = ModelCard(
        task=bundle.task.name,
        labels=bundle.task.labels,
        contract=contract_for(bundle.task).to_dict(),
        temperature=bundle.temperature,
        operating_points=bundle.operating_points,
        precision=precision,
        version=__version__,
        source_sha256=bundle.keras_sha256,
    )
    path = bundle.folder / export_name(export_format, precision)
    with replacing(path) as temporary:
        if calibration is None:
            content = exporter.convert(source, precision, None)
        else:
            content = _convert_int8(exporter, source, calibration.images, card, temporary)
        temporary.write_bytes(exporter.attach_card(content, card))
        # Loaded and run before it gets its name: a file that no runtime takes is none.
        milliseconds = time_one_image(temporary)
        metrics = _measure(temporary, bundle, test) if test is not None else None
    record = file_record(path)
    entry: dict[str, Any] = {**record, "format": export_format, "precision": precision}
    if calibration is not None:
        entry["calibration"] = {**calibration.record, "method": exporter.CALIBRATION}
    if metrics is not None:
        entry["metrics"] = metrics
    bundle.manifest["exports"][path.name] = entry
    write_manifest(bundle.folder, bundle.manifest)
    return ExportedFile(
        path=path,
        task=bundle.task.name,
        format=export_format,
        precision=precision,
        bytes=record["bytes"],
        ratio=record["bytes"] / bundle.keras_path.stat().st_size,
        milliseconds=milliseconds,
    )


def _convert_int8(
    exporter: ModuleType,
    source: Source,
    images: NDArray[np.uint8],
    card: ModelCard,
    trial: Path,
) -> bytes:
    """Convert an equalised copy twice: the first file, at ``trial``, tells the logits' drift."""
    from medkit_exporters.bias import logit_drift, shift_logits
    from medkit_exporters.equalise import equalise

    equal = replace(source, model=equalise(source.model, images))
    raw = exporter.attach_card(
        exporter.convert(equal, "int8", images), replace(card, temperature=1.0)
    )
    trial.write_bytes(raw)
    original = source.model.predict(images, verbose=0)
    drift = logit_drift(both_classes(original), predict_all(load_model(trial), images))
    corrected = replace(equal, model=shift_logits(equal.model, -drift))
    return bytes(exporter.convert(corrected, "int8", images))


def _read_test_split(task: Task, data: Path) -> _TestSplit:
    dataset = read_dataset(task, locate_dataset(task, data))
    images, labels = load_tensors(dataset.test, contract_for(task))
    return _TestSplit(images, labels, without_twins(dataset))


def _measure(path: Path, bundle: Bundle, test: _TestSplit) -> dict[str, Any]:
    """Return a file's figures on the official test split, in the form of the original's."""
    model = load_model(path)
    probabilities = predict_all(model, test.images)
    if not np.isfinite(probabilities).all():
        raise ExportError(f"{path.suffix} export gives a probability that is not finite")
    return evaluate_test_split(
        bundle.task, test.labels, probabilities, bundle.operating_points, test.untwinned
    )


def _exporter(export_format: str) -> ModuleType:
    """Return the module that writes a format; all have ``convert`` and ``attach_card``."""
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
