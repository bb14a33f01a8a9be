"""The parity page: one HTML file, complete in itself, of what an export changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medkit.defaults import BALANCED
from medkit.evaluation.comparison import Comparison
from medkit.evaluation.flips import Flip
from medkit.evaluation.intervals import has_label
from medkit.evaluation.parity import Evidence, Parity
from medkit.extras import require
from medkit.files import write_text
from medkit.models.decisions import decide
from medkit.models.manifest import RungRecord
from medkit.reports.html import picture_uri, png_uri, render
from medkit.reports.plots import (
    plot_agreement,
    plot_roc_overlay,
    png_bytes,
    shown_label,
    threshold_of,
)
from medkit.tasks import Task

MOST_FLIPS = 48
"""Flipped images that are shown of each export; all are in the JSON report."""


@dataclass(frozen=True)
class FlipPicture:
    """A flip and the address of its image."""

    flip: Flip
    image: str


@dataclass(frozen=True)
class ExportSection:
    """The section of the page on one comparison.

    Attributes
    ----------
    item
        The comparison.
    scatter
        Address of the plot of probabilities; ``None`` for no plot.
    ladder
        The rungs that the export tried.
    flips
        The flips that the page shows.
    """

    item: Comparison
    scatter: str | None = None
    ladder: tuple[RungRecord, ...] = ()
    flips: tuple[FlipPicture, ...] = ()


@dataclass(frozen=True)
class TaskSection:
    """The section of the page on one task; ``roc`` is the address of the plot of ROC curves."""

    task: Task
    roc: str | None
    exports: tuple[ExportSection, ...]


def write_parity_page(parity: Parity, path: Path) -> None:
    """Write what a parity run found as a page, atomically.

    It shows the ROC curves of each task in one plot. Of each export it shows
    gates, ladder, a plot of its probabilities against the original's, and the
    images that flipped.

    Raises
    ------
    MissingExtraError
        If Jinja2, matplotlib or scikit-learn is not installed.
    """
    require("write a page", "jinja2", "matplotlib", "sklearn")
    page = render(
        "parity.html.jinja",
        parity=parity,
        tasks=[_task_section(evidence, parity.comparisons) for evidence in parity.evidence],
    )
    write_text(path, page)


def _task_section(evidence: Evidence, comparisons: tuple[Comparison, ...]) -> TaskSection:
    task, images = evidence.bundle.task, evidence.images
    roc = None
    known = images.labels
    if known is not None and 0 < has_label(known, shown_label(task, known)).sum() < len(known):
        models = {"original": evidence.original.probabilities}
        models |= {
            name: found.probabilities
            for name, found in evidence.exports.items()
            if np.isfinite(found.probabilities).all()
        }
        roc = png_uri(png_bytes(plot_roc_overlay(task, known, models)))
    own = [item for item in comparisons if item.task == task.name]
    first = {item.file: item for item in reversed(own)}
    sections = (_export_section(evidence, item, item is first[item.file]) for item in own)
    return TaskSection(task, roc, tuple(sections))


def _export_section(evidence: Evidence, item: Comparison, first: bool) -> ExportSection:
    """Return what a page shows of one comparison.

    Plot, ladder and flips are shown for the file's first runtime only.
    """
    if not first:
        return ExportSection(item)
    ladder = evidence.bundle.manifest.exports[item.file].ladder
    if not np.isfinite(item.largest_difference):
        return ExportSection(item, ladder=ladder)
    places = {name: index for index, name in enumerate(evidence.images.names)}
    flips = (
        FlipPicture(flip, picture_uri(evidence.pixels[places[flip.name]]))
        for flip in item.flips[:MOST_FLIPS]
    )
    return ExportSection(item, _scatter(evidence, item), ladder, tuple(flips))


def _scatter(evidence: Evidence, item: Comparison) -> str:
    task, original = evidence.bundle.task, evidence.original
    export = evidence.exports[item.file]
    points = original.points[BALANCED], export.points[BALANCED]
    turned = decide(task, original.probabilities, points[0]) != decide(
        task, export.probabilities, points[1]
    )
    alert = task.alert_index
    thresholds = [None if alert is None else threshold_of(task, point, alert) for point in points]
    figure = plot_agreement(task, original.probabilities, export.probabilities, thresholds, turned)
    return png_uri(png_bytes(figure))
