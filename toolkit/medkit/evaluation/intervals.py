"""95 % intervals: how far a figure can be trusted that was measured on so many images.

Shares have Wilson's interval (Wilson 1927). A mean over classes, and an AUC,
have Clopper and Pearson's interval (1934) of as many images as would give a
share the same variance (Korn and Graubard 1998, Confidence intervals for
proportions with small expected number of positive counts estimated from
survey data). The variance of an AUC is DeLong's (DeLong et al. 1988, in the
form of Sun and Xu 2014). No measured variance says that a figure is certain:
where all images are right, it is that of the model for the figure's value.
Other figures have the interval of a stratified bootstrap, which draws images
again within each class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.extras import require

LEVEL = 0.95
"""Coverage of every interval."""

_RESAMPLES = 2000
_SEED = 0  # the same images give the same interval
_ROUNDING = 1e-12

Interval = tuple[float, float]


def share_interval(successes: int, total: int) -> Interval:
    """Return Wilson's interval of a share, 0..1; ``total`` is at least 1."""
    require("compute an interval", "scipy")
    from scipy.stats import binomtest

    found = binomtest(successes, total).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def mean_share_interval(counts: Sequence[tuple[int, int]]) -> Interval:
    """Return the interval of a mean of shares of different images, such as a balanced accuracy.

    The shares that were measured may have less variance than those that they
    stand for; if all images are right, none. They count as no more images than
    equal shares would (Kish 1965, Survey Sampling).

    Parameters
    ----------
    counts
        Successes and images of each share, at least one image each.
    """
    totals = np.array([total for _, total in counts], np.float64)
    shares = np.array([successes for successes, _ in counts]) / totals
    variance = float((shares * (1 - shares) / totals).sum()) / len(counts) ** 2
    most = len(counts) ** 2 / float((1 / totals).sum())
    return mean_interval(float(shares.mean()), variance, most)


