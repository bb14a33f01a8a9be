"""Flips: the images that an export decides differently from its original."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkit.defaults import BALANCED
from medkit.evaluation.outputs import Images, Outputs
from medkit.models.decisions import decide
from medkit.tasks import Task


@dataclass(frozen=True)
class Flip:
    """An image that original and export decide differently.

    Attributes
    ----------
    name
        The file.
    truth
        True label of the image; ``None`` if it is not known.
    point
        Name of the operating point at which they differ. At ``balanced``
        every difference counts, at the others only one between the alert
        label and the rest.
    original, export
        The labels they decide.
    label
        The alert label if one of them decides it, else the original's.
    before, after
        Probability of ``label``, by the original and by the export.
    """

    name: str
    truth: str | None
    point: str
    original: str
    export: str
    label: str
    before: float
    after: float


def find_flips(task: Task, original: Outputs, export: Outputs, images: Images) -> tuple[Flip, ...]:
    """List the images that are decided differently, at each operating point that both have."""
    alert = task.labels.index(task.alert)
    flips = []
    for name in original.points:
        if name not in export.points:
            continue
        before = decide(task, original.probabilities, original.points[name])
        after = decide(task, export.probabilities, export.points[name])
        crossed = (before == alert) != (after == alert)
        differing = before != after if name == BALANCED else crossed
        for index in np.flatnonzero(differing).tolist():
            label = alert if crossed[index] else int(before[index])
            truth = None if images.labels is None else task.labels[images.labels[index]]
            flips.append(
                Flip(
                    name=images.names[index],
                    truth=truth,
                    point=name,
                    original=task.labels[before[index]],
                    export=task.labels[after[index]],
                    label=task.labels[label],
                    before=float(original.probabilities[index, label]),
                    after=float(export.probabilities[index, label]),
                )
            )
    return tuple(flips)
