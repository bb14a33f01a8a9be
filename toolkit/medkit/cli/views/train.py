"""The progress of a training run, and its figures."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from medkit.cli.console import DISCLAIMER, duration, show_table, spread, table
from medkit.cli.progress import Heartbeat
from medkit.defaults import BALANCED

if TYPE_CHECKING:
    from medkit.models.manifest import EpochRecord, Manifest


class TrainingProgress:
    """Progress of a training run: epoch, step, loss, validation figures, time left.

    Where no terminal is, it is a line for each epoch, and between them one every
    :data:`~medkit.cli.progress.EVERY` seconds.

    Parameters
    ----------
    console
        The console of standard error.
    clock
        Seconds since any moment.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
        )
        self._shows: Progress | Heartbeat = (
            self._progress if console.is_interactive else Heartbeat(self.tell)
        )
        self._bar = self._progress.add_task("preparing", total=None, detail="")
        self._epoch = self._epochs = self._steps = self._step = 0
        self._begun = self._epoch_started = clock()
        self._detail = ""

    def __enter__(self) -> TrainingProgress:
        self._shows.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._shows.__exit__(None, None, None)

    def note(self, text: str) -> None:
        """Show a line."""
        self._console.print(text, markup=False)

    def epoch_begins(self, epoch: int, epochs: int, steps: int) -> None:
        """Start counting an epoch's steps."""
        self._epoch, self._epochs, self._steps, self._step = epoch, epochs, steps, 0
        self._epoch_started, self._detail = self._clock(), ""
        self._progress.update(
            self._bar,
            description=f"epoch {epoch}/{epochs}",
            total=epochs * steps,
            completed=(epoch - 1) * steps,
        )

    def step(self, loss: float) -> None:
        """Advance by one step."""
        self._step += 1
        self._detail = f"step {self._step}/{self._steps} · loss {loss:.4f}"
        self._progress.update(self._bar, advance=1, detail=self._detail)

    def tell(self) -> None:
        """Show a line of progress, for a log."""
        at = f"epoch {self._epoch}/{self._epochs}" if self._epoch else "preparing"
        detail = f"  {self._detail}" if self._detail else ""
        self._console.print(f"{at}{detail}  {duration(self._clock() - self._begun)} until now")

    def epoch_ends(self, record: EpochRecord, best: bool) -> None:
        """Show the epoch's line."""
        seconds = self._clock() - self._epoch_started
        left = duration(seconds * (self._epochs - self._epoch))
        self._console.print(
            f"epoch {self._epoch}/{self._epochs}  loss {record.loss:.4f}  "
            f"held out: loss {record.watched_loss:.4f}  "
            f"accuracy {record.watched_accuracy:.4f}  AUC {record.watched_auc:.4f}  "
            f"{seconds:.0f} s, at most {left} left{'  best so far' if best else ''}",
            soft_wrap=True,
        )


def kept_of(manifest: Manifest | None) -> str:
    """Say which epoch an interrupted run has kept."""
    if manifest is None:
        return "no epoch had ended"
    chosen = manifest.recipe is not None and manifest.recipe.validation_fraction
    return f"the {'best epoch so far' if chosen else 'last epoch that ended'} was kept"


def show_training(console: Console, folder: Path, manifest: Manifest) -> None:
    """Show a finished run's figures."""
    console.print(
        f"[bold]{manifest.task}[/], recipe {manifest.recipe.name if manifest.recipe else 'unknown'}"
    )
    shown = table("split", right=("images", "accuracy", "balanced accuracy", "AUC"))
    for split, points in manifest.metrics.items():
        figures = points[BALANCED]
        shown.add_row(
            split,
            str(figures.images),
            *(
                spread(value, None)[0]
                for value in (figures.accuracy, figures.balanced_accuracy, figures.auc)
            ),
        )
    show_table(console, shown)
    console.print(f"written to {folder}", soft_wrap=True, markup=False)
    console.print(
        f"next: medkit export {manifest.task} --int8 --trained {shlex.quote(str(folder.parent))} "
        "--data DIR",
        soft_wrap=True,
        markup=False,
    )
    console.print(DISCLAIMER)
