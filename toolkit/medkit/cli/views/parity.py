"""Tables of a parity run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from medkit.cli.console import DISCLAIMER, show_table, table, visible
from medkit.wording import counted

if TYPE_CHECKING:
    from medkit.evaluation.comparison import Comparison


def show_parity(console: Console, comparisons: Sequence[Comparison]) -> None:
    """Show every comparison, what flipped, and each broken rule on a line of its own."""
    for task in dict.fromkeys(item.task for item in comparisons):
        own = [item for item in comparisons if item.task == task]
        console.print(
            f"[bold]{task}[/]: {counted(own[0].images, 'image')}, exports against the original"
        )
        for item in own:
            verdict = "[green]pass[/]" if item.passed else "[red]FAIL[/]"
            console.print(f"{verdict} {visible(item.file)} on {item.runtime}", soft_wrap=True)
            shown = table("figure", right=("original", "export", "change", "95 % interval"))
            for name, change in item.changes.items():
                shown.add_row(
                    name,
                    f"{change.before:.4f}",
                    f"{change.after:.4f}",
                    f"{change.difference:+.4f}",
                    f"{change.low:+.4f} to {change.high:+.4f}",
                )
            if item.changes:
                show_table(console, shown)
            console.print(_in_words(item), soft_wrap=True)
    for item in comparisons:
        for failure in item.failures:
            console.print(
                f"[red]FAIL[/] {item.task}/{visible(item.file)} on {item.runtime}: "
                f"{visible(failure)}",
                soft_wrap=True,
            )
    flipped = sum(len(item.flips) for item in comparisons)
    if flipped:
        are = "is" if flipped == 1 else "are"
        console.print(
            f"{counted(flipped, 'flip')} {are} listed with the file names by --json and --html"
        )
    console.print(DISCLAIMER)


def _in_words(item: Comparison) -> str:
    """Say how many decisions two models share, and whether those that turned did so by chance."""
    line = (
        f"decided alike {item.agreement:.2%}, largest difference {item.largest_difference:.2g}, "
        f"{counted(item.distinct[1], 'different score')} of {item.distinct[0]:,}"
    )
    if item.mcnemar is None:
        return line
    return (
        f"{line}; {item.worse} turned wrong and {item.better} right "
        f"(McNemar's p = {item.mcnemar:.2f})"
    )
