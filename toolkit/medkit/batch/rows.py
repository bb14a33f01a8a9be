"""A row: what classification says of one input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OK, ERROR = "ok", "error"
"""The status of a row."""


@dataclass(frozen=True)
class Row:
    """What classification says of one input.

    Attributes
    ----------
    path
        Its name, as :func:`medkit.batch.listing.walk` gives it.
    status
        ``ok`` or ``error``.
    task
        The task whose model was used; empty where none was chosen.
    label
        The label decided on; empty after an error.
    confidence
        Probability of that label, 0..1.
    probabilities
        Probability of each label of the task, 0..1; empty after an error.
    error
        What went wrong, in one line; empty if nothing did.
    facts
        What the image's format says of the file; see
        :class:`medkit.images.formats.registry.Decoded`.
    """

    path: str
    status: str
    task: str = ""
    label: str = ""
    confidence: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
