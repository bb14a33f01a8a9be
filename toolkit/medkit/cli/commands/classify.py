"""``medkit classify``."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medkit.cli import completion
from medkit.cli.interrupts import interrupt_as_usual
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
from medkit.cli.status import INTERRUPTED, SOME_ROWS_FAILED, TERMINATED
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

if TYPE_CHECKING:
    from medkit.batch.options import ClassifyOptions


def classify(
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
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH ...]", help="Images, and folders of them."),
    ] = None,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from-file",
            metavar="LIST",
            help="A file with a path a line, or - for standard input: more images and folders.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            help=f"{TASK_NAMES}; or auto: grey images are X-rays, others skin.",
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
            help="Take only images that match, and any file whose suffix it spells; repeat for "
            "several.",
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
    all_files: Annotated[
        bool,
        typer.Option(
            "--all-files",
            help="Give a row to each file that is passed over as well.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    absolute_paths: Annotated[
        bool,
        typer.Option(
            "--absolute-paths",
            help="Write absolute paths into the rows.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
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
    retry_errors: Annotated[
        bool,
        typer.Option(
            "--retry-errors",
            help="With --resume, try again what has a row with an error.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the output if it already exists.", rich_help_panel=OUTPUT
        ),
    ] = False,
    excel: Annotated[
        bool,
        typer.Option(
            "--excel",
            help="Write a CSV that Excel opens with every letter intact.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
) -> None:
    """Classify images and write one row for each.

    Exit status 3 says that some images could not be classified; their rows say
    why. Ctrl-C ends the run after the images in work, and so does SIGTERM. A
    second one ends it at once.
    """
    interrupt_as_usual()
    # Before anything is imported: to the first process of a container, a signal that nobody
    # handles is nothing.
    with _ending_at_signals() as ending:
        from medkit.batch.options import ClassifyOptions
        from medkit.batch.run import classify_files
        from medkit.cli.console import stderr_console
        from medkit.cli.views.classify import ClassifyProgress, show_summary
        from medkit.images.limits import Limits
        from medkit.system.memory import keep_freed_memory

        if ending.event.is_set():
            _tell_ended(ending, out, 0)
            raise typer.Exit(ending.status)
        keep_freed_memory()
        options = ClassifyOptions(
            inputs=tuple(inputs or ()),
            from_file=from_file,
            out=out,
            task=task,
            model=model,
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            all_files=all_files,
            absolute_paths=absolute_paths,
            operating_point=operating_point,
            runtime=runtime,
            engine=engine,
            batch_size=batch_size,
            threads=threads,
            trained=trained,
            resume=resume,
            retry_errors=retry_errors,
            overwrite=overwrite,
            excel=excel,
            limits=Limits(max_megapixels, max_seconds, max_megabytes, max_expansion),
        )
        console = stderr_console()
        progress = ClassifyProgress(console)
        try:
            with progress:
                summary = classify_files(options, progress, ending.event)
        except KeyboardInterrupt:
            _tell_ended(ending, out, progress.done)
            raise typer.Exit(ending.status) from None
    if summary.interrupted:
        _tell_ended(ending, out, progress.done)
        raise typer.Exit(ending.status)
    show_summary(console, summary, _not_chosen(options))
    if summary.errors:
        raise typer.Exit(SOME_ROWS_FAILED)


def _not_chosen(options: "ClassifyOptions") -> tuple[str, ...]:
    """Return the tasks that a run whose images chose their tasks could not choose."""
    from medkit.tasks import own_tasks

    chosen_by_colour = options.task == AUTO and options.model is None
    return tuple(own_tasks(options.trained)) if chosen_by_colour else ()


@dataclass
class _Ending:
    """Whether the run is to end, and by which signal."""

    event: Event = field(default_factory=Event)
    signal: int = signal.SIGINT

    @property
    def status(self) -> int:
        """The exit status that tells of the signal."""
        return TERMINATED if self.signal == signal.SIGTERM else INTERRUPTED


@contextmanager
def _ending_at_signals() -> Iterator[_Ending]:
    """Give what the first Ctrl-C or SIGTERM sets; a second one interrupts at once.

    SIGTERM is what ends a container. Its first process ignores a signal that
    has no handler, so a second one is handled as well.
    """
    ending = _Ending()

    def end(signum: int, frame: Any) -> None:
        if ending.event.is_set():
            raise KeyboardInterrupt
        ending.signal = signum
        ending.event.set()

    before = {}
    if current_thread() is main_thread():
        for each in (signal.SIGINT, signal.SIGTERM):
            # Who started the process may want no interruption.
            if signal.getsignal(each) is not signal.SIG_IGN:
                before[each] = signal.signal(each, end)
    try:
        yield ending
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _tell_ended(ending: _Ending, out: str, rows: int) -> None:
    how = "terminated" if ending.status == TERMINATED else "interrupted"
    if rows == 0:
        told = "no row was written"
    elif out == STDOUT:
        told = "the rows until then are on standard output"
    else:
        told = f"the rows until then are in {out}; continue with the same command and --resume"
    typer.echo(f"medkit: {how}; {told}", err=True)
