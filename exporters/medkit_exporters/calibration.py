"""The calibration set: the training images that fix the ranges of an integer model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.division import Splits
from medkit.datasets.layout import Item
from medkit.datasets.sampling import read_pixels, stratified_sample
from medkit.errors import ExportError, UsageError
from medkit.images.contract import InputContract
from medkit.models.manifest import Calibration
from medkit.wording import counted


@dataclass(frozen=True)
class CalibrationSet:
    """Images to calibrate on, and their record for the manifest.

    Attributes
    ----------
    images
        uint8, shape (n, height, width, channels); one image has one black
        and one white corner pixel, so that the range of the input is 0..255
        and its quantisation the identity.
    record
        Count, seed and hashes; the method is left empty.
    """

    images: NDArray[np.uint8]
    record: Calibration


def draw_calibration_sets(
    splits: Splits, contract: InputContract, count: int, seed: int
) -> tuple[CalibrationSet, CalibrationSet]:
    """Draw two disjoint calibration sets, stratified over classes, from training images.

    The first calibrates. The second shows how much depends on the choice of images.

    Parameters
    ----------
    splits
        Only their training images are drawn.
    contract
        Input contract by which the images are read.
    count
        Images in each set. If there are fewer than twice as many training
        images, each set gets half of them.
    seed
        Decides which images are drawn.

    Raises
    ------
    UsageError
        If ``count`` is not positive, or there are fewer than two training images.
    ExportError
        If an image of a set also lies in validation or test.
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
    """Check by content hash that no calibration image is held out.

    Raises
    ------
    ExportError
        If one lies in validation or test; the message names the first.
    """
    for name, held_out in (("validation", splits.validation), ("test", splits.test)):
        known = {item.sha256: item.name for item in held_out}
        shared = [item for item in items if item.sha256 in known]
        if shared:
            raise ExportError(
                f"{counted(len(shared), 'calibration image')} in the {name} split, such as "
                f"{shared[0].name} ({known[shared[0].sha256]} there); calibrate on training "
                "images only"
            )


def span_full_range(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy whose first image holds a black and a white pixel in its first corner."""
    spanning = images.copy()
    spanning[0, 0, 0], spanning[0, 0, 1] = 0, 255
    return spanning


def _read(items: Sequence[Item], contract: InputContract, seed: int) -> CalibrationSet:
    images = read_pixels(items, contract)
    files = sorted(item.sha256 for item in items)
    digest = hashlib.sha256("\n".join(files).encode())
    record = Calibration(len(items), seed, digest.hexdigest(), tuple(files))
    return CalibrationSet(span_full_range(images), record)
