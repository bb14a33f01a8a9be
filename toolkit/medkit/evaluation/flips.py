"""Flips: the images that an export decides differently from its original."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkit.defaults import BALANCED
from medkit.evaluation.outputs import Images, Outputs
from medkit.models.decisions import Decisions, decide, names_of
from medkit.tasks import Task


@dataclass(frozen=True)
class Flip:
    """An image that original and export decide differently.

    In a multi-label task, each label that they decide differently is a flip,
    and ``truth``, ``original`` and ``export`` hold all labels of the image.

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
    truth = None if images.labels is None else names_of(task, images.labels)
    flips = []
    for name in original.points:
        if name not in export.points:
            continue
        before = decide(task, original.probabilities, original.points[name])
        after = decide(task, export.probabilities, export.points[name])
        names = names_of(task, before), names_of(task, after)
        for index, label in _turned(task, name, before, after):
            flips.append(
                Flip(
                    name=images.names[index],
                    truth=None if truth is None else truth[index],
                    point=name,
                    original=names[0][index],
                    export=names[1][index],
                    label=task.labels[label],
                    before=float(original.probabilities[index, label]),
                    after=float(export.probabilities[index, label]),
                )
            )
    return tuple(flips)


def _turned(task: Task, point: str, before: Decisions, after: Decisions) -> list[tuple[int, int]]:
    """Return the images that flip, each with the label that a flip is about."""
    if task.multi_label:
        return [(image, label) for image, label in np.argwhere(before != after).tolist()]
    alert = task.labels.index(task.alert)
    crossed = (before == alert) != (after == alert)
    differing = before != after if point == BALANCED else crossed
    return [
        (index, alert if crossed[index] else int(before[index]))
        for index in np.flatnonzero(differing).tolist()
    ]
