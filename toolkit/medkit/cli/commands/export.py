"""``medkit export``."""

from __future__ import annotations

from typing import Annotated

import typer

from medkit.cli.options import (
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
        bool, typer.Option("--int8", help="8-bit integers, calibrated on training images.")
    ] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Weights in half precision.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Single precision, as trained.")] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="tflite or onnx; repeat for both. [default: both]"),
    ] = None,
    data: DataOption = None,
    labels_map: LabelsMapOption = None,
    trained: TrainedOption = None,
    calibration_images: Annotated[
        int, typer.Option(metavar="N", help="Number of images in the calibration set.")
    ] = CALIBRATION_IMAGES,
    seed: Annotated[int, typer.Option(help="Decides which training images calibrate.")] = SEED,
    max_drop: Annotated[
        float,
        typer.Option(
            metavar="POINTS",
            help="Largest difference from the original on validation images, in points of accuracy "
            "and hundredths of AUC. Beyond it, the next rung of the ladder is tried.",
        ),
    ] = MAX_DROP,
) -> None:
    """Convert trained models to TFLite and ONNX files, int8 unless asked otherwise.

    A file is kept only if it decides like its original. If not, the next rung of
    the ladder quantises less. Exit status 1 says that no rung was good enough.
    """
    from medkit.cli.console import noting, stderr_console
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
    console = stderr_console()
    with console.status("starting") as status:
        files = export_models(options, noting(console, status))
    show_exports(console, files, options)
