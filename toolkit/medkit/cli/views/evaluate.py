"""The figures of an evaluation, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from medkit.cli.console import DISCLAIMER, spread, table, visible

if TYPE_CHECKING:
    from medkit.evaluation.folder import Evaluation


def show_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Show every figure of an evaluation with its interval, and the files left out."""
    figures = evaluation.figures
    console.print(
        f"{evaluation.task.name}: {evaluation.file} on {evaluation.runtime}, {figures.images} "
        f"images of {evaluation.folder}, operating point {figures.operating_point}",
        soft_wrap=True,
        markup=False,
    )
    shown = table("figure", right=("value", "95 % interval"))
    intervals = figures.intervals
    for name, value, interval in (
        ("accuracy", figures.accuracy, intervals.accuracy),
        ("balanced accuracy", figures.balanced_accuracy, intervals.balanced_accuracy),
        ("AUC", figures.auc, intervals.auc),
        ("calibration error", figures.calibration_error, intervals.calibration_error),
    ):
        shown.add_row(name, *spread(value, interval))
    console.print(shown)
    shown = table("class", right=("images", "sensitivity", "", "specificity", ""))
    for index, label in enumerate(evaluation.task.labels):
        shown.add_row(
            label,
            str(sum(figures.confusion[index])),
            *spread(figures.sensitivity[label], intervals.sensitivity[label], digits=2),
            *spread(figures.specificity[label], intervals.specificity[label], digits=2),
        )
    console.print(shown)
    for line in evaluation.remarks:
        console.print(visible(line), soft_wrap=True)
    for name, error in evaluation.unreadable:
        console.print(visible(f"left out: {name}: {error}"), soft_wrap=True)
    console.print(DISCLAIMER)
