"""The data of a training run on one's own images: audited, without conflicts, and divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medkit.datasets.audit import Audit, audit_files, audit_folder
from medkit.datasets.conflicts import resolve_conflicts
from medkit.datasets.division import Splits, divide
from medkit.datasets.folders import LabelledFile
from medkit.datasets.labels import Labels
from medkit.datasets.layout import Dataset
from medkit.datasets.own import OwnImages, read_own_images
from medkit.datasets.own_files import TEST, OwnFiles, list_own_files
from medkit.errors import DatasetLayoutError
from medkit.files import names_file
from medkit.models.manifest import KeptOut
from medkit.models.recipe import Recipe
from medkit.tasks import Task
from medkit.training.data import TrainingData, check_readable, check_validation, choose_policy
from medkit.wording import counted


def read_own_training_data(
    task: Task,
    folder: Path,
    recipe: Recipe,
    seed: int,
    on_conflict: str | None,
    spellings: Mapping[str, str] | None = None,
    group_by: str | None = None,
) -> TrainingData:
    """Read one's own images, audit them, keep conflicts out, and divide them.

    Parameters
    ----------
    task, folder, group_by
        As for :func:`medkit.datasets.own.read_own_images`.
    recipe, seed, on_conflict, spellings
        As for :func:`medkit.training.data.read_training_data`.

    Raises
    ------
    DatasetLayoutError
        If the images are not laid out for the task, if a file cannot be
        decoded, or if there are too few images of a label.
    DatasetConflictError
        If there are conflicts, and the policy for them is ``error``.
    UsageError
        If ``group_by`` does not fit the images.
    """
    labels = Labels.of(task, spellings)
    found = list_own_files(task, folder, labels)
    audit = _audit(found, labels)
    check_readable(audit)
    images = read_own_images(
        task, folder, spellings=spellings, group_by=group_by, fingerprints=audit.fingerprints
    )
    all_items = images.items
    images, policy, kept_out = _resolved(images, recipe, on_conflict)
    splits = divide(
        images, validation=recipe.validation_fraction, test=recipe.validation_fraction, seed=seed
    )
    kept = {item.name for item in images.items}
    dropped = (item for item in all_items if item.name not in kept)
    splits = replace(splits, kept_out=(*splits.kept_out, *dropped))
    _check(splits)
    return TrainingData(
        dataset=splits.dataset,
        splits={"train": splits.train, "validation": splits.validation, "test": splits.test},
        policy=policy,
        kept_out=kept_out,
        audit=audit.summary(),
        divided=splits,
        group_by=Path(group_by).name if group_by and names_file(group_by) else group_by or "",
    )


def _audit(found: OwnFiles, labels: Labels) -> Audit:
    """Audit the images: those of class folders as they lie, or those that a table lists."""
    folders = {file.name.split("/")[0] for file in found.files if file.split}
    if not found.is_table:
        return audit_folder(found.root, only=folders or None, labels=labels)
    files = [
        (file.split, file.name, LabelledFile(file.path, file.name, file.labels[0], file.path.name))
        for file in found.files
    ]
    return audit_files(found.root, files)


def _resolved(
    images: OwnImages, recipe: Recipe, on_conflict: str | None
) -> tuple[OwnImages, str | None, tuple[KeptOut, ...]]:
    """Keep images under several labels, and copies, out of all parts but a given test split."""
    others = [item for name, items in images.parts.items() if name != TEST for item in items]
    test = images.parts.get(TEST, ())
    dataset = Dataset(images.task, images.root, tuple(others), test)
    policy = choose_policy(recipe, dataset, on_conflict)
    if policy is None:
        return images, None, ()
    kept, kept_out = resolve_conflicts(dataset, policy)
    names = {item.name for item in kept}
    parts = {
        part: items if part == TEST else tuple(item for item in items if item.name in names)
        for part, items in images.parts.items()
    }
    return replace(images, parts=parts), policy, kept_out


def _check(splits: Splits) -> None:
    """Refuse a division that cannot train a model, or measure it."""
    task = splits.dataset.task
    counts = Counter(item.label for item in splits.train)
    missing = [label for index, label in enumerate(task.labels) if not counts[index]]
    if missing:
        raise DatasetLayoutError(
            f"no training image of {', '.join(missing)} is left, of "
            f"{counted(len(splits.train), 'training image')}; give more, or lay out the splits "
            "so that each has every class"
        )
    check_validation(task, splits.validation)
    if not splits.test:
        raise DatasetLayoutError("the test split has no image; give some")
