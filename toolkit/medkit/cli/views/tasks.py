"""The tasks that there are, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from medkit.cli.console import show_table, table, visible
from medkit.models.catalogue import origin_of
from medkit.models.formats import PRECISIONS

if TYPE_CHECKING:
    from medkit.images.contract import InputContract
    from medkit.models.catalogue import Catalogue, ListedTask


def show_catalogue(console: Console, found: Catalogue) -> None:
    """Show the tasks of each folder in a table, below the path of the folder."""
    for folder in found.folders:
        tasks = [task for task in found.tasks if task.folder.parent == folder]
        holds = "" if tasks else " holds no task"
        console.print(f"{origin_of(folder)}: {visible(str(folder))}{holds}", soft_wrap=True)
        if tasks:
            _show_tasks(console, tasks)


def _show_tasks(console: Console, tasks: Sequence[ListedTask]) -> None:
    shown = table("task", "input", "labels", "models", right=("accuracy", "AUC"))
    shown.add_column("of the", no_wrap=True)
    for task in tasks:
        figures = task.figures
        shown.add_row(
            visible(task.task.name),
            _input(task.contract),
            str(len(task.task.labels)),
            _precisions(task),
            "-" if figures is None else f"{figures.accuracy:.3f}",
            "-" if figures is None or figures.auc is None else f"{figures.auc:.3f}",
            task.split or ("-" if task.calibrated else "uncalibrated"),
        )
    show_table(console, shown)


def _input(contract: InputContract) -> str:
    colours = "grey" if contract.channels == 1 else "RGB"
    return f"{contract.width}x{contract.height} {colours}"


def _precisions(task: ListedTask) -> str:
    """Return the precisions that there are files of, the smallest first."""
    there = {file.precision for file in task.files}
    order = (*PRECISIONS, *sorted(there - set(PRECISIONS)))
    return " ".join(name for name in order if name in there) or "none"
