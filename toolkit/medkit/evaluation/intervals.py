"""95 % intervals: how far a figure can be trusted that was measured on so many images.

Shares have Wilson's interval (Wilson 1927). The AUC of one label has
DeLong's (DeLong et al. 1988, in the form of Sun and Xu 2014). Means over
classes have the interval of a stratified bootstrap, which draws images again
within each class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from medkit.extras import require

LEVEL = 0.95
"""Coverage of every interval."""

_RESAMPLES = 2000
_SEED = 0  # the same images give the same interval

Interval = tuple[float, float]


def share_interval(successes: int, total: int) -> Interval:
    """Return Wilson's interval of a share, 0..1; ``total`` is at least 1."""
    require("compute an interval", "scipy")
    from scipy.stats import binomtest

    found = binomtest(successes, total).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def auc_interval(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> Interval:
    """Return DeLong's interval of an AUC, cut to 0..1.

    Scores that separate the labels perfectly have no spread, but their AUC is
    not certain. Their interval is Wilson's, for as many images as the smaller
    group has, all of them right (or all wrong).

    Parameters
    ----------
    truth
        Whether an image has the label, shape (n,); both must occur.
    scores
        Shape (n,), finite.
    """
    require("compute an interval", "scipy")
    from scipy.stats import norm, rankdata

    positive, negative = scores[truth], scores[~truth]
    m, n = len(positive), len(negative)
    if min(m, n) < 2:
        return 0.0, 1.0  # one image has no spread to judge by
    ranks = rankdata(np.concatenate([positive, negative]))
    # Placement values: the share of the other group that each score beats.
    placed_positive = (ranks[:m] - rankdata(positive)) / n
    placed_negative = 1 - (ranks[m:] - rankdata(negative)) / m
    area = float(placed_positive.mean())
    if area in (0.0, 1.0):
        return share_interval(round(area * min(m, n)), min(m, n))
    spread = np.sqrt(placed_positive.var(ddof=1) / m + placed_negative.var(ddof=1) / n)
    reach = float(norm.ppf((1 + LEVEL) / 2) * spread)
    return max(0.0, area - reach), min(1.0, area + reach)


def bootstrap_interval(
    labels: NDArray[np.int64], figure: Callable[[NDArray[np.int64]], float]
) -> Interval:
    """Return the percentile interval of a figure when images are redrawn class by class.

    Parameters
    ----------
    labels
        True label indices, shape (n,).
    figure
        Computes the figure of the images at some indices, shape (n,).
    """
    drawn = [figure(indices) for indices in redraws(labels)]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def redraws(labels: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Give the indices of as many images of each class as there are, drawn anew each time.

    The same labels give the same draws.
    """
    rng = np.random.default_rng(_SEED)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(_RESAMPLES):
        yield np.concatenate([rng.choice(images, len(images)) for images in members])


def roc_band(
    truth: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the interval of the sensitivity at each of 101 false positive rates.

    Parameters
    ----------
    truth, scores
        As for :func:`auc_interval`.

    Returns
    -------
    rates, low, high
        Shape (101,) each, all 0..1.
    """
    rng = np.random.default_rng(_SEED)
    positive, negative = scores[truth], scores[~truth]
    rates = np.linspace(0, 1, 101)
    curves = np.empty((_RESAMPLES, len(rates)))
    for curve in curves:
        found = np.sort(rng.choice(positive, len(positive)))
        others = np.sort(rng.choice(negative, len(negative)))[::-1]
        # At a rate r, the threshold lies just above the negative of rank r * n.
        ranks = np.minimum((rates * len(others) + 1e-9).astype(int), len(others) - 1)
        missed = np.searchsorted(found, others[ranks], side="right")
        curve[:] = np.where(rates * len(others) >= len(others), 1, 1 - missed / len(found))
    low, high = np.quantile(curves, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return rates, low, high
