"""Bundles whose files are no models, and values that no model can obey."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.models.bundle import file_record
from medkit.models.points import OperatingPoint, OperatingPoints, check_points, name_points
from medkit.records import read_record
from medkit.tasks import PNEUMONIA, TASKS, Task

WHERE = Path("model.tflite")

BOTH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def points(task: Task = PNEUMONIA) -> OperatingPoints:
    """Return operating points as training chooses them."""
    balanced = (task.alert, 0.4375) if task.binary else ()
    return {
        BALANCED: OperatingPoint(BALANCED, *balanced),
        HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, task.alert, 0.125),
    }


def stored(task: Task = PNEUMONIA, **changes: Any) -> dict[str, Any]:
    """Return the same operating points as JSON holds them, ``balanced`` with other values."""
    found = {name: point.to_dict() for name, point in points(task).items()}
    return {**found, BALANCED: {**found[BALANCED], **changes}}


def bundle_of(trained: Path, task: Task = PNEUMONIA, **changes: Any) -> Path:
    """Write a bundle whose files are no models; return its folder."""
    folder = trained / task.name
    folder.mkdir(parents=True)
    for name in ("model.keras", "model-int8.tflite", "model-int8.onnx"):
        (folder / name).write_bytes(f"bytes of {name}".encode())
    manifest = {
        "labels": list(task.labels),
        "contract": task.contract.to_dict(),
        "temperature": 1.25,
        "operating_points": stored(task),
        "files": {"model.keras": vars(file_record(folder / "model.keras"))},
        "exports": {
            name: {**vars(file_record(folder / name)), "precision": "int8"}
            for name in ("model-int8.tflite", "model-int8.onnx")
        },
    }
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))
    return folder


def points_from(stored: dict[str, Any], task: Task) -> OperatingPoints:
    """Read operating points as manifests and cards do."""
    named = name_points(stored)
    points = {name: read_record(OperatingPoint, point) for name, point in named.items()}
    check_points(points, task.labels)
    return points


# Values that JSON can hold and no model can obey.
NO_TEMPERATURES = [0, -1, "warm", [1], math.inf, math.nan]

NO_POINTS = [
    {},
    [],
    "balanced",
    {BALANCED: None},
    {BALANCED: {"label": None}},
    {HIGH_SENSITIVITY: {"label": "PNEUMONIA", "threshold": 0.5}},
    stored(label=None),
    stored(threshold=None),
    stored(label="melanoma"),
    stored(threshold=1.001),
    stored(threshold=-0.001),
    stored(threshold=math.nan),
    stored(threshold="half"),
]
