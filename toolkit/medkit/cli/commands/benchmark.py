"""``medkit benchmark``."""

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli import completion
from medkit.cli.options import (
    MODEL,
    OUTPUT,
    SPEED,
    TASK_NAMES,
    BatchSizeOption,
    ThreadsOption,
    TrainedOption,
    fresh_reports,
    write_reports,
)
from medkit.defaults import AUTO, BATCH_SIZE, BENCHMARK_ROUNDS, PNEUMONIA_NAME, SKIN_NAME


def benchmark(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]", help="Folder of images. [default: images that are made for it]"
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            help=f"{TASK_NAMES}; or auto: {PNEUMONIA_NAME} or {SKIN_NAME}, by the first image's "
            "colour.",
            metavar="NAME",
            autocompletion=completion.tasks_or_auto,
            rich_help_panel=MODEL,
        ),
    ] = AUTO,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers", help="Also run other tools that are installed.", rich_help_panel=SPEED
        ),
    ] = False,
    repeats: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of rounds. The best one counts.", rich_help_panel=SPEED
        ),
    ] = BENCHMARK_ROUNDS,
    batch_size: BatchSizeOption = BATCH_SIZE,
    threads: ThreadsOption = None,
    json_path: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write every figure as JSON, - to standard output.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    svg_path: Annotated[
        Path | None,
        typer.Option("--svg", metavar="FILE", help="Write a bar chart.", rich_help_panel=OUTPUT),
    ] = None,
    trained: TrainedOption = None,
) -> None:
    """Measure how fast a folder is classified, and compare that with this machine's limit."""
    from medkit.benchmark.options import BenchmarkOptions
    from medkit.benchmark.result import write_benchmark, write_chart
    from medkit.benchmark.run import run_benchmark
    from medkit.cli.console import result_console
    from medkit.cli.progress import Steps
    from medkit.cli.views.benchmark import show_benchmark
    from medkit.extras import require

    options = BenchmarkOptions(folder, task, batch_size, threads, repeats, peers, trained)
    reports = ((json_path, write_benchmark), (svg_path, write_chart))
    if svg_path is not None:
        require("draw the chart", "matplotlib")
    console = result_console(json_path, svg_path)
    with fresh_reports(path for path, _ in reports), Steps() as note:
        found = run_benchmark(options, note)
    show_benchmark(console, found)
    write_reports(found, reports)
