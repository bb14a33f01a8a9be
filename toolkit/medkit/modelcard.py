"""``MODEL_CARD.md``: what a person should know of a trained model, made from its manifest.

Every number in a card is the manifest's. The words that are no number, what
is known of the data and of misuse, stand here once for each task.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medkit.bundles import KERAS_NAME, Bundle, replacing
from medkit.decisions import BALANCED
from medkit.images import contract_for
from medkit.metrics import UNTWINNED
from medkit.pages import render
from medkit.tasks import PNEUMONIA, SKIN, Task

CARD_FILE = "MODEL_CARD.md"

_MISUSE = {
    PNEUMONIA.name: "It has seen children of one to five years only, never an adult's chest, and "
    "only the question pneumonia or not: every other disease is called one of the two.",
    SKIN.name: "It misses melanomas; a mole that it calls harmless may not be. It knows nine "
    "diagnoses and calls everything else one of them, healthy skin included.",
}

_LICENCES = {
    PNEUMONIA.name: "Apache-2.0; the data are CC BY 4.0 (Kermany et al. 2018)",
    SKIN.name: "research only: the data are CC BY-NC 4.0 (ISIC archive, HAM10000)",
}

_TRAPS = {
    PNEUMONIA.name: (
        "The training and the test X-rays differ: a threshold that is right on validation calls "
        "too many healthy test images pneumonia, which is where published models lose their "
        "specificity. The operating points are therefore chosen on changed validation images.",
        "170 patient names occur in both official splits. The numbers may have been given anew, "
        "so it cannot be told whether they are the same children.",
        "The official validation split has 16 images, too few to choose anything on; validation "
        "is cut from the training split by patient.",
    ),
    SKIN.name: (
        "155 images lie under two labels, 18 of them in training and test at once. Whoever trains "
        "on both copies teaches a contradiction, and whoever keeps the 18 trains on the test.",
        "The sources give the class away: all nevi but one and all test melanomas come from one "
        "contribution to the archive (ISIC_0000xxx), most training melanomas from others, all "
        "basal cell carcinomas from HAM10000. A network fine-tuned plainly found none of the 16 "
        "test melanomas while a random validation split promised 0.72 accuracy.",
        "Blue and black-rimmed pictures in training are mostly nevi, in the test split melanomas "
        "as often: the cast of an image must not decide, so training changes it at random.",
    ),
}


def render_card(task: Task, manifest: dict[str, Any]) -> str:
    """Return the model card that belongs to a manifest, as Markdown."""
    columns = figure_columns(manifest)
    counts = {name: sum(found.values()) for name, found in manifest["data"]["counts"].items()}
    return render(
        "model_card.md.jinja",
        task=task,
        manifest=manifest,
        shape=" x ".join(map(str, contract_for(task).shape)),
        misuse=_MISUSE[task.name],
        licence=_LICENCES[task.name],
        counts={"validation": 0, **counts},
        columns=columns,
        rows=figure_rows(task, columns),
        classes=class_rows(task, manifest),
        weakest=_weakest(manifest["metrics"]["test"][BALANCED]),
        points=point_rows(task, manifest),
        traps=traps(task),
        options=_train_options(manifest),
    )


def write_card(bundle: Bundle) -> Path:
    """Write ``MODEL_CARD.md`` beside the manifest, atomically, and return where."""
    path = bundle.folder / CARD_FILE
    with replacing(path) as temporary:
        temporary.write_text(render_card(bundle.task, bundle.manifest), encoding="utf-8")
    return path


def with_interval(value: float | None, interval: Any, digits: int = 3) -> str:
    """Format a figure and its 95 % interval."""
    if value is None:
        return "-"
    if interval is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"


def traps(task: Task) -> tuple[str, ...]:
    """Return what misleads who trains or measures on the task's data."""
    return _TRAPS[task.name]


