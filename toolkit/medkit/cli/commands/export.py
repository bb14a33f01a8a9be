"""``medkit export``."""

from typing import Annotated

import typer

from medkit.cli import completion
from medkit.cli.options import (
    IMAGES,
    OUTPUT,
    DataOption,
    LabelsMapOption,
    TasksArgument,
    TrainedOption,
    tasks_of,
)
from medkit.defaults import CALIBRATION_IMAGES, MAX_DROP, PRECISION, SEED


def export(
    tasks: TasksArgument = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="8-bit integers, calibrated on training images.", rich_help_panel=OUTPUT
        ),
    ] = False,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Weights in half precision.", rich_help_panel=OUTPUT)
    ] = False,
    fp32: Annotated[
        bool, typer.Option("--fp32", help="Single precision, as trained.", rich_help_panel=OUTPUT)
    ] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="tflite or onnx; repeat for both. [default: both]",
            metavar="NAME",
            autocompletion=completion.formats,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    data: DataOption = None,
    labels_map: LabelsMapOption = None,
    trained: TrainedOption = None,
    calibration_images: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of images in the calibration set.", rich_help_panel=IMAGES
        ),
    ] = CALIBRATION_IMAGES,
    seed: Annotated[
        int,
        typer.Option(
            help="Decides which training images calibrate.", metavar="N", rich_help_panel=IMAGES
        ),
    ] = SEED,
    max_drop: Annotated[
        float,
        typer.Option(
            metavar="POINTS",
            help="Largest difference from the original on validation images, in points of accuracy "
            "and hundredths of AUC. Beyond it, the next rung of the ladder is tried.",
            rich_help_panel=OUTPUT,
        ),
    ] = MAX_DROP,
) -> None:
    """Convert trained models to TFLite and ONNX files, int8 unless asked otherwise.

    A file is kept only if it decides like its original. If not, the next rung of
    the ladder quantises less. Exit status 1 says that no rung was good enough.
    """
    from medkit.cli.console import stderr_console
    from medkit.cli.progress import Steps
    from medkit.cli.views.export import show_exports
    from medkit.datasets.labels import read_labels_map
    from medkit.datasets.location import data_folder
    from medkit_exporters import ExportOptions, export_models
    from medkit_exporters.formats.registry import known_exporters

    asked = {"int8": int8, "fp16": fp16, "fp32": fp32}
    chosen = tasks_of(tasks, trained)
    options = ExportOptions(
        tasks=chosen,
        formats=tuple(dict.fromkeys(formats or known_exporters())),
        precisions=tuple(name for name, wanted in asked.items() if wanted) or (PRECISION,),
        data=data_folder(data, chosen),
        trained=trained,
        calibration_images=calibration_images,
        seed=seed,
        max_drop=max_drop,
        spellings=read_labels_map(labels_map or (), chosen),
    )
    with Steps() as note:
        files = export_models(options, note)
    show_exports(stderr_console(), files, options)
