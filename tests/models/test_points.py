"""Operating points: how they are stored, checked and got by name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from bundles import BOTH, points_from
from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.errors import UsageError
from medkit.models.points import OperatingPoint, check_temperature, get_point, name_points
from medkit.tasks import PNEUMONIA, Task

LIKELIEST = OperatingPoint(BALANCED)


def sick_from(threshold: float) -> OperatingPoint:
    return OperatingPoint("any", "PNEUMONIA", threshold)


@BOTH
def test_points_survive_json(task: Task) -> None:
    points = {
        BALANCED: LIKELIEST,
        "careful": OperatingPoint("careful", task.alert, 0.25),
        "all": OperatingPoint("all", task.labels[0], 0.0),
        "none": OperatingPoint("none", task.labels[0], 1.0),
    }
    text = json.dumps({name: point.to_dict() for name, point in points.items()})
    assert points_from(json.loads(text), task) == points


def test_a_stored_point_does_not_repeat_its_name() -> None:
    assert sick_from(0.5).to_dict() == {"label": "PNEUMONIA", "threshold": 0.5}
    assert LIKELIEST.to_dict() == {"label": None, "threshold": None}


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"label": "PNEUMONIA", "threshold": None}, "cannot be obeyed"),
        ({"label": None, "threshold": 0.5}, "cannot be obeyed"),
        ({"label": "melanoma", "threshold": 0.5}, "cannot be obeyed"),
        ({"label": "PNEUMONIA", "threshold": 1.01}, "cannot be obeyed"),
        ({"label": "PNEUMONIA", "threshold": -0.01}, "cannot be obeyed"),
        ({"label": "PNEUMONIA", "threshold": math.nan}, "cannot be obeyed"),
        (None, "no operating point 'balanced'"),
    ],
)
def test_points_that_cannot_be_obeyed_are_refused(entry: dict[str, Any] | None, what: str) -> None:
    stored = {HIGH_SENSITIVITY: {"label": "PNEUMONIA", "threshold": 0.1}}
    if entry is not None:
        stored[BALANCED] = entry
    with pytest.raises(ValueError, match=what):
        points_from(stored, PNEUMONIA)


def test_a_point_is_got_by_its_name() -> None:
    points = {BALANCED: LIKELIEST, "careful": sick_from(0.1)}
    assert get_point(points, "careful") == sick_from(0.1)
    for name, hint in (("Careful", "did you mean careful? "), ("", ""), ("reckless", "")):
        with pytest.raises(UsageError) as caught:
            get_point(points, name)
        assert str(caught.value) == (
            f"unknown operating point {name!r}; {hint}this model has: balanced, careful"
        )


@pytest.mark.parametrize("missing", ["label", "threshold"])
def test_a_stored_point_without_a_field_is_named(missing: str) -> None:
    entry = {"label": None, "threshold": None}
    del entry[missing]
    with pytest.raises(ValueError, match=rf"^operating_points\.careful has no field '{missing}'$"):
        name_points({BALANCED: {"label": None, "threshold": None}, "careful": entry})


def test_a_temperature_is_a_positive_number() -> None:
    for temperature in (0.001, 1, 1.5, 1000.0):
        check_temperature(temperature)
    for temperature in (0.0, -0.5, math.inf, math.nan):
        with pytest.raises(ValueError, match="is no positive number"):
            check_temperature(temperature)
