"""Temperature and operating points, fitted to what a model makes of validation images.

For the Keras original after training, and again for every quantised file,
whose scores lie a little elsewhere. Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from medkit.decisions import (
    BALANCED,
    OperatingPoint,
    OperatingPoints,
    apply_temperature,
    choose_points,
    fit_temperature,
)
from medkit.tasks import Task
from medkit.training.batches import augment
from medkit.training.recipes import Augmentation

CHANGED_COPIES = 4
"""How often a validation image is seen changed, beside once as it is."""


def changed_views(
    images: NDArray[np.uint8], augmentation: Augmentation | None, seed: int
) -> NDArray[np.uint8]:
    """Return images as they are, followed by each of them changed as in training.

    What comes from another room or device looks different, and a temperature
    or threshold fitted to the unchanged images alone would be too sure of
    itself (Tomani et al. 2021, Post-hoc Uncertainty Calibration for Domain
    Drift Scenarios).

    Parameters
    ----------
    images
        uint8, shape (n, height, width, channels).
    augmentation
        The recipe's; ``None`` changes nothing and adds nothing.
    seed
        Decides the changes.

    Returns
    -------
    numpy.ndarray
        uint8, :data:`CHANGED_COPIES` + 1 times as many images, in the same order each time.
    """
    if augmentation is None:
        return images
    seen = [images]
    for copy in range(1, CHANGED_COPIES + 1):
        keys: list[tuple[int, ...]] = [(seed, copy, index) for index in range(len(images))]
        seen.append(augment(images, augmentation, keys))
    return np.concatenate(seen)


def fit_rules(
    task: Task,
    labels: NDArray[np.int64],
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    views: NDArray[np.uint8],
) -> tuple[float, OperatingPoints]:
    """Fit the temperature, and with it choose the operating points.

    Parameters
    ----------
    task
        The task.
    labels
        True label indices of the validation images, shape (n,).
    predict
        Computes probabilities, shape (m, classes), at temperature 1.
    views
        What :func:`changed_views` makes of the images.
    """
    probabilities = predict(views)
    truth = np.tile(labels, len(views) // len(labels))
    temperature = fit_temperature(truth, probabilities)
    return temperature, choose_points(task, truth, apply_temperature(probabilities, temperature))


def fixed_rules(task: Task) -> tuple[float, OperatingPoints]:
    """Return temperature and operating point of a model that was trained without validation."""
    halfway = OperatingPoint(BALANCED, task.alert, 0.5)
    return 1.0, {BALANCED: halfway if task.binary else OperatingPoint(BALANCED)}
