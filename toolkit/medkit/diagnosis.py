"""Why an export decides otherwise than its original: causes that can be tried out.

Each is put to the test: the export is given what would undo the mistake, or
the original what would make it. A cause is named only if it explains nearly
all of the decisions that changed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medkit.comparison import Outputs
from medkit.decisions import BALANCED, apply_temperature, decide
from medkit.errors import MissingExtraError
from medkit.runtimes import Model, both_classes, predict_all
from medkit.runtimes.keras import KerasModel
from medkit.tasks import Task

_MOST_IMAGES = 64

# A cause must bring the decisions back together, and change many of them to show it.
_EXPLAINED, _LEAST_GAIN = 0.95, 0.1

_FLAT, _LIVELY = 0.02, 0.05  # standard deviations of probabilities over images

_Pixels = NDArray[np.uint8]

_SCALINGS = (
    ("divided by 255", 1 / 255, 0.0),
    ("scaled to -1..1", 2 / 255, -1.0),
    ("halved", 1 / 2, 0.0),
    ("inverted", -1.0, 255.0),
)
"""Mistakes in scaling: what they are called, the factor, and what is added."""


def diagnose(
    task: Task, model: Model, keras: KerasModel, images: _Pixels, original: Outputs
) -> list[str]:
    """Return one line for each cause that explains why an export decides otherwise.

    Parameters
    ----------
    task
        The task.
    model
        The export.
    keras
        Its original.
    images
        uint8, shape (n, height, width, channels).
    original
        What the original makes of them.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, _MOST_IMAGES).astype(int))
    images, scores = images[chosen], original.probabilities[chosen]
    expected = decide(task, scores, original.points[BALANCED])
    point = model.card.operating_points[BALANCED]
    exported = predict_all(model, images)
    if not np.isfinite(exported).all():
        return []
    before = float((decide(task, exported, point) == expected).mean())

    def explains(candidate: NDArray[np.float32], reference: NDArray[np.int64]) -> bool:
        agreement = float((decide(task, candidate, point) == reference).mean())
        return agreement >= _EXPLAINED and agreement - before >= _LEAST_GAIN

    causes = []
    if exported.std(axis=0).max() < _FLAT and scores.std(axis=0).max() > _LIVELY:
        causes.append(
            "its output hardly depends on the image: as after wrong scaling of the pixels, or a "
            "layer that lost its weights"
        )
    if images.shape[-1] == 3 and explains(predict_all(model, images[..., ::-1]), expected):
        causes.append(
            "it decides like the original once red and blue are swapped: it was converted with "
            "the other channel order"
        )
    order = _best_order(scores, exported)
    if (order != np.arange(len(order))).any() and explains(exported[:, order], expected):
        moved = [task.labels[index] for index in np.flatnonzero(order != np.arange(len(order)))]
        causes.append(f"it decides like the original once its labels {', '.join(moved)} are moved")
    for name, decisions in _scaled(task, keras, images):
        if explains(exported, decisions):
            causes.append(f"it decides as the original does on pixels that were {name}")
    return causes


def _best_order(scores: NDArray[np.float32], exported: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the order of the export's columns that comes closest to the original's."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise MissingExtraError("scipy", "export", "explain a difference") from None

    cost = np.abs(scores[:, :, np.newaxis] - exported[:, np.newaxis, :]).mean(axis=0)
    _, order = linear_sum_assignment(cost)
    return np.asarray(order, dtype=np.int64)


def _scaled(
    task: Task, keras: KerasModel, images: _Pixels
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Give what the original decides on pixels that were scaled wrongly."""
    card = keras.card
    for name, factor, offset in _SCALINGS:
        scaled = (images * factor + offset).astype(np.float32)
        raw = both_classes(np.asarray(keras.network(scaled, training=False)))
        if np.isfinite(raw).all():
            scores = apply_temperature(raw, card.temperature)
            yield name, decide(task, scores, card.operating_points[BALANCED])
