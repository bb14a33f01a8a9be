"""A comparison of an export with its original on the same images: what changed, and if it passes.

The rules are in :mod:`medkit.evaluation.rules`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.defaults import BALANCED
from medkit.evaluation.flips import Flip, find_flips
from medkit.evaluation.intervals import has_label
from medkit.evaluation.metrics import CALIBRATION_BINS, scored_labels
from medkit.evaluation.multilabel import balanced_weights, sensitivity_weights
from medkit.evaluation.outputs import Images, ModelRun, Outputs
from medkit.evaluation.paired import Change, auc_change, bootstrap_changes, mcnemar
from medkit.evaluation.rules import (
    ACCURACY,
    AUC,
    BALANCED_ACCURACY,
    BUDGETS,
    CALIBRATION_ERROR,
    RULES,
    SENSITIVITY,
    Budget,
    Gate,
    judge_agreement,
    judge_change,
    judge_difference,
)
from medkit.extras import require
from medkit.models.decisions import Decisions, decide, marks
from medkit.tasks import Task
from medkit.wording import counted


@dataclass(frozen=True)
class Comparison:
    """An export compared with its original.

    Attributes
    ----------
    task, file, precision, runtime
        The export and its runtime; see :class:`medkit.evaluation.outputs.ModelRun`.
    images
        Number of image files.
    changes
        Each figure's change, by name; empty on images without labels.
    worse, better
        Images whose decision turned from right to wrong, and from wrong to right.
        Other decisions may differ, too: they were wrong before, and are wrong
        in another way.
    mcnemar
        p-value of McNemar's exact test on these; ``None`` without labels.
    agreement
        Share of images on which both decide alike, 0..1; in a multi-label
        task, alike in all labels.
    largest_difference
        Largest difference of any probability; infinite if a probability is not finite.
    distinct
        Number of different scores of the alert label, for the original and
        for the export; if there is none, the least of any label. Equal scores
        cannot be ranked.
    gates
        Every rule that was applied.
    flips
        The images that were decided differently.
    """

    task: str
    file: str
    precision: str
    runtime: str
    images: int
    changes: dict[str, Change]
    worse: int
    better: int
    mcnemar: float | None
    agreement: float
    largest_difference: float
    distinct: tuple[int, int]
    gates: tuple[Gate, ...]
    flips: tuple[Flip, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """One line for each broken rule, with the figure and the excess."""
        return tuple(gate.message for gate in self.gates if gate.message)

    @property
    def passed(self) -> bool:
        """Whether no rule was broken."""
        return not self.failures

    def failing(self, *messages: str) -> Comparison:
        """Return the comparison with rules that were broken elsewhere, one line each."""
        broken = tuple(Gate("the file itself", 1, 0, message) for message in messages)
        return replace(self, gates=(*broken, *self.gates))

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON; a number that is not finite is ``None``."""
        stored: dict[str, Any] = _finite(asdict(self))
        for name, change in self.changes.items():
            stored["changes"][name]["difference"] = change.difference
        return {**stored, "failures": list(self.failures), "passed": self.passed}


def compare(
    task: Task,
    run: ModelRun,
    original: Outputs,
    export: Outputs,
    images: Images,
    budget: Budget | None = None,
) -> Comparison:
    """Compare the outputs of an export with those of its original, for the same images.

    Parameters
    ----------
    task
        The task.
    run
        The export.
    original, export
        Outputs of both models for the same images, in the same order.
    images
        Their names and, if known, labels.
    budget
        Changes that the export may make; ``None`` for the budget of its
        precision in :data:`medkit.evaluation.rules.BUDGETS`.

    Raises
    ------
    MissingExtraError
        If SciPy is not installed.
    """
    require("compare two models", "scipy")
    budget = budget or BUDGETS[run.precision]
    pair = original.probabilities, export.probabilities
    if not all(np.isfinite(scores).all() for scores in pair):
        return _without_numbers(task, run, export)
    count = len(pair[0])
    decided = (
        decide(task, pair[0], original.points[BALANCED]),
        decide(task, pair[1], export.points[BALANCED]),
    )
    marked = marks(task, decided[0]), marks(task, decided[1])
    differing = int((marked[0] != marked[1]).any(axis=1).sum())
    largest = float(np.abs(pair[0] - pair[1]).max())
    gates = []
    if budget.probability is not None:
        gates.append(judge_difference(largest, budget.probability))
    gates.append(judge_agreement("agreement", differing, count, budget))
    changes: dict[str, Change] = {}
    worse = better = 0
    if images.labels is not None:
        truth = marks(task, images.labels)
        right = [(truth == both).all(axis=1) for both in marked]
        worse, better = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
        changes = _changes(task, images.labels, pair, decided)
        turned = right[0] != right[1]
        for name, change in changes.items():
            each = task.multi_label and name != ACCURACY
            which = marked[0] != marked[1] if each else turned
            gates += judge_change(task, name, change, images.labels, which, budget)
    for name in original.points:
        if name != BALANCED:
            gates += _judge_point(task, name, original, export, images, budget)
    return Comparison(
        task=task.name,
        **asdict(run),
        images=count,
        changes=changes,
        worse=worse,
        better=better,
        mcnemar=None if images.labels is None else mcnemar(worse, better),
        agreement=1 - differing / count,
        largest_difference=largest,
        distinct=(_distinct(task, pair[0]), _distinct(task, pair[1])),
        gates=tuple(gates),
        flips=find_flips(task, original, export, images),
    )


