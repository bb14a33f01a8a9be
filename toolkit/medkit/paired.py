"""Differences between two models on the same images, each with its 95 % interval.

Two models that see the same images err on mostly the same ones, so that the
difference of their figures is known far better than either figure. It is
resampled image by image, both outputs together (paired bootstrap, stratified
by class); the difference of two AUCs has DeLong's interval (DeLong et al.
1988), and decisions that turned from right to wrong are weighed against those
that turned the other way by McNemar's exact test (McNemar 1947).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkit.errors import MissingExtraError
from medkit.intervals import LEVEL, redraws


@dataclass(frozen=True)
class Change:
    """A figure of two models on the same images.

    Attributes
    ----------
    before, after
        The figure of the first and of the second model.
    low, high
        95 % interval of ``after - before``.
    """

    before: float
    after: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """The second model's figure less the first's."""
        return self.after - self.before


def bootstrap_changes(
    labels: NDArray[np.int64],
    figures: Callable[[NDArray[np.int64]], NDArray[np.float64]],
) -> list[Change]:
    """Return the change of several figures, with percentile intervals of the paired bootstrap.

    Parameters
    ----------
    labels
        True label indices, shape (n,).
    figures
        Computes, from the images at some indices, the figures of both
        models, shape (2, figures).
    """
    before, after = figures(np.arange(len(labels)))
    drawn = np.array([np.diff(figures(indices), axis=0)[0] for indices in redraws(labels)])
    ends = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [
        Change(*map(float, figure)) for figure in zip(before, after, ends[0], ends[1], strict=True)
    ]


def auc_change(
    labels: NDArray[np.int64],
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    columns: Sequence[int],
) -> Change:
    """Return the change of an AUC, or of the mean AUC of several labels, each against the rest.

    DeLong's interval: an AUC is a mean over images of the share of the other
    group that each is ranked right with, so that the difference of two AUCs
    is a mean of differences of these shares. Of several labels' AUCs an
    image has a part in each, and the parts are added before they are squared.

    Parameters
    ----------
    labels
        True label indices, shape (n,).
    before, after
        Probabilities, shape (n, classes), finite.
    columns
        Labels of which there are images, and of which there are others.
    """
    parts = [_auc_parts(labels, scores, columns) for scores in (before, after)]
    areas = [float(part.sum()) / 2 for part in parts]
    change = parts[1] - parts[0]
    variance = 0.0
    for label in np.unique(labels):
        own = change[labels == label]
        if len(own) > 1:
            variance += len(own) * own.var(ddof=1)
    reach = _normal_quantile() * float(np.sqrt(variance))
    difference = areas[1] - areas[0]
    return Change(areas[0], areas[1], difference - reach, difference + reach)


def mcnemar(worse: int, better: int) -> float:
    """Return the probability of so uneven a split of the decisions that changed, if chance split.

    Parameters
    ----------
    worse, better
        Number of decisions that turned from right to wrong, and from wrong to right.
    """
    if worse + better == 0:
        return 1.0
    try:
        from scipy.stats import binomtest
    except ImportError:
        raise _scipy_missing() from None

    return float(binomtest(worse, worse + better).pvalue)


def chance(share: float, weights: NDArray[np.float64]) -> float:
    """Return how far the interval of a change reaches if some images turn for no reason.

    A share of the images is decided otherwise, for the better as often as for
    the worse: the mean change is 0, and its interval ends here.

    Parameters
    ----------
    share
        Of the images, 0..1.
    weights
        By how much the figure changes when an image turns, shape (n,).
    """
    return _normal_quantile() * float(np.sqrt(share * np.square(weights).sum()))


def _auc_parts(
    labels: NDArray[np.int64], scores: NDArray[np.float32], columns: Sequence[int]
) -> NDArray[np.float64]:
    """Return each image's part in the mean AUC, shape (n,); they add up to twice the mean."""
    try:
        from scipy.stats import rankdata
    except ImportError:
        raise _scipy_missing() from None

    parts = np.zeros(len(labels))
    for column in columns:
        truth = labels == column
        m, n = int(truth.sum()), int((~truth).sum())
        ranks = rankdata(scores[:, column])
        placed = np.empty(len(labels))
        placed[truth] = (ranks[truth] - rankdata(scores[truth, column])) / n / m
        placed[~truth] = (1 - (ranks[~truth] - rankdata(scores[~truth, column])) / m) / n
        parts += placed / len(columns)
    return parts


def _normal_quantile() -> float:
    try:
        from scipy.stats import norm
    except ImportError:
        raise _scipy_missing() from None

    return float(norm.ppf((1 + LEVEL) / 2))


def _scipy_missing() -> MissingExtraError:
    return MissingExtraError("scipy", "export", "compare two models")
