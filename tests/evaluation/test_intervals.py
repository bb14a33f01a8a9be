"""Intervals, against published ones, their definitions, and redrawn images."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc
from scipy.stats import binomtest, norm

from medkit.errors import MissingExtraError
from medkit.evaluation.intervals import (
    auc_interval,
    auc_parts,
    bootstrap_interval,
    calibration_interval,
    mean_auc_interval,
    mean_share_interval,
    parts_variance,
    roc_band,
    share_interval,
)

Z = 1.959964  # of the normal distribution, 97.5 % lie below

Truth = NDArray[np.bool_]
Scores = NDArray[np.float64]


def drawn(seed: int, positive: int = 60, negative: int = 90) -> tuple[Truth, Scores]:
    """Draw scores of two groups that overlap, rounded so that some are equal."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat([True, False], [positive, negative]))
    return truth, np.round(rng.normal(0, 1, positive + negative) + 1.2 * truth, 1)


def outranks(truth: Truth, scores: Scores) -> Scores:
    """Return for each pair of a positive and a negative whether the first is above: 1, 1/2, 0."""
    difference = scores[truth][:, None] - scores[~truth]
    return (np.sign(difference) + 1) / 2


def two_groups(positive: list[float], negative: list[float]) -> tuple[Truth, Scores]:
    truth = np.array([True] * len(positive) + [False] * len(negative))
    return truth, np.array([*positive, *negative])


# Shares


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # Newcombe 1998, Two-sided confidence intervals for the single proportion, table I.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_of_a_share_is_the_published_one(
    successes: int, total: int, low: float, high: float
) -> None:
    assert share_interval(successes, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("successes", "total"), [(1, 3), (8, 10), (50, 100), (558, 624)])
def test_both_ends_are_the_shares_that_the_observed_one_is_just_compatible_with(
    successes: int, total: int
) -> None:
    share = successes / total
    for end in share_interval(successes, total):
        assert abs(share - end) == pytest.approx(Z * np.sqrt(end * (1 - end) / total), rel=1e-5)


@pytest.mark.parametrize("total", [1, 2, 16, 624])
def test_none_and_all_have_mirrored_intervals_with_an_end_of_their_own(total: int) -> None:
    nothing, everything = share_interval(0, total), share_interval(total, total)
    assert nothing[0] == pytest.approx(0, abs=1e-12)
    assert everything == pytest.approx((1 - nothing[1], 1 - nothing[0]))
    assert nothing[1] == pytest.approx(Z**2 / (total + Z**2), rel=1e-5)


def test_more_images_narrow_an_interval() -> None:
    widths = [np.diff(share_interval(9 * count, 10 * count))[0] for count in (1, 4, 16, 64)]
    assert widths == sorted(widths, reverse=True)
    assert widths[3] == pytest.approx(widths[2] / 2, rel=0.05)


# Means of shares


def test_the_mean_of_equal_classes_is_as_sure_as_one_share_of_all_images() -> None:
    assert mean_share_interval([(5, 5), (5, 5)]) == pytest.approx((0.025**0.1, 1))
    assert mean_share_interval([(0, 5), (0, 5)]) == pytest.approx((0, 1 - 0.025**0.1))
    # 9 and 9 of 10: Clopper and Pearson's interval of 18 of 20.
    exact = binomtest(18, 20).proportion_ci(method="exact")
    assert mean_share_interval([(9, 10), (9, 10)]) == pytest.approx((exact.low, exact.high))


def test_a_small_class_makes_a_mean_unsure() -> None:
    # 1 / (1/2 / 2 * 1/2 / 2 ...): the mean of 2 and 111 images is as sure as that of 7.9 images.
    images = 4 / (1 / 2 + 1 / 111)
    assert mean_share_interval([(2, 2), (111, 111)]) == pytest.approx((0.025 ** (1 / images), 1))
    # A large class that is all right does not hide the variance of a small one.
    variance = (1 / 2) * (1 / 2) / 4 / 4
    assert mean_share_interval([(2, 4), (99, 99)]) == pytest.approx(
        of_images(0.75, 0.75 * 0.25 / variance)
    )