def _without_numbers(task: Task, run: ModelRun, export: Outputs) -> Comparison:
    """Return the comparison of models of which one gives a probability that is not finite."""
    count = len(export.probabilities)
    broken = int((~np.isfinite(export.probabilities).all(axis=1)).sum())
    message = f"a probability is not finite ({broken} of {counted(count, 'image')} of the export)"
    return Comparison(
        task=task.name,
        **asdict(run),
        images=count,
        changes={},
        worse=0,
        better=0,
        mcnemar=None,
        agreement=0.0,
        largest_difference=float("inf"),
        distinct=(0, 0),
        gates=(Gate("finite probabilities", broken, 0, message),),
        flips=(),
    )


def _distinct(task: Task, scores: NDArray[np.float32]) -> int:
    """Return the number of different scores of the alert label, or the least of any label."""
    alert = task.alert_index
    shown = scores.T if alert is None else scores.T[alert : alert + 1]
    return min(len(np.unique(each)) for each in shown)


Scores = tuple[NDArray[np.float32], NDArray[np.float32]]


def _changes(
    task: Task, labels: NDArray[np.int64], scores: Scores, decided: tuple[Decisions, Decisions]
) -> dict[str, Change]:
    """Return every figure that the images allow, with the interval of its change."""
    counted = _counted_by_label if task.multi_label else _counted_by_image
    changes = counted(task, labels, scores, decided)
    columns = [c for c in scored_labels(task) if 0 < has_label(labels, c).sum() < len(labels)]
    if columns:
        changes[AUC] = auc_change(labels, *scores, columns)
    return changes


def _counted_by_label(
    task: Task, labels: NDArray[np.int64], scores: Scores, decided: tuple[Decisions, Decisions]
) -> dict[str, Change]:
    """Return the figures of a multi-label task that are counted, with their changes."""
    truth = labels == 1
    right = np.stack([truth == choice for choice in decided])
    gaps = np.stack([both - truth for both in scores]).astype(np.float64)
    # As for images: both models' labels are put into bins by the original's probability.
    bins = np.minimum(
        (scores[0].astype(np.float64) * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1
    )
    shown = truth.any() if task.alert_index is None else truth[:, task.alert_index].any()
    names = [ACCURACY, BALANCED_ACCURACY, CALIBRATION_ERROR, *([SENSITIVITY] * bool(shown))]

    def figures(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        there = truth[drawn]
        balanced = balanced_weights(there)
        found = sensitivity_weights(there, task.alert_index)
        rows = []
        for hits, gap in zip(right[:, drawn], gaps[:, drawn], strict=True):
            error = np.abs(np.bincount(bins[drawn].ravel(), gap.ravel())).sum() / gap.size
            all_right = hits.all(axis=1).mean()
            row = [all_right, (balanced * hits).sum(), error, (found * hits).sum()]
            rows.append(row[: len(names)])
        return np.array(rows)

    return dict(zip(names, bootstrap_changes(labels, figures), strict=True))


def _counted_by_image(
    task: Task, labels: NDArray[np.int64], scores: Scores, decided: tuple[Decisions, Decisions]
) -> dict[str, Change]:
    """Return the figures that are counted in images, with their changes."""
    classes, members = np.unique(labels, return_inverse=True)
    alert = task.labels.index(task.alert)
    right = np.stack([choice == labels for choice in decided]).astype(np.float64)
    confidence = np.stack([both.max(axis=1) for both in scores]).astype(np.float64)
    gaps = confidence - np.stack([both.argmax(axis=1) == labels for both in scores])
    # Both models' images are put into bins by the original's confidence. Put into bins by its own
    # confidence, an export moves images across the edges of bins, and the error jumps though
    # hardly a probability changed.
    bins = np.minimum((confidence[0] * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    names = [ACCURACY, BALANCED_ACCURACY, CALIBRATION_ERROR]
    names += [SENSITIVITY] * bool((labels == alert).any())

    def figures(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        sizes = np.bincount(members[drawn])
        rows = []
        for hits, gap in zip(right[:, drawn], gaps[:, drawn], strict=True):
            recalls = np.bincount(members[drawn], hits) / sizes
            error = np.abs(np.bincount(bins[drawn], gap)).sum() / len(drawn)
            rows.append([hits.mean(), recalls.mean(), error, *recalls[classes == alert]])
        return np.array(rows)

    return dict(zip(names, bootstrap_changes(labels, figures), strict=True))


def _judge_point(
    task: Task,
    name: str,
    original: Outputs,
    export: Outputs,
    images: Images,
    budget: Budget,
) -> list[Gate]:
    """Apply the rules of agreement and sensitivity at another operating point than balanced."""
    if name not in export.points:
        return [Gate(f"operating point {name}", 0, 1, f"it has no operating point {name}")]
    found = [
        marks(task, decide(task, outputs.probabilities, outputs.points[name]))
        for outputs in (original, export)
    ]
    if not task.multi_label:
        found = [decided[:, [task.labels.index(task.alert)]] for decided in found]
    crossed = found[0] != found[1]
    differing = int(crossed.any(axis=1).sum())
    gates = [judge_agreement(f"agreement at {name}", differing, len(crossed), budget)]
    if images.labels is None:
        return gates
    labels, weigh, alert = images.labels, RULES[SENSITIVITY].weights, task.alert_index
    counts = (weigh(labels, alert) > 0).reshape(crossed.shape)
    if not counts.any():
        return gates

    def sensitivity(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        if task.multi_label:
            weights = weigh(labels[drawn], alert)
            return np.array([[(weights * side[drawn]).sum()] for side in found])
        return np.array([[side[drawn][counts[drawn]].mean()] for side in found])

    (change,) = bootstrap_changes(labels, sensitivity)
    turned = (crossed & counts).reshape(labels.shape)
    return [*gates, *judge_change(task, SENSITIVITY, change, labels, turned, budget, name)]


def _finite(value: Any) -> Any:
    """Return nested values with ``None`` for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
