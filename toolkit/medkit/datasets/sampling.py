"""Parts of a data set: the validation split, calibration samples, class counts, tensors."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.layout import Item
from medkit.errors import DatasetLayoutError, ImageError, UsageError
from medkit.extras import require
from medkit.images.contract import InputContract
from medkit.images.reading import load_tensor
from medkit.tasks import Task
from medkit.wording import counted


def check_seed(seed: int) -> None:
    """Raise :class:`UsageError` unless NumPy, scikit-learn and Keras all accept ``seed``."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed}; accepted: 0 to {2**32 - 1}")


def split_validation(
    items: Sequence[Item], fraction: float, seed: int
) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Cut a validation split from the training images.

    The split is stratified by label. All images of a group stay together.

    Parameters
    ----------
    items
        Training images.
    fraction
        Share of the validation split, 0..1. It is rounded to 1/n for a whole n.
    seed
        Decides the split.

    Returns
    -------
    train, validation
        The images of each part, in their order.

    Raises
    ------
    DatasetLayoutError
        If there are too few images.
    UsageError
        If ``seed`` is not accepted.
    MissingExtraError
        If scikit-learn is not installed.
    """
    require("cut a validation split", "sklearn")
    check_seed(seed)
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(n_splits=round(1 / fraction), shuffle=True, random_state=seed)
    labels = _strata(items)
    groups = [item.group for item in items]
    with warnings.catch_warnings():
        # A class with fewer images than folds is absent from some folds, which is accepted.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        try:
            train, validation = next(folds.split(np.zeros(len(items)), labels, groups))
        except ValueError as error:
            patients = counted(len(set(groups)), "patient")
            raise DatasetLayoutError(
                f"{counted(len(items), 'image')} of {patients} are too few to cut a "
                f"validation split of 1 in {folds.n_splits}; give more"
            ) from error
    return tuple(items[i] for i in train), tuple(items[i] for i in validation)


def stratified_sample(items: Sequence[Item], count: int, seed: int) -> tuple[Item, ...]:
    """Draw ``count`` images, as evenly over the classes as their numbers allow.

    Each class gives one image in turn until ``count`` is reached or no image
    is left. So a calibration set holds the rare classes, too.
    """
    rng = np.random.default_rng(seed)
    queues: dict[int, list[Item]] = defaultdict(list)
    strata = _strata(items)
    for index in rng.permutation(len(items)):
        queues[strata[index]].append(items[index])
    chosen: list[Item] = []
    while len(chosen) < count and any(queues.values()):
        for label in sorted(queues):
            if queues[label] and len(chosen) < count:
                chosen.append(queues[label].pop())
    return tuple(chosen)


def _strata(items: Sequence[Item]) -> list[int]:
    """Return the label by which each image is drawn: of several, the one that the fewest have."""
    counts = Counter(label for item in items for label in item.labels)
    return [
        min(item.labels, key=lambda label: (counts[label], label)) if item.labels else item.label
        for item in items
    ]


def class_counts(task: Task, items: Sequence[Item]) -> dict[str, int]:
    """Return the number of images of each label, in the task's order.

    An image of a multi-label task counts for each of its labels.
    """
    counts = Counter(label for item in items for label in item.labels or (item.label,))
    return {label: counts[index] for index, label in enumerate(task.labels)}


def truth_of(task: Task, items: Sequence[Item]) -> NDArray[np.int64]:
    """Return what images are labelled as.

    Returns
    -------
    numpy.ndarray
        int64. Label indices, shape (n,); in a multi-label task, 1 for each
        label that an image has and 0 for the others, shape (n, labels).
    """
    if not task.multi_label:
        return np.array([item.label for item in items], dtype=np.int64)
    return truth_of_labels(task, [[task.labels[index] for index in item.labels] for item in items])


def truth_of_labels(task: Task, labels: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Return the same for the names of each image's labels: one, but in a multi-label task."""
    if not task.multi_label:
        return np.array([task.labels.index(label) for (label,) in labels], dtype=np.int64)
    truth = np.zeros((len(labels), len(task.labels)), dtype=np.int64)
    for row, names in zip(truth, labels, strict=True):
        row[[task.labels.index(name) for name in names]] = 1
    return truth


def load_tensors(
    task: Task, items: Sequence[Item], contract: InputContract
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read labelled images as a model sees them, and what they are labelled as.

    Returns
    -------
    images
        As :func:`read_pixels` gives them.
    truth
        As :func:`truth_of` gives it.

    Raises
    ------
    DatasetLayoutError
        If a file cannot be decoded: no labelled image may be left out.
    """
    return read_pixels(items, contract), truth_of(task, items)


def read_pixels(items: Sequence[Item], contract: InputContract) -> NDArray[np.uint8]:
    """Read images as a model sees them.

    Parameters
    ----------
    items
        The images.
    contract
        The model's.

    Returns
    -------
    numpy.ndarray
        uint8, shape (n, height, width, channels).

    Raises
    ------
    DatasetLayoutError
        If a file cannot be decoded: no labelled image may be left out.
    """

    def read(item: Item) -> NDArray[np.uint8]:
        try:
            return load_tensor(item.path, contract)
        except ImageError as error:
            raise DatasetLayoutError(f"{item.path}: {error}; remove or replace the file") from error

    images = np.empty((len(items), *contract.shape), dtype=np.uint8)
    with ThreadPoolExecutor() as pool:
        for index, tensor in enumerate(pool.map(read, items)):
            images[index] = tensor
    return images
