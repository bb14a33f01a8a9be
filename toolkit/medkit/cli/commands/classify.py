"""``medkit classify``."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Annotated, Any

import typer

from medkit.cli import completion
from medkit.cli.options import (
    IMAGES,
    LIMITS,
    MODEL,
    OUTPUT,
    SPEED,
    TASK_NAMES,
    BatchSizeOption,
    ThreadsOption,
    TrainedOption,
)
from medkit.cli.status import INTERRUPTED, SOME_ROWS_FAILED
from medkit.defaults import (
    AUTO,
    BALANCED,
    BATCH_SIZE,
    ENGINE,
    EXPANSION,
    MEGABYTES,
    MEGAPIXELS,
    RUNTIME,
    SECONDS,
    STDOUT,
)


def classify(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="PATH ...", help="Images, and folders of them.")
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help="FILE.csv, FILE.jsonl, or - for standard output.",
            metavar="FILE",
            rich_help_panel=OUTPUT,
        ),
    ],
    task: Annotated[
        str,
        typer.Option(
            help=f"{TASK_NAMES}, a task in --trained, or auto: grey images are X-rays, "
            "others skin.",
            metavar="NAME",
            autocompletion=completion.tasks_or_auto,
            rich_help_panel=MODEL,
        ),
    ] = AUTO,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .tflite, .onnx or .keras file to use instead.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    operating_point: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="balanced, or high-sensitivity: fewer missed cases, more false alarms.",
            autocompletion=completion.operating_points,
            rich_help_panel=MODEL,
        ),
    ] = BALANCED,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Take only images that match; repeat for several.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Leave out images and folders that match; repeat for several.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="litert, onnx, openvino or keras. auto: the fastest on this machine that has "
            f"passed parity. [default: {RUNTIME}]",
            autocompletion=completion.runtimes_or_auto,
            rich_help_panel=MODEL,
        ),
    ] = None,
    batch_size: BatchSizeOption = BATCH_SIZE,
    threads: ThreadsOption = None,
    max_megapixels: Annotated[
        float,
        typer.Option(
            metavar="N", help="Millions of pixels that an image may have.", rich_help_panel=LIMITS
        ),
    ] = MEGAPIXELS,
    max_seconds: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="Seconds that reading and decoding an image may take.",
            rich_help_panel=LIMITS,
        ),
    ] = SECONDS,
    max_megabytes: Annotated[
        float,
        typer.Option(
            metavar="N", help="Millions of bytes that a file may have.", rich_help_panel=LIMITS
        ),
    ] = MEGABYTES,
    max_expansion: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="Largest ratio of unpacked to stored bytes of a large file. "
            "Blank scans need more.",
            rich_help_panel=LIMITS,
        ),
    ] = EXPANSION,
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How the work is spread: threads, or the engine of a plug-in.",
            autocompletion=completion.engines,
            rich_help_panel=SPEED,
        ),
    ] = ENGINE,
    trained: TrainedOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Keep the rows that are there, and add the missing ones.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the output if it already exists.", rich_help_panel=OUTPUT
        ),
    ] = False,
) -> None:
    """Classify images and write one row for each.

    Exit status 3 says that some images could not be classified; their rows say
    why. Ctrl-C ends the run after the images in work. A second Ctrl-C ends it at
    once.
    """
    from medkit.batch.options import ClassifyOptions
    from medkit.batch.run import classify_files
    from medkit.cli.console import stderr_console
    from medkit.cli.interrupts import interrupt_as_usual
    from medkit.cli.views.classify import ClassifyProgress, show_summary
    from medkit.images.limits import Limits
    from medkit.system.memory import keep_freed_memory

    interrupt_as_usual()
    keep_freed_memory()
    options = ClassifyOptions(
        inputs=tuple(inputs),
        out=out,
        task=task,
        model=model,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        operating_point=operating_point,
        runtime=runtime,
        engine=engine,
        batch_size=batch_size,
        threads=threads,
        trained=trained,
        resume=resume,
        overwrite=overwrite,
        limits=Limits(max_megapixels, max_seconds, max_megabytes, max_expansion),
    )
    console = stderr_console()
    progress = ClassifyProgress(console)
    try:
        with _ending_at_interrupt() as ending, progress:
            summary = classify_files(options, progress, ending)
    except KeyboardInterrupt:
        _tell_interrupted(out, progress.done)
        raise typer.Exit(INTERRUPTED) from None
    if summary.interrupted:
        _tell_interrupted(out, progress.done)
        raise typer.Exit(INTERRUPTED)
    show_summary(console, summary)
    if summary.errors:
        raise typer.Exit(SOME_ROWS_FAILED)


@contextmanager
def _ending_at_interrupt() -> Iterator[Event]:
    """Give an event that the first Ctrl-C sets; a second one interrupts as usual."""
    ending = Event()

    def end(signum: int, frame: Any) -> None:
        ending.set()
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or current_thread() is not main_thread():
        yield ending  # who started the process wants no interruption, or handles it
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield ending
    finally:
        signal.signal(signal.SIGINT, before)


def _tell_interrupted(out: str, rows: int) -> None:
    if rows == 0:
        typer.echo("medkit: interrupted; no row was written", err=True)
        return
    if out == STDOUT:
        typer.echo("medkit: interrupted; the rows until then are on standard output", err=True)
        return
    typer.echo(
        f"medkit: interrupted; the rows until then are in {out}; continue with the same command "
        "and --resume",
        err=True,
    )
