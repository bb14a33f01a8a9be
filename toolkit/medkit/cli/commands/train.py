"""``medkit train``."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from medkit.cli import completion
from medkit.cli.options import (
    DATA_HELP,
    IMAGES,
    MODEL,
    OUTPUT,
    TASK_NAMES,
    TRAINING,
    LabelsMapOption,
)
from medkit.cli.status import INTERRUPTED
from medkit.defaults import OWN_NETWORK, RECIPE, SEED
from medkit.errors import UsageError

NO_WEIGHTS = Path("none")
"""Value of ``--weights`` for a network that begins with random ones."""


def train(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help=f"{TASK_NAMES}.", autocompletion=completion.tasks)
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help=f"{DATA_HELP} The built-in tasks need the splits; a new one also takes a table "
            "labels.csv.",
            rich_help_panel=IMAGES,
        ),
    ],
    labels_map: LabelsMapOption = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX|CSV",
            help="What tells which images are of one patient. [default: file names and folders]",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|A,B,C",
            help="Labels in the order of the outputs. [default: the class folders]",
            rich_help_panel=MODEL,
        ),
    ] = None,
    alert: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="The label that must not be missed. [default: the second of two]",
            rich_help_panel=MODEL,
        ),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What is decided, for people.", rich_help_panel=MODEL),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"{OWN_NETWORK}, or one of keras.applications such as ResNet50. "
            f"[default: {OWN_NETWORK}]",
            autocompletion=completion.networks,
            rich_help_panel=MODEL,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|WxH",
            help=f"Size that the network sees, in pixels. [default: 128; 224 unless {OWN_NETWORK}]",
            rich_help_panel=MODEL,
        ),
    ] = None,
    grey: Annotated[
        bool | None,
        typer.Option(
            "--grey/--colour",
            help="What the network sees. [default: as the images are]",
            rich_help_panel=MODEL,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The most epochs. [default: the recipe's]", rich_help_panel=TRAINING
        ),
    ] = None,
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
            help="Folder in which a folder TASK is made. [default: that of the shipped models; "
            "of a new task: your own]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|none",
            help="ImageNet weights of the network; none begins with random ones. "
            "[default: download]",
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

    A name that is no built-in task is a task of your own: its labels are the class folders,
    and what has no split is divided, patient by patient.

    Ctrl-C keeps the best epoch so far, or the last one of a recipe that holds out no
    validation images; --resume continues after it.
    """
    from medkit.cli.console import stderr_console
    from medkit.cli.interrupts import interrupt_as_usual
    from medkit.cli.views.train import TrainingProgress, kept_of, show_training
    from medkit.datasets.labels import read_labels_map
    from medkit.tasks import TASKS, get_task
    from medkit.training import OwnOptions, TrainOptions, folder_for, plan_own, train_model
    from medkit.training.own import COLOUR, GREY, read_labels, read_size

    interrupt_as_usual()
    own = {
        "--labels": labels,
        "--alert": alert,
        "--title": title,
        "--network": network,
        "--size": size,
        "--grey or --colour": grey,
        "--group-by": group_by,
        "--epochs": epochs,
        "--weights none": True if weights == NO_WEIGHTS else None,
    }
    remarks: tuple[str, ...] = ()
    if task in TASKS:
        for option, value in own.items():
            if value is not None:
                raise UsageError(
                    f"{option}: the recipe of {task} decides this; leave it out, or train a task "
                    "of another name"
                )
        options = TrainOptions(
            task=get_task(task, out),
            data=data,
            recipe=recipe,
            spellings=read_labels_map(labels_map or (), [TASKS[task]]),
        )
    else:
        if recipe != RECIPE:
            raise UsageError(
                f"--recipe {recipe}: a task of your own has one recipe for each network; leave it "
                "out, and choose with --network"
            )
        spellings = read_labels_map(labels_map or ())
        asked = OwnOptions(
            labels=read_labels(labels) if labels else (),
            network=network or OWN_NETWORK,
            from_scratch=weights == NO_WEIGHTS,
            size=read_size(size) if size else None,
            channels=None if grey is None else GREY if grey else COLOUR,
            alert=alert,
            title=title,
            epochs=epochs,
        )
        plan = plan_own(task, data, asked, folder_for(task, out), spellings)
        remarks = plan.remarks
        options = TrainOptions(
            task=plan.task, data=data, recipe=plan.recipe, spellings=spellings, group_by=group_by
        )
    options = replace(
        options,
        out=out,
        weights=None if weights == NO_WEIGHTS else weights,
        seed=seed,
        on_conflict=on_conflict,
        resume=resume,
        overwrite=overwrite,
    )
    console = stderr_console()
    with TrainingProgress(console) as progress:
        for line in remarks:
            progress.note(line)
        result = train_model(options, progress)
    if result.manifest is not None:
        show_training(console, result.folder, result.manifest)
    if result.interrupted:
        kept = kept_of(result.manifest)
        typer.echo(f"medkit: interrupted; {kept}", err=True)
        if result.manifest:
            typer.echo("continue with the same command and --resume", err=True)
        raise typer.Exit(INTERRUPTED)
