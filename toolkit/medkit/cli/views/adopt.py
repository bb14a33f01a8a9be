"""What an adoption measured and wrote, as tables."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.console import Console

from medkit.cli.console import DISCLAIMER, show_table, spread, table, visible
from medkit.defaults import BALANCED
from medkit.models.adoption import BEST, WORSE, worth_showing

if TYPE_CHECKING:
    from medkit_exporters.adoption.measuring import Measured
    from medkit_exporters.adoption.options import AdoptResult


def show_measured(console: Console, measured: Measured) -> None:
    """Show how good the model is under each pixel rule and resize that was tried."""
    if not measured.candidates:
        return
    shown = table("pixels", "resize", right=("accuracy", "loss"))
    shown.add_column("", no_wrap=True)
    rules = worth_showing(measured.candidates)
    for each in rules:
        verdict = "" if each.verdict == WORSE else each.verdict
        shown.add_row(
            visible(each.pixels),
            each.resize,
            f"{each.accuracy:.3f}",
            f"{each.loss:.4f}",
            f"[green]{verdict}" if verdict == BEST else verdict,
        )
    show_table(console, shown)
    left = len(measured.candidates) - len(rules)
    others = f"; {left} more are worse" if left else ""
    console.print(
        f"measured on {measured.images:,} images, none of them of the test part{others}",
        soft_wrap=True,
    )


def show_adoption(console: Console, result: AdoptResult) -> None:
    """Show what was measured, the figures, where the bundle lies, and the next commands."""
    task, manifest = result.task, result.manifest
    show_measured(console, result.measured)
    shown = table("images", right=("number", "accuracy", "95 %", "AUC", "95 % "))
    for name in ("validation", "test"):
        if BALANCED in manifest.metrics.get(name, {}):
            figures = manifest.metrics[name][BALANCED]
            shown.add_row(
                name,
                f"{figures.images:,}",
                *spread(figures.accuracy, figures.intervals.accuracy),
                *spread(figures.auc, figures.intervals.auc),
            )
    if shown.rows:
        show_table(console, shown)
    contract = manifest.contract
    colours = "grey" if contract.channels == 1 else "RGB"
    console.print(
        f"{visible(task.name)}: {contract.width}x{contract.height} {colours}, pixels "
        f"{visible(result.pixels)}, resize {contract.resize}, {len(task.labels)} labels",
        soft_wrap=True,
    )
    if manifest.adoption is not None and not manifest.adoption.calibrated:
        console.print(
            "uncalibrated: no labelled image told temperature or operating points",
            soft_wrap=True,
        )
    console.print(f"written to {result.folder}", soft_wrap=True, markup=False)
    trained = shlex.quote(str(result.folder.parent))
    name = result.file.name
    following = (
        f"medkit export {task.name} --fp16 --trained {trained}"
        if name.endswith(".keras")
        else f"medkit classify DIR --task {task.name} --trained {trained} --out preds.csv"
    )
    console.print(f"next: {following}", soft_wrap=True, markup=False)
    console.print(DISCLAIMER)
