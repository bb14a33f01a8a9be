"""Evaluation of a model file on labelled images of any source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.folders import LeftOut
from medkit.datasets.labels import Labels, check_labels
from medkit.datasets.measured import MeasuredFile, list_measured
from medkit.datasets.recorded import without_seen
from medkit.datasets.sampling import truth_of_labels
from medkit.defaults import BALANCED, PRECISION
from medkit.errors import DatasetLayoutError, ImageError, ModelFileError, UsageError
from medkit.evaluation.metrics import evaluate
from medkit.extras import require
from medkit.files import write_json
from medkit.images.contract import InputContract
from medkit.images.reading import load_tensor
from medkit.models.bundle import load_bundle, task_beside
from medkit.models.decisions import names_of
from medkit.models.figures import Figures
from medkit.models.formats import PRECISIONS
from medkit.models.points import get_point
from medkit.models.runtimes.base import Model, predict_all
from medkit.models.runtimes.loading import load_model, runtime_for, usual_runtime
from medkit.models.runtimes.registry import get_runtime
from medkit.tasks import Task, as_task
from medkit.wording import counted, unknown

_IN_MEMORY = 512  # decoded images at a time, so that a large folder does not fill the memory


@dataclass(frozen=True)
class EvaluateOptions:
    """Arguments of an evaluation.

    Attributes
    ----------
    task
        Task of the model, or its name; may be ``None`` if ``model`` is given.
    data
        A folder with a folder of images for each class, or for some of them;
        or a set with its split folders, whose test split is then used, or a
        folder that holds one of these; or a table of labels, or a folder that
        holds it as ``labels.csv``. A multi-label task takes a table. Images
        that the record of the model's bundle lists for training or validation
        are left out.
    runtime
        Name of a runtime: the bundle's file that it runs is used. ``litert``,
        ``onnx`` and ``openvino`` run exports, ``keras`` runs the original.
        ``None`` for the usual one, LiteRT if there is a file for it.
    precision
        Precision of the export. ``None`` is int8, or of a model that was
        adopted the smallest that there is.
    model
        A model file to use instead of the bundle's; ``runtime`` and
        ``precision`` are not looked at then.
    operating_point
        Name of the operating point that turns probabilities into labels.
    trained
        Folder of bundles; ``None`` is where the shipped models lie.
    spellings
        Other spellings of class folders; see
        :func:`medkit.datasets.labels.read_labels_map`.
    """

    task: Task | str | None
    data: Path
    runtime: str | None = None
    precision: str | None = None
    model: Path | None = None
    operating_point: str = BALANCED
    trained: Path | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes
    ----------
    task, file, runtime
        The task, the model file and the runtime that were evaluated.
    folder
        The folder of class folders.
    figures
        Figures at the operating point that was asked for.
    unreadable
        Name of each file that could not be decoded, with the reason. The
        figures leave these files out.
    left_out
        Every image file in the folder that has no label.
    remarks
        Lines on images that are in or out though a reader might not expect it.
    names
        The images' names, relative to ``folder``.
    labels
        True label indices, shape (n,); in a multi-label task 0 and 1, shape
        (n, labels).
    probabilities
        Shape (n, classes).
    """

    task: Task
    file: str
    runtime: str
    folder: Path
    figures: Figures
    unreadable: tuple[tuple[str, str], ...]
    left_out: tuple[LeftOut, ...]
    remarks: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def evaluate_folder(
    options: EvaluateOptions, note: Callable[[str], None] = lambda text: None
) -> Evaluation:
    """Run a model over labelled images and measure everything anew.

    Parameters
    ----------
    options
        The arguments.
    note
        Called with a line before each lengthy step.

    Raises
    ------
    UsageError
        If the arguments cannot be obeyed. It is raised before an image is read.
    DatasetLayoutError
        If the folder holds no class folder of the task, or images under others;
        or only images that the model has seen.
    MissingExtraError
        If SciPy, scikit-learn or the model's runtime is not installed, before
        the model is loaded.
    ModelFileError
        If the model is missing or cannot be loaded.
    """
    require("compute the AUC", "sklearn", "scipy")
    model, task = _open_model(options)
    point = get_point(model.card.operating_points, options.operating_point)
    if options.task is None:
        check_labels(options.spellings, task)
    labels = Labels.of(task, options.spellings)
    listed = without_seen(list_measured(task, options.data, labels), model.path.parent, task)
    folder = listed.root
    images = counted(len(listed.files), "image")
    note(f"{task.name}: {images} through {model.path.name} on {model.runtime}")
    read = _predict_files(model, task, listed.files)
    if not read.names:
        raise DatasetLayoutError(f"no image in {folder} can be decoded; check the files")
    if not np.isfinite(read.probabilities).all():
        raise ModelFileError(f"{model.path} gave a probability that is not finite; do not use it")
    return Evaluation(
        task=task,
        file=model.path.name,
        runtime=model.runtime,
        folder=folder,
        figures=evaluate(task, read.labels, read.probabilities, point),
        unreadable=tuple(read.unreadable),
        left_out=listed.left_out,
        remarks=listed.remarks,
        names=tuple(read.names),
        labels=read.labels,
        probabilities=read.probabilities,
    )


