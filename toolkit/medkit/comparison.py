"""An export held against its original on the same images: what changed, and whether that may be.

What must hold is written once, in :data:`BUDGETS`; the rule by which a figure
passes is :func:`_judge`'s, and ``docs/parity.md`` says why it is this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.decisions import BALANCED, OperatingPoints, decide
from medkit.metrics import CALIBRATION_BINS, scored_labels
from medkit.paired import Change, auc_change, bootstrap_changes, chance, mcnemar
from medkit.tasks import Task

ACCURACY, BALANCED_ACCURACY, AUC = "accuracy", "balanced accuracy", "AUC"
CALIBRATION_ERROR, SENSITIVITY = "calibration error", "sensitivity"
"""Names of the figures that a comparison holds."""

_EPSILON = 1e-9  # a share of images must not fail by its own rounding


@dataclass(frozen=True)
class Budget:
    """How far an export may stray from its original.

    Attributes
    ----------
    probability
        Largest difference of any probability; ``None`` for no bound.
    accuracy
        Largest fall of accuracy and balanced accuracy, 0..1.
    auc
        Largest fall of the AUC.
    calibration_error
        Largest rise of the calibration error, 0..1.
    sensitivity
        Largest fall of the alert label's sensitivity, 0..1.
    agreement
        Smallest share of images on which both decide alike.
    """

    probability: float | None = None
    accuracy: float = 0.01
    auc: float = 0.01
    calibration_error: float = 0.02
    sensitivity: float = 0.02
    agreement: float = 0.97

    def with_drop(self, points: float) -> Budget:
        """Return the budget with another bound of accuracy, in points, and AUC, in hundredths."""
        return replace(self, accuracy=points / 100, auc=points / 100)


BUDGETS = {
    "int8": Budget(),
    "int16": Budget(),
    "mixed": Budget(),
    "fp16": Budget(probability=1e-2),
    "fp32": Budget(probability=1e-4),
}
"""The budget of each precision."""


@dataclass(frozen=True)
class Outputs:
    """What a model makes of images.

    Attributes
    ----------
    probabilities
        Shape (n, classes), calibrated by the model's own temperature.
    points
        The model's own operating points.
    """

    probabilities: NDArray[np.float32]
    points: OperatingPoints


@dataclass(frozen=True)
class Images:
    """The images of a comparison, without their pixels.

    Attributes
    ----------
    names
        Of the n files, for the list of flips.
    labels
        True label indices, shape (n,); ``None`` where nobody knows them.
    """

    names: Sequence[str]
    labels: NDArray[np.int64] | None


@dataclass(frozen=True)
class Gate:
    """One rule, applied.

    Attributes
    ----------
    name
        What was measured.
    value, bound
        The figure, and the largest or smallest that passes.
    message
        What was wrong; empty if the rule holds.
    """

    name: str
    value: float
    bound: float
    message: str = ""


@dataclass(frozen=True)
class Flip:
    """An image that original and export decide differently.

    Attributes
    ----------
    name
        The file.
    truth
        Its label; ``None`` if nobody knows it.
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


