"""Plots of a model's figures, drawn with matplotlib and no display.

Each function returns a figure; :func:`save_png` and :func:`png_bytes` take one.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.evaluation.intervals import has_label, roc_band
from medkit.extras import require
from medkit.files import replacing
from medkit.models.figures import OUTCOMES, Figures
from medkit.models.manifest import EpochRecord
from medkit.models.points import OperatingPoint, OperatingPoints
from medkit.tasks import Task
from medkit.wording import counted

OFFICIAL = "the official test split"
"""Name of the images that a published data set holds for tests."""

_DPI = 110
_BLUE, _ORANGE, _GREY = "#2459a6", "#d1651f", "#8a8f98"

_MOST_NAMED = 16  # labels; more names would hide the curves and the matrix


def plot_curves(history: Sequence[EpochRecord], best: int, watched: str) -> Any:
    """Draw loss, and accuracy with AUC, by epoch.

    Parameters
    ----------
    history
        Figures of each epoch.
    best
        Number of the epoch that was kept.
    watched
        Name of the split that was watched.
    """
    figure = _figure(9.0, 3.6)
    epochs = [record.epoch for record in history]
    left, right = figure.subplots(1, 2)
    _line(left, epochs, [record.loss for record in history], "training", _BLUE)
    _line(left, epochs, [record.watched_loss for record in history], watched, _ORANGE)
    left.set(title="Loss", xlabel="epoch", ylim=(0, None))
    accuracies = [record.watched_accuracy for record in history]
    _line(right, epochs, accuracies, f"accuracy, {watched}", _BLUE)
    _line(right, epochs, [record.watched_auc for record in history], f"AUC, {watched}", _ORANGE)
    right.set(title="Accuracy and AUC", xlabel="epoch", ylim=(None, 1.005))
    for axes in (left, right):
        axes.axvline(best, color=_GREY, linestyle=":", linewidth=1.2, label=f"kept: epoch {best}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def plot_roc(
    task: Task,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    points: OperatingPoints,
    images: str = OFFICIAL,
) -> Any:
    """Draw the ROC curve of the positive label, or of each class against the rest.

    The alert label's curve has a band: the 95 % interval of its sensitivity
    at each specificity, over images redrawn class by class. A class without
    an image, or with nothing but its images, has no curve. Of many classes,
    the alert label alone has a name and a colour.

    Parameters
    ----------
    task
        The task.
    labels
        True label indices, shape (n,); in a multi-label task 0 and 1, shape
        (n, labels).
    probabilities
        Shape (n, classes).
    points
        Operating points that are marked on the curves.
    images
        Name of the images, for the title.
    """
    from matplotlib import colormaps
    from sklearn.metrics import roc_auc_score, roc_curve

    figure = _figure(5.6, 5.2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1)
    classes = range(len(task.labels))
    shown = [
        i
        for i in classes
        if task.positive in (None, task.labels[i]) and 0 < has_label(labels, i).sum() < len(labels)
    ]
    areas = {i: roc_auc_score(has_label(labels, i), probabilities[:, i]) for i in shown}
    unnamed = [i for i in shown if len(shown) > _MOST_NAMED and task.labels[i] != task.alert]
    for number, index in enumerate(shown):
        truth, scores = has_label(labels, index), probabilities[:, index]
        false_rate, true_rate, _ = roc_curve(truth, scores)
        if index in unnamed:
            name = None
            if index == unnamed[0]:
                worst, best = (pick(areas[i] for i in unnamed) for pick in (min, max))
                name = f"{len(unnamed)} labels (AUC {worst:.3f} to {best:.3f})"
            axes.plot(false_rate, true_rate, color=_GREY, linewidth=0.7, alpha=0.6, label=name)
            continue
        colour = _BLUE if task.binary or unnamed else colormaps["tab10"](number % 10)
        name = f"{task.labels[index]} (AUC {areas[index]:.3f})"
        axes.plot(false_rate, true_rate, color=colour, label=name)
        if task.labels[index] == task.alert:
            grid, low, high = roc_band(truth, scores.astype(np.float64))
            axes.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)
        chosen_here = [
            (point.name, threshold)
            for point in points.values()
            if (threshold := threshold_of(task, point, index)) is not None
        ]
        for marker, (point, threshold) in zip("os", chosen_here, strict=False):
            chosen = scores >= threshold
            told = f"{point}, from {threshold:.3f}"
            axes.plot(
                chosen[~truth].mean(),
                chosen[truth].mean(),
                marker,
                color=_ORANGE if task.binary else colour,
                label=None if task.multi_label else told,  # as many as there are labels
            )
    axes.set(
        title=f"ROC on {images} ({counted(len(labels), 'image')})",
        xlabel="1 - specificity",
        ylabel="sensitivity",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7.5, loc="lower right")
    return figure


def threshold_of(task: Task, point: OperatingPoint, label: int) -> float | None:
    """Return the threshold that an operating point has for a label; ``None`` for none."""
    if point.thresholds is not None:
        return point.thresholds[label]
    return point.threshold if point.label == task.labels[label] else None


def plot_agreement(
    task: Task,
    original: NDArray[np.float32],
    export: NDArray[np.float32],
    thresholds: Sequence[float | None],
    turned: NDArray[np.bool_],
) -> Any:
    """Draw the alert label's probability by an export against that by its original.

    Without an alert label, that of every label is drawn.

    Parameters
    ----------
    task
        The task.
    original, export
        Probabilities of the same images, shape (n, classes).
    thresholds
        Thresholds of the operating point for the original and the export; ``None`` for none.
    turned
        Whether each image is decided differently, shape (n,); in a
        multi-label task each label of it, shape (n, labels).
    """
    alert = task.alert_index
    shown = slice(None) if alert is None else [alert]
    given, made = original[:, shown].ravel(), export[:, shown].ravel()
    turned = turned[:, shown].ravel() if turned.ndim == 2 else turned
    figure = _figure(4.4, 4.2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1)
    for chosen, colour, name in (
        (~turned, _BLUE, "decided alike"),
        (turned, _ORANGE, "decided differently"),
    ):
        axes.plot(
            given[chosen],
            made[chosen],
            "o",
            ms=3.5,
            alpha=0.55,
            color=colour,
            label=f"{name} ({chosen.sum()})",
        )
    for threshold, draw in zip(thresholds, (axes.axvline, axes.axhline), strict=True):
        if threshold is not None:
            draw(threshold, color=_GREY, linewidth=0.8)
    axes.set(
        xlabel="original", ylabel="export", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02),
        title=f"Probability of {task.alert or 'each label'}",
    )  # fmt: skip
    axes.legend(fontsize=8, loc="upper left")
    return figure


def plot_roc_overlay(
    task: Task, labels: NDArray[np.int64], models: dict[str, NDArray[np.float32]]
) -> Any:
    """Draw the alert label's ROC curves of several models in one plot.

    Without an alert label, those of :func:`shown_label` are drawn.

    Parameters
    ----------
    task
        The task.
    labels
        True label indices, shape (n,); in a multi-label task 0 and 1, shape
        (n, labels).
    models
        Probabilities, shape (n, classes), by name; the first is the original.
    """
    from matplotlib import colormaps
    from sklearn.metrics import roc_auc_score, roc_curve

    shown = shown_label(task, labels)
    figure = _figure(4.8, 4.2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1)
    for number, (name, scores) in enumerate(models.items()):
        truth = has_label(labels, shown)
        false_rate, true_rate, _ = roc_curve(truth, scores[:, shown])
        area = roc_auc_score(truth, scores[:, shown])
        axes.plot(
            false_rate,
            true_rate,
            color=_GREY if number == 0 else colormaps["tab10"](number - 1),
            linewidth=4 if number == 0 else 1.3,
            alpha=0.5 if number == 0 else 0.9,
            label=f"{name} (AUC {area:.4f})",
        )
    axes.set(title=f"ROC of {task.labels[shown]}", xlabel="1 - specificity", ylabel="sensitivity")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7.5, loc="lower right")
    return figure


def shown_label(task: Task, labels: NDArray[np.int64]) -> int:
    """Return the index of the alert label, or else of the label that the most images have."""
    if task.alert_index is not None:
        return task.alert_index
    return int(labels.sum(axis=0).argmax())


def plot_confusion(task: Task, confusion: Sequence[Sequence[int]], images: str = OFFICIAL) -> Any:
    """Draw a confusion matrix: rows true, columns decided, shaded by share of the row.

    Of a multi-label task, draw what became of each label; see
    :data:`medkit.models.figures.OUTCOMES`. It is shaded by share of the images
    that have the label, and of those that have not.
    """
    matrix = np.array(confusion)
    if task.multi_label:
        sides = matrix.reshape(len(matrix), 2, 2)
        share = (sides / np.maximum(sides.sum(axis=2, keepdims=True), 1)).reshape(matrix.shape)
        total = matrix[0].sum()
    else:
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        total = matrix.sum()
    columns: Sequence[str] = OUTCOMES if task.multi_label else task.labels
    size = 4.2 if task.binary else 7.4
    figure = _figure(size, size * 0.92)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    many = len(task.labels) > _MOST_NAMED
    for row, column in np.ndindex(*matrix.shape):
        if many and not matrix[row, column]:
            continue
        colour = "white" if share[row, column] > 0.6 else "black"
        axes.text(
            column, row, matrix[row, column], ha="center", va="center", color=colour,
            fontsize=6 if many else None,
        )  # fmt: skip
    axes.set_xticks(
        range(len(columns)),
        columns,
        rotation=0 if task.binary else 40,
        ha="center" if task.binary else "right",
    )
    axes.set_yticks(range(len(task.labels)), task.labels)
    if many:
        axes.tick_params(labelsize=6)
    title = f"{images[:1].upper()}{images[1:]} ({counted(int(total), 'image')})"
    axes.set(title=title, xlabel="decided", ylabel="true")
    if task.multi_label:
        axes.set(xlabel="what became of it", ylabel="label")
    return figure


def plot_reliability(figures: Figures) -> Any:
    """Draw how often decisions are right against the confidence of the network in them.

    Of a multi-label task, draw how often images have a label against its probability.
    """
    what, told, right_is = "images", "probability of the likeliest label", "share that is right"
    if figures.thresholds is not None:
        what, told = "labels of images", "probability of a label"
        right_is = "share of images that have it"
    figure = _figure(5.2, 4.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1, label="as sure as right")
    bins = figures.reliability
    for entry in bins:
        width = entry.upper - entry.lower
        axes.bar(entry.lower, entry.accuracy, width, align="edge", color=_BLUE, alpha=0.35)
        axes.text(entry.lower + width / 2, 0.02, entry.images, ha="center", fontsize=7.5)
    confidence = [entry.confidence for entry in bins]
    right = [entry.accuracy for entry in bins]
    axes.plot(confidence, right, "o-", ms=4, color=_ORANGE, label=f"{what} (their number below)")
    error = figures.calibration_error
    axes.set(
        title="Reliability" if error is None else f"Reliability, calibration error {error:.3f}",
        xlabel=told,
        ylabel=right_is,
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
    return figure


def plot_rates(rates: dict[str, float], limits: dict[str, float], others: dict[str, float]) -> Any:
    """Draw images a second as bars. Behind those of medkit stands the packed limit.

    Parameters
    ----------
    rates, limits
        Rates and limits of medkit's files and runtimes, by name.
    others
        Rates of other tools, by name.
    """
    names = [*sorted(rates, key=rates.__getitem__, reverse=True)]
    names += sorted(others, key=others.__getitem__, reverse=True)
    figure = _figure(9.0, 0.9 + 0.42 * len(names))
    axes = figure.subplots()
    places = np.arange(len(names))
    values = [rates.get(name, others.get(name, 0.0)) for name in names]
    axes.barh(places, [limits.get(name, 0.0) for name in names], color="#d7dbe2", label="limit")
    colours = [_BLUE if name in rates else _ORANGE for name in names]
    axes.barh(places, values, height=0.5, color=colours)
    for place, value in zip(places, values, strict=True):
        axes.text(value, place, f" {value:,.0f}", va="center", fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="images a second, whole process (grey: the packed limit)")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return figure


def save_svg(figure: Any, path: Path) -> None:
    """Write a figure as SVG, atomically; its text stays text."""
    import matplotlib

    with replacing(path) as temporary, matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def _figure(width: float, height: float) -> Any:
    require("draw plots", "matplotlib")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _line(axes: Any, epochs: list[int], values: list[float], name: str, colour: str) -> None:
    axes.plot(epochs, values, "o-", ms=3, color=colour, label=name)


def save_png(figure: Any, path: Path) -> None:
    """Write a figure as PNG, atomically; the same figures give the same bytes."""
    with replacing(path) as temporary:
        temporary.write_bytes(png_bytes(figure))


def png_bytes(figure: Any) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    # No date and version inside: the same figures give the same file.
    figure.savefig(buffer, dpi=_DPI, format="png", metadata={"Software": None})
    return buffer.getvalue()
