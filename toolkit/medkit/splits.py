"""The splits that a model was trained, chosen and tested on, made again from its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medkit.bundles import Bundle
from medkit.datasets import (
    Dataset,
    Item,
    locate_dataset,
    read_dataset,
    resolve_conflicts,
    split_validation,
)

FOREIGN_DATA = (
    "these are other files than the model was trained on, so that what is validation here may have "
    "been training there"
)
"""What to say of splits that are not as trained."""


@dataclass(frozen=True)
class Splits:
    """A data set as a training run divided it.

    Attributes
    ----------
    dataset
        As it lies on disk.
    train
        What was trained on, free of conflicts and of what lies in the test split.
    validation
        What was held out to choose on; empty for a recipe without.
    test
        The official test split.
    as_trained
        Whether the files are those that the manifest speaks of, byte by byte.
    """

    dataset: Dataset
    train: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    as_trained: bool


def splits_of(bundle: Bundle, data: Path) -> Splits:
    """Divide a data set as the bundle's training run did: same recipe, same seed.

    Raises
    ------
    DatasetLayoutError
        If ``data`` does not hold the task's data set.
    """
    dataset = read_dataset(bundle.task, locate_dataset(bundle.task, data))
    manifest = bundle.manifest
    # Freed of conflicts in any case: what is also in the test split must not count as training.
    train, _ = resolve_conflicts(dataset, manifest["data"]["on_conflict"] or "drop")
    validation: tuple[Item, ...] = ()
    if fraction := manifest["recipe"]["validation_fraction"]:
        train, validation = split_validation(train, fraction, manifest["seed"])
    recorded = manifest["data"].get("sha256", {})
    made = {"validation": validation, "test": dataset.test}
    as_trained = all(
        recorded.get(name, "") == digest_of(items) for name, items in made.items() if items
    )
    return Splits(dataset, train, validation, dataset.test, as_trained)


def digest_of(items: Sequence[Item]) -> str:
    """Return the SHA-256 over names and content hashes: which images, under which labels."""
    lines = sorted(f"{item.sha256}  {item.name}\n" for item in items)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
