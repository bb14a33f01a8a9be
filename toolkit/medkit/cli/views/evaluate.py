"""The figures of an evaluation, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from medkit.cli.console import DISCLAIMER, show_table, spread, table, visible
from medkit.wording import counted

if TYPE_CHECKING:
    from medkit.evaluation.folder import Evaluation


def show_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Show every figure of an evaluation with its interval, and the files left out."""
    figures = evaluation.figures
    console.print(
        f"{evaluation.task.name}: {evaluation.file} on {evaluation.runtime}, "
        f"{counted(figures.images, 'image')} of {evaluation.folder}, "
        f"operating point {figures.operating_point}",
        soft_wrap=True,
        markup=False,
    )
    shown = table("figure", right=("value", "95 % interval"))
    several = evaluation.task.multi_label
    intervals = figures.intervals
    for name, value, interval in (
        ("all labels right" if several else "accuracy", figures.accuracy, intervals.accuracy),
        ("balanced accuracy", figures.balanced_accuracy, intervals.balanced_accuracy),
        ("mean AUC" if several else "AUC", figures.auc, intervals.auc),
        ("calibration error", figures.calibration_error, intervals.calibration_error),
    ):
        shown.add_row(name, *spread(value, interval))
    show_table(console, shown)
    columns = "images", "sensitivity", "specificity", *(("AUC",) if several else ())
    shown = table("label" if several else "class", right=columns)
    for index, label in enumerate(evaluation.task.labels):
        shown.add_row(
            visible(label),
            f"{figures.images_of(index):,}",
            _in_one(figures.sensitivity[label], intervals.sensitivity[label]),
            _in_one(figures.specificity[label], intervals.specificity[label]),
            *([_in_one(figures.class_auc[label], None)] if several else []),
        )
    show_table(console, shown)
    for line in evaluation.remarks:
        console.print(visible(line), soft_wrap=True)
    for name, error in evaluation.unreadable:
        console.print(visible(f"left out: {name}: {error}"), soft_wrap=True)
    console.print(DISCLAIMER)


def _in_one(value: float | None, interval: Any) -> str:
    """Return a figure with its interval in one cell, which a table of 80 columns has room for."""
    figure, between = spread(value, interval, digits=2)
    return figure if interval is None else f"{figure} ({between})"
