"""``medkit evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli import completion
from medkit.cli.options import (
    MODEL,
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
from medkit.cli.status import SOME_ROWS_FAILED
from medkit.defaults import BALANCED
from medkit.errors import UsageError


def evaluate(
    tasks: MeasuredTasksArgument = None,
    data: DataOption = None,
    labels_map: LabelsMapOption = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="litert, onnx or openvino run the exported files, keras the original. "
            "[default: litert, if there is a file for it]",
            metavar="NAME",
            autocompletion=completion.runtimes,
            rich_help_panel=MODEL,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precision of the export: int8, fp16 or fp32. "
            "[default: int8; of an adopted model, the smallest]",
            metavar="NAME",
            autocompletion=completion.precisions,
            rich_help_panel=MODEL,
        ),
    ] = None,
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
            help="balanced or high-sensitivity.",
            autocompletion=completion.operating_points,
            rich_help_panel=MODEL,
        ),
    ] = BALANCED,
    json_path: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write figures and rows as JSON, - to standard output.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    trained: TrainedOption = None,
) -> None:
    """Measure a model on labelled images of your own, or on an official test split.

    Of a set with its splits, the test split is measured.
    """
    from medkit.cli.console import result_console
    from medkit.cli.progress import Steps
    from medkit.cli.views.evaluate import show_evaluation
    from medkit.datasets.labels import read_labels_map
    from medkit.datasets.location import HOW_TO_GET_DATA, data_folder
    from medkit.evaluation.folder import EvaluateOptions, evaluate_folder, write_evaluations

    folder = data_folder(data)
    if folder is None:
        raise UsageError(f"evaluate needs labelled images: give --data DIR, or {HOW_TO_GET_DATA}")
    if model is not None and tasks and len(tasks) > 1:
        raise UsageError("one model file has one task; name that one, or none")
    told_by_file = model is not None and not tasks
    known = () if told_by_file else tasks_of(tasks, trained)
    spellings = read_labels_map(labels_map or (), known)
    console = result_console(json_path)
    found = []
    with fresh_reports([json_path], given=model), Steps() as note:
        if known and not tasks:
            known = tasks_held(known, folder, spellings, trained)
        for task in known or [None]:
            options = EvaluateOptions(
                task, folder, runtime, precision, model, operating_point, trained, spellings
            )
            found.append(evaluate_folder(options, note))
    for evaluation in found:
        show_evaluation(console, evaluation)
    write_reports(found, [(json_path, write_evaluations)])
    if any(evaluation.unreadable for evaluation in found):
        raise typer.Exit(SOME_ROWS_FAILED)
