"""``medkit inspect``."""

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.options import (
    OUTPUT,
    fresh_reports,
    write_reports,
)


def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .tflite, .onnx, .keras or .h5 file.")
    ],
    json_path: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write every operator as JSON, - to standard output.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Show what a model file is: labels, contract, hash, operators, and in what they compute."""
    from medkit.cli.console import result_console
    from medkit.cli.views.inspect import show_inspection
    from medkit.models.inspection import inspect_file, write_inspection

    console = result_console(json_path)
    with fresh_reports([json_path], given=file):
        found = inspect_file(file)
    show_inspection(console, found)
    write_reports(found, [(json_path, write_inspection)])
