"""The report: one HTML page, complete in itself, of how good a model is and where it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.bundles import Bundle, load_bundle, replacing
from medkit.datasets import Dataset, load_tensors, locate_dataset, read_dataset
from medkit.decisions import BALANCED, decide
from medkit.images import contract_for
from medkit.modelcard import (
    class_rows,
    figure_columns,
    figure_rows,
    point_rows,
    traps,
)
from medkit.pages import picture_uri, png_uri, render
from medkit.plots import (
    plot_confusion,
    plot_curves,
    plot_reliability,
    plot_roc,
    png_bytes,
)
from medkit.runtimes import predict_all
from medkit.runtimes.keras import KerasModel
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
        Whose model.
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


def write_report(options: ReportOptions, note: Callable[[str], None] = lambda text: None) -> Path:
    """Write the report of a trained model and return where it is.

    Parameters
    ----------
    options
        The arguments.
    note
        Called with a line before each lengthy step.

    Raises
    ------
    ModelFileError
        If there is no bundle, or its original is missing or damaged.
    DatasetLayoutError
        If ``data`` does not hold the task's data set.
    MissingExtraError
        If matplotlib or Jinja2 is not installed, or TensorFlow where there are data.
    """
    bundle = load_bundle(options.task, options.trained)
    task, manifest = bundle.task, bundle.manifest
    figures = manifest["metrics"]["test"][BALANCED]
    plots = [
        ("confusion on the official test split", plot_confusion(task, figures["confusion"])),
        ("reliability on the official test split", plot_reliability(figures)),
    ]
    mistakes = None
    if options.data is not None:
        dataset = read_dataset(task, locate_dataset(task, options.data))
        bundle.verify(bundle.keras_path)
        note(f"{task.name}: {len(dataset.test)} test images through the original")
        images, labels = load_tensors(dataset.test, contract_for(task))
        model = KerasModel(bundle.keras_path)
        probabilities = predict_all(model, images)
        roc = plot_roc(task, labels, probabilities, bundle.operating_points)
        plots.insert(0, ("ROC with 95 % interval", roc))
        note(f"{task.name}: explaining its mistakes")
        mistakes = _mistakes(bundle, model, dataset, images, labels, probabilities)
    seed = bundle.seed_manifest
    columns = figure_columns(manifest, seed)
    page = render(
        "report.html.jinja",
        task=task,
        manifest=manifest,
        test=figures,
        columns=columns,
        rows=figure_rows(task, columns),
        curves=_curves(manifest, seed),
        plots=[{"name": name, "uri": png_uri(png_bytes(figure))} for name, figure in plots],
        points=point_rows(task, manifest),
        classes=class_rows(task, manifest),
        audit=manifest["data"]["audit"],
        traps=traps(task),
        mistakes=mistakes,
    )
    with replacing(options.out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return options.out


def _curves(shipped: dict[str, Any], seed: dict[str, Any] | None) -> list[dict[str, str]]:
    """Draw the training curves of the model and, where its manifest is there, the seed's."""
    runs = [("shipped", shipped)] if seed is None else [("seed", seed), ("shipped", shipped)]
    drawn = []
    for name, manifest in runs:
        watched = "validation" if "validation" in manifest["metrics"] else "official test"
        figure = plot_curves(manifest["history"], manifest["kept_epoch"], watched)
        drawn.append({"name": f"{name}: loss, accuracy and AUC", "uri": png_uri(png_bytes(figure))})
    return drawn


def _mistakes(
    bundle: Bundle,
    model: KerasModel,
    dataset: Dataset,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
) -> list[dict[str, Any]]:
    """Return the surest wrong decisions on the test split, each with picture and Grad-CAM."""
    from medkit.gradcam import heat_maps

    task = bundle.task
    decided = decide(task, probabilities, bundle.operating_points[BALANCED])
    confidence = probabilities[np.arange(len(decided)), decided]
    wrong = np.flatnonzero(decided != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    if not len(worst):
        return []
    heat = heat_maps(model.network, images[worst], decided[worst])
    return [
        {
            "name": dataset.test[index].name,
            "truth": task.labels[labels[index]],
            "decided": task.labels[decided[index]],
            "confidence": float(confidence[index]),
            "image": picture_uri(images[index]),
            "heat": picture_uri(overlay(images[index], warmth)),
        }
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
