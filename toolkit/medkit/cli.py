"""The command line: each command parses, makes one library call, and maps its errors.

Exit status: 0 done; 1 could not run, parity failed, or an audit found a problem; 2 wrong usage;
3 some images could not be classified; 130 interrupted.

Libraries are imported inside the commands, so that ``medkit --help`` answers
at once and ``medkit classify`` never pays for TensorFlow.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from medkit.errors import MedkitError, UsageError
from medkit.tasks import TASKS, Task, get_task
from medkit.version import __version__

SOME_ROWS_FAILED = 3
INTERRUPTED, PIPE_CLOSED = 130, 141  # 128 plus the signal's number, as shells report it


class _ErrorsAsLines(TyperGroup):
    """Turns what a command raises into one line on standard error and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Nobody reads on: what is still buffered must not raise again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(PIPE_CLOSED) from None
        except KeyboardInterrupt:
            typer.echo("medkit: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except MedkitError as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"medkit: error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    name="medkit",
    cls=_ErrorsAsLines,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts twice as fast
    help="Train two medical image classifiers, shrink them, prove that the small files decide "
    "like the originals, and run them over folders of images. Research software: a prediction "
    "is not a diagnosis.",
)

_TASK_NAMES = " or ".join(TASKS)

DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Folder with the data sets. [env: MEDKIT_DATA]"),
]
TrainedOption = Annotated[
    Path | None,
    typer.Option(
        "--trained",
        metavar="DIR",
        help="Folder with a model folder for each task. [default: what ships]",
    ),
]
TasksArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TASK ...]", help=f"{_TASK_NAMES}. [default: both]"),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medkit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Take the options that stand before a command."""
    # Third parties' hints to programmers are of no use to who runs a command.
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@app.command()
def audit(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Holds CLASS/IMAGE, or SPLIT/CLASS/IMAGE.")
    ],
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every finding as JSON.")
    ] = None,
    html_path: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with the worst cases' pictures."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 for duplicates and shared patients, too.")
    ] = False,
) -> None:
    """Look for what is wrong with labelled images, before training on them.

    Exit status 1 says that files are unreadable, or that an image lies under
    two labels or in two splits.
    """
    from medkit.audit import audit_folder, write_audit_json
    from medkit.auditpage import write_audit_page
    from medkit.console import show_audit, stderr_console

    reports = ((json_path, write_audit_json), (html_path, write_audit_page))
    _check_reports(path for path, _ in reports)
    console = stderr_console()
    with console.status("looking for images") as status:
        found = audit_folder(folder, _noting(console, status))
    show_audit(console, found)
    for path, write in reports:
        if path is not None:
            write(found, path)
    if found.problems or (strict and found.findings):
        raise typer.Exit(1)


@app.command()
def train(
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"{_TASK_NAMES}.")],
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="The data set, as Kaggle ships it."),
    ],
    recipe: Annotated[
        str, typer.Option(help="default: what ships. seed: the baseline it began from.")
    ] = "default",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder that gets a folder TASK. [default: the shipped models']"
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="ImageNet weights of ResNet50. [default: download]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Makes a run repeatable on the same machine.")] = 0,
    on_conflict: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="Images under two labels: error, drop, keep-first, keep-rarer. "
            "[default: the recipe's, which refuses unknown ones]",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model that is there.")
    ] = False,
) -> None:
    """Train a model and measure it on its official test split.

    Ctrl-C keeps the best epoch so far; --resume continues after it.
    """
    from medkit.console import TrainingProgress, show_training, stderr_console
    from medkit.training import TrainOptions, train_model

    options = TrainOptions(
        get_task(task), data, recipe, out, weights, seed, on_conflict, resume, overwrite
    )
    console = stderr_console()
    with TrainingProgress(console) as progress:
        result = train_model(options, progress)
    if result.manifest is not None:
        show_training(console, result.folder, result.manifest)
    if result.interrupted:
        kept = "the best epoch so far was kept" if result.manifest else "no epoch had ended"
        typer.echo(f"medkit: interrupted; {kept}", err=True)
        if result.manifest:
            typer.echo("continue with the same command and --resume", err=True)
        raise typer.Exit(INTERRUPTED)


@app.command()
def export(
    tasks: TasksArgument = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Integer kernels, calibrated on training images.")
    ] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Weights in half precision.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="As trained.")] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="tflite or onnx; repeat for both. [default: both]"),
    ] = None,
    data: DataOption = None,
    trained: TrainedOption = None,
    calibration_images: Annotated[
        int | None, typer.Option(metavar="N", help="Size of the calibration set. [default: 256]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which training images calibrate.")] = 0,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Points of accuracy, and hundredths of AUC, that a file may be off on validation "
            "images before the next rung of the ladder is tried. [default: 1]",
        ),
    ] = None,
) -> None:
    """Convert trained models to TFLite and ONNX files, int8 unless asked otherwise.

    A file that does not decide like its original is not kept: less is
    quantised, rung by rung, until one does; exit status 1 if none does.
    """
    from medkit.bundles import FORMATS
    from medkit.console import show_exports, stderr_console
    from medkit.parity import data_folder
    from medkit_exporters import ExportOptions, export_models
    from medkit_exporters.calibration import DEFAULT_COUNT
    from medkit_exporters.run import DEFAULT_DROP

    asked = {"int8": int8, "fp16": fp16, "fp32": fp32}
    options = ExportOptions(
        tasks=_tasks(tasks),
        formats=tuple(dict.fromkeys(formats or FORMATS)),
        precisions=tuple(name for name, wanted in asked.items() if wanted) or ("int8",),
        data=data_folder(data),
        trained=trained,
        calibration_images=DEFAULT_COUNT if calibration_images is None else calibration_images,
        seed=seed,
        max_drop=DEFAULT_DROP if max_drop is None else max_drop,
    )
    console = stderr_console()
    with console.status("starting") as status:
        files = export_models(options, _noting(console, status))
    show_exports(console, files, options)


