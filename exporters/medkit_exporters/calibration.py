"""The calibration set: the training images that fix the ranges of an integer model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.datasets import Item, load_tensors, stratified_sample
from medkit.errors import ExportError, UsageError
from medkit.images import InputContract
from medkit.splits import Splits

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
        Count, seed, the files' SHA-256, and a SHA-256 over these.
    """

    images: NDArray[np.uint8]
    record: dict[str, Any]


def draw_calibration_sets(
    splits: Splits, contract: InputContract, count: int, seed: int
) -> tuple[CalibrationSet, CalibrationSet]:
    """Draw two disjoint calibration sets, stratified over classes, from training images.

    The first calibrates; the second shows how much depends on which images do.

    Parameters
    ----------
    splits
        Of which only the training images are drawn.
    contract
        How the images are read.
    count
        Images in each; of fewer than twice as many training images, half.
    seed
        Decides which.

    Raises
    ------
    UsageError
        If ``count`` is not positive, or there are fewer than two training images.
    ExportError
        If an image to calibrate on also lies in validation or test.
    """
    check_count(count)
    if len(splits.train) < 2:
        raise UsageError(f"{len(splits.train)} training images; two calibration sets need two")
    first = stratified_sample(splits.train, min(count, len(splits.train) // 2), seed)
    used = {item.sha256 for item in first}
    rest = [item for item in splits.train if item.sha256 not in used]
    second = stratified_sample(rest, len(first), seed)
    check_hygiene((*first, *second), splits)
    return _read(first, contract, seed), _read(second, contract, seed)


def check_count(count: int) -> None:
    """Raise :class:`UsageError` unless ``count`` images can be a calibration set."""
    if count < 1:
        raise UsageError(f"{count} calibration images; accepted: 1 or more")


def check_hygiene(items: Sequence[Item], splits: Splits) -> None:
    """Check by content hash that no image to calibrate on is held out.

    Raises
    ------
    ExportError
        That names the first image that lies in validation or test.
    """
    for name, held_out in (("validation", splits.validation), ("test", splits.test)):
        known = {item.sha256: item.name for item in held_out}
        shared = [item for item in items if item.sha256 in known]
        if shared:
            raise ExportError(
                f"{len(shared)} calibration images lie in the {name} split, such as "
                f"{shared[0].name} ({known[shared[0].sha256]} there); calibrate on training "
                "images only"
            )


def span_full_range(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy whose first image holds a black and a white pixel in its first corner."""
    spanning = images.copy()
    spanning[0, 0, 0], spanning[0, 0, 1] = 0, 255
    return spanning


def _read(items: Sequence[Item], contract: InputContract, seed: int) -> CalibrationSet:
    images, _ = load_tensors(items, contract)
    files = sorted(item.sha256 for item in items)
    digest = hashlib.sha256("\n".join(files).encode())
    record = {"images": len(items), "seed": seed, "sha256": digest.hexdigest(), "files": files}
    return CalibrationSet(span_full_range(images), record)