@pytest.mark.parametrize("images", [1, 2, 5, 50])
@pytest.mark.parametrize("classes", [1, 2, 9])
def test_all_images_right_leave_a_doubt_that_gets_smaller(classes: int, images: int) -> None:
    low, high = mean_share_interval([(images, images)] * classes)
    assert (low, high) == (pytest.approx(0.025 ** (1 / (images * classes))), 1)
    assert low < mean_share_interval([(2 * images, 2 * images)] * classes)[0] < 1


def covered(sizes: list[int], shares: list[float], rng: np.random.Generator) -> float:
    """Return how often the interval of a mean of shares holds the true mean, of 600 times."""
    truth, held = float(np.mean(shares)), 0
    for found in rng.binomial(sizes, shares, (600, len(sizes))):
        low, high = mean_share_interval(list(zip(found.tolist(), sizes, strict=True)))
        assert 0 <= low <= float(np.mean(found / np.array(sizes))) <= high <= 1
        assert high > low
        held += low <= truth <= high
    return held / 600


@pytest.mark.parametrize("classes", [2, 3, 9])
@pytest.mark.parametrize("images", [5, 12, 50])
@pytest.mark.parametrize("share", [0.8, 0.9, 0.97, 0.99])
def test_the_interval_of_a_mean_of_shares_holds_the_true_mean(
    classes: int, images: int, share: float
) -> None:
    rng = np.random.default_rng(0)
    assert covered([images] * classes, [share] * classes, rng) >= 0.93


@pytest.mark.parametrize("seed", range(8))
def test_it_does_so_for_unequal_classes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 10))
    sizes, shares = rng.integers(5, 51, classes).tolist(), rng.uniform(0.8, 0.99, classes).tolist()
    assert covered(sizes, shares, rng) >= 0.93


@pytest.mark.parametrize(("sick", "healthy"), [(5, 5), (5, 20), (20, 40), (50, 50)])
@pytest.mark.parametrize("area", [0.8, 0.9, 0.95, 0.99])
def test_the_interval_of_an_auc_holds_the_true_auc(sick: int, healthy: int, area: float) -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([True, False], [sick, healthy])
    apart, held = norm.ppf(area) * np.sqrt(2), 0
    for _ in range(300):
        scores = rng.normal(0, 1, sick + healthy) + apart * truth
        low, high = auc_interval(truth, scores)
        assert 0 <= low < high <= 1
        held += low <= area <= high
    assert held >= 0.93 * 300


# AUC


