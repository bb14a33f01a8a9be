"""``medkit audit``."""

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli import completion
from medkit.cli.options import (
    DATA_HELP,
    IMAGES,
    OUTPUT,
    TASK_NAMES,
    LabelsMapOption,
    TrainedOption,
    fresh_reports,
    write_reports,
)
from medkit.errors import UsageError


def audit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help=DATA_HELP)],
    task: Annotated[
        str | None,
        typer.Option(
            help=f"{TASK_NAMES}. Its labels are the classes. [default: every folder is]",
            metavar="TASK",
            autocompletion=completion.tasks,
            rich_help_panel=IMAGES,
        ),
    ] = None,
    labels_map: LabelsMapOption = None,
    json_path: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write every finding as JSON, - to standard output.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    html_path: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write a page with the worst cases' pictures.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit 1 for duplicates and shared patients, too.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    trained: TrainedOption = None,
) -> None:
    """Find problems in labelled images before training on them.

    Exit status 1 says that files are unreadable, or that an image lies under
    two labels or in two splits.
    """
    from medkit.cli.console import result_console
    from medkit.cli.progress import Steps
    from medkit.cli.views.audit import show_audit
    from medkit.datasets.audit import audit_folder, write_audit_json
    from medkit.datasets.labels import Labels, read_labels_map
    from medkit.datasets.location import find
    from medkit.extras import require
    from medkit.reports.audit_page import write_audit_page
    from medkit.tasks import get_task

    known = None if task is None else get_task(task, trained)
    if known is not None and known.multi_label:
        raise UsageError(
            f"audit reads class folders, and the multi-label task {known.name} has a table of "
            "labels; leave --task out to compare the images alone"
        )
    spellings = read_labels_map(labels_map or (), [known] if known else ())
    labels = Labels.of(known, spellings) if known else Labels(None, spellings)
    # Splits of other names than the task's, such as train and val, can be audited as well.
    located = find(known, folder, labels) if known else None
    place = located.root if located else folder
    reports = ((json_path, write_audit_json), (html_path, write_audit_page))
    if html_path is not None:
        require("write a page", "jinja2")
    console = result_console(json_path, html_path)
    with (
        fresh_reports(path for path, _ in reports),
        Steps() as note,
    ):
        found = audit_folder(place, note, None, labels)
    show_audit(console, found)
    write_reports(found, reports)
    if found.problems or (strict and found.findings):
        raise typer.Exit(1)