@app.command()
def parity(
    tasks: TasksArgument = None,
    data: DataOption = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder with a folder of images a task, used without data."
        ),
    ] = None,
    trained: TrainedOption = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON.")
    ] = None,
    junit_path: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write them as JUnit XML.")
    ] = None,
    html_path: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with plots and what flipped."),
    ] = None,
) -> None:
    """Show that the exported files decide like their originals; exit 1 if one does not."""
    from medkit import parity as library
    from medkit.console import show_parity, stderr_console
    from medkit.paritypage import check_page_extras, write_parity_page

    options = library.ParityOptions(_tasks(tasks), library.data_folder(data), samples, trained)
    console = stderr_console()
    if options.data is None and options.samples is not None:
        typer.echo(f"no data sets, so samples only: {library.HOW_TO_GET_DATA}", err=True)
    reports = (
        (json_path, library.write_json),
        (junit_path, library.write_junit),
        (html_path, write_parity_page),
    )
    if html_path is not None:
        check_page_extras()
    _check_reports(path for path, _ in reports)
    with console.status("starting") as status:
        found = library.check_parity(options, _noting(console, status))
    show_parity(console, found.comparisons)
    for path, write in reports:
        if path is not None:
            write(found, path)
    if not found.passed:
        raise typer.Exit(1)


@app.command()
def classify(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="PATH ...", help="Images, and folders of them.")
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", help="FILE.csv, FILE.jsonl, or - for standard output.")
    ],
    task: Annotated[
        str, typer.Option(help=f"{_TASK_NAMES}, or auto: grey images are X-rays, others skin.")
    ] = "auto",
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .tflite, .onnx or .keras file to use instead."),
    ] = None,
    operating_point: Annotated[
        str,
        typer.Option(metavar="NAME", help="balanced, or high-sensitivity: miss less, alarm more."),
    ] = "balanced",
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only images that match; repeat for several."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="No images or folders that match; repeatable."),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="litert, onnx, openvino or keras; auto: the fastest here of what has passed "
            "parity. [default: litert]",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images in one inference.")] = 16,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Cores to keep busy. [default: all]")
    ] = None,
    max_megapixels: Annotated[
        float, typer.Option(metavar="N", help="Millions of pixels that an image may have.")
    ] = 200,
    max_seconds: Annotated[
        float, typer.Option(metavar="N", help="Seconds that an image may take to decode.")
    ] = 30,
    max_megabytes: Annotated[
        float, typer.Option(metavar="N", help="Millions of bytes that a file may have.")
    ] = 1000,
    max_expansion: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="Times its size that a large file may unpack to; more for blank scans.",
        ),
    ] = 400,
    trained: TrainedOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the rows that are there; do what is missing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that is there.")
    ] = False,
) -> None:
    """Classify images and write one row for each.

    Exit status 3 says that some could not be classified; their rows say why.
    Ctrl-C finishes the images in work; a second one does not.
    """
    from medkit.classify import ClassifyOptions, classify_files
    from medkit.console import ClassifyProgress, show_summary, stderr_console
    from medkit.limits import Limits
    from medkit.memory import keep_freed_memory

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
        batch_size=batch_size,
        threads=threads,
        trained=trained,
        resume=resume,
        overwrite=overwrite,
        limits=Limits(max_megapixels, max_seconds, max_megabytes, max_expansion),
    )
    console = stderr_console()
    try:
        with _ending_at_interrupt() as ending, ClassifyProgress(console) as progress:
            summary = classify_files(options, progress, ending)
    except KeyboardInterrupt:
        _tell_interrupted(out)
        raise typer.Exit(INTERRUPTED) from None
    if summary.interrupted:
        _tell_interrupted(out)
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


def _tell_interrupted(out: str) -> None:
    if out == "-":
        typer.echo("medkit: interrupted; the rows until then are on standard output", err=True)
        return
    typer.echo(
        f"medkit: interrupted; the rows until then are in {out}; continue with the same command "
        "and --resume",
        err=True,
    )


