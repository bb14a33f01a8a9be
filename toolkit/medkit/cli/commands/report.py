"""``medkit report``."""

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli import completion
from medkit.cli.options import (
    MODEL,
    OUTPUT,
    TASK_NAMES,
    DataOption,
    LabelsMapOption,
    TrainedOption,
    fresh_reports,
    is_stdout,
    report_file,
)


def report(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help=f"{TASK_NAMES}.", autocompletion=completion.tasks)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="[default: TASK-report.html]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    data: DataOption = None,
    labels_map: LabelsMapOption = None,
    trained: TrainedOption = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            rich_help_panel=MODEL,
            help="Another bundle, or folder of bundles, to compare with. [default: the seed "
            "recipe's run, for the shipped models]",
        ),
    ] = None,
) -> None:
    """Write one HTML page that shows how good a model is and where it fails."""
    from medkit.cli.console import stderr_console
    from medkit.cli.progress import Steps
    from medkit.datasets.labels import read_labels_map
    from medkit.datasets.location import data_folder
    from medkit.reports.report import ReportOptions, write_report
    from medkit.tasks import get_task

    chosen = get_task(task, trained)
    path = out or Path(f"{chosen.name}-report.html")
    spellings = read_labels_map(labels_map or (), [chosen])
    source = data_folder(data, [chosen])
    with fresh_reports([path]), report_file(path) as target, Steps() as note:
        options = ReportOptions(chosen, target, source, trained, against, spellings)
        write_report(options, note)
    where = "standard output" if is_stdout(path) else str(path)
    stderr_console().print(f"written to {where}", soft_wrap=True, markup=False)
