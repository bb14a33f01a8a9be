"""Thresholds of one label: the probabilities from which it is decided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def agreeing_threshold(scores: NDArray[np.float64], decided: NDArray[np.bool_]) -> float:
    """Return the threshold at which the fewest images are decided otherwise.

    Of several equally good ones, the middle of the widest gap between
    neighbouring scores.

    Parameters
    ----------
    scores
        Probability of the label, shape (n,).
    decided
        Whether it should be decided, shape (n,).
    """
    levels = np.unique(np.concatenate([[0.0, 1.0], scores]))
    middles, widths = (levels[1:] + levels[:-1]) / 2, np.diff(levels)
    missed = np.searchsorted(np.sort(scores[decided]), middles)
    others = np.sort(scores[~decided])
    wrong = missed + len(others) - np.searchsorted(others, middles)
    best = np.flatnonzero(wrong == wrong.min())
    return float(middles[best[widths[best].argmax()]])


def balanced_threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the threshold with the highest mean of sensitivity and specificity.

    Of several equally good ones, the middle of the widest gap between
    neighbouring scores is taken, which leaves most room for a shift.

    Parameters
    ----------
    scores
        Probability of the label, shape (n,).
    truth
        Whether an image has the label, shape (n,); both must occur.
    """
    levels = np.unique(np.concatenate([[0.0, 1.0], scores]))
    middles, widths = (levels[1:] + levels[:-1]) / 2, np.diff(levels)
    positive, negative = np.sort(scores[truth]), np.sort(scores[~truth])
    sensitivity = 1 - np.searchsorted(positive, middles) / len(positive)
    specificity = np.searchsorted(negative, middles) / len(negative)
    quality = np.round(sensitivity + specificity, 9)
    best = np.flatnonzero(quality == quality.max())
    return float(middles[best[widths[best].argmax()]])


def sensitivity_threshold(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], sensitivity: float
) -> float:
    """Return the highest threshold at which a share ``sensitivity`` of the label is found.

    It lies halfway between the last score that must be found and the next
    lower one of any image.
    """
    positive = np.sort(scores[truth])
    missed = int(np.floor((1 - sensitivity) * len(positive) + 1e-9))
    last = positive[missed]
    below: Sequence[float] = [0.0, *scores[scores < last]]
    return float((last + max(below)) / 2)
