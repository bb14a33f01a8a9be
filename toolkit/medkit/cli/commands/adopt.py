"""``medkit adopt``."""

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.options import DATA_HELP, IMAGES, MODEL, OUTPUT, TRAINING, LabelsMapOption
from medkit.defaults import MEASURED_IMAGES, SEED


def adopt(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A model that was trained elsewhere."),
    ],
    name: Annotated[
        str,
        typer.Option(
            "--name", metavar="TASK", help="Name of the new task.", rich_help_panel=OUTPUT
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help=f"{DATA_HELP} Without it, the model is adopted uncalibrated.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    original: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Keras model that a .tflite or .onnx file was made from, for parity.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Labels in the order of the outputs: a label a line, or JSON. [default: what the "
            "model holds, or labels.txt, class_names.txt or class_indices.json beside it]",
            rich_help_panel=MODEL,
        ),
    ] = None,
    pixels: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="Pixels that the model was trained on: 0..255, 0..1, -1..1, imagenet, caffe, or "
            "MEAN/STD. [default: measured]",
            rich_help_panel=TRAINING,
        ),
    ] = "",
    resize: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="Resize that it was trained with, such as squash:pillow-nearest. "
            "[default: measured]",
            rich_help_panel=TRAINING,
        ),
    ] = "",
    size: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="Width and height that it was trained with, as 224x224, where the model leaves "
            "them free.",
            rich_help_panel=TRAINING,
        ),
    ] = "",
    multi_label: Annotated[
        bool | None,
        typer.Option(
            "--multi-label/--one-label",
            help="Whether an image can have several labels, where the model does not tell.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    alert: Annotated[
        str,
        typer.Option(
            metavar="LABEL",
            help="The label that must not be missed. [default: the second of two]",
            rich_help_panel=MODEL,
        ),
    ] = "",
    title: Annotated[
        str,
        typer.Option(metavar="TEXT", help="What is decided, for people.", rich_help_panel=OUTPUT),
    ] = "",
    accept_tie: Annotated[
        bool,
        typer.Option(
            "--accept-tie",
            help="Take the best rule where others measure alike.",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    images: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Number of images that measure pixels and resize.",
            rich_help_panel=TRAINING,
        ),
    ] = MEASURED_IMAGES,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX|CSV",
            help="What tells which images are of one patient. [default: file names and folders]",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    labels_map: LabelsMapOption = None,
    trust_code: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.py",
            help="Run this Python file, which defines the model's own layers.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Decides the division of the images.", metavar="N", rich_help_panel=IMAGES
        ),
    ] = SEED,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder in which a folder TASK is made. [default: your own folder of models]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the model if it already exists.", rich_help_panel=OUTPUT
        ),
    ] = False,
) -> None:
    """Take a classifier that was trained elsewhere, and make it a task of your own.

    With labelled images, medkit measures which pixels and which resize the model was trained
    with, and fits temperature and operating points. Exit status 2 says that something must be
    said by an option; a line names it.
    """
    from medkit.cli.console import stderr_console
    from medkit.cli.progress import Steps
    from medkit.cli.views.adopt import show_adoption, show_measured
    from medkit.datasets.labels import read_labels_map
    from medkit.errors import UndecidedError
    from medkit_exporters.adoption.checks import read_size
    from medkit_exporters.adoption.measuring import Measured
    from medkit_exporters.adoption.options import AdoptOptions
    from medkit_exporters.adoption.run import adopt_model

    options = AdoptOptions(
        model=model,
        name=name,
        data=data,
        original=original,
        labels=labels,
        title=title,
        alert=alert,
        pixels=pixels,
        resize=resize,
        size=read_size(size),
        multi_label=multi_label,
        accept_tie=accept_tie,
        images=images,
        trust_code=trust_code,
        group_by=group_by,
        spellings=read_labels_map(labels_map or ()),
        out=out,
        seed=seed,
        overwrite=overwrite,
    )
    console = stderr_console()
    try:
        with Steps() as note:
            result = adopt_model(options, note)
    except UndecidedError as error:
        if isinstance(error.measured, Measured):
            show_measured(console, error.measured)
        raise
    show_adoption(console, result)
