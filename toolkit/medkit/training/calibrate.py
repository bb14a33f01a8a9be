"""Temperature and operating points, fitted to a model's probabilities of validation images.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from medkit.models.decisions import (
    apply_temperature,
    choose_points,
    fit_temperature,
    halfway_points,
)
from medkit.models.points import OperatingPoints
from medkit.models.recipe import Augmentation
from medkit.tasks import Task
from medkit.training.batches import augment

CHANGED_COPIES = 4
"""Changed copies of each validation image that the rules are fitted to, besides the image."""


def changed_views(
    images: NDArray[np.uint8], augmentation: Augmentation | None, seed: int
) -> NDArray[np.uint8]:
    """Return the images as they are, followed by copies that are changed as in training.

    Images from another room or device look different. A temperature or
    threshold that is fitted to the unchanged images alone would be
    overconfident (Tomani et al. 2021, Post-hoc Uncertainty Calibration for
    Domain Drift Scenarios).

    Parameters
    ----------
    images
        uint8, shape (n, height, width, channels).
    augmentation
        The recipe's; ``None`` adds no copies.
    seed
        Decides the changes.

    Returns
    -------
    numpy.ndarray
        uint8, :data:`CHANGED_COPIES` + 1 times as many images; each time in the same order.
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
    """Fit the temperature, then choose the operating points under it.

    Parameters
    ----------
    task
        The task.
    labels
        Truth of the validation images, as :func:`medkit.datasets.sampling.truth_of` gives it.
    predict
        Computes probabilities, shape (m, classes), at temperature 1.
    views
        The images and their changed copies; see :func:`changed_views`.
    """
    probabilities = predict(views)
    truth = np.concatenate([labels] * (len(views) // len(labels)))
    temperature = fit_temperature(truth, probabilities)
    return temperature, choose_points(
        task, truth, apply_temperature(probabilities, temperature, multi_label=task.multi_label)
    )


def fixed_rules(task: Task) -> tuple[float, OperatingPoints]:
    """Return temperature and operating point for a model without a validation split."""
    return 1.0, halfway_points(task)