def auc_interval(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> Interval:
    """Return the interval of an AUC; see :func:`mean_auc_interval`.

    Parameters
    ----------
    truth
        Whether an image has the label, shape (n,); both must occur.
    scores
        Shape (n,), finite.
    """
    return mean_auc_interval(truth.astype(np.int64), scores[:, np.newaxis], {1: 0})


def mean_auc_interval(
    labels: NDArray[np.int64], scores: NDArray[np.float64], columns: Mapping[int, int]
) -> Interval:
    """Return the interval of the mean AUC of some labels, each against the rest.

    DeLong's variance is 0 for labels that are told apart perfectly, and too
    small for others of few images. It counts as no more images than the
    variance for an AUC of that height (Newcombe 2006, Confidence intervals for
    an effect size measure based on the Mann-Whitney statistic, part 2, method
    5).

    Parameters
    ----------
    labels
        True label indices, shape (n,); in a multi-label task 0 and 1, shape
        (n, labels).
    scores
        Shape (n, columns), finite.
    columns
        Column of the scores of each label. There must be images of each, and
        others.
    """
    parts = auc_parts(labels, scores, columns)
    area = float(parts.sum()) / 2
    members = {label: has_label(labels, label) for label in columns}
    sizes = [(int(truth.sum()), int((~truth).sum())) for truth in members.values()]
    if len(sizes) == 1 and min(sizes[0]) < 2:
        return 0.0, 1.0  # one image has no spread to judge by
    areas = {
        label: float(auc_parts(labels, scores, {label: column}).sum()) / 2
        for label, column in columns.items()
    }
    shares = [
        (1 + ((m + n) / 2 - 1) * ((1 - a) / (2 - a) + a / (1 + a))) / (m * n)
        for (m, n), a in zip(sizes, areas.values(), strict=True)
    ]
    # Labels of the same images tell no more than as many images.
    most = min(len(columns) ** 2 / sum(shares), len(labels) if labels.ndim == 2 else np.inf)
    return mean_interval(area, auc_variance(labels, [scores], columns), most)


def has_label(labels: NDArray[np.int64], label: int) -> NDArray[np.bool_]:
    """Return whether each image has a label, shape (n,).

    Parameters
    ----------
    labels
        As for :func:`mean_auc_interval`.
    label
        Index of the label.
    """
    return np.asarray(labels == label if labels.ndim == 1 else labels[:, label] == 1)


def auc_variance(
    labels: NDArray[np.int64], models: Sequence[NDArray[Any]], columns: Mapping[int, int]
) -> float:
    """Return DeLong's variance of the mean AUC of a model, or of the difference of two.

    Every other class has images of its own, and the parts of an image are
    spread within its class. In a multi-label task an image belongs to one
    side for each label, so its parts are spread within these.

    Parameters
    ----------
    labels, columns
        As for :func:`mean_auc_interval`.
    models
        Scores of one or two models, shape (n, columns) each, finite.
    """
    spread = _spread_parts if labels.ndim == 2 else auc_parts
    parts = [spread(labels, scores, columns) for scores in models]
    difference = parts[-1] - parts[0] if len(parts) > 1 else parts[0]
    if labels.ndim == 2:
        return float(np.square(difference).sum())
    return parts_variance(labels, difference)


def _spread_parts(
    labels: NDArray[np.int64], scores: NDArray[Any], columns: Mapping[int, int]
) -> NDArray[np.float64]:
    """Return each image's distance, in the mean AUC, from what its sides have on average.

    The squares of these add up to the variance of the mean AUC.
    """
    distances = np.zeros(len(labels))
    for label, column in columns.items():
        placed = auc_parts(labels, scores, {label: column}) / len(columns)
        truth = has_label(labels, label)
        for side in (truth, ~truth):
            if (count := int(side.sum())) > 1:
                centred = placed[side] - placed[side].mean()
                distances[side] += centred * np.sqrt(count / (count - 1))
    return distances


def auc_parts(
    labels: NDArray[np.int64], scores: NDArray[Any], columns: Mapping[int, int]
) -> NDArray[np.float64]:
    """Return each image's part in the mean AUC, shape (n,); they add up to twice the mean.

    Parameters
    ----------
    labels, scores, columns
        As for :func:`mean_auc_interval`.
    """
    require("compute an interval", "scipy")
    from scipy.stats import rankdata

    parts = np.zeros(len(labels))
    for label, column in columns.items():
        truth = has_label(labels, label)
        m, n = int(truth.sum()), int((~truth).sum())
        ranks = rankdata(scores[:, column])
        placed = np.empty(len(labels))
        # Placement values: the share of the other group that each score beats.
        placed[truth] = (ranks[truth] - rankdata(scores[truth, column])) / n / m
        placed[~truth] = (1 - (ranks[~truth] - rankdata(scores[~truth, column])) / m) / n
        parts += placed / len(columns)
    return parts


def parts_variance(labels: NDArray[np.int64], parts: NDArray[np.float64]) -> float:
    """Return the variance of a sum over images, which are drawn class by class.

    Parameters
    ----------
    labels, parts
        Label index and part of each image, shape (n,).
    """
    variance = 0.0
    for label in np.unique(labels):
        own = parts[labels == label]
        if len(own) > 1:
            variance += len(own) * own.var(ddof=1)
    return float(variance)


def mean_interval(mean: float, variance: float, most: float) -> Interval:
    """Return the interval of a mean, 0..1, of the variance of a share of some images.

    Parameters
    ----------
    mean, variance
        The mean, and its measured variance.
    most
        The number of images that it counts as at most.
    """
    require("compute an interval", "scipy")
    from scipy.stats import beta

    # A mean of images that are all right, or all wrong, may be off by its own rounding.
    if min(mean, 1 - mean) < _ROUNDING:
        mean, variance = float(round(mean)), 0.0
    images = min(most, mean * (1 - mean) / variance) if variance > 0 else most
    right, wrong = mean * images, (1 - mean) * images
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, right, wrong + 1)) if right else 0.0
    high = float(beta.ppf(1 - tail, right + 1, wrong)) if wrong else 1.0
    return min(low, mean), max(high, mean)


