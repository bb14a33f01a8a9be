"""The rungs of the ladder that an export tried, as tables."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from medkit.cli.console import show_table, table, visible

if TYPE_CHECKING:
    from medkit.evaluation.comparison import Comparison
    from medkit_exporters import ExportedFile, ExportOptions


def show_exports(console: Console, files: Sequence[ExportedFile], options: ExportOptions) -> None:
    """Show each rung of the ladder that was tried, what was kept, and the next command."""
    for file in files:
        console.print(f"[bold]{file.task}[/]/{file.path.name}")
        shown = table("rung", right=("accuracy", "AUC", "agree", "other calib."))
        shown.add_column("", no_wrap=True)
        for attempt in file.attempts:
            shown.add_row(
                attempt.rung,
                _signed(attempt.comparison, "accuracy"),
                _signed(attempt.comparison, "AUC"),
                f"{attempt.comparison.agreement:.1%}" if attempt.comparison else "-",
                f"{attempt.spread.agreement:.1%}" if attempt.spread else "-",
                "[green]kept" if attempt.passed else "[red]FAIL",
            )
        show_table(console, shown)
        for attempt in file.attempts:
            for failure in attempt.failures:
                console.print(f"[red]FAIL[/] {attempt.rung}: {visible(failure)}", soft_wrap=True)
    shown = table("file", "precision", right=("size", "of original", "ms an image"))
    for file in files:
        shown.add_row(
            f"{file.task}/{file.path.name}",
            file.precision,
            f"{file.bytes / 1e6:.2f} MB",
            f"{file.ratio:.0%}",
            f"{file.milliseconds:.2f}",
        )
    show_table(console, shown)
    trained = files[0].path.parents[1]
    console.print(f"written to {trained}", soft_wrap=True, markup=False)
    tasks = " ".join(dict.fromkeys(file.task for file in files))
    console.print(
        f"next: medkit parity {tasks} --trained {shlex.quote(str(trained))} "
        f"--data {shlex.quote(str(options.data or 'DIR'))}",
        soft_wrap=True,
        markup=False,
    )


def _signed(comparison: Comparison | None, name: str) -> str:
    """Return the change of a figure, with its sign."""
    if comparison is None or name not in comparison.changes:
        return "-"
    return f"{comparison.changes[name].difference:+.4f}"
