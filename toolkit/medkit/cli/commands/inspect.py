"""``medkit inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.options import (
    fresh_reports,
)


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite, .onnx or .keras file.")],
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every operator as JSON.")
    ] = None,
) -> None:
    """Show what a model file is: labels, contract, hash, operators, and in what they compute."""
    from medkit.cli.console import stderr_console
    from medkit.cli.views.inspect import show_inspection
    from medkit.models.inspection import inspect_file, write_inspection

    with fresh_reports([json_path], given=file):
        found = inspect_file(file)
    show_inspection(stderr_console(), found)
    if json_path is not None:
        write_inspection(found, json_path)
