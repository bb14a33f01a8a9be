"""``medkit parity``."""

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.options import (
    IMAGES,
    OUTPUT,
    DataOption,
    LabelsMapOption,
    MeasuredTasksArgument,
    TrainedOption,
    fresh_reports,
    tasks_held,
    tasks_of,
    write_reports,
)


def parity(
    tasks: MeasuredTasksArgument = None,
    data: DataOption = None,
    labels_map: LabelsMapOption = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder with a folder of images for each task. Used if there are no data sets.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    trained: TrainedOption = None,
    json_path: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write the figures as JSON, - to standard output.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    junit_path: Annotated[
        Path | None,
        typer.Option(
            "--junit", metavar="FILE", help="Write them as JUnit XML.", rich_help_panel=OUTPUT
        ),
    ] = None,
    html_path: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write a page with plots and the flipped images.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Show that the exported files decide like their originals; exit 1 if one does not."""
    from medkit.cli.console import result_console, visible
    from medkit.cli.progress import Steps
    from medkit.cli.views.parity import show_parity
    from medkit.datasets.labels import read_labels_map
    from medkit.datasets.location import HOW_TO_GET_DATA, data_folder
    from medkit.evaluation.junit import write_junit
    from medkit.evaluation.parity import ParityOptions, check_parity, write_parity_json
    from medkit.extras import require
    from medkit.reports.parity_page import write_parity_page

    chosen = tasks_of(tasks, trained)
    spellings = read_labels_map(labels_map or (), chosen)
    folder = data_folder(data, chosen)
    console = result_console(json_path, junit_path, html_path)
    if folder is None and samples is not None:
        typer.echo(f"no data sets, so samples only: {HOW_TO_GET_DATA}", err=True)
    reports = (
        (json_path, write_parity_json),
        (junit_path, write_junit),
        (html_path, write_parity_page),
    )
    if html_path is not None:
        require("write a page", "jinja2", "matplotlib", "sklearn")
    with fresh_reports(path for path, _ in reports), Steps() as note:
        if folder is not None and not tasks:
            chosen = tasks_held(chosen, folder, spellings, trained)
        options = ParityOptions(chosen, folder, samples, trained, spellings)
        found = check_parity(options, note)
    for line in found.remarks:
        console.print(visible(line), soft_wrap=True)
    show_parity(console, found.comparisons)
    write_reports(found, reports)
    if not found.passed:
        raise typer.Exit(1)
