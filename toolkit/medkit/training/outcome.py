"""The outcome of a training run: figures, plots, the model file, the manifest and the card.

Importing this module imports Keras and TensorFlow.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.batch.routing import colours_of
from medkit.datasets.conflicts import deduplicated_mask
from medkit.datasets.division import SPLITS_NAME, write_splits
from medkit.datasets.sampling import class_counts
from medkit.defaults import BALANCED
from medkit.evaluation.metrics import evaluate_points, evaluate_test_split
from medkit.models.bundle import KERAS_NAME, Bundle, file_record
from medkit.models.card import ModelCard
from medkit.models.decisions import apply_temperature, decide
from medkit.models.figures import Metrics
from medkit.models.formats import PRECISIONS, export_formats, export_name
from medkit.models.manifest import (
    BY_PIXELS,
    DataRecord,
    FoundCount,
    Manifest,
    SourceCount,
    write_manifest,
)
from medkit.models.points import OperatingPoints
from medkit.models.recipe import Recipe
from medkit.reports.modelcard import write_card
from medkit.reports.origin import name_of_test
from medkit.reports.plots import plot_confusion, plot_curves, plot_reliability, plot_roc, save_png
from medkit.tasks import TASK_NAME, Task, write_task
from medkit.training.archive import save_archive
from medkit.training.calibrate import changed_views, fit_rules, fixed_rules
from medkit.training.data import Tensors, TrainingData
from medkit.training.fit import Fitted
from medkit.training.networks import predict_probabilities
from medkit.version import __version__

CURVES, ROC, CONFUSION, RELIABILITY = "curves.png", "roc.png", "confusion.png", "reliability.png"
"""Names of the plots."""

_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "pillow", "scikit-learn")


@dataclass(frozen=True)
class Run:
    """A training run: its task, its images and its output folder.

    Attributes
    ----------
    task, recipe, seed
        Task, recipe and seed of the run.
    weights
        File of ImageNet weights; ``None`` lets Keras download them.
    folder
        Folder for the files.
    data
        The images.
    compute_type
        Keras' dtype policy.
    """

    task: Task
    recipe: Recipe
    seed: int
    weights: Path | None
    folder: Path
    data: TrainingData
    compute_type: str


@dataclass(frozen=True)
class Measured:
    """The rules that were fitted to a model, and its figures under them.

    Attributes
    ----------
    temperature, points
        Fitted to the validation split; fixed if there is none.
    scores
        Calibrated probabilities of each held-out split, shape (n, classes).
    metrics
        Figures by held-out split and operating point.
    images
        What the training images of a task of one's own are; else empty. See
        :func:`medkit.batch.routing.colours_of`.
    """

    temperature: float
    points: OperatingPoints
    scores: dict[str, NDArray[np.float32]]
    metrics: Metrics
    images: str = ""


def measure(run: Run, model: Any, tensors: dict[str, Tensors]) -> Measured:
    """Fit temperature and operating points, and measure the held-out splits.

    Parameters
    ----------
    run
        The run.
    model
        The Keras model with the weights that will be saved.
    tensors
        Tensors by split.
    """
    task, held_out = run.task, {name: tensors[name] for name in tensors if name != "train"}
    temperature, points = fixed_rules(task)
    if (validation := held_out.get("validation")) is not None:
        temperature, points = fit_rules(
            task,
            validation.labels,
            lambda images: predict_probabilities(model, images),
            changed_views(validation.images, run.recipe.augmentation, run.seed),
        )
    scores = {
        name: apply_temperature(
            predict_probabilities(model, split.images), temperature, multi_label=task.multi_label
        )
        for name, split in held_out.items()
    }
    metrics = {
        name: evaluate_points(task, split.labels, scores[name], points)
        for name, split in held_out.items()
        if name != "test"
    }
    mask = deduplicated_mask(run.data.dataset)
    metrics |= evaluate_test_split(task, tensors["test"].labels, scores["test"], points, mask)
    images = colours_of(tensors["train"].images) if run.data.divided is not None else ""
    return Measured(temperature, points, scores, metrics, images)


def draw(run: Run, fitted: Fitted, measured: Measured, labels: NDArray[np.int64]) -> None:
    """Draw the training curves, and the figures on the test split.

    Parameters
    ----------
    run, fitted, measured
        The run and its results.
    labels
        True label indices of the test split, shape (n,).
    """
    state, figures = fitted.state, measured.metrics["test"][BALANCED]
    watched = run.data.watched
    if watched == "test":
        watched = "test (not used to choose)"
    images = name_of_test(run.task, run.data.digests)
    roc = plot_roc(run.task, labels, measured.scores["test"], measured.points, images)
    save_png(plot_curves(state.history, state.best_epoch, watched), run.folder / CURVES)
    save_png(roc, run.folder / ROC)
    save_png(plot_confusion(run.task, figures.confusion, images), run.folder / CONFUSION)
    save_png(plot_reliability(figures), run.folder / RELIABILITY)


def save(run: Run, model: Any, measured: Measured) -> None:
    """Write the Keras original, and delete the exports of the model that it replaces."""
    run.folder.mkdir(parents=True, exist_ok=True)
    for export_format in export_formats():
        for precision in PRECISIONS:
            (run.folder / export_name(export_format, precision)).unlink(missing_ok=True)
    card = ModelCard(
        task=run.task.name,
        labels=run.task.labels,
        contract=run.task.contract,
        temperature=measured.temperature,
        operating_points=measured.points,
        precision="original",
        version=__version__,
    )
    save_archive(model, card, run.folder / KERAS_NAME)


def record(run: Run, model: Any, fitted: Fitted, measured: Measured) -> Manifest:
    """Write the manifest and the model card, and return the manifest."""
    task, data, state = run.task, run.data, fitted.state
    files = [KERAS_NAME, CURVES, ROC, CONFUSION, RELIABILITY]
    if data.divided is not None:
        write_splits(run.folder, data.divided)
        write_task(run.folder, replace(task, images=task.images or measured.images))
        (run.folder / TASK_NAME).unlink(missing_ok=True)  # its older form, of an earlier model
        files.append(SPLITS_NAME)
    manifest = Manifest(
        task=task.name,
        labels=task.labels,
        contract=task.contract,
        temperature=measured.temperature,
        operating_points=measured.points,
        chosen_on="validation" if "validation" in data.splits else "nothing: fixed",
        metrics=measured.metrics,
        by_source=count_by_source(task, data, measured),
        recipe=run.recipe,
        seed=run.seed,
        compute_type=run.compute_type,
        kept_epoch=state.best_epoch,
        epochs=len(state.history),
        interrupted=fitted.interrupted,
        parameters=model.count_params(),
        data=DataRecord(
            source=_source(task, data),
            counts={name: class_counts(task, items) for name, items in data.splits.items()},
            on_conflict=data.policy,
            kept_out=data.kept_out,
            audit=data.audit,
            sha256=data.digests,
            compared_by=BY_PIXELS,
            group_by=data.group_by,
        ),
        history=state.history,
        versions={"medkit": __version__, **_versions()},
        files={name: file_record(run.folder / name) for name in files},
    )
    write_manifest(run.folder, manifest)
    write_card(Bundle(run.folder, task, manifest))
    return manifest


def _source(task: Task, data: TrainingData) -> str:
    """Return the origin of the data, if they are the published ones."""
    if task.layout is None or not task.layout.is_published(data.digests):
        return ""
    return task.layout.source


def count_by_source(task: Task, data: TrainingData, measured: Measured) -> tuple[SourceCount, ...]:
    """Count the images of each class and source, and how many of the held-out ones are found.

    Images whose file name tells no source are left out.
    """
    train: dict[tuple[int, str], int] = {}
    held_out: dict[str, dict[tuple[int, str], FoundCount]] = {name: {} for name in measured.scores}
    for item in data.splits["train"]:
        train[item.label, item.source] = train.get((item.label, item.source), 0) + 1
    for name, cells in held_out.items():
        decided = decide(task, measured.scores[name], measured.points[BALANCED])
        for item, label in zip(data.splits[name], decided.tolist(), strict=True):
            before = cells.get((item.label, item.source), FoundCount(0, 0))
            cells[item.label, item.source] = FoundCount(
                before.images + 1, before.found + int(label == item.label)
            )
    everywhere = {*train}.union(*held_out.values())
    return tuple(
        SourceCount(
            label=task.labels[label],
            source=source,
            train=train.get((label, source), 0),
            **{
                name: cells.get((label, source), FoundCount(0, 0))
                for name, cells in held_out.items()
            },
        )
        for label, source in sorted(everywhere)
        if source
    )


def _versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the weights."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # one of the two TensorFlows
    return found
