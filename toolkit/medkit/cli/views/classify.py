"""The progress and the result of a batch classification."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from medkit.batch.observers import Silent
from medkit.batch.rows import ERROR
from medkit.cli.console import DISCLAIMER, duration, show_table, table, visible
from medkit.cli.progress import Heartbeat
from medkit.defaults import BETWEEN_LABELS, STDOUT
from medkit.wording import counted

if TYPE_CHECKING:
    from medkit.batch.rows import Row
    from medkit.batch.run import ClassifySummary

_SHOWN_EVERY = 0.1
"""Seconds between two changes of a progress bar."""


class ClassifyProgress(Silent):
    """Progress of a batch classification: done of total, rate, time left, errors.

    Where no terminal is, it is a plain line every :data:`~medkit.cli.progress.EVERY` seconds.

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
            SpinnerColumn(),
            TextColumn("[bold]classifying"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[errors]}"),
            console=console,
            transient=True,
        )
        self._shows: Progress | Heartbeat = (
            self._progress if console.is_interactive else Heartbeat(self.tell)
        )
        self._bar = self._progress.add_task("", total=None, rate="", errors="")
        self._started = self._shown = clock()
        self._total: int | None = None
        self._kept = self._done = self._errors = 0

    def __enter__(self) -> ClassifyProgress:
        self._shows.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._show()
        self._shows.__exit__(None, None, None)

    @property
    def done(self) -> int:
        """The number of rows until now, those kept from an earlier run included."""
        return self._done

    def kept(self, count: int) -> None:
        """Take the number of rows kept from an earlier run; they say nothing of the speed."""
        self._kept = self._done = count
        self._progress.reset(self._bar, completed=count)

    def total(self, count: int) -> None:
        """Take the number of all rows."""
        self._total = count
        self._progress.update(self._bar, total=count)

    def row(self, row: Row) -> None:
        """Count a row."""
        self._done += 1
        self._errors += row.status == ERROR
        # Telling the bar of every row would take longer than writing it.
        if self._clock() - self._shown >= _SHOWN_EVERY:
            self._show()

    def tell(self) -> None:
        """Show a line of progress, for a log."""
        rate = self._rate()
        images = f"{self._done:,} images"
        left = ""
        if self._total is not None:
            images = f"{self._done:,} of {counted(self._total, 'image')}"
            if self._done > self._kept:
                left = f", {duration((self._total - self._done) / rate)} left"
        self._console.print(
            f"classified {images}, {rate:,.0f} images/s, {counted(self._errors, 'error')}{left}"
        )

    def _rate(self) -> float:
        return (self._done - self._kept) / max(self._clock() - self._started, 1e-6)

    def _show(self) -> None:
        self._shown = self._clock()
        self._progress.update(
            self._bar,
            completed=self._done,
            rate=f"{self._rate():,.0f} images/s",
            errors=f"[red]{counted(self._errors, 'error')}" if self._errors else "",
        )


def _by_label(counts: Mapping[tuple[str, str], int]) -> Counter[tuple[str, str]]:
    """Count images by task and single label, ``""`` for none; those with several count for each."""
    found: Counter[tuple[str, str]] = Counter()
    for (task, labels), count in counts.items():
        for label in labels.split(BETWEEN_LABELS):
            found[task, label] += count
    return found


def show_summary(
    console: Console, summary: ClassifySummary, not_chosen: Sequence[str] = ()
) -> None:
    """Show counts by label, errors, duration, and where the rows are.

    Parameters
    ----------
    console
        The console of standard error.
    summary
        Result of the run.
    not_chosen
        Tasks that there are, and that colour does not choose.
    """
    shown = table("task", "label", right=("images",))
    for (task, label), count in sorted(_by_label(summary.counts).items()):
        shown.add_row(visible(task), visible(label) if label else "no label", f"{count:,}")
    if summary.errors:
        shown.add_row("-", "[red]not classified", f"[red]{summary.errors:,}")
    if summary.skipped:
        shown.add_row("-", "skipped", f"{summary.skipped:,}")
    show_table(console, shown)
    where = "standard output" if str(summary.out) == STDOUT else str(summary.out)
    done = summary.rows - summary.kept
    kept = f"{summary.kept:,} kept, " if summary.kept else ""
    console.print(
        f"{kept}{counted(done, 'file' if summary.skipped else 'image')} in "
        f"{summary.seconds:.1f} s ({summary.images_per_second:,.0f} images/s), "
        f"{counted(summary.errors, 'error')}; rows in {where}",
        soft_wrap=True,
        markup=False,  # a path may hold brackets
    )
    if summary.notes:
        told = ", ".join(f"{count:,} {note}" for note, count in summary.notes.items())
        console.print(f"in doubt, by the column notes: {told}", soft_wrap=True, markup=False)
    if summary.passed_over:
        listed = "" if summary.skipped else "; --all-files gives them rows"
        console.print(f"passed over: {summary.passed_over}{listed}", soft_wrap=True, markup=False)
    models = "; ".join(f"{task}: {model}" for task, model in sorted(summary.models.items()))
    if models:
        console.print(models, soft_wrap=True, markup=False)
    if not_chosen:
        console.print(
            f"colour does not choose {' or '.join(not_chosen)}: name these with --task",
            soft_wrap=True,
            markup=False,
        )
    console.print(DISCLAIMER)