def calibration_interval(gaps: Sequence[tuple[int, float, float]], spread: Interval) -> Interval:
    """Return the interval of a calibration error, 0..1.

    That of redrawn images has no width where they are all right with the same
    confidence. It reaches at least as far as the intervals of the bins'
    accuracies say, which are put together by the squares of their reaches
    (Zou and Donner 2008, Construction of confidence intervals about effect
    measures: a general approach).

    Parameters
    ----------
    gaps
        Images, confidence and accuracy of each bin.
    spread
        The interval of redrawn images.
    """
    total = sum(images for images, _, _ in gaps)
    error = (
        sum(images * abs(confidence - accuracy) for images, confidence, accuracy in gaps) / total
    )
    below = above = 0.0
    for images, confidence, accuracy in gaps:
        low, high = share_interval(round(accuracy * images), images)
        gap = abs(confidence - accuracy)
        widest = max(abs(confidence - low), abs(confidence - high))
        least = (
            0.0 if low <= confidence <= high else min(abs(confidence - low), abs(confidence - high))
        )
        below += (images / total * (gap - least)) ** 2
        above += (images / total * (widest - gap)) ** 2
    # An error is never below 0, so redrawn images have a larger one on average.
    low, high = error - below**0.5, error + above**0.5
    return max(0.0, min(low, spread[0], error)), min(1.0, max(high, spread[1], error))


def bootstrap_interval(
    labels: NDArray[np.int64], figure: Callable[[NDArray[np.int64]], float]
) -> Interval:
    """Return the percentile interval of a figure when images are redrawn class by class.

    Parameters
    ----------
    labels
        As for :func:`redraws`.
    figure
        Computes the figure of the images at some indices, shape (n,).
    """
    drawn = [figure(indices) for indices in redraws(labels)]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def redraws(labels: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Give the indices of as many images of each class as there are, drawn anew each time.

    The same labels give the same draws.

    Parameters
    ----------
    labels
        True label indices, shape (n,). In a multi-label task 0 and 1, shape
        (n, labels): there all images are drawn alike.
    """
    rng = np.random.default_rng(_SEED)
    classes = labels if labels.ndim == 1 else np.zeros(len(labels))
    members = [np.flatnonzero(classes == label) for label in np.unique(classes)]
    for _ in range(_RESAMPLES):
        yield np.concatenate([rng.choice(images, len(images)) for images in members])


def roc_band(
    truth: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the interval of the sensitivity at each of 101 false positive rates.

    It is that of redrawn images, and at least Wilson's at the threshold of
    each rate: images that are all found again whenever they are redrawn are
    no proof that all others are.

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
    curves = np.array(
        [
            _sensitivities(
                rng.choice(positive, len(positive)), rng.choice(negative, len(negative)), rates
            )
            for _ in range(_RESAMPLES)
        ]
    )
    low, high = np.quantile(curves, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    found = np.rint(_sensitivities(positive, negative, rates) * len(positive)).astype(int)
    ends = np.array([share_interval(count, len(positive)) for count in found.tolist()])
    open_ended = rates < 1  # at the end of the curve every image is found
    low[open_ended] = np.minimum(low, ends[:, 0])[open_ended]
    high[open_ended] = np.maximum(high, ends[:, 1])[open_ended]
    return rates, low, high


def _sensitivities(
    positive: NDArray[np.float64], negative: NDArray[np.float64], rates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sensitivity at each false positive rate, shape (rates,)."""
    found, others = np.sort(positive), np.sort(negative)[::-1]
    # At a rate r, the threshold lies just above the negative of rank r * n.
    ranks = np.minimum((rates * len(others) + 1e-9).astype(int), len(others) - 1)
    missed = np.searchsorted(found, others[ranks], side="right")
    return np.where(rates * len(others) >= len(others), 1.0, 1 - missed / len(found))
