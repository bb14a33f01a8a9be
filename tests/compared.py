"""Made probabilities of an original and its export, and comparisons of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.defaults import BALANCED
from medkit.evaluation.comparison import Comparison, compare
from medkit.evaluation.outputs import Images, ModelRun, Outputs
from medkit.evaluation.rules import Budget
from medkit.models.points import OperatingPoint
from medkit.tasks import PNEUMONIA, Task

Scores = NDArray[np.float32]


def both(positive: list[float] | NDArray[Any]) -> Scores:
    """Return the probabilities of both classes."""
    scores = np.asarray(positive, dtype=np.float32)
    return np.stack([1 - scores, scores], axis=1)


def sick_from(threshold: float) -> OperatingPoint:
    """Return the operating point that finds pneumonia from a probability on."""
    return OperatingPoint(BALANCED, "PNEUMONIA", threshold)


def held(
    original: Scores,
    exported: Scores,
    labels: list[int] | NDArray[Any] | None,
    precision: str = "int8",
) -> Comparison:
    """Compare for the two-class task at a threshold of one half."""
    return at(PNEUMONIA, sick_from(0.5), original, exported, labels, precision)


def at(
    task: Task,
    point: OperatingPoint,
    original: Scores,
    exported: Scores,
    labels: list[int] | NDArray[Any] | None,
    precision: str = "int8",
    budget: Budget | None = None,
) -> Comparison:
    """Compare at one operating point of both."""
    truth = None if labels is None else np.asarray(labels, dtype=np.int64)
    images = Images([f"{index}.png" for index in range(len(original))], truth)
    outputs = (Outputs(scores, {BALANCED: point}) for scores in (original, exported))
    return compare(task, ModelRun("f", precision, "r"), *outputs, images, budget)
