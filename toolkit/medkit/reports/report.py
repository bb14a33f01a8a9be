"""The report: one HTML page, complete in itself, of how good a model is and where it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.layout import Dataset, read_dataset
from medkit.datasets.location import locate_dataset
from medkit.datasets.sampling import load_tensors
from medkit.defaults import BALANCED
from medkit.extras import require
from medkit.files import write_text
from medkit.models.bundle import Bundle, load_bundle
from medkit.models.decisions import decide
from medkit.models.figures import Figures
from medkit.models.manifest import Manifest
from medkit.models.runtimes.base import predict_all
from medkit.models.runtimes.keras import KerasModel
from medkit.models.runtimes.loading import runtime_for
from medkit.reports.html import picture_uri, png_uri, render
from medkit.reports.plots import plot_confusion, plot_curves, plot_reliability, plot_roc, png_bytes
from medkit.reports.tables import (
    class_rows,
    figure_columns,
    figure_rows,
    images_measured,
    point_rows,
)
from medkit.tasks import Task

MISTAKES = 12
"""Mistakes that a page shows."""

_OVERLAY = 0.45  # share of the heat map in an overlay


@dataclass(frozen=True)
class ReportOptions:
    """Arguments of a report.

    Attributes
    ----------
    task
        Task of the model.
    out
        The HTML file to write.
    data
        Folder with the data sets, or that set itself; ``None`` leaves out
        the mistakes and the plots that need every image's probabilities.
    trained
        Folder of bundles; ``None`` is where the shipped models lie.
    """

    task: Task
    out: Path
    data: Path | None = None
    trained: Path | None = None


@dataclass(frozen=True)
class Plot:
    """A plot: what it shows, and the address that holds it."""

    name: str
    uri: str


@dataclass(frozen=True)
class Mistake:
    """A wrong decision.

    Attributes
    ----------
    name
        The file.
    truth, decided
        The labels.
    confidence
        Probability of the decided label, 0..1.
    image, heat
        Addresses of the image, and of the image under its heat map.
    """

    name: str
    truth: str
    decided: str
    confidence: float
    image: str
    heat: str


def write_report(options: ReportOptions, note: Callable[[str], None] = lambda text: None) -> Path:
    """Write the report of a trained model and return where it is.

    A section is left out if the manifest does not hold what it shows, as of a
    model that was trained elsewhere.

    Parameters
    ----------
    options
        The arguments.
    note
        Called with a line before each lengthy step.

    Raises
    ------
    MissingExtraError
        If Jinja2 or matplotlib is not installed, or where there are data one
        of TensorFlow, scikit-learn and SciPy, before any work.
    ModelFileError
        If there is no bundle, or its original is missing or damaged.
    UsageError
        If there are data, and the task has no published data set.
    DatasetLayoutError
        If ``data`` does not hold the task's data set.
    """
    require("write a report", "jinja2", "matplotlib")
    bundle = load_bundle(options.task, options.trained)
    if options.data is not None:
        require("draw ROC curves", "sklearn", "scipy")
        runtime_for(bundle.keras_path).require()
    task, manifest = bundle.task, bundle.manifest
    test = manifest.metrics.get("test", {})
    plots = _plots_of(task, test.get(BALANCED))
    mistakes = None
    if options.data is not None:
        dataset = read_dataset(task, locate_dataset(task, options.data))
        bundle.verify(bundle.keras_path)
        note(f"{task.name}: {len(dataset.test)} test images through the original")
        images, labels = load_tensors(dataset.test, bundle.contract)
        model = KerasModel(bundle.keras_path)
        probabilities = predict_all(model, images)
        roc = plot_roc(task, labels, probabilities, bundle.operating_points)
        plots.insert(0, _plot("ROC with 95 % interval", roc))
        note(f"{task.name}: explaining its mistakes")
        mistakes = _mistakes(bundle, model, dataset, images, labels, probabilities)
    seed = bundle.seed_manifest
    columns = figure_columns(manifest, seed)
    page = render(
        "report.html.jinja",
        task=task,
        manifest=manifest,
        seed=seed,
        original=manifest.files.get(bundle.keras_path.name),
        source=task.layout.source if task.layout else manifest.data.source,
        images=images_measured(columns),
        columns=columns,
        rows=figure_rows(task, columns),
        curves=_curves(manifest, seed),
        plots=plots,
        points=point_rows(task, test),
        classes=class_rows(task, test[BALANCED]) if BALANCED in test else [],
        mistakes=mistakes,
    )
    write_text(options.out, page)
    return options.out


def _plot(name: str, figure: Any) -> Plot:
    return Plot(name, png_uri(png_bytes(figure)))


def _plots_of(task: Task, figures: Figures | None) -> list[Plot]:
    """Draw what the manifest's figures on the official test split show."""
    if figures is None:
        return []
    plots = [_plot("confusion on the official test split", plot_confusion(task, figures.confusion))]
    if figures.reliability:
        plots.append(_plot("reliability on the official test split", plot_reliability(figures)))
    return plots


def _curves(shipped: Manifest, seed: Manifest | None) -> list[Plot]:
    """Draw the training curves of the model and, where its manifest is there, the seed's."""
    runs = {"shipped": shipped} if seed is None else {"seed": seed, "shipped": shipped}
    drawn = []
    for name, manifest in runs.items():
        if manifest.history:
            watched = "validation" if "validation" in manifest.metrics else "official test"
            figure = plot_curves(manifest.history, manifest.kept_epoch, watched)
            drawn.append(_plot(f"{name}: loss, accuracy and AUC", figure))
    return drawn


def _mistakes(
    bundle: Bundle,
    model: KerasModel,
    dataset: Dataset,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
) -> list[Mistake]:
    """Return the wrong decisions of highest confidence, each with picture and Grad-CAM."""
    from medkit.reports.gradcam import heat_maps

    task = bundle.task
    decided = decide(task, probabilities, bundle.operating_points[BALANCED])
    confidence = probabilities[np.arange(len(decided)), decided]
    wrong = np.flatnonzero(decided != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    if not len(worst):
        return []
    heat = heat_maps(model.network, images[worst], decided[worst])
    return [
        Mistake(
            name=dataset.test[index].name,
            truth=task.labels[labels[index]],
            decided=task.labels[decided[index]],
            confidence=float(confidence[index]),
            image=picture_uri(images[index]),
            heat=picture_uri(overlay(images[index], warmth)),
        )
        for index, warmth in zip(worst.tolist(), heat, strict=True)
    ]


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay a heat map over an image.

    Parameters
    ----------
    image
        uint8, shape (height, width, channels) of 1 or 3 channels.
    heat
        0..1, shape (height, width).

    Returns
    -------
    numpy.ndarray
        uint8, shape (height, width, 3).
    """
    from matplotlib import colormaps

    colours = colormaps["inferno"](heat)[..., :3] * 255
    mixed = (1 - _OVERLAY) * np.broadcast_to(image, (*heat.shape, 3)) + _OVERLAY * colours
    return np.rint(mixed).astype(np.uint8)
