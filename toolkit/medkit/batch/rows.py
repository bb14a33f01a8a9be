"""A row: the result of classifying one input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OK, ERROR, SKIPPED = "ok", "error", "skipped"
"""The status of a row. What was passed over has rows only if that is asked for."""


@dataclass(frozen=True)
class Row:
    """The result of classifying one input.

    Attributes
    ----------
    path
        Name of the input, as :func:`medkit.batch.listing.walk` gives it.
    status
        ``ok``, ``error`` or ``skipped``.
    task
        The task whose model was used; empty where none was chosen.
    label
        The label that was decided; empty after an error. In a multi-label
        task all labels that were decided, in the task's order, with ``;``
        between two; empty if none was.
    confidence
        Probability of that label, 0..1; of several, the highest. Where no
        label was decided, the highest probability of all.
    probabilities
        Probability of each label of the task, 0..1; empty after an error.
    error
        The error, or why a file was passed over, in one line; else empty.
    notes
        Doubts about the row, in words of :mod:`medkit.images.notes`.
    facts
        Facts about the file that its image format reports; see
        :class:`medkit.images.formats.registry.Decoded`.
    """

    path: str
    status: str
    task: str = ""
    label: str = ""
    confidence: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str = ""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