def of_images(mean: float, images: float) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a share, by its definition: tails of 2.5 %."""
    low, high = (
        brentq(lambda p: betainc(mean * images, (1 - mean) * images + 1, p) - 0.025, 0, 1),
        brentq(lambda p: betainc(mean * images + 1, (1 - mean) * images, p) - 0.975, 0, 1),
    )
    return float(low), float(high)


def images_of(area: float, positive: int, negative: int) -> float:
    """Return the images of a share of the variance that Newcombe gives an AUC."""
    star = (positive + negative) / 2 - 1
    factor = 1 + star * (1 - area) / (2 - area) + star * area / (1 + area)
    return positive * negative / factor


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_of_an_auc_has_delongs_variance_or_newcombes(seed: int) -> None:
    truth, scores = drawn(seed)
    pairs = outranks(truth, scores)
    area = float(pairs.mean())
    by_positive, by_negative = pairs.mean(axis=1), pairs.mean(axis=0)
    variance = np.var(by_positive, ddof=1) / 60 + np.var(by_negative, ddof=1) / 90
    images = min(area * (1 - area) / variance, images_of(area, 60, 90))
    assert 0.7 < area < 0.9
    assert auc_interval(truth, scores) == pytest.approx(of_images(area, images), rel=1e-6)


def test_the_interval_of_an_auc_is_near_that_of_redrawn_images() -> None:
    truth, scores = drawn(0, 150, 200)

    def area(images: NDArray[np.int64]) -> float:
        return float(outranks(truth[images], scores[images]).mean())

    redrawn = bootstrap_interval(truth.astype(np.int64), area)
    found = auc_interval(truth, scores)
    assert found == pytest.approx(redrawn, abs=0.008)
    assert 0.05 < found[1] - found[0] < 0.15


def test_the_interval_of_an_auc_by_hand() -> None:
    # Each sick one beats 2, 3 and 4 of the four healthy, which are beaten by 3, 3, 2 and 1.
    truth, scores = two_groups([0.35, 0.45, 0.9], [0.1, 0.2, 0.4, 0.5])
    assert outranks(truth, scores).sum(axis=1).tolist() == [2, 3, 4]
    variance = (1 / 16) / 3 + (11 / 12 / 9) / 4
    images = 0.75 * 0.25 / variance
    assert images < images_of(0.75, 3, 4), "else Newcombe's variance was tried"
    low, high = auc_interval(truth, scores)
    assert (low, high) == pytest.approx(of_images(0.75, images))
    assert auc_interval(truth, -scores) == pytest.approx((1 - high, 1 - low))


def test_only_the_order_of_scores_counts() -> None:
    truth, scores = drawn(1)
    assert auc_interval(truth, np.exp(3 * scores)) == auc_interval(truth, scores)
    low, high = auc_interval(~truth, scores)
    assert auc_interval(truth, scores) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("sick", "healthy"), [(3, 8), (8, 3), (40, 2), (50, 50)])
def test_scores_in_perfect_order_leave_the_room_that_newcombe_leaves(
    sick: int, healthy: int
) -> None:
    room = 0.025 ** (1 / images_of(1.0, sick, healthy))
    assert auc_interval(*two_groups([0.9] * sick, [0.5] * healthy)) == pytest.approx((room, 1))
    assert auc_interval(*two_groups([0.1] * sick, [0.5] * healthy)) == pytest.approx((0, 1 - room))
    assert room < 0.97


def test_scores_that_are_all_equal_are_not_certain_to_be_of_no_use() -> None:
    low, high = auc_interval(*two_groups([0.5] * 30, [0.5] * 30))
    assert 0.3 < low < 0.4
    assert high == pytest.approx(1 - low)


def test_the_mean_of_two_aucs_that_are_one_is_as_sure_as_that_one() -> None:
    """The second label's AUC is the first's again, so a mean of both has the same variance."""
    truth, scores = drawn(0)
    labels, both = truth.astype(np.int64), np.stack([-scores, scores], axis=1)
    mean = mean_auc_interval(labels, both, {0: 0, 1: 1})
    parts = auc_parts(labels, both, {0: 0, 1: 1})
    assert parts == pytest.approx(auc_parts(labels, both, {1: 1}))
    area = float(parts.sum()) / 2
    variance = parts_variance(labels, parts)
    assert mean == pytest.approx(of_images(area, area * (1 - area) / variance))


@pytest.mark.parametrize(("positive", "negative"), [(1, 5), (5, 1), (1, 1)])
def test_one_image_of_a_side_tells_nothing_of_an_auc(positive: int, negative: int) -> None:
    truth, scores = two_groups([0.9] * positive, [0.1] * negative)
    assert auc_interval(truth, scores) == (0.0, 1.0)


# Redrawn images


def test_redrawn_images_keep_the_number_of_every_class() -> None:
    labels = np.array([0] * 5 + [7] * 2 + [3] * 9)
    draws: list[tuple[int, ...]] = []

    def figure(images: NDArray[np.int64]) -> float:
        assert sorted(labels[images]) == sorted(labels)
        draws.append(tuple(images))
        return 0.25

    assert bootstrap_interval(labels, figure) == (0.25, 0.25)
    assert len(set(draws)) > 1000, "the draws must differ"
    assert {image for images in draws for image in images} == set(range(16))


def test_the_interval_of_a_mean_is_that_of_the_central_limit() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, 400)
    low, high = bootstrap_interval(
        np.zeros(400, np.int64), lambda images: float(values[images].mean())
    )
    reach = Z * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.02)


def test_the_same_images_have_the_same_interval() -> None:
    truth, scores = drawn(0)
    labels = truth.astype(np.int64)

    def figure(images: NDArray[np.int64]) -> float:
        return float(scores[images].mean())

    first = bootstrap_interval(labels, figure)
    assert first[0] < first[1]
    assert bootstrap_interval(labels, figure) == first
    for again, before in zip(roc_band(truth, scores), roc_band(truth, scores), strict=True):
        assert np.array_equal(again, before)


# Calibration


def test_a_calibration_error_of_images_that_are_all_right_is_not_certain() -> None:
    # 20 images, all right, all 99 % sure: redrawn, they are that again.
    low, high = calibration_interval([(20, 0.99, 1.0)], (0.01, 0.01))
    assert low == pytest.approx(0)
    assert high == pytest.approx(0.99 - share_interval(20, 20)[0])


def test_the_accuracies_of_bins_are_put_together_by_their_squares() -> None:
    gaps = [(30, 0.8, 0.5), (10, 0.9, 0.4)]
    error = (30 * 0.3 + 10 * 0.5) / 40
    found = calibration_interval(gaps, (error, error))
    ends = share_interval(15, 30), share_interval(4, 10)
    for place, end in enumerate((1, 0)):  # the higher the accuracy, the smaller the gap
        reach = [abs(ends[0][end] - 0.5) * 30 / 40, abs(ends[1][end] - 0.4) * 10 / 40]
        assert abs(found[place] - error) == pytest.approx(float(np.hypot(*reach)))


def test_it_reaches_as_far_as_redrawn_images() -> None:
    assert calibration_interval([(20, 0.9, 1.0)], (0.0, 0.7)) == (0.0, 0.7)


# Bands


@pytest.mark.parametrize("seed", range(3))
def test_the_band_holds_the_curve_and_rises_with_it_within_0_and_1(seed: int) -> None:
    truth, scores = drawn(seed)
    rates, low, high = roc_band(truth, scores)
    assert rates == pytest.approx(np.arange(101) / 100)
    assert low.shape == high.shape == (101,)
    assert low.min() >= 0
    assert high.max() <= 1
    assert (low[-1], high[-1]) == (1, 1)
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) >= 0).all()
    assert (high - low)[10:50].min() > 0.02
    falling = np.sort(scores[~truth])[::-1]
    for place in range(0, 90, 9):  # a tenth of the 90 negatives further each time
        sensitivity = float((scores[truth] > falling[place]).mean())
        assert low[place * 100 // 90] <= sensitivity <= high[place * 100 // 90]


@pytest.mark.parametrize(
    ("sick", "healthy", "found"),
    [
        (0.9, [0.4, 0.5, 0.6], 4),
        (0.1, [0.4, 0.5, 0.6], 0),
        (0.5, [0.5, 0.5, 0.5], 0),  # no threshold finds one of them and not the others
    ],
)
def test_the_band_of_scores_in_perfect_order_or_none_admits_the_doubt_of_a_share(
    sick: float, healthy: list[float], found: int
) -> None:
    rates, low, high = roc_band(*two_groups([sick] * 4, healthy))
    ends = share_interval(found, 4)
    assert low[rates < 1] == pytest.approx(ends[0])
    assert high[rates < 1] == pytest.approx(ends[1])
    assert (low[-1], high[-1]) == (1, 1)


def test_more_images_narrow_a_band() -> None:
    widths = []
    for count in (1, 9):
        truth, scores = drawn(0)
        _, low, high = roc_band(np.tile(truth, count), np.tile(scores, count))
        widths.append(float((high - low)[10:50].mean()))
    assert widths[1] == pytest.approx(widths[0] / 3, rel=0.2)


# Libraries


@pytest.mark.parametrize(
    "compute", [lambda: share_interval(1, 2), lambda: auc_interval(*drawn(0))], ids=["share", "auc"]
)
def test_without_scipy_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, compute: Callable[[], object]
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r'scipy is needed .*"medkit-edge\[evaluate\]"'):
        compute()
