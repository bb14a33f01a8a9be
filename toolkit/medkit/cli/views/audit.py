"""Tables of an audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from medkit.cli.console import show_table, table, visible
from medkit.wording import counted

if TYPE_CHECKING:
    from medkit.datasets.audit import Audit


def show_audit(console: Console, audit: Audit) -> None:
    """Show what an audit found: counts by class, findings by kind, the first of each problem."""
    from medkit.datasets.audit import PROBLEMS, REMARKS

    splits = list(audit.counts)
    shown = table("class", right=tuple(visible(split) or "images" for split in splits))
    for label in dict.fromkeys(label for classes in audit.counts.values() for label in classes):
        counts = (str(audit.counts[split].get(label, 0)) for split in splits)
        shown.add_row(visible(label), *counts)
    show_table(console, shown)
    shown = table("finding", right=("number",))
    for kinds, colour in ((PROBLEMS, "red"), (REMARKS, "yellow")):
        for kind, meaning in kinds.items():
            count = len(audit.of(kind))
            shown.add_row(meaning, f"[{colour}]{count}[/]" if count else "0")
    show_table(console, shown)
    for kind in PROBLEMS:
        for finding in audit.of(kind)[:3]:
            console.print(
                visible(f"{kind}: {'; '.join(finding.images)} ({finding.detail})"),
                soft_wrap=True,
            )
    for line in audit.remarks():
        console.print(visible(line), soft_wrap=True)
    verdict = counted(audit.problems, "problem") if audit.problems else "no problem"
    console.print(f"{counted(audit.images, 'image')}, {verdict}", soft_wrap=True)
