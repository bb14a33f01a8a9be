"""Tables of a model's figures, as text: for model cards, reports and the documentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medkit.defaults import BALANCED
from medkit.evaluation.metrics import DEDUPLICATED
from medkit.evaluation.multilabel import mean_over
from medkit.models.bundle import KERAS_NAME
from medkit.models.figures import Bounds, Figures, Metrics
from medkit.models.manifest import Manifest
from medkit.tasks import Task
from medkit.wording import counted

ORIGINAL = "original"
"""What the Keras original is called in the table of its bundle."""

Measured = Callable[[Figures], tuple[float | None, Bounds | None]]
"""Takes one figure and its interval from all figures."""


@dataclass(frozen=True)
class Column:
    """A model file in a table of figures.

    Attributes
    ----------
    name
        Name of the file, for people.
    bytes
        Its size.
    metrics
        Its figures, by split and operating point.
    """

    name: str
    bytes: int
    metrics: Metrics


@dataclass(frozen=True)
class Row:
    """A row of a table of figures: its name, and a cell for each column."""

    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class ClassRow:
    """The figures of one class, as text."""

    label: str
    images: str
    sensitivity: str
    specificity: str
    auc: str


@dataclass(frozen=True)
class PointRow:
    """The figures at one operating point, as text; ``rule`` says what it decides."""

    name: str
    rule: str
    sensitivity: str
    specificity: str
    accuracy: str


def with_interval(value: float | None, interval: Bounds | None, digits: int = 3) -> str:
    """Format a figure and its 95 % interval."""
    if value is None:
        return "-"
    if interval is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"


def figure_columns(
    manifest: Manifest, other: tuple[str, Manifest] | None = None, own: str = ORIGINAL
) -> list[Column]:
    """Return the originals, first that of the other run, and every export that has figures.

    Parameters
    ----------
    manifest
        The bundle's.
    other
        Name and manifest of another run to compare with; ``None`` for none.
    own
        Name of the bundle's original.
    """
    originals = [*([other] if other else []), (own, manifest)]
    columns = [
        Column(name, run.files[KERAS_NAME].bytes, run.metrics)
        for name, run in originals
        if KERAS_NAME in run.files
    ]
    columns += [
        Column(f"`{name}`", entry.bytes, entry.metrics)
        for name, entry in manifest.exports.items()
        if entry.metrics is not None
    ]
    return columns


def counts_measured(columns: Sequence[Column], split: str = "test") -> list[int]:
    """Return on how many images of a split the figures rest: each number once, as they come."""
    found = (column.metrics.get(split, {}).get(BALANCED) for column in columns)
    return list(dict.fromkeys(figures.images for figures in found if figures is not None))


def measured_rows(task: Task, figures: Figures) -> list[Row]:
    """Return the rows of a table of figures on one set of images, without a size."""
    column = Column("", 0, {"test": {BALANCED: figures}})
    return [row for row in figure_rows(task, [column]) if row.name != "size"]


def figure_rows(task: Task, columns: Sequence[Column]) -> list[Row]:
    """Return the rows of a table of figures on the test split.

    If the columns rest on different numbers of images, a row tells them.
    """

    def counts(split: str) -> tuple[str, ...]:
        found = (column.metrics.get(split, {}).get(BALANCED) for column in columns)
        return tuple("-" if each is None else f"{each.images:,}" for each in found)

    def row(name: str, measured: Measured, split: str = "test") -> Row:
        found = (column.metrics.get(split, {}).get(BALANCED) for column in columns)
        cells = ("-" if each is None else with_interval(*measured(each)) for each in found)
        return Row(name, tuple(cells))

    area = "AUC" if task.binary else "mean AUC" if task.multi_label else "macro AUC"
    of_alert = f" for {task.alert}" if task.alert else ", mean of the labels"
    rows = [
        Row("size", tuple(f"{column.bytes / 1e6:.2f} MB" for column in columns)),
        *([Row("test images", counts("test"))] if len(counts_measured(columns)) > 1 else []),
        row(accuracy_of(task), _accuracy),
        row("balanced accuracy", lambda f: (f.balanced_accuracy, f.intervals.balanced_accuracy)),
        row(area, _area),
        row(f"sensitivity{of_alert}", lambda f: _sensitivity(f, task.alert)),
        row(f"specificity{of_alert}", lambda f: _specificity(f, task.alert)),
        row(
            "expected calibration error",
            lambda f: (f.calibration_error, f.intervals.calibration_error),
        ),
    ]
    if apart := counts_measured(columns, DEDUPLICATED):
        images, differ = counted(apart[0], "image"), len(apart) > 1
        rows += [
            *([Row("images without a twin", counts(DEDUPLICATED))] if differ else []),
            row(
                f"accuracy on the {'images' if differ else images} without a twin",
                _accuracy,
                DEDUPLICATED,
            ),
            row(f"{area} on them", _area, DEDUPLICATED),
        ]
    return rows


def class_rows(task: Task, figures: Figures) -> list[ClassRow]:
    """Return the figures by class."""
    return [
        ClassRow(
            label=label,
            images=str(figures.images_of(index)),
            sensitivity=with_interval(*_sensitivity(figures, label)),
            specificity=with_interval(*_specificity(figures, label)),
            auc=with_interval(figures.class_auc.get(label), None),
        )
        for index, label in enumerate(task.labels)
    ]


def point_rows(task: Task, points: dict[str, Figures]) -> list[PointRow]:
    """Return the figures by operating point."""
    return [
        PointRow(
            name=name,
            rule=_rule(task, figures),
            sensitivity=with_interval(*_sensitivity(figures, task.alert)),
            specificity=with_interval(*_specificity(figures, task.alert)),
            accuracy=with_interval(*_accuracy(figures)),
        )
        for name, figures in points.items()
    ]


def accuracy_of(task: Task) -> str:
    """Return what the accuracy of a task is called, as a person reads it."""
    return "all labels right" if task.multi_label else "accuracy"


def _rule(task: Task, figures: Figures) -> str:
    if figures.thresholds is not None:
        return ", ".join(f"{label} from {least:.3f}" for label, least in figures.thresholds.items())
    if figures.threshold is None:
        return "the likeliest label"
    return f"{task.alert} from {figures.threshold:.3f}"


def _accuracy(figures: Figures) -> tuple[float, Bounds]:
    return figures.accuracy, figures.intervals.accuracy


def _area(figures: Figures) -> tuple[float | None, Bounds | None]:
    return figures.auc, figures.intervals.auc


def _sensitivity(figures: Figures, label: str) -> tuple[float | None, Bounds | None]:
    """Return the sensitivity for a label with its interval, or the mean of all without one."""
    if not label:
        return mean_over(list(figures.sensitivity.values())), None
    return figures.sensitivity[label], figures.intervals.sensitivity[label]


def _specificity(figures: Figures, label: str) -> tuple[float | None, Bounds | None]:
    if not label:
        return mean_over(list(figures.specificity.values())), None
    return figures.specificity[label], figures.intervals.specificity[label]
