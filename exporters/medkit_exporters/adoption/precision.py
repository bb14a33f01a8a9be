"""What a foreign file computes in, by its operators."""

from __future__ import annotations

from medkit.errors import ExportError
from medkit.models.operators.summary import (
    CONVERSIONS,
    INTEGERS,
    OperatorSummary,
    check_promise,
)

_INTEGER_WORDS = ("int8", "int16")


def precision_of(summary: OperatorSummary) -> tuple[str, str]:
    """Return the first word whose promise a file keeps, and a remark where it fits badly.

    Parameters
    ----------
    summary
        What the file computes, from raw pixels.

    Raises
    ------
    ExportError
        If it keeps none, as with weights that are all zero.
    """
    problems = []
    for word in _INTEGER_WORDS if summary.integer_share else ():
        try:
            check_promise(summary, word)
        except ExportError as error:
            problems.append(error)
        else:
            return word, ""
    word = "mixed" if problems else _floats(summary)
    check_promise(summary, word)
    if problems:
        return word, f"it counts as {word}: {problems[0]}"
    if summary.hybrid_share:
        return word, (
            f"its weights are in 8 bits and its arithmetic in floating point: it counts as {word}"
        )
    return word, ""


def tolerance_of(summary: OperatorSummary) -> float:
    """Return by how much outputs may differ from those of the file as it was given.

    A softmax in 8 bits has steps of 1/256, and its logits have some, too.
    Half precision has steps of 1/2048 of a probability near 1. Sums in single
    precision, in another order, can move a sharp softmax by a thousandth.
    Wrong pixels change more than any of these.
    """
    kinds = {item.computes_in for item in summary.operators if item.kind not in CONVERSIONS}
    if not kinds.isdisjoint(INTEGERS):
        return 0.05
    return 0.01 if "float16" in kinds else 2e-3


def _floats(summary: OperatorSummary) -> str:
    """Return ``fp16`` if any product has numbers of half precision, else ``fp32``."""
    halves = any("float16" in item.numbers for item in summary.operators if item.work)
    return "fp16" if halves else "fp32"
