"""A model file's card and operators, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from medkit.cli.console import show_table, table, visible

if TYPE_CHECKING:
    from medkit.models.inspection import Inspection
    from medkit.models.operators.summary import OperatorSummary


def show_inspection(console: Console, found: Inspection) -> None:
    """Show a model file's card, its operators, and what stays in floating point."""
    facts = {"file": str(found.path), "size": f"{found.bytes:,} bytes", "SHA-256": found.sha256}
    if found.card is None:
        facts["card"] = f"none: {found.problem}"
    else:
        card = found.card
        facts |= {
            "task": card.task,
            "labels": ", ".join(card.labels),
            "precision": f"{card.precision}, by medkit {card.version}",
            "contract": ", ".join(
                f"{key} {value}" for key, value in card.contract.to_dict().items()
            ),
            "temperature": f"{card.temperature:g}{'' if card.calibrated else ', uncalibrated'}",
            "points": "; ".join(
                f"{name}: {point.in_words(card.labels, digits=4)}"
                for name, point in card.operating_points.items()
            ),
        }
        if card.source_sha256:
            facts["made from"] = card.source_sha256
    for name, text in facts.items():
        console.print(f"{name:12}{visible(text)}", soft_wrap=True)
    _show_operators(console, found.summary)


def _show_operators(console: Console, summary: OperatorSummary) -> None:
    if not summary.operators:
        tensors = ", ".join(f"{number:,} of {dtype}" for dtype, number in summary.tensors.items())
        console.print(
            f"weights alone (tensors: {tensors}): the file does not tell what computes with them"
        )
        return
    shown = table("operator", "computes in", right=("number", "of the work"))
    for kind, numbers, number, work in summary.by_kind:
        share = f"{work / summary.work:.1%}" if work else ""
        shown.add_row(visible(kind), numbers, str(number), share)
    show_table(console, shown)
    console.print(
        f"{summary.work / 1e6:,.{1 if summary.work >= 1e6 else 4}f} million multiply-accumulates "
        f"an image, {summary.integer_share:.1%} in integers"
    )
    for part, work in summary.parts.items():
        console.print(f"of these in {visible(part)}: {work / 1e6:,.4f} million", soft_wrap=True)
    if summary.hybrid_share:
        console.print(
            f"hybrid: {summary.hybrid_share:.1%} of the work is of integer weights with data in "
            "floating point",
            soft_wrap=True,
        )
    for kind, doubt, number in summary.doubts:
        console.print(f"{number} x {visible(kind)}: {doubt}", soft_wrap=True)
    if summary.integer_share:
        for operator in summary.floating:
            reason = operator.reason or "no reason known"
            console.print(
                f"in floating point: {operator.kind} {visible(operator.name)} ({reason})",
                soft_wrap=True,
            )
