"""The splits of a model's data: made again from its manifest, or found again by their record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medkit.datasets.conflicts import resolve_conflicts
from medkit.datasets.division import Splits, divide
from medkit.datasets.fingerprints import take_fingerprints
from medkit.datasets.labels import Labels, name_as_bytes, nfc
from medkit.datasets.layout import Item, labelled_files, read_dataset
from medkit.datasets.location import locate_dataset
from medkit.datasets.own import read_own_images
from medkit.datasets.recorded import has_record, recorded_splits, unseen_items
from medkit.datasets.sampling import split_validation
from medkit.errors import UsageError
from medkit.models.bundle import Bundle
from medkit.models.manifest import BY_PIXELS, MANIFEST_NAME

FOREIGN_DATA = (
    "these are not the files that the model was trained on, so the validation split may hold "
    "images that it was trained on"
)
"""Warning for splits that are not those of the training run."""


def splits_of(bundle: Bundle, data: Path, spellings: Mapping[str, str] | None = None) -> Splits:
    """Divide a data set as it was divided for a bundle's model.

    A data set of one's own is found again by the bundle's record; see
    :mod:`medkit.datasets.recorded`. Else the same recipe and seed divide it again.

    Parameters
    ----------
    bundle
        Bundle of a model that medkit trained.
    data
        The data set, or a folder that holds it; see
        :func:`medkit.datasets.location.locate_dataset`. For one's own images,
        see :func:`medkit.datasets.own.read_own_images`.
    spellings
        Other spellings of class folders; see
        :func:`medkit.datasets.labels.read_labels_map`.

    Raises
    ------
    DatasetLayoutError
        If ``data`` does not hold the task's data set.
    ModelFileError
        If the bundle's record is missing or damaged.
    UsageError
        If the task has no published data set, or if the manifest holds no
        recipe, as for a model that was trained elsewhere.
    """
    manifest = bundle.manifest
    if has_record(bundle):
        found = recorded_splits(bundle, data, spellings)
        return found if found is not None else _divided_anew(bundle, data, spellings)
    if manifest.recipe is None:
        raise UsageError(
            f"{bundle.folder / MANIFEST_NAME} holds no recipe, so the splits of its training run "
            "cannot be made again; use a model that 'medkit train' made"
        )
    labels = Labels.of(bundle.task, spellings)
    root = locate_dataset(bundle.task, data, labels)
    prints = None
    if manifest.data.compared_by == BY_PIXELS:
        prints = take_fingerprints(labelled_files(bundle.task, root, labels))
    dataset = read_dataset(bundle.task, root, labels, prints)
    # Even a recipe that ignores conflicts is split without them: a test image in the
    # training split must not be used for calibration.
    train, _ = resolve_conflicts(dataset, manifest.data.on_conflict or "drop")
    validation: tuple[Item, ...] = ()
    if manifest.recipe.validation_fraction:
        train, validation = split_validation(
            train, manifest.recipe.validation_fraction, manifest.seed
        )
    made = {"validation": validation, "test": dataset.test}
    as_trained = all(
        manifest.data.sha256.get(name, "") == digest_of(items)
        for name, items in made.items()
        if items
    )
    remarks = () if as_trained else (FOREIGN_DATA,)
    return Splits(dataset, train, validation, dataset.test, as_trained, remarks)


def _divided_anew(bundle: Bundle, data: Path, spellings: Mapping[str, str] | None) -> Splits:
    """Divide images of which the bundle's record has none in validation or test.

    Those that the model was trained on are left out: they can judge nothing.
    """
    images = read_own_images(bundle.task, data, spellings=spellings)
    unseen = set(unseen_items(images.items, bundle.folder, bundle.task))
    parts = {
        name: tuple(item for item in items if item in unseen)
        for name, items in images.parts.items()
    }
    splits = divide(replace(images, parts=parts), seed=bundle.manifest.seed)
    return replace(splits, as_trained=False, remarks=(FOREIGN_DATA, *splits.remarks))


def digest_of(items: Sequence[Item]) -> str:
    """Return the SHA-256 over the names and content hashes of images; their order is no matter.

    A name holds the label, so the digest stands for the labels, too. How
    folders are spelt, and in which form of Unicode, is no matter.
    """
    lines = sorted(f"{item.sha256}  {nfc(item.key or item.name)}\n" for item in items)
    return hashlib.sha256(name_as_bytes("".join(lines))).hexdigest()