@dataclass(frozen=True)
class Comparison:
    """One export held against its original.

    Attributes
    ----------
    task, file, precision, runtime
        What was compared.
    images
        Number of image files.
    changes
        Each figure's change, by name; empty on images without labels.
    worse, better
        Decisions that turned from right to wrong, and from wrong to right;
        the others that differ were wrong before and are wrong otherwise.
    mcnemar
        p-value of McNemar's exact test on these; ``None`` without labels.
    agreement
        Share of images on which both decide alike, 0..1.
    largest_difference
        Of any probability; infinite if one is no number.
    distinct
        How many different scores the alert label has, of the original and of
        the export: equal scores cannot be ranked.
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
        """One line for each broken rule, by what and by how much."""
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
    what: tuple[str, str, str],
    original: Outputs,
    export: Outputs,
    images: Images,
    budget: Budget | None = None,
) -> Comparison:
    """Hold what an export makes of images against what its original makes of them.

    Parameters
    ----------
    task
        The task.
    what
        The export's file, precision (key of :data:`BUDGETS`) and runtime.
    original, export
        Of the same images, in the same order.
    images
        Their names and, if known, labels.
    budget
        Another than that of the precision.
    """
    file, precision, runtime = what
    budget = budget or BUDGETS[precision]
    pair = original.probabilities, export.probabilities
    count = len(pair[0])
    if not all(np.isfinite(scores).all() for scores in pair):
        broken = int((~np.isfinite(pair[1]).all(axis=1)).sum())
        message = f"a probability is not finite ({broken} of {count} images of the export)"
        return Comparison(
            task.name, file, precision, runtime, count, {}, 0, 0, None,
            agreement=0.0, largest_difference=float("inf"), distinct=(0, 0),
            gates=(Gate("finite probabilities", broken, 0, message),), flips=(),
        )  # fmt: skip
    decided = (
        decide(task, pair[0], original.points[BALANCED]),
        decide(task, pair[1], export.points[BALANCED]),
    )
    differing = int((decided[0] != decided[1]).sum())
    largest = float(np.abs(pair[0] - pair[1]).max())
    gates = []
    if budget.probability is not None:
        gates.append(_at_most("largest difference", largest, budget.probability))
    gates.append(_agreement("agreement", differing, count, budget))
    changes: dict[str, Change] = {}
    worse = better = 0
    if images.labels is not None:
        right = decided[0] == images.labels, decided[1] == images.labels
        worse, better = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
        changes = _changes(task, images.labels, pair, decided)
        for name, change in changes.items():
            gates += _judge(task, name, change, images.labels, right[0] != right[1], budget)
    for name in original.points:
        if name != BALANCED:
            gates += _judge_point(task, name, original, export, images, budget)
    alert = task.labels.index(task.alert)
    return Comparison(
        task=task.name,
        file=file,
        precision=precision,
        runtime=runtime,
        images=count,
        changes=changes,
        worse=worse,
        better=better,
        mcnemar=None if images.labels is None else mcnemar(worse, better),
        agreement=1 - differing / count,
        largest_difference=largest,
        distinct=(len(np.unique(pair[0][:, alert])), len(np.unique(pair[1][:, alert]))),
        gates=tuple(gates),
        flips=_flips(task, original, export, images),
    )


def _changes(
    task: Task,
    labels: NDArray[np.int64],
    scores: tuple[NDArray[np.float32], NDArray[np.float32]],
    decided: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> dict[str, Change]:
    """Return every figure that the images allow, with the interval of its change."""
    classes, members = np.unique(labels, return_inverse=True)
    alert = task.labels.index(task.alert)
    right = np.stack([choice == labels for choice in decided]).astype(np.float64)
    sureness = np.stack([both.max(axis=1) for both in scores]).astype(np.float64)
    gaps = sureness - np.stack([both.argmax(axis=1) == labels for both in scores])
    # Both are grouped by how sure the original is. Grouped by its own sureness, an export moves
    # images across the bins' edges, and the error jumps though hardly a probability changed.
    bins = np.minimum((sureness[0] * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
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

    changes = dict(zip(names, bootstrap_changes(labels, figures), strict=True))
    columns = [c for c in scored_labels(task) if 0 < (labels == c).sum() < len(labels)]
    if columns:
        changes[AUC] = auc_change(labels, *scores, columns)
    return changes


def _judge(
    task: Task,
    name: str,
    change: Change,
    labels: NDArray[np.int64],
    turned: NDArray[np.bool_],
    budget: Budget,
    point: str = BALANCED,
) -> list[Gate]:
    """Apply both rules to the change of a figure.

    The change itself must lie within the budget; of what is counted in
    images, as much is always allowed as one of those that turned from right
    to wrong, or back, weighs. And the bad end of its interval must lie within
    the budget and what chance adds: how far the interval of an export reaches
    whose every allowed disagreement fell for the better as often as for the
    worse. A single image that turned cannot break the second rule of what is
    counted in images.
    """
    bound = {
        ACCURACY: budget.accuracy,
        BALANCED_ACCURACY: budget.accuracy,
        AUC: budget.auc,
        CALIBRATION_ERROR: budget.calibration_error,
        SENSITIVITY: budget.sensitivity,
    }[name]
    weights = _weights(task, name, labels)
    counted = name in (ACCURACY, BALANCED_ACCURACY, SENSITIVITY)
    first = max(bound, weights[turned].max(initial=0)) if counted else bound
    rises_are_bad = name == CALIBRATION_ERROR
    # More right and less error are no fault, and decisions that turn are bounded by agreement.
    moved = change.difference if rises_are_bad else 0.0 - change.difference
    title = name if point == BALANCED else f"{name} at {point}"
    text = f"{title} {change.before:.4f} became {change.after:.4f}"
    gates = [
        Gate(
            f"{title}, change",
            moved,
            first,
            "" if moved <= first + _EPSILON else f"{text}, worse by more than {first:.4f}",
        )
    ]
    bad_end = change.high if rises_are_bad else 0.0 - change.low
    second = bound + chance(1 - budget.agreement, weights)
    holds = bad_end <= second + _EPSILON or (counted and turned.sum() <= 1)
    message = (
        ""
        if holds
        else (f"{text}; by its 95 % interval the loss may be {bad_end:.4f}, above {second:.4f}")
    )
    gates.append(Gate(f"{title}, bad end of the interval", bad_end, second, message))
    return gates


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
    alert = task.labels.index(task.alert)
    found = [
        decide(task, outputs.probabilities, outputs.points[name]) == alert
        for outputs in (original, export)
    ]
    crossed = found[0] != found[1]
    gates = [_agreement(f"agreement at {name}", int(crossed.sum()), len(crossed), budget)]
    if images.labels is None or not (images.labels == alert).any():
        return gates
    sick = images.labels == alert

    def sensitivity(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([[side[drawn][sick[drawn]].mean()] for side in found])

    (change,) = bootstrap_changes(images.labels, sensitivity)
    return [
        *gates,
        *_judge(task, SENSITIVITY, change, images.labels, crossed & sick, budget, name),
    ]


def _weights(task: Task, name: str, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return by how much a figure changes when an image turns, shape (n,).

    For the AUC as for the balanced accuracy, which is the AUC of decisions.
    """
    sizes = np.bincount(labels, minlength=len(task.labels))
    if name in (ACCURACY, CALIBRATION_ERROR):
        return np.full(len(labels), 1 / len(labels))
    if name == SENSITIVITY:
        alert = task.labels.index(task.alert)
        return np.where(labels == alert, 1 / max(int(sizes[alert]), 1), 0.0)
    return np.asarray(1 / (np.count_nonzero(sizes) * sizes[labels]))


def _at_most(name: str, value: float, bound: float) -> Gate:
    message = "" if value <= bound else f"{name} {value:.2g} exceeds {bound:g}"
    return Gate(name, value, bound, message)


def _agreement(name: str, differing: int, count: int, budget: Budget) -> Gate:
    # Compared in images, so that no rounding of a share decides; one may always differ.
    allowed = max(1, int((1 - budget.agreement) * count + _EPSILON))
    agreement = 1 - differing / count
    message = (
        f"{name} {agreement:.2%} is below {budget.agreement:.0%} "
        f"({differing} of {count} decided differently)"
    )
    return Gate(name, agreement, 1 - allowed / count, message if differing > allowed else "")


def _flips(task: Task, original: Outputs, export: Outputs, images: Images) -> tuple[Flip, ...]:
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


def _finite(value: Any) -> Any:
    """Return nested values with ``None`` for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
