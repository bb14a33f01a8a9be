"""``medkit report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.options import (
    TASK_NAMES,
    DataOption,
    LabelsMapOption,
    TrainedOption,
    fresh_reports,
)


def report(
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"{TASK_NAMES}.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="[default: TASK-report.html]")
    ] = None,
    data: DataOption = None,
    labels_map: LabelsMapOption = None,
    trained: TrainedOption = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Another bundle, or folder of bundles, to compare with. [default: the seed "
            "recipe's run, for the shipped models]",
        ),
    ] = None,
) -> None:
    """Write one HTML page that shows how good a model is and where it fails."""
    from medkit.cli.console import noting, stderr_console
    from medkit.datasets.labels import read_labels_map
    from medkit.datasets.location import data_folder
    from medkit.reports.report import ReportOptions, write_report
    from medkit.tasks import get_task

    chosen = get_task(task, trained)
    path = out or Path(f"{chosen.name}-report.html")
    spellings = read_labels_map(labels_map or (), [chosen])
    folder = data_folder(data, [chosen])
    options = ReportOptions(chosen, path, folder, trained, against, spellings)
    console = stderr_console()
    with fresh_reports([path]), console.status("starting") as status:
        write_report(options, noting(console, status))
    console.print(f"written to {path}", soft_wrap=True, markup=False)
