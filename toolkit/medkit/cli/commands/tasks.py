"""``medkit tasks``."""

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.options import OUTPUT, TrainedOption, fresh_reports, write_reports


def tasks(
    trained: TrainedOption = None,
    json_path: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write everything as JSON, with all labels, - to standard output.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """List the tasks that there are: input, labels, model files and figures.

    Exit status 1 says that a folder of models cannot be used; a line says why.
    """
    from medkit.cli.console import result_console
    from medkit.cli.views.tasks import show_catalogue
    from medkit.models.catalogue import list_tasks, write_catalogue

    console = result_console(json_path)
    with fresh_reports([json_path]):
        found = list_tasks(trained)
    show_catalogue(console, found)
    write_reports(found, [(json_path, write_catalogue)])
    for problem in found.problems:
        typer.echo(f"medkit: {problem}", err=True)
    if found.problems:
        raise typer.Exit(1)
