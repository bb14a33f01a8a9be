"""``medkit report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.options import (
    TASK_NAMES,
    DataOption,
    TrainedOption,
    fresh_reports,
)


def report(
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"{TASK_NAMES}.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="[default: TASK-report.html]")
    ] = None,
    data: DataOption = None,
    trained: TrainedOption = None,
) -> None:
    """Write one HTML page that shows how good a model is and where it fails."""
    from medkit.cli.console import noting, stderr_console
    from medkit.datasets.location import data_folder
    from medkit.reports.report import ReportOptions, write_report
    from medkit.tasks import get_task

    chosen = get_task(task, trained)
    path = out or Path(f"{chosen.name}-report.html")
    options = ReportOptions(chosen, path, data_folder(data, [chosen]), trained)
    console = stderr_console()
    with fresh_reports([path]), console.status("starting") as status:
        write_report(options, noting(console, status))
    console.print(f"written to {path}", soft_wrap=True, markup=False)
