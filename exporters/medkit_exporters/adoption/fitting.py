"""Temperature, operating points and figures of an adopted model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.division import Splits
from medkit.datasets.layout import Item
from medkit.datasets.sampling import read_pixels, truth_of
from medkit.defaults import BALANCED
from medkit.errors import DatasetLayoutError, UsageError
from medkit.evaluation.metrics import evaluate, evaluate_points
from medkit.models.decisions import (
    apply_temperature,
    choose_points,
    decide,
    fit_temperature,
    halfway_points,
)
from medkit.models.figures import Metrics
from medkit.models.points import OperatingPoints
from medkit.tasks import Task
from medkit.wording import counted
from medkit_exporters.adoption.label_order import check_order
from medkit_exporters.adoption.measuring import Trials

_BATCH = 256
"""Images that are in memory at a time."""

Raw = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Takes raw pixels, uint8 of shape (n, height, width, channels); gives probabilities at
temperature 1, (n, labels)."""


@dataclass(frozen=True)
class Rules:
    """The rules by which an adopted model decides, and its figures under them.

    Attributes
    ----------
    temperature, points
        Fitted to the validation part; 1 and fixed for a model without data.
    metrics
        Figures by part and operating point.
    """

    temperature: float
    points: OperatingPoints
    metrics: Metrics = field(default_factory=dict)


def fixed_rules(task: Task) -> Rules:
    """Return the rules of a model without labelled images."""
    return Rules(1.0, halfway_points(task))


def check_parts(task: Task, splits: Splits) -> None:
    """Check that the validation part can tell operating points.

    Raises
    ------
    DatasetLayoutError
        If it is empty, or holds no image with the alert label, or none without it.
    """
    truth = truth_of(task, splits.validation)
    if not len(truth):
        raise DatasetLayoutError(
            "no image is left for validation, on which temperature and operating points are "
            "fitted; give more images, or leave --data out to adopt the model uncalibrated"
        )
    if not task.multi_label:
        having = int((truth == task.labels.index(task.alert)).sum())
        if not 0 < having < len(truth):
            raise DatasetLayoutError(
                f"{having} of {counted(len(truth), 'validation image')} have the label "
                f"{task.alert!r}, so there is no operating point for it; give images with it and "
                "without it"
            )


def fit(task: Task, splits: Splits, raw: Raw) -> Rules:
    """Fit temperature and operating points on validation, and measure on both held-out parts.

    Parameters
    ----------
    task
        The task, with the contract by which its images are read.
    splits
        The division of the images.
    raw
        The model.
    """
    truth = truth_of(task, splits.validation)
    given = _outputs(task, splits.validation, raw)
    temperature = fit_temperature(truth, given)
    decided = decide(task, given, halfway_points(task)[BALANCED])
    if np.array_equal(decided, truth):
        # Where every image is right, the fit would make the model as sure as can be.
        temperature = max(temperature, 1.0)
    calibrated = apply_temperature(given, temperature, multi_label=task.multi_label)
    points = choose_points(task, truth, calibrated)
    metrics = {"validation": evaluate_points(task, truth, calibrated, points)}
    if splits.test:
        given = _outputs(task, splits.test, raw)
        calibrated = apply_temperature(given, temperature, multi_label=task.multi_label)
        test = truth_of(task, splits.test)
        metrics["test"] = evaluate_points(task, test, calibrated, points)
    return Rules(temperature, points, metrics)


def check_learned(
    task: Task, truth: NDArray[np.int64], trials: Trials, *, asked: bool = False
) -> str:
    """Refuse labels in another order than the outputs, and a model that is no better than a coin.

    Parameters
    ----------
    task
        The task.
    truth
        What the images that measured are labelled as.
    trials
        What was measured.
    asked
        Whether pixels and resize were asked for: such a model is taken.

    Returns
    -------
    str
        A remark on a model that is taken although it is no better; else empty.

    Raises
    ------
    UsageError
        If the labels are in another order, or if the 95 % interval of the AUC
        reaches down to 0.5.
    """
    check_order(task.labels, truth, *trials.best_and_all())
    figures = evaluate(task, truth, trials.best().probabilities, halfway_points(task)[BALANCED])
    area, interval = figures.auc, figures.intervals.auc
    if area is not None and interval is not None and interval[0] > 0.5:
        return ""
    told = "no AUC" if area is None else f"an AUC of {area:.3f}"
    found = f"the model is no better than chance on {counted(len(truth), 'image')}"
    if asked:
        return f"{found} ({told}); check --labels, --pixels and --resize"
    raise UsageError(
        f"{found} under every rule that was tried ({told}), so nothing tells how it was trained; "
        "check the order of --labels and the images, or give --pixels and --resize"
    )


def _outputs(task: Task, items: Sequence[Item], raw: Raw) -> NDArray[np.float32]:
    """Return a model's probabilities of images, a batch of memory at a time."""
    return np.concatenate(
        [
            raw(read_pixels(items[start : start + _BATCH], task.contract))
            for start in range(0, len(items), _BATCH)
        ]
    )
