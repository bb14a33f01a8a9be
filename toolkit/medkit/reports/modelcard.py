"""``MODEL_CARD.md``: what a person should know of a trained model, made from its manifest.

Every number in a card is the manifest's. What is known of misuse, licence and traps
in the data comes from the task's notes, if the data are the published ones. A
section is left out if the manifest does not hold what it tells, as of a model that
was trained elsewhere.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from medkit.defaults import BALANCED, RECIPE
from medkit.files import write_text
from medkit.models.adoption import worth_showing
from medkit.models.bundle import KERAS_NAME, Bundle
from medkit.models.figures import Figures
from medkit.models.manifest import Manifest
from medkit.models.recipe import OWN, Recipe
from medkit.reports.html import render
from medkit.reports.origin import origin_of
from medkit.reports.tables import (
    class_rows,
    counts_measured,
    figure_columns,
    figure_rows,
    point_rows,
)
from medkit.tasks import TASKS, Task

CARD_FILE = "MODEL_CARD.md"


def render_card(task: Task, manifest: Manifest) -> str:
    """Return the model card that belongs to a manifest, as Markdown.

    Raises
    ------
    MissingExtraError
        If Jinja2 is not installed.
    """
    columns = figure_columns(manifest)
    measured = next(iter(counts_measured(columns)), 0)
    counts = {name: sum(found.values()) for name, found in manifest.data.counts.items()}
    points = manifest.metrics.get("test", {})
    test = points.get(BALANCED)
    return render(
        "model_card.md.jinja",
        task=task,
        manifest=manifest,
        shape=" x ".join(map(str, manifest.contract.shape)),
        measured_rules=worth_showing(manifest.adoption.measured) if manifest.adoption else [],
        original=manifest.files.get(KERAS_NAME),
        origin=origin_of(task, manifest),
        counts={"train": 0, "validation": 0, "test": 0, **counts},
        images=measured and counts.get("test", measured),
        test=test,
        columns=columns,
        rows=figure_rows(task, columns),
        classes=class_rows(task, test) if test else [],
        weakest=_weakest(test) if test else "",
        points=point_rows(task, points),
        options=_options(task, manifest, manifest.recipe) if manifest.recipe else "",
    )


def write_card(bundle: Bundle) -> Path:
    """Write ``MODEL_CARD.md`` beside the manifest, atomically, and return where."""
    path = bundle.folder / CARD_FILE
    write_text(path, render_card(bundle.task, bundle.manifest))
    return path


def _options(task: Task, manifest: Manifest, recipe: Recipe) -> str:
    """Return the options, beside the seed, with which a training run can be repeated."""
    own = _own_options(task, manifest, recipe) if task.name not in TASKS else ""
    return own + _train_options(recipe, manifest.data.on_conflict)


def _own_options(task: Task, manifest: Manifest, recipe: Recipe) -> str:
    """Return the options that describe a task of one's own, quoted for a shell."""
    contract = manifest.contract
    options = [
        # A label with a comma needs the form of a file.
        ("labels", "FILE" if any("," in label for label in task.labels) else ",".join(task.labels)),
        ("alert", task.alert),
        ("title", task.title),
        ("network", recipe.network),
        ("weights", "none" if recipe.from_scratch else ""),
        ("size", f"{contract.width}x{contract.height}"),
        ("epochs", str(sum(stage.epochs for stage in recipe.stages))),
        ("group-by", manifest.data.group_by),
    ]
    given = "".join(f" --{name} {shlex.quote(value)}" for name, value in options if value)
    return f"{given} --{'grey' if contract.channels == 1 else 'colour'}"


def _train_options(recipe: Recipe, policy: str | None) -> str:
    """Return the options, beside the seed, with which a training run can be repeated.

    Parameters
    ----------
    recipe
        The recipe of the run.
    policy
        Policy of the run for images under several labels.
    """
    options = "" if recipe.name in (RECIPE, OWN) else f" --recipe {recipe.name}"
    if policy not in (recipe.on_conflict, recipe.on_known_conflicts):
        options += f" --on-conflict {policy}"
    return options


def _weakest(figures: Figures) -> str:
    """Name the classes of which less than half are found."""
    missed = [
        f"{label} ({value:.0%} found)"
        for label, value in figures.sensitivity.items()
        if value is not None and value < 0.5
    ]
    return ", ".join(missed)
