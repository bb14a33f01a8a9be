"""Operating points: the rules that turn probabilities into a label, and their stored form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medkit.defaults import BALANCED
from medkit.errors import UsageError
from medkit.wording import did_you_mean


@dataclass(frozen=True)
class OperatingPoint:
    """An operating point: the rule that turns probabilities into a label.

    Attributes
    ----------
    name
        Name of the operating point.
    label
        Label that ``threshold`` belongs to; ``None`` without a threshold.
    threshold
        Probability from which ``label`` is decided, 0..1, even if another
        label has more. Below it, the likeliest other label is decided.
        ``None`` always takes the likeliest label.
    thresholds
        In a multi-label task, the probability of each label from which it is
        decided, in the task's order; ``None`` in every other task.
    """

    name: str
    label: str | None = None
    threshold: float | None = None
    thresholds: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the point for JSON, without its name."""
        if self.thresholds is not None:
            return {"thresholds": list(self.thresholds)}
        return {"label": self.label, "threshold": self.threshold}

    def in_words(self, labels: Sequence[str], digits: int) -> str:
        """Return the rule for people, with so many digits of a threshold."""
        if self.thresholds is not None:
            each = zip(labels, self.thresholds, strict=True)
            return ", ".join(f"{label} from {least:.{digits}f}" for label, least in each)
        if self.threshold is None:
            return "the likeliest label"
        return f"{self.label} from {self.threshold:.{digits}f}"


OperatingPoints = dict[str, OperatingPoint]


def stored_points(points: OperatingPoints) -> dict[str, Any]:
    """Return operating points as files hold them, by name."""
    return {name: point.to_dict() for name, point in points.items()}


def name_points(stored: dict[str, Any]) -> dict[str, Any]:
    """Return stored operating points, whose keys are their names, each with its name inside.

    Raises
    ------
    ValueError
        If a point lacks its label or threshold, of which each may be ``None``,
        and has no thresholds.
    """
    for name, point in stored.items():
        for key in ("label", "threshold"):
            if isinstance(point, dict) and key not in point and "thresholds" not in point:
                raise ValueError(f"operating_points.{name} has no field {key!r}")
    return {
        name: {**point, "name": name} if isinstance(point, dict) else point
        for name, point in stored.items()
    }


def with_named_points(stored: Any) -> Any:
    """Return a parsed manifest whose operating points know their names, those of exports too."""
    if not isinstance(stored, dict):
        return stored
    named = dict(stored)
    if isinstance(points := stored.get("operating_points"), dict):
        named["operating_points"] = name_points(points)
    if isinstance(exports := stored.get("exports"), dict):
        named["exports"] = {name: with_named_points(entry) for name, entry in exports.items()}
    return named


def check_points(points: OperatingPoints, labels: Sequence[str]) -> None:
    """Check that operating points can be obeyed.

    Raises
    ------
    ValueError
        If there is no point :data:`BALANCED`, or one has a label that is not
        among ``labels``, a threshold outside 0..1, or not one for each label,
        or if only some have one for each label.
    """
    if BALANCED not in points:
        raise ValueError(f"no operating point {BALANCED!r}")
    several = are_multi_label(points)
    for point in points.values():
        if several:
            given = point.thresholds or ()
            if (
                (point.label, point.threshold) != (None, None)
                or len(given) != len(labels)
                or not all(0 <= threshold <= 1 for threshold in given)
            ):
                raise ValueError(f"operating point {point} cannot be obeyed")
        elif (point.label is None) != (point.threshold is None) or (
            point.threshold is not None
            and (point.label not in labels or not 0 <= point.threshold <= 1)
        ):
            raise ValueError(f"operating point {point} cannot be obeyed")


def are_multi_label(points: OperatingPoints) -> bool:
    """Whether operating points are those of a multi-label task."""
    return any(point.thresholds is not None for point in points.values())


def check_temperature(temperature: float) -> None:
    """Raise :class:`ValueError` unless a temperature is a positive number."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature {temperature!r} is no positive number")


def get_point(points: OperatingPoints, name: str) -> OperatingPoint:
    """Return the operating point with this name. Raise :class:`UsageError` if there is none."""
    try:
        return points[name]
    except KeyError:
        raise UsageError(
            f"unknown operating point {name!r}; {did_you_mean(name, points)}"
            f"this model has: {', '.join(points)}"
        ) from None
