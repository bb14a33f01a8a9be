"""Evaluation: every figure anew, for any model file on any folder of class folders."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.bundles import PRECISIONS, dump_json, format_run_by, load_bundle
from medkit.datasets import class_images, locate_dataset, visible_folders
from medkit.decisions import BALANCED, get_point
from medkit.errors import DatasetLayoutError, ImageError, ModelFileError, UsageError
from medkit.images import InputContract, contract_for, load_tensor
from medkit.metrics import evaluate
from medkit.runtimes import Model, check_runtime, load_model, predict_all
from medkit.tasks import Task, get_task

_IN_MEMORY = 512  # decoded images at a time, so that a large folder does not fill the memory


@dataclass(frozen=True)
class EvaluateOptions:
    """Arguments of an evaluation.

    Attributes
    ----------
    task
        What is decided; may be ``None`` if ``model`` is given.
    data
        A folder with a folder of images for each class, or for some of them;
        or a data set with its split folders, whose official test split is
        then used, or a folder that holds that set.
    runtime
        Which of the bundle's files: ``litert``, ``onnx`` and ``openvino`` run
        the exports of ``precision``, ``keras`` the original.
    precision
        Of the export.
    model
        A model file to use instead of the bundle's.
    operating_point
        Name of the operating point that turns probabilities into labels.
    trained
        Folder of bundles; ``None`` is where the shipped models lie.
    """

    task: Task | None
    data: Path
    runtime: str = "litert"
    precision: str = "int8"
    model: Path | None = None
    operating_point: str = BALANCED
    trained: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes
    ----------
    task, file, runtime
        What was run.
    folder
        The folder of class folders.
    figures
        What :func:`medkit.metrics.evaluate` gives.
    unreadable
        Name and reason of each file that could not be decoded; they are in
        none of the figures.
    names
        The images' names, relative to ``folder``.
    labels
        True label indices, shape (n,).
    probabilities
        Shape (n, classes).
    """

    task: Task
    file: str
    runtime: str
    folder: Path
    figures: dict[str, Any]
    unreadable: tuple[tuple[str, str], ...]
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
        For arguments that cannot be obeyed, before an image is read.
    DatasetLayoutError
        If the folder holds no class folder of the task, or others as well.
    ModelFileError, MissingExtraError
        If the model is missing or cannot be loaded.
    """
    model = _open_model(options)
    task = get_task(model.card.task)
    point = get_point(model.card.operating_points, options.operating_point)
    folder = class_folder(task, options.data)
    files = [
        (label, path) for label in range(len(task.labels)) for path in _of(task, folder, label)
    ]
    if not files:
        raise DatasetLayoutError(f"the class folders in {folder} hold no image; check their files")
    note(f"{task.name}: {len(files):,} images through {model.path.name} on {model.runtime}")
    unreadable: list[tuple[str, str]] = []
    names: list[str] = []
    labels: list[int] = []
    computed: list[NDArray[np.float32]] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), _IN_MEMORY):
            some = files[start : start + _IN_MEMORY]
            tensors = []
            decoded = pool.map(partial(_decode, contract_for(task)), (path for _, path in some))
            for (label, path), tensor in zip(some, decoded, strict=True):
                name = path.relative_to(folder).as_posix()
                if isinstance(tensor, ImageError):
                    unreadable.append((name, str(tensor)))
                    continue
                tensors.append(tensor)
                names.append(name)
                labels.append(label)
            if tensors:
                computed.append(predict_all(model, np.stack(tensors)))
    if not computed:
        raise DatasetLayoutError(f"no image in {folder} can be decoded; check the files")
    probabilities = np.concatenate(computed)
    if not np.isfinite(probabilities).all():
        raise ModelFileError(f"{model.path} gave a probability that is not finite; do not use it")
    truth = np.array(labels, dtype=np.int64)
    return Evaluation(
        task=task,
        file=model.path.name,
        runtime=model.runtime,
        folder=folder,
        figures=evaluate(task, truth, probabilities, point),
        unreadable=tuple(unreadable),
        names=tuple(names),
        labels=truth,
        probabilities=probabilities,
    )


def class_folder(task: Task, data: Path) -> Path:
    """Return the folder of class folders that ``data`` is, or holds as official test split.

    Raises
    ------
    DatasetLayoutError
        If there is none, or it holds folders that are no class of the task.
    """
    if not data.is_dir():
        raise DatasetLayoutError(f"{data} is no folder; give one with a folder for each class")
    found = {folder.name for folder in visible_folders(data)}
    known = found & set(task.labels)
    if not known:
        try:
            inner = locate_dataset(task, data) / task.test_folder
        except DatasetLayoutError:
            raise DatasetLayoutError(
                f"no class folder of {task.name} in {data}; expected some of "
                f"{list(task.labels)}, or {task.train_folder}/ and {task.test_folder}/ with them"
            ) from None
        return class_folder(task, inner)
    if found - known:
        raise DatasetLayoutError(
            f"{data} holds folders that are no class of {task.name}: {sorted(found - known)}; "
            f"accepted: {list(task.labels)}"
        )
    return data


def write_evaluations(evaluations: list[Evaluation], path: Path) -> None:
    """Write evaluations as a JSON list with every image's probabilities, atomically."""
    records = [
        {
            "task": item.task.name,
            "file": item.file,
            "runtime": item.runtime,
            "folder": str(item.folder),
            "figures": item.figures,
            "unreadable": [{"image": name, "error": error} for name, error in item.unreadable],
            "images": [
                {
                    "image": name,
                    "label": item.task.labels[label],
                    "probabilities": dict(zip(item.task.labels, row, strict=True)),
                }
                for name, label, row in zip(
                    item.names, item.labels.tolist(), item.probabilities.tolist(), strict=True
                )
            ],
        }
        for item in evaluations
    ]
    dump_json(path, records)


def _open_model(options: EvaluateOptions) -> Model:
    suffix = check_runtime(options.runtime)
    if options.precision not in PRECISIONS:
        raise UsageError(
            f"unknown precision {options.precision!r}; accepted: {', '.join(PRECISIONS)}"
        )
    if options.model is not None:
        model = load_model(options.model)
        if options.task is not None and options.task.name != model.card.task:
            raise UsageError(
                f"{options.model} is a model for {model.card.task}, not for {options.task.name}"
            )
        return model
    if options.task is None:
        raise UsageError("name a task, or a model file with --model")
    bundle = load_bundle(options.task, options.trained)
    if options.runtime == "keras":
        bundle.verify(bundle.keras_path)
        return load_model(bundle.keras_path)
    path = bundle.export_path(format_run_by(suffix), options.precision)
    return load_model(path, runtime=options.runtime)


def _decode(contract: InputContract, path: Path) -> NDArray[np.uint8] | ImageError:
    try:
        return load_tensor(path, contract)
    except ImageError as error:
        return error


def _of(task: Task, folder: Path, label: int) -> list[Path]:
    """Return the images of a label; a class folder may be absent."""
    inner = folder / task.labels[label]
    return class_images(inner) if inner.is_dir() else []