def write_evaluations(evaluations: list[Evaluation], path: Path) -> None:
    """Write evaluations as a JSON list with every image's probabilities, atomically."""
    records = [
        {
            "task": item.task.name,
            "file": item.file,
            "runtime": item.runtime,
            "folder": str(item.folder),
            "figures": item.figures.to_dict(),
            "unreadable": [{"image": name, "error": error} for name, error in item.unreadable],
            "left_out": [{"image": each.name, "reason": each.reason} for each in item.left_out],
            "images": [
                {
                    "image": name,
                    "label": label,
                    "probabilities": dict(zip(item.task.labels, row, strict=True)),
                }
                for name, label, row in zip(
                    item.names,
                    names_of(item.task, item.labels),
                    item.probabilities.tolist(),
                    strict=True,
                )
            ],
        }
        for item in evaluations
    ]
    write_json(path, records)


def _open_model(options: EvaluateOptions) -> tuple[Model, Task]:
    """Open the model that was asked for, and tell its task."""
    named = get_runtime(options.runtime) if options.runtime is not None else None
    if options.precision not in (None, *PRECISIONS):
        raise UsageError(unknown("precision", options.precision, PRECISIONS))
    if options.model is not None:
        asked = None if options.task is None else as_task(options.task, options.trained)
        return _given_model(options.model, asked, options.trained)
    if options.task is None:
        raise UsageError("name a task, or a model file with --model")
    if named is not None:
        named.require()
    bundle = load_bundle(options.task, options.trained)
    runtime = named or usual_runtime(bundle)
    runtime.require()
    adopted = bundle.manifest.adoption is not None
    path = bundle.file_with(runtime.suffix, options.precision or (None if adopted else PRECISION))
    model = load_model(path, runtime=runtime.name)
    model.card.check(bundle.task, bundle.contract, path)
    return model, bundle.task


def _given_model(path: Path, asked: Task | None, trained: Path | None) -> tuple[Model, Task]:
    runtime_for(path).require()
    model = load_model(path)
    if asked is not None and asked.name != model.card.task:
        raise UsageError(f"{path} is a model for {model.card.task}, not for {asked.name}")
    task = task_beside(path, model.card.task, trained)
    model.card.check(task, model.card.contract, path)
    return model, task


@dataclass
class _Read:
    """The outputs of a model for the files that could be decoded, and the list of the others."""

    names: list[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    unreadable: list[tuple[str, str]]


def _predict_files(model: Model, task: Task, files: Sequence[MeasuredFile]) -> _Read:
    """Run a model over labelled files, a part of them at a time."""
    contract = model.card.contract
    names: list[str] = []
    labels: list[tuple[str, ...]] = []
    unreadable: list[tuple[str, str]] = []
    computed = [np.empty((0, len(model.card.labels)), np.float32)]
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), _IN_MEMORY):
            some = files[start : start + _IN_MEMORY]
            tensors = []
            decoded = pool.map(partial(_decode, contract), (file.path for file in some))
            for file, tensor in zip(some, decoded, strict=True):
                if isinstance(tensor, ImageError):
                    unreadable.append((file.name, str(tensor)))
                    continue
                tensors.append(tensor)
                names.append(file.name)
                labels.append(file.labels)
            if tensors:
                computed.append(predict_all(model, np.stack(tensors)))
    return _Read(names, truth_of_labels(task, labels), np.concatenate(computed), unreadable)


def _decode(contract: InputContract, path: Path) -> NDArray[np.uint8] | ImageError:
    try:
        return load_tensor(path, contract)
    except ImageError as error:
        return error