def figure_columns(
    manifest: dict[str, Any], seed: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return every file with figures on the official test split, the seed's and the original first.

    Returns
    -------
    list of dict
        ``name``, ``bytes`` and ``metrics``, the last by split and operating point.
    """
    columns = [("original", manifest["files"][KERAS_NAME]["bytes"], manifest["metrics"])]
    if seed is not None:
        columns.insert(0, ("seed", seed["files"][KERAS_NAME]["bytes"], seed["metrics"]))
    for name, entry in manifest["exports"].items():
        if "metrics" in entry:
            columns.append((f"`{name}`", entry["bytes"], entry["metrics"]))
    return [{"name": name, "bytes": size, "metrics": found} for name, size, found in columns]


def figure_rows(task: Task, columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a table of figures: ``name`` and the ``cells`` of each column."""

    def row(name: str, key: str, split: str = "test", label: str | None = None) -> dict[str, Any]:
        cells = []
        for column in columns:
            found = column["metrics"].get(split, {}).get(BALANCED)
            cells.append("-" if found is None else _cell(found, key, label))
        return {"name": name, "cells": cells}

    area = "AUC" if task.binary else "macro AUC"
    rows = [
        {"name": "size", "cells": [f"{column['bytes'] / 1e6:.2f} MB" for column in columns]},
        row("accuracy", "accuracy"),
        row("balanced accuracy", "balanced_accuracy"),
        row(area, "auc"),
        row(f"sensitivity for {task.alert}", "sensitivity", label=task.alert),
        row(f"specificity for {task.alert}", "specificity", label=task.alert),
        row("expected calibration error", "calibration_error"),
    ]
    untwinned = [column["metrics"].get(UNTWINNED) for column in columns]
    if any(untwinned):
        images = next(found for found in untwinned if found)[BALANCED]["images"]
        rows += [
            row(f"accuracy on the {images} images without a twin", "accuracy", UNTWINNED),
            row(f"{area} on them", "auc", UNTWINNED),
        ]
    return rows


def class_rows(task: Task, manifest: dict[str, Any]) -> list[dict[str, str]]:
    """Return the original's figures on the official test split by class, as text."""
    figures = manifest["metrics"]["test"][BALANCED]
    return [
        {
            "label": label,
            "images": str(sum(figures["confusion"][index])),
            "sensitivity": _cell(figures, "sensitivity", label),
            "specificity": _cell(figures, "specificity", label),
            "auc": with_interval(figures["class_auc"].get(label), None),
        }
        for index, label in enumerate(task.labels)
    ]


def point_rows(task: Task, manifest: dict[str, Any]) -> list[dict[str, str]]:
    """Return the original's figures on the official test split by operating point, as text."""
    rows = []
    for name, figures in manifest["metrics"]["test"].items():
        threshold = figures["threshold"]
        likeliest = "the likeliest label"
        rows.append(
            {
                "name": name,
                "rule": likeliest if threshold is None else f"{task.alert} from {threshold:.3f}",
                "sensitivity": _cell(figures, "sensitivity", task.alert),
                "specificity": _cell(figures, "specificity", task.alert),
                "accuracy": _cell(figures, "accuracy"),
            }
        )
    return rows


def _train_options(manifest: dict[str, Any]) -> str:
    """Return the options, beside the seed, that a training run needs to be this one again."""
    recipe, policy = manifest["recipe"], manifest["data"]["on_conflict"]
    options = "" if recipe["name"] == "default" else f" --recipe {recipe['name']}"
    if policy not in (recipe["on_conflict"], recipe["on_known_conflicts"]):
        options += f" --on-conflict {policy}"
    return options


def _cell(figures: dict[str, Any], key: str, label: str | None = None) -> str:
    """Format a figure with its interval, of one label where there is one for each."""
    value, interval = figures[key], figures["intervals"][key]
    if label is not None:
        value, interval = value[label], interval[label]
    return with_interval(value, interval)


def _weakest(figures: dict[str, Any]) -> str:
    """Name the classes of which less than half are found."""
    missed = [
        f"{label} ({value:.0%} found)"
        for label, value in figures["sensitivity"].items()
        if value is not None and value < 0.5
    ]
    return ", ".join(missed)
