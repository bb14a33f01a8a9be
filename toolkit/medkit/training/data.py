"""The data of a training run: audited, without conflicts, split, and as tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.audit import Audit, audit_folder
from medkit.datasets.conflicts import find_conflicts, resolve_conflicts
from medkit.datasets.division import Splits
from medkit.datasets.labels import Labels
from medkit.datasets.layout import Dataset, Item, read_dataset
from medkit.datasets.location import check_layout, locate_dataset
from medkit.datasets.sampling import load_tensors, split_validation
from medkit.datasets.splits import digest_of
from medkit.errors import DatasetLayoutError
from medkit.images.contract import InputContract
from medkit.models.manifest import KeptOut
from medkit.models.recipe import Recipe
from medkit.tasks import Task
from medkit.wording import counted


@dataclass(frozen=True)
class TrainingData:
    """The images of a training run.

    Attributes
    ----------
    dataset
        The data set as it lies on the disk.
    splits
        The images of ``train``, of ``validation`` if the recipe holds images
        out, and of ``test``, in this order.
    policy
        Policy that was applied to conflicts; one of
        :data:`medkit.datasets.conflicts.POLICIES`, or ``None`` for none.
    kept_out
        The training images that are in no split, with reasons.
    audit
        Number of findings by kind.
    divided
        The division of one's own images, which is recorded; ``None`` for a
        published data set, which is divided again by the recipe.
    group_by
        What told the patients; see :class:`~medkit.models.manifest.DataRecord`.
    """

    dataset: Dataset
    splits: dict[str, tuple[Item, ...]]
    policy: str | None
    kept_out: tuple[KeptOut, ...]
    audit: dict[str, int]
    divided: Splits | None = None
    group_by: str = ""

    def remarks(self) -> list[str]:
        """Return lines for people on the images and their division."""
        return self.divided.lines() if self.divided else self.dataset.remarks()

    @property
    def read(self) -> int:
        """Number of images that were read, and that may be kept out."""
        if self.divided is None:
            return len(self.dataset.train)
        return sum(map(len, self.splits.values())) + len(self.kept_out)

    @property
    def watched(self) -> str:
        """The split that is measured after each epoch: validation, else test."""
        return "validation" if "validation" in self.splits else "test"

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 over the names and content hashes of each split's images."""
        return {name: digest_of(items) for name, items in self.splits.items()}


def read_training_data(
    task: Task,
    folder: Path,
    recipe: Recipe,
    seed: int,
    on_conflict: str | None,
    spellings: Mapping[str, str] | None = None,
) -> TrainingData:
    """Read a data set, audit it, keep conflicts out of training, and cut the splits.

    Parameters
    ----------
    task
        Task to learn.
    folder
        The data set's folder, with its split folders, or a folder that holds it.
    recipe
        Says how much to hold out, and what to do with conflicts.
    seed
        Decides the validation split.
    on_conflict
        Another policy for conflicts; ``None`` takes the recipe's policy.
    spellings
        Other spellings of class folders; see
        :func:`medkit.datasets.labels.read_labels_map`.

    Raises
    ------
    DatasetLayoutError
        If the folder is not laid out for the task, if a file cannot be
        decoded, or if there are too few images.
    DatasetConflictError
        If there are conflicts, and the policy for them is ``error``.
    """
    labels = Labels.of(task, spellings)
    root = locate_dataset(task, folder, labels)
    splits_on_disk = check_layout(task, root, labels)
    audit = audit_folder(root, only=[split.name for split in splits_on_disk], labels=labels)
    check_readable(audit)
    dataset = read_dataset(task, root, labels, audit.fingerprints)
    policy = choose_policy(recipe, dataset, on_conflict)
    kept, kept_out = resolve_conflicts(dataset, policy) if policy else (dataset.train, ())
    splits = {"train": kept, "test": dataset.test}
    if recipe.validation_fraction:
        train, validation = split_validation(kept, recipe.validation_fraction, seed)
        splits = {"train": train, "validation": validation, "test": dataset.test}
        check_validation(task, validation)
    return TrainingData(dataset, splits, policy, kept_out, audit.summary())


def choose_policy(recipe: Recipe, dataset: Dataset, on_conflict: str | None) -> str | None:
    """Return what to do with conflicts: as asked, else as the recipe says for these or for any."""
    if on_conflict is not None or recipe.on_conflict is None:
        return on_conflict
    known = find_conflicts(dataset).digest == recipe.known_conflicts
    return recipe.on_known_conflicts if known else recipe.on_conflict


def check_readable(audit: Audit) -> None:
    """Raise :class:`DatasetLayoutError` if a file cannot be decoded."""
    if unreadable := audit.of("unreadable"):
        raise DatasetLayoutError(
            f"{len(unreadable)} of {counted(audit.images, 'file')} cannot be decoded, such as "
            f"{unreadable[0].images[0]}; remove or replace them ('medkit audit' lists them)"
        )


def check_validation(task: Task, validation: Sequence[Item]) -> None:
    """Refuse a validation split on which no operating point can be chosen."""
    alert = sum(task.labels[item.label] == task.alert for item in validation)
    if not 0 < alert < len(validation):
        raise DatasetLayoutError(
            f"the validation split of {counted(len(validation), 'image')} has {alert} of "
            f"{task.alert}; "
            "give more training images of every class"
        )


@dataclass(frozen=True)
class Tensors:
    """The images of one split as a network takes them.

    Attributes
    ----------
    images
        uint8, shape (n, height, width, channels).
    labels
        int64, shape (n,).
    weights
        float32, shape (n,): how much each image counts in the loss; see
        :func:`image_weights`.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]


def read_tensors(data: TrainingData, contract: InputContract, recipe: Recipe) -> dict[str, Tensors]:
    """Decode the images of every split."""
    return {
        name: Tensors(
            *load_tensors(data.dataset.task, items, contract), image_weights(recipe, items)
        )
        for name, items in data.splits.items()
    }


def image_weights(recipe: Recipe, items: Sequence[Item]) -> NDArray[np.float32]:
    """Return weights by which all classes count alike, up to the recipe's cap.

    With ``balance_sources``, every class of every source counts alike. Then
    the source of an image says nothing about its class.

    Returns
    -------
    numpy.ndarray
        float32, shape (n,), with a mean of 1.
    """
    cells = [(item.label, item.source if recipe.balance_sources else "") for item in items]
    counts = Counter(cells)
    most = max(counts.values())
    weights = np.array([min(most / counts[cell], recipe.weight_cap) for cell in cells])
    return np.asarray(weights / weights.mean(), dtype=np.float32)
