"""Intervals, against published ones, their definitions, and redrawn images."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from medkit.errors import MissingExtraError
from medkit.evaluation.intervals import auc_interval, bootstrap_interval, roc_band, share_interval

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


# AUC


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_of_an_auc_follows_delongs_definition(seed: int) -> None:
    truth, scores = drawn(seed)
    pairs = outranks(truth, scores)
    by_positive, by_negative = pairs.mean(axis=1), pairs.mean(axis=0)
    variance = np.var(by_positive, ddof=1) / 60 + np.var(by_negative, ddof=1) / 90
    reach = Z * np.sqrt(variance)
    assert 0.7 < pairs.mean() < 0.9
    assert auc_interval(truth, scores) == pytest.approx(
        (pairs.mean() - reach, pairs.mean() + reach), rel=1e-6
    )


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
    reach = Z * np.sqrt(variance)
    assert auc_interval(truth, scores) == pytest.approx((0.75 - reach, 1.0))
    assert 0.75 + reach > 1, "else the cut at 1 was not tried"
    mirrored = auc_interval(truth, -scores)
    assert mirrored == pytest.approx((0.0, 0.25 + reach))


def test_only_the_order_of_scores_counts() -> None:
    truth, scores = drawn(1)
    assert auc_interval(truth, np.exp(3 * scores)) == auc_interval(truth, scores)
    low, high = auc_interval(~truth, scores)
    assert auc_interval(truth, scores) == pytest.approx((1 - high, 1 - low))


def test_few_scores_in_perfect_order_leave_the_room_that_few_images_leave() -> None:
    assert auc_interval(*two_groups([0.9] * 3, [0.5] * 8)) == share_interval(3, 3)
    assert auc_interval(*two_groups([0.1] * 8, [0.5] * 3)) == share_interval(0, 3)


def test_scores_that_are_all_equal_have_the_area_of_chance() -> None:
    assert auc_interval(*two_groups([0.5] * 3, [0.5] * 3)) == (0.5, 0.5)


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
    ("sick", "healthy", "height"),
    [
        (0.9, [0.4, 0.5, 0.6], 1.0),
        (0.1, [0.4, 0.5, 0.6], 0.0),
        (0.5, [0.5, 0.5, 0.5], 0.0),  # no threshold finds one of them and not the others
    ],
)
def test_the_band_of_scores_in_perfect_order_or_none_has_no_width(
    sick: float, healthy: list[float], height: float
) -> None:
    rates, low, high = roc_band(*two_groups([sick] * 4, healthy))
    assert (low[rates < 1] == height).all()
    assert (high[rates < 1] == height).all()
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
