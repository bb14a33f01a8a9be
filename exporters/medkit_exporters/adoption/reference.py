"""The end of a network in NumPy, and the images by which files that are written are checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medkit.models.card import ModelCard
from medkit.models.runtimes.base import activate, both_classes
from medkit_exporters.adoption.base import LOGITS, SIGMOID, OpenedModel

LEAST_PROBABILITY = 1e-12
"""What a probability of 0 is taken for, where only its logarithm tells the logit."""


def noise_and_plain(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return images on which files are compared: noise, and plain ones."""
    noise = np.random.default_rng(1).integers(0, 256, (3, *shape), dtype=np.uint8)
    plain = [np.full(shape, level, np.uint8) for level in (0, 128, 255)]
    return np.stack([*noise, *plain])


def calibrated(
    probabilities: NDArray[np.floating], ending: str, card: ModelCard
) -> NDArray[np.float32]:
    """Return probabilities with a temperature, and a column for each label."""
    known = np.clip(probabilities.astype(np.float64), 1e-7, None)
    if ending == SIGMOID:
        logits = np.log(known) - np.log(np.clip(1 - probabilities.astype(np.float64), 1e-7, None))
    else:
        logits = np.log(known)
    found = activate(logits / card.temperature, ending)
    if found.shape[1] == 1 and len(card.labels) == 2:
        return np.concatenate([1 - found, found], axis=1)
    return found


def probabilities_of(
    opened: OpenedModel, values: NDArray[np.float32], ending: str
) -> NDArray[np.float32]:
    """Return a model's probabilities of each label at temperature 1, float32 (n, labels).

    Parameters
    ----------
    opened
        The model.
    values
        What a pixel rule makes of images.
    ending
        What logits get.
    """
    raw = opened.predict(values)
    return both_classes(activate(raw, ending) if opened.facts.ending == LOGITS else raw)
