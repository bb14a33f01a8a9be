"""``medkit train``."""

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli import completion
from medkit.cli.options import (
    DATA_HELP,
    IMAGES,
    OUTPUT,
    TASK_NAMES,
    TRAINING,
    LabelsMapOption,
)
from medkit.cli.status import INTERRUPTED
from medkit.defaults import RECIPE, SEED


def train(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help=f"{TASK_NAMES}.", autocompletion=completion.tasks)
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help=f"{DATA_HELP} Training needs the splits.",
            rich_help_panel=IMAGES,
        ),
    ],
    labels_map: LabelsMapOption = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="default: the recipe of the shipped models. seed: the baseline.",
            metavar="NAME",
            autocompletion=completion.recipes,
            rich_help_panel=TRAINING,
        ),
    ] = RECIPE,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder in which a folder TASK is made. [default: that of the shipped models]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="ImageNet weights of ResNet50. [default: download]",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Makes a run repeatable on the same machine.",
            metavar="N",
            rich_help_panel=TRAINING,
        ),
    ] = SEED,
    on_conflict: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="Images under two labels: error, drop, keep-first, keep-rarer. "
            "[default: the recipe's: default refuses unknown ones, seed trains on all]",
            autocompletion=completion.policies,
            rich_help_panel=IMAGES,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an unfinished run.", rich_help_panel=OUTPUT)
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the model if it already exists.", rich_help_panel=OUTPUT
        ),
    ] = False,
) -> None:
    """Train a model and measure it on the test split of its data.

    Ctrl-C keeps the best epoch so far, or the last one of a recipe that holds out no
    validation images; --resume continues after it.
    """
    from medkit.cli.console import stderr_console
    from medkit.cli.interrupts import interrupt_as_usual
    from medkit.cli.views.train import TrainingProgress, kept_of, show_training
    from medkit.datasets.labels import read_labels_map
    from medkit.tasks import get_task
    from medkit.training import TrainOptions, train_model

    interrupt_as_usual()
    chosen = get_task(task, out)
    options = TrainOptions(
        task=chosen,
        data=data,
        recipe=recipe,
        out=out,
        weights=weights,
        seed=seed,
        on_conflict=on_conflict,
        resume=resume,
        overwrite=overwrite,
        spellings=read_labels_map(labels_map or (), [chosen]),
    )
    console = stderr_console()
    with TrainingProgress(console) as progress:
        result = train_model(options, progress)
    if result.manifest is not None:
        show_training(console, result.folder, result.manifest)
    if result.interrupted:
        kept = kept_of(result.manifest)
        typer.echo(f"medkit: interrupted; {kept}", err=True)
        if result.manifest:
            typer.echo("continue with the same command and --resume", err=True)
        raise typer.Exit(INTERRUPTED)