@app.command()
def evaluate(
    tasks: TasksArgument = None,
    data: DataOption = None,
    runtime: Annotated[
        str, typer.Option(help="litert, onnx or openvino: the exported files. keras: the original.")
    ] = "litert",
    precision: Annotated[str, typer.Option(help="int8, fp16 or fp32, of an export.")] = "int8",
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .tflite, .onnx or .keras file to use instead."),
    ] = None,
    operating_point: Annotated[
        str, typer.Option(metavar="NAME", help="balanced or high-sensitivity.")
    ] = "balanced",
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write figures and rows as JSON.")
    ] = None,
    trained: TrainedOption = None,
) -> None:
    """Measure a model on labelled images of your own, or on an official test split.

    The data folder holds a folder of images for each class, or a data set.
    """
    from medkit import evaluation as library
    from medkit.console import show_evaluation, stderr_console
    from medkit.parity import HOW_TO_GET_DATA, data_folder

    folder = data_folder(data)
    if folder is None:
        raise UsageError(f"evaluate needs labelled images: give --data DIR, or {HOW_TO_GET_DATA}")
    if model is not None and tasks and len(tasks) > 1:
        raise UsageError("one model file has one task; name that one, or none")
    _check_reports([json_path])
    asked = [None] if model is not None and not tasks else _tasks(tasks)
    console = stderr_console()
    found = []
    with console.status("starting") as status:
        for task in asked:
            options = library.EvaluateOptions(
                task, folder, runtime, precision, model, operating_point, trained
            )
            found.append(library.evaluate_folder(options, _noting(console, status)))
    for evaluation in found:
        show_evaluation(console, evaluation)
    if json_path is not None:
        library.write_evaluations(found, json_path)
    if any(evaluation.unreadable for evaluation in found):
        raise typer.Exit(SOME_ROWS_FAILED)


@app.command()
def benchmark(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="Images to get through. [default: made ones]"),
    ] = None,
    task: Annotated[
        str, typer.Option(help=f"{_TASK_NAMES}, or auto: by the first image's colour.")
    ] = "auto",
    peers: Annotated[
        bool, typer.Option("--peers", help="Also run other tools that are installed.")
    ] = False,
    repeats: Annotated[
        int, typer.Option(metavar="N", help="Rounds, of which the best counts.")
    ] = 3,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images in one inference.")] = 16,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Cores to keep busy. [default: all]")
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every figure as JSON.")
    ] = None,
    svg_path: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write a bar chart.")
    ] = None,
    trained: TrainedOption = None,
) -> None:
    """Measure how fast a folder gets through, against what this machine can do at all."""
    from medkit import benchmark as library
    from medkit.console import show_benchmark, stderr_console

    options = library.BenchmarkOptions(folder, task, batch_size, threads, repeats, peers, trained)
    reports = ((json_path, library.write_benchmark), (svg_path, library.write_chart))
    if svg_path is not None:
        library.check_chart_extras()
    _check_reports(path for path, _ in reports)
    console = stderr_console()
    with console.status("starting") as status:
        found = library.run_benchmark(options, _noting(console, status))
    show_benchmark(console, found)
    for path, write in reports:
        if path is not None:
            write(found, path)


@app.command("inspect")
def inspect_model(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite, .onnx or .keras file.")],
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every operator as JSON.")
    ] = None,
) -> None:
    """Show what a model file is: labels, contract, hash, operators, and in what they compute."""
    from medkit import inspection as library
    from medkit.console import show_inspection, stderr_console

    _check_reports([json_path])
    found = library.inspect_file(file)
    show_inspection(stderr_console(), found)
    if json_path is not None:
        library.write_inspection(found, json_path)


@app.command()
def report(
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"{_TASK_NAMES}.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="[default: TASK-report.html]")
    ] = None,
    data: DataOption = None,
    trained: TrainedOption = None,
) -> None:
    """Write one HTML page that shows how good a model is and where it fails."""
    from medkit.console import stderr_console
    from medkit.parity import data_folder
    from medkit.report import ReportOptions, write_report

    path = out or Path(f"{get_task(task).name}-report.html")
    _check_reports([path])
    options = ReportOptions(get_task(task), path, data_folder(data), trained)
    console = stderr_console()
    with console.status("starting") as status:
        write_report(options, _noting(console, status))
    console.print(f"written to {path}", soft_wrap=True, markup=False)


def _check_reports(paths: Iterable[Path | None]) -> None:
    """Refuse what cannot be written before any work, and remove what is there.

    An old report must not outlive a run that fails.
    """
    from medkit.bundles import check_writable

    named = [path for path in paths if path is not None]
    if len({path.resolve() for path in named}) < len(named):
        raise UsageError(f"{named[0]} is named for two reports; name two files")
    for path in named:
        check_writable(path.parent)
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name a file in it")
        path.unlink(missing_ok=True)


def _tasks(names: list[str] | None) -> tuple[Task, ...]:
    return tuple(get_task(name) for name in dict.fromkeys(names or TASKS))


def _noting(console: Any, status: Any) -> Any:
    """Return what shows a step: in the spinner on a terminal, else as a line."""
    from rich.markup import escape

    show = status.update if console.is_terminal else console.print
    return lambda text: show(escape(text))


if __name__ == "__main__":
    app()
