"""Differences between two models on the same images, each with its 95 % interval.

Two models make mostly the same mistakes on the same images. The difference of
their figures is therefore known far better than either figure. A paired
bootstrap, stratified by class, draws images again, with both outputs of each
image together. The difference of two AUCs has DeLong's interval (DeLong et
al. 1988). McNemar's exact test (McNemar 1947) compares how many decisions
turned from right to wrong with how many turned from wrong to right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkit.evaluation.intervals import LEVEL, auc_parts, auc_variance, redraws


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
        """The second model's figure minus the first's."""
        return self.after - self.before


def bootstrap_changes(
    labels: NDArray[np.int64],
    figures: Callable[[NDArray[np.int64]], NDArray[np.float64]],
) -> list[Change]:
    """Return the change of several figures, with percentile intervals of the paired bootstrap.

    Parameters
    ----------
    labels
        True label indices, shape (n,); in a multi-label task 0 and 1, shape
        (n, labels).
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

    The interval is DeLong's. An AUC is a mean over images: of the share of
    images in the other group with which an image is ranked right. The
    difference of two AUCs is then a mean of differences of these shares. In
    the mean AUC of several labels, an image has a part in each AUC. Its parts
    are added before they are squared.

    Parameters
    ----------
    labels
        True label indices, shape (n,); in a multi-label task 0 and 1, shape
        (n, labels).
    before, after
        Probabilities, shape (n, classes), finite.
    columns
        Labels of which there are images, and of which there are others.
    """
    places = {label: label for label in columns}
    areas = [float(auc_parts(labels, scores, places).sum()) / 2 for scores in (before, after)]
    variance = auc_variance(labels, (before, after), places)
    reach = _normal_quantile() * float(np.sqrt(variance))
    difference = areas[1] - areas[0]
    return Change(areas[0], areas[1], difference - reach, difference + reach)


def mcnemar(worse: int, better: int) -> float:
    """Return the p-value of McNemar's exact test.

    It is the probability that chance divides the changed decisions at least
    as unevenly.

    Parameters
    ----------
    worse, better
        Number of decisions that turned from right to wrong, and from wrong to right.
    """
    if worse + better == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(worse, worse + better).pvalue)


def chance(share: float, weights: NDArray[np.float64]) -> float:
    """Return how far the interval of a change reaches if some images turn by chance.

    A share of the images is decided differently, as often for the better as
    for the worse. The mean change is then 0, and this is the end of its
    interval.

    Parameters
    ----------
    share
        Share of the images that are decided differently, 0..1.
    weights
        Change of the figure when each image turns, shape (n,), or when a
        label of an image does.
    """
    return _normal_quantile() * float(np.sqrt(share * np.square(weights).sum()))


def _normal_quantile() -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + LEVEL) / 2))
