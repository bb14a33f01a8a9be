"""The parity page: one HTML file, complete in itself, of what an export changed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from medkit.bundles import replacing
from medkit.comparison import Comparison, Flip
from medkit.decisions import BALANCED, decide
from medkit.errors import MissingExtraError
from medkit.pages import picture_uri, png_uri, render
from medkit.parity import Evidence, Parity
from medkit.plots import plot_agreement, plot_roc_overlay, png_bytes

MOST_FLIPS = 48
"""Flipped images that are shown of each export; all are in the JSON report."""


def check_page_extras() -> None:
    """Raise :class:`MissingExtraError` where a page could not be written, before any work."""
    for module, package in (("jinja2", "jinja2"), ("matplotlib", "matplotlib")):
        if find_spec(module) is None:
            raise MissingExtraError(package, "export", "write a page")


def write_parity_page(parity: Parity, path: Path) -> None:
    """Write what a parity run found as a page, atomically.

    For each task the ROC curves over one another; for each export its gates,
    its ladder, its probabilities over the original's, and the images that
    flipped.

    Raises
    ------
    MissingExtraError
        If matplotlib or Jinja2 is not installed.
    """
    page = render(
        "parity.html.jinja",
        parity=parity,
        tasks=[_task_section(evidence, parity.comparisons) for evidence in parity.evidence],
    )
    with replacing(path) as temporary:
        # Of a name that is no UTF-8 an escape is shown.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _task_section(evidence: Evidence, comparisons: tuple[Comparison, ...]) -> dict[str, Any]:
    task, images = evidence.bundle.task, evidence.images
    roc = None
    known = images.labels
    if known is not None and 0 < (known == task.labels.index(task.alert)).sum() < len(known):
        models = {"original": evidence.original.probabilities}
        models |= {
            name: found.probabilities
            for name, found in evidence.exports.items()
            if np.isfinite(found.probabilities).all()
        }
        roc = png_uri(png_bytes(plot_roc_overlay(task, known, models)))
    own = [item for item in comparisons if item.task == task.name]
    first = {item.file: item for item in reversed(own)}
    sections = [_export_section(evidence, item, item is first[item.file]) for item in own]
    return {"task": task, "roc": roc, "exports": sections}


def _export_section(evidence: Evidence, item: Comparison, first: bool) -> dict[str, Any]:
    """Return what a page shows of one comparison; the rest only for the file's first runtime."""
    section: dict[str, Any] = {"item": item, "scatter": None, "ladder": [], "flips": []}
    if not first:
        return section
    names = list(evidence.images.names)
    entry = evidence.bundle.manifest["exports"][item.file]
    section["ladder"] = entry.get("ladder", [])
    if np.isfinite(item.largest_difference):
        section["scatter"] = _scatter(evidence, item)
        section["flips"] = [
            _flip(evidence, flip, names.index(flip.name)) for flip in item.flips[:MOST_FLIPS]
        ]
    return section


def _scatter(evidence: Evidence, item: Comparison) -> str:
    task, original = evidence.bundle.task, evidence.original
    export = evidence.exports[item.file]
    points = original.points[BALANCED], export.points[BALANCED]
    turned = decide(task, original.probabilities, points[0]) != decide(
        task, export.probabilities, points[1]
    )
    thresholds = points[0].threshold, points[1].threshold
    figure = plot_agreement(task, original.probabilities, export.probabilities, thresholds, turned)
    return png_uri(png_bytes(figure))


def _flip(evidence: Evidence, flip: Flip, index: int) -> dict[str, Any]:
    return {"flip": flip, "image": picture_uri(evidence.pixels[index])}
