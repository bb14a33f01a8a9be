"""The calibration set: the training images that fix the ranges of an int8 model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.bundles import Bundle
from medkit.datasets import (
    load_tensors,
    locate_dataset,
    read_dataset,
    resolve_conflicts,
    split_validation,
    stratified_sample,
)
from medkit.errors import UsageError
from medkit.images import contract_for

DEFAULT_COUNT = 256
"""Images in a calibration set; ranges hardly move beyond a few hundred (Nagel et al. 2021)."""


@dataclass(frozen=True)
class CalibrationSet:
    """Images to calibrate on, and what a manifest says of them.

    Attributes
    ----------
    images
        uint8, shape (n, height, width, channels); one image has one black
        and one white corner pixel, so that the range of the input is 0..255
        and its quantisation the identity.
    record
        Count, seed and SHA-256 over the files' hashes.
    """

    images: NDArray[np.uint8]
    record: dict[str, Any]


def draw_calibration_set(
    bundle: Bundle, data: Path, count: int = DEFAULT_COUNT, seed: int = 0
) -> CalibrationSet:
    """Draw a stratified calibration set from the images that the bundle was trained on.

    Validation and test images are never drawn: the split is made again from
    the manifest's recipe and seed.

    Raises
    ------
    UsageError
        If ``count`` is not positive.
    DatasetLayoutError
        If ``data`` does not hold the task's data set.
    """
    if count < 1:
        raise UsageError(f"{count} calibration images; accepted: 1 or more")
    task = bundle.task
    dataset = read_dataset(task, locate_dataset(task, data))
    recipe = bundle.manifest["recipe"]
    # Freed of conflicts in any case: an image that is also in the test split must not calibrate.
    items, _ = resolve_conflicts(dataset, bundle.manifest["data"]["on_conflict"] or "drop")
    if recipe["validation_fraction"]:
        items, _ = split_validation(items, recipe["validation_fraction"], bundle.manifest["seed"])
    sample = stratified_sample(items, count, seed)
    images, _ = load_tensors(sample, contract_for(task))
    digest = hashlib.sha256("\n".join(sorted(item.sha256 for item in sample)).encode())
    record = {"images": len(sample), "seed": seed, "sha256": digest.hexdigest()}
    return CalibrationSet(span_full_range(images), record)


def span_full_range(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy whose first image holds a black and a white pixel in its first corner."""
    spanning = images.copy()
    spanning[0, 0, 0], spanning[0, 0, 1] = 0, 255
    return spanning
