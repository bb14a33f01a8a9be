"""Temperatures and operating points, against ones known by construction or found by trying."""

from __future__ import annotations

import json
import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from bundles import points_from
from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.errors import MissingExtraError
from medkit.models.decisions import (
    agreeing_threshold,
    apply_temperature,
    balanced_threshold,
    choose_points,
    decide,
    fit_temperature,
    match_points,
    sensitivity_threshold,
)
from medkit.models.points import OperatingPoint
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task

BOTH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)

LIKELIEST = OperatingPoint(BALANCED)

Floats = NDArray[np.float32]
Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]


def xrays(*scores: float) -> Floats:
    """Return probabilities of both classes for scores of pneumonia."""
    sick = np.array(scores, np.float32)
    return np.stack([1 - sick, sick], axis=1)


def sick_from(threshold: float) -> OperatingPoint:
    return OperatingPoint("any", "PNEUMONIA", threshold)


def drawn(seed: int, count: int = 60, levels: int = 12) -> tuple[Scores, Truth]:
    """Draw scores that are often equal, and a truth that they know something of."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([[False, True], rng.random(count - 2) < 0.5])
    scores = rng.integers(0, levels, count) * 0.7 + truth * levels * 0.3
    return scores / levels, truth


def softmax(logits: Scores) -> Scores:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def found(scores: Scores, truth: Truth, threshold: float) -> float:
    """Return the share of the true ones that a threshold finds."""
    return float((scores[truth] >= threshold).mean())


def balance(scores: Scores, truth: Truth, threshold: float) -> float:
    """Return the mean of sensitivity and specificity at a threshold."""
    return (found(scores, truth, threshold) + float((scores[~truth] < threshold).mean())) / 2


# Decisions


def test_the_threshold_decides_and_belongs_to_its_label() -> None:
    decided = decide(PNEUMONIA, xrays(0.1, 0.25, 0.5, 0.9), sick_from(0.25))
    assert decided.tolist() == [0, 1, 1, 1]
    assert decided.dtype == np.int64


def test_a_threshold_may_be_for_either_label() -> None:
    healthy = OperatingPoint("any", "NORMAL", 0.75)
    assert decide(PNEUMONIA, xrays(0.1, 0.25, 0.5, 0.9), healthy).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("threshold", "label"), [(0.0, 1), (1.0, 0)])
def test_the_outermost_thresholds_find_all_and_all_but_the_certain(
    threshold: float, label: int
) -> None:
    decided = decide(PNEUMONIA, xrays(0.0, 0.5, 0.999, 1.0), sick_from(threshold))
    assert decided.tolist() == [label, label, label, 1]


def test_without_a_threshold_the_likeliest_label_wins() -> None:
    assert decide(PNEUMONIA, xrays(0.4, 0.6), LIKELIEST).tolist() == [0, 1]
    decided = decide(SKIN, np.eye(9, dtype=np.float32)[[4, 0, 8]], LIKELIEST)
    assert decided.tolist() == [4, 0, 8]
    assert decided.dtype == np.int64


def test_of_nine_classes_the_one_with_a_threshold_wins_from_there_on_and_never_below() -> None:
    melanoma = SKIN.labels.index("melanoma")
    probabilities = np.full((4, 9), 0.01, np.float32)
    probabilities[:, 4] = 0.5
    probabilities[:, melanoma] = [0.1, 0.25, 0.3, 0.05]
    probabilities[3, 7] = 0.6
    before = probabilities.copy()
    point = OperatingPoint("any", "melanoma", 0.25)
    assert decide(SKIN, probabilities, point).tolist() == [4, melanoma, melanoma, 7]
    # Above all others, yet below its threshold: the likeliest of the others is decided.
    strict = OperatingPoint("any", "nevus", 0.9)
    assert decide(SKIN, probabilities, strict).tolist() == [melanoma, melanoma, melanoma, 7]
    assert np.array_equal(probabilities, before)


# Applying a temperature


@pytest.mark.parametrize(
    ("temperature", "expected"), [(2.0, 2 / 3), (0.5, 16 / 17), (1.0, 0.8), (1e9, 0.5)]
)
def test_a_temperature_divides_the_logits(temperature: float, expected: float) -> None:
    # Four to one becomes two to one when logits are halved, and sixteen to one when doubled.
    scaled = apply_temperature(xrays(0.8, 0.2), temperature, multi_label=False)
    assert scaled.dtype == np.float32
    assert scaled == pytest.approx(xrays(expected, 1 - expected), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 0.9, 1.7, 6.0])
def test_of_nine_classes_the_logits_are_divided_alike(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (50, 9))
    scaled = apply_temperature(softmax(logits).astype(np.float32), temperature, multi_label=False)
    np.testing.assert_allclose(scaled, softmax(logits / temperature), atol=1e-5)


def test_a_temperature_of_1_changes_not_a_bit() -> None:
    probabilities = xrays(0.0, 1e-12, 0.3, 1.0)
    before = probabilities.copy()
    assert np.array_equal(apply_temperature(probabilities, 1.0, multi_label=False), before)
    apply_temperature(probabilities, 3.0, multi_label=False)
    assert np.array_equal(probabilities, before)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.3, 20.0])
def test_the_order_stays_and_rows_sum_to_1_even_at_the_ends(temperature: float) -> None:
    scores = np.concatenate([[0.0, 1e-12, 1e-6], np.linspace(0.01, 0.99, 99), [1 - 1e-6, 1.0]])
    scaled = apply_temperature(xrays(*scores), temperature, multi_label=False)
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(scaled.sum(axis=1), 1, atol=1e-6)
    assert (np.diff(scaled[:, 1]) >= 0).all()
    assert np.ptp(scaled[:, 1]) > 0.3
    middle = scaled[3:-2, 1]
    softer = np.abs(middle - 0.5) <= np.abs(scores[3:-2] - 0.5) + 1e-6
    assert softer.all() if temperature > 1 else not softer[[0, -1]].any()


def test_what_is_no_number_stays_so_and_spoils_no_other_image() -> None:
    scaled = apply_temperature(xrays(0.8, math.nan, 0.2), 2.0, multi_label=False)
    assert np.isnan(scaled[1]).all()
    assert scaled[[0, 2], 1] == pytest.approx([2 / 3, 1 / 3])


# Fitting a temperature


@pytest.mark.parametrize(
    ("said", "right", "temperature"),
    [(0.9, 75, 2.0), (0.75, 90, 0.5), (0.75, 75, 1.0), (0.8, 80, 1.0), (64 / 65, 80, 3.0)],
)
def test_what_is_said_becomes_what_is_right(said: float, right: int, temperature: float) -> None:
    # Nine to one is said and three to one is right: the logits are twice too large.
    labels = np.array([1] * right + [0] * (100 - right))
    probabilities = xrays(*[said] * 100)
    fitted = fit_temperature(labels, probabilities)
    assert fitted == pytest.approx(temperature, rel=2e-3)
    assert apply_temperature(probabilities, fitted, multi_label=False)[0, 1] == pytest.approx(
        right / 100, abs=1e-3
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_of_nine_classes_is_recovered(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (5000, 9))
    labels = (softmax(logits).cumsum(axis=1) < rng.random((5000, 1))).sum(axis=1)
    stated = softmax(logits * temperature).astype(np.float32)
    assert fit_temperature(labels, stated) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize(("label", "temperature"), [(1, 0.05), (0, 20.0)])
def test_a_temperature_has_bounds_where_all_are_right_or_all_wrong(
    label: int, temperature: float
) -> None:
    assert fit_temperature(np.full(10, label), xrays(*[0.6] * 10)) == temperature


def test_a_temperature_without_scipy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r'scipy is needed .*"medkit-edge\[evaluate\]"'):
        fit_temperature(np.array([0, 1]), xrays(0.2, 0.8))


# The balanced threshold


@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_balances_better_than_the_chosen_one(seed: int) -> None:
    scores, truth = drawn(seed)
    threshold = balanced_threshold(scores, truth)
    levels = np.unique(np.append(scores, [0, 1]))
    candidates = np.concatenate([levels, (levels[1:] + levels[:-1]) / 2])
    best = max(balance(scores, truth, value) for value in candidates)
    assert balance(scores, truth, threshold) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_lies_in_the_middle_of_the_widest_of_the_best_gaps(seed: int) -> None:
    scores, truth = drawn(seed, count=12)
    gaps = list(pairwise(np.unique(np.append(scores, [0, 1])).tolist()))
    quality = [round(balance(scores, truth, (low + high) / 2), 9) for low, high in gaps]
    best = [gap for gap, value in zip(gaps, quality, strict=True) if value == max(quality)]
    low, high = max(best, key=lambda gap: gap[1] - gap[0])
    assert balanced_threshold(scores, truth) == pytest.approx((low + high) / 2)


@pytest.mark.parametrize(
    ("scores", "threshold"), [((0.2, 0.3, 0.6, 0.9), 0.75), ((0.1, 0.5, 0.7, 0.8), 0.3)]
)
def test_of_two_equally_good_gaps_the_wider_one_is_taken(
    scores: tuple[float, ...], threshold: float
) -> None:
    truth = np.array([False, True, False, True])
    assert balanced_threshold(np.array(scores), truth) == pytest.approx(threshold)


def test_the_threshold_of_classes_far_apart_is_half_way() -> None:
    truth = np.array([False, False, True, True])
    assert balanced_threshold(np.array([0.125, 0.25, 0.75, 0.875]), truth) == 0.5


def test_the_threshold_lies_between_0_and_1_even_for_scores_without_information() -> None:
    assert 0 < balanced_threshold(np.array([0.7, 0.7]), np.array([False, True])) < 1


def test_the_threshold_does_not_follow_the_larger_class() -> None:
    truth = np.array([False] * 2 + [True] * 98)
    scores = np.concatenate([[0.5, 0.6], np.linspace(0.55, 1, 98)])
    assert balanced_threshold(scores, truth) > 0.6


# The threshold of a sensitivity


@pytest.mark.parametrize("sensitivity", [0.5, 0.8, 0.9, 0.98, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_share_is_found_and_no_score_higher_would_find_it(
    seed: int, sensitivity: float
) -> None:
    scores, truth = drawn(seed)
    threshold = sensitivity_threshold(scores, truth, sensitivity)
    assert found(scores, truth, threshold) >= sensitivity
    below, above = max([0.0, *scores[scores < threshold]]), scores[scores >= threshold].min()
    assert found(scores, truth, float(np.nextafter(above, 1))) < sensitivity
    # Half-way between the neighbouring scores, so that neither side is closer.
    assert threshold == pytest.approx((below + above) / 2)


@pytest.mark.parametrize(
    ("sensitivity", "count", "missed"),
    [
        (0.98, 1, 0),
        (0.98, 49, 0),
        (0.98, 50, 1),
        (0.98, 149, 2),
        (0.98, 150, 3),
        (0.9, 9, 0),
        (0.9, 10, 1),  # though (1 - 0.9) * 10 is a little less than 1
        (0.5, 4, 2),
    ],
)
def test_as_many_may_be_missed_as_the_share_allows(
    sensitivity: float, count: int, missed: int
) -> None:
    scores = np.linspace(0.1, 0.9, count)
    threshold = sensitivity_threshold(scores, np.full(count, True), sensitivity)
    assert int((scores < threshold).sum()) == missed


def test_images_of_other_labels_only_move_the_threshold_within_its_gap() -> None:
    scores, truth = np.array([0.2, 0.6, 0.8, 0.5, 0.7]), np.array([True] * 3 + [False] * 2)
    assert sensitivity_threshold(scores, truth, 0.66) == pytest.approx((0.5 + 0.6) / 2)
    assert sensitivity_threshold(scores, truth, 1.0) == pytest.approx(0.1)
    scores[3] = 0.3
    assert sensitivity_threshold(scores, truth, 0.66) == pytest.approx((0.3 + 0.6) / 2)


def test_where_one_that_must_be_found_has_no_score_all_are_found() -> None:
    scores, truth = np.array([0.0, 0.5, 0.9]), np.array([True, False, True])
    assert sensitivity_threshold(scores, truth, 1.0) == 0.0


# Choosing operating points


def test_two_classes_get_a_balanced_and_a_sensitive_threshold() -> None:
    # Three of the hundred sick ones lie among the healthy. The balanced point misses them
    # all, the sensitive one the two that it may.
    sick = np.concatenate([[0.1, 0.15, 0.2], np.linspace(0.7, 0.95, 97)])
    healthy = np.linspace(0.05, 0.5, 100)
    labels = np.repeat([1, 0], 100)
    points = choose_points(PNEUMONIA, labels, xrays(*sick, *healthy))
    assert list(points) == [BALANCED, HIGH_SENSITIVITY]
    for name, point in points.items():
        assert (point.name, point.label) == (name, "PNEUMONIA")
    assert points[BALANCED].threshold == pytest.approx(0.6)
    assert points[HIGH_SENSITIVITY].threshold == pytest.approx(0.2, abs=0.005)
    decided = decide(PNEUMONIA, xrays(*sick), points[HIGH_SENSITIVITY])
    assert decided.sum() == PNEUMONIA.screening_sensitivity * 100


def test_the_sensitive_point_never_finds_less_than_the_balanced_one() -> None:
    # Two of the hundred may be missed, but the balanced threshold misses none.
    scores = np.concatenate([np.linspace(0.6, 0.95, 100), np.linspace(0.05, 0.5, 100)])
    points = choose_points(PNEUMONIA, np.repeat([1, 0], 100), xrays(*scores))
    assert points[BALANCED].threshold == pytest.approx(0.55)
    assert points[HIGH_SENSITIVITY].threshold == points[BALANCED].threshold


def test_both_points_of_nine_classes_look_for_melanoma() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 9, 900)
    probabilities = softmax(rng.normal(0, 1, (900, 9)) + 2 * np.eye(9)[labels]).astype(np.float32)
    points = choose_points(SKIN, labels, probabilities)
    for name, point in points.items():
        assert (point.name, point.label) == (name, "melanoma")
    melanoma = SKIN.labels.index("melanoma")
    truth = labels == melanoma
    share = {
        point.name: float((decide(SKIN, probabilities, point)[truth] == melanoma).mean())
        for point in points.values()
    }
    assert share[BALANCED] < 0.9
    asked = SKIN.screening_sensitivity
    assert asked <= share[HIGH_SENSITIVITY] < asked + 1 / sum(truth)


@BOTH
def test_chosen_points_can_be_stored_and_obeyed(task: Task) -> None:
    rng = np.random.default_rng(0)
    classes = len(task.labels)
    labels = np.arange(20 * classes) % classes
    probabilities = rng.dirichlet(np.ones(classes), len(labels)).astype(np.float32)
    points = choose_points(task, labels, probabilities)
    text = json.dumps({name: point.to_dict() for name, point in points.items()})
    assert points_from(json.loads(text), task) == points


# Matched to another model's decisions


def test_a_matched_threshold_gives_back_the_decisions_of_shifted_scores() -> None:
    rng = np.random.default_rng(3)
    original = rng.random(200)
    decided = original >= 0.37
    shifted = original**2 * 0.8 + 0.1
    threshold = agreeing_threshold(shifted, decided)
    assert ((shifted >= threshold) == decided).all()
    assert threshold == pytest.approx(0.37**2 * 0.8 + 0.1, abs=0.01)


def test_no_other_threshold_turns_fewer_decisions() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        scores = rng.random(30).round(2)
        decided = rng.random(30) < scores
        found = agreeing_threshold(scores, decided)
        turned = [int(((scores >= t) != decided).sum()) for t in np.linspace(0, 1, 501)]
        assert int(((scores >= found) != decided).sum()) == min(turned)


@pytest.mark.parametrize("all_of_them", [True, False])
def test_decisions_that_are_all_alike_stay_so(all_of_them: bool) -> None:
    scores = np.array([0.2, 0.5, 0.9])
    threshold = agreeing_threshold(scores, np.full(3, all_of_them))
    assert ((scores >= threshold) == all_of_them).all()


def test_matched_points_keep_name_and_label_and_leave_the_likeliest_alone() -> None:
    points = {BALANCED: LIKELIEST, "high": OperatingPoint("high", "melanoma", 0.5)}
    rng = np.random.default_rng(5)
    probabilities = rng.dirichlet(np.ones(9), 50).astype(np.float32)
    decided = {"high": probabilities[:, SKIN.labels.index("melanoma")] >= 0.1}
    matched = match_points(SKIN, decided, points, probabilities)
    assert matched[BALANCED] == LIKELIEST
    assert (matched["high"].name, matched["high"].label) == ("high", "melanoma")
    assert matched["high"].threshold == pytest.approx(0.1, abs=0.02)
