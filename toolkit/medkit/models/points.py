"""Operating points: the rules that turn probabilities into a label, and their stored form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
    """

    name: str
    label: str | None = None
    threshold: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the point for JSON, without its name."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


OperatingPoints = dict[str, OperatingPoint]


def name_points(stored: dict[str, Any]) -> dict[str, Any]:
    """Return stored operating points, whose keys are their names, each with its name inside.

    Raises
    ------
    ValueError
        If a point lacks its label or threshold, of which each may be ``None``.
    """
    for name, point in stored.items():
        for key in ("label", "threshold"):
            if isinstance(point, dict) and key not in point:
                raise ValueError(f"operating_points.{name} has no field {key!r}")
    return {
        name: {**point, "name": name} if isinstance(point, dict) else point
        for name, point in stored.items()
    }


def check_points(points: OperatingPoints, labels: Sequence[str]) -> None:
    """Check that operating points can be obeyed.

    Raises
    ------
    ValueError
        If there is no point :data:`BALANCED`, or one has a label that is not
        among ``labels``, or a threshold outside 0..1.
    """
    if BALANCED not in points:
        raise ValueError(f"no operating point {BALANCED!r}")
    for point in points.values():
        if (point.label is None) != (point.threshold is None) or (
            point.threshold is not None
            and (point.label not in labels or not 0 <= point.threshold <= 1)
        ):
            raise ValueError(f"operating point {point} cannot be obeyed")


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
