"""Diagnosis of an export that decides differently from its original.

Every cause is tested. The test undoes the mistake in the export's input or
output, or makes it in the original's input. The cause is named only if both
models then give nearly the same probabilities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medkit.evaluation.outputs import Outputs
from medkit.models.decisions import apply_temperature
from medkit.models.runtimes.base import Model, predict_all
from medkit.models.runtimes.keras import KerasModel
from medkit.tasks import Task

_FEWEST_IMAGES, _MOST_IMAGES = 10, 64

# A cause explains a gap if the mean difference of probabilities falls below both: what 8 bits
# change, and this share of the gap.
_CLOSE, _LEFT = 0.02, 0.25

_FLAT, _LIVELY = 0.02, 0.05  # standard deviations of probabilities over images

_SCALINGS = (
    ("divided by 255", 1 / 255, 0.0),
    ("scaled to -1..1", 2 / 255, -1.0),
    ("halved", 1 / 2, 0.0),
    ("inverted", -1.0, 255.0),
)
"""Mistakes in scaling: what they are called, the factor, and what is added."""


def diagnose(
    task: Task, model: Model, keras: KerasModel, images: NDArray[np.uint8], original: Outputs
) -> list[str]:
    """Return one line for each cause that explains why an export decides differently.

    Parameters
    ----------
    task
        The task.
    model
        The export.
    keras
        The Keras original.
    images
        uint8, shape (n, height, width, channels). Fewer than ten images are
        too few to conclude anything from.
    original
        Outputs of the original for these images.
    """
    if len(images) < _FEWEST_IMAGES:
        return []
    chosen = np.unique(np.linspace(0, len(images) - 1, _MOST_IMAGES).astype(int))
    images, expected = images[chosen], original.probabilities[chosen]
    exported = predict_all(model, images)
    if not (np.isfinite(exported).all() and np.isfinite(expected).all()):
        return []
    gap = _distance(exported, expected)

    def explains(candidate: NDArray[np.float32], reference: NDArray[np.float32]) -> bool:
        left = _distance(candidate, reference)
        return left <= min(_CLOSE, _LEFT * gap)

    causes = []
    if exported.std(axis=0).max() < _FLAT and expected.std(axis=0).max() > _LIVELY:
        causes.append(
            "its output hardly depends on the image: as after wrong scaling of the pixels, or a "
            "layer that lost its weights"
        )
    if images.shape[-1] == 3 and explains(predict_all(model, images[..., ::-1]), expected):
        causes.append(
            "it computes what the original does once red and blue are swapped: it was converted "
            "with the other channel order"
        )
    order = _best_order(expected, exported)
    moved = np.flatnonzero(order != np.arange(len(order)))
    if len(moved) and explains(exported[:, order], expected):
        names = ", ".join(task.labels[index] for index in moved)
        causes.append(f"it computes what the original does once its labels {names} are moved")
    name, scaled = _nearest_scaling(keras, images, exported)
    if explains(exported, scaled):
        causes.append(f"it computes what the original does on pixels that were {name}")
    return causes


def _distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.abs(first - second).mean())


def _best_order(expected: NDArray[np.float32], exported: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the order of the export's columns that comes closest to the original's."""
    from scipy.optimize import linear_sum_assignment

    cost = np.abs(expected[:, :, np.newaxis] - exported[:, np.newaxis, :]).mean(axis=0)
    _, order = linear_sum_assignment(cost)
    return np.asarray(order, dtype=np.int64)


def _nearest_scaling(
    keras: KerasModel, images: NDArray[np.uint8], exported: NDArray[np.float32]
) -> tuple[str, NDArray[np.float32]]:
    """Return which wrong scaling of the original's pixels comes closest, and what it gives."""
    found = []
    for name, factor, offset in _SCALINGS:
        raw = keras.predict_floats((images * factor + offset).astype(np.float32))
        card = keras.card
        scaled = apply_temperature(raw, card.temperature, multi_label=card.multi_label)
        found.append((name, scaled))
    return min(found, key=lambda item: _distance(exported, item[1]))
