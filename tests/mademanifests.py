"""Made manifests whose numbers all differ, as they are stored."""

from __future__ import annotations

from typing import Any

from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.evaluation.metrics import DEDUPLICATED
from medkit.models.manifest import Manifest
from medkit.tasks import Task


class Numbers:
    """Gives counts, and shares above a half, that differ at each turn and with the start."""

    def __init__(self, start: int) -> None:
        self._next = start

    def count(self) -> int:
        self._next += 1
        return self._next

    def share(self) -> float:
        return 0.501 + self.count() * 0.2718 % 0.498

    def interval(self) -> list[float]:
        return [self.share(), self.share()]


def figures(task: Task, numbers: Numbers, point: str) -> dict[str, Any]:
    """Make figures as a manifest stores them; they contradict each other."""
    by_label = {
        key: {label: numbers.share() for label in task.labels}
        for key in ("sensitivity", "specificity")
    }
    scored = [task.positive] if task.positive else task.labels
    single = ("accuracy", "balanced_accuracy", "auc", "calibration_error")
    return {
        "images": numbers.count(),
        "operating_point": point,
        "threshold": numbers.share() if task.binary or point != BALANCED else None,
        **{key: numbers.share() for key in single},
        **by_label,
        "class_auc": {label: numbers.share() for label in scored},
        "confusion": [[numbers.count() for _ in task.labels] for _ in task.labels],
        "reliability": [],
        "intervals": {
            **{key: numbers.interval() for key in single},
            **{key: {label: numbers.interval() for label in task.labels} for key in by_label},
        },
    }


def made(task: Task, start: int = 0) -> dict[str, Any]:
    """Make a stored manifest whose numbers all differ, and all change with the start."""
    numbers = Numbers(start)
    # First, so that they are small and one test image is a visible part of them.
    counts = {
        split: {label: numbers.count() for label in task.labels}
        for split in ("train", "validation", "test")
    }
    test = {
        name: {point: figures(task, numbers, point) for point in (BALANCED, HIGH_SENSITIVITY)}
        for name in ("test", DEDUPLICATED)
    }
    exported = {
        name: {point: figures(task, numbers, point) for point in (BALANCED, HIGH_SENSITIVITY)}
        for name in ("test", DEDUPLICATED)
    }
    kinds = ("label conflict", "duplicate", "near duplicate", "shared patient")
    return {
        "task": task.name,
        "labels": list(task.labels),
        "contract": task.contract.to_dict(),
        "operating_points": {BALANCED: {"label": None, "threshold": None}},
        "temperature": numbers.share(),
        "metrics": test,
        "by_source": [
            {
                "label": task.labels[0],
                "source": "hospital",
                "train": numbers.count(),
                "validation": {"images": numbers.count(), "found": numbers.count()},
                "test": {"images": numbers.count(), "found": numbers.count()},
            }
        ],
        "recipe": {
            "network": "compact-cnn",
            "name": "default",
            "batch_size": 1,
            "stages": [],
            "on_conflict": "error",
            "on_known_conflicts": "error",
        },
        "chosen_on": "validation",
        "seed": numbers.count(),
        "kept_epoch": numbers.count(),
        "epochs": numbers.count(),
        "parameters": 1000 * numbers.count(),
        "data": {
            "counts": counts,
            "on_conflict": "drop",
            "kept_out": [{"name": "a.png", "reason": "a copy"}] * numbers.count(),
            "audit": {kind: numbers.count() for kind in (*kinds, "label conflict across splits")},
            "sha256": {"test": task.published.test_sha256},
        },
        "versions": {"medkit": f"{numbers.count()}.0", "numpy": f"{numbers.count()}.5"},
        "files": {"model.keras": {"bytes": 10**5 * numbers.count(), "sha256": f"{start:064x}"}},
        "exports": {
            "model-int8.onnx": {
                "bytes": 10**5 * numbers.count(),
                "sha256": "ab" * 32,
                "precision": "int8",
                "metrics": exported,
            },
        },
    }


def typed(manifest: dict[str, Any]) -> Manifest:
    """Read a stored manifest."""
    return Manifest.from_dict(manifest, "made")
