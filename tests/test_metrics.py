"""The figures that go into manifests and gates, against ones computed by hand or by brute force."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medkit.errors import MedkitError
from medkit.metrics import (
    area_under_curve,
    balanced_threshold,
    confusion_matrix,
    decide,
    evaluate,
)
from medkit.tasks import PNEUMONIA, SKIN

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def xrays(*scores: float) -> Floats:
    """Return probabilities of both classes for scores of pneumonia."""
    sick = np.array(scores, np.float32)
    return np.stack([1 - sick, sick], axis=1)


def truth(*labels: int) -> Labels:
    return np.array(labels, np.int64)


def drawn(seed: int, count: int = 60, levels: int = 12) -> tuple[Labels, Floats]:
    """Draw labels, and scores that know something of them and are often equal."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.integers(0, 2, count - 2)])
    scores = rng.integers(0, levels, count) * 0.7 + labels * levels * 0.3
    return labels, xrays(*(scores / levels))


def pairwise_auc(positive: Floats, negative: Floats) -> float:
    """Compute the AUC by its meaning: how often a positive outranks a negative."""
    above = (positive[:, None] > negative).mean()
    level = (positive[:, None] == negative).mean()
    return float(above + level / 2)


def balance(labels: Labels, probabilities: Floats, threshold: float) -> float:
    """Return the mean of sensitivity and specificity at a threshold."""
    decided = decide(PNEUMONIA, probabilities, threshold)
    return float(np.mean([(decided == label)[labels == label].mean() for label in (0, 1)]))


# Decisions


def test_the_threshold_decides_and_belongs_to_the_positive_side() -> None:
    decided = decide(PNEUMONIA, xrays(0.1, 0.25, 0.5, 0.9), 0.25)
    assert decided.tolist() == [0, 1, 1, 1]
    assert decided.dtype == np.int64


def test_without_a_threshold_the_likeliest_label_wins() -> None:
    assert decide(PNEUMONIA, xrays(0.4, 0.6), None).tolist() == [0, 1]
    probabilities = np.eye(9, dtype=np.float32)[[4, 0, 8]]
    assert decide(SKIN, probabilities, None).tolist() == [4, 0, 8]


def test_a_task_of_many_classes_has_no_threshold() -> None:
    probabilities = np.eye(9, dtype=np.float32)[[4, 0, 8]]
    assert decide(SKIN, probabilities, 0.999).tolist() == [4, 0, 8]


# Area under the curve


@pytest.mark.parametrize(
    ("labels", "scores", "area"),
    [
        ((0, 0, 1, 1), (0.1, 0.2, 0.3, 0.4), 1.0),
        ((0, 0, 1, 1), (0.4, 0.3, 0.2, 0.1), 0.0),
        ((0, 0, 1, 1), (0.5, 0.5, 0.5, 0.5), 0.5),
        ((0, 0, 1, 1), (0.1, 0.4, 0.35, 0.8), 0.75),
        ((0, 1, 0, 1, 1), (0.1, 0.1, 0.6, 0.6, 0.7), 4 / 6),
    ],
)
def test_the_area_of_two_classes_is_that_of_the_positive_label(
    labels: tuple[int, ...], scores: tuple[float, ...], area: float
) -> None:
    assert area_under_curve(PNEUMONIA, truth(*labels), xrays(*scores)) == pytest.approx(area)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_the_share_of_pairs_in_order(seed: int) -> None:
    labels, probabilities = drawn(seed)
    scores = probabilities[:, 1]
    expected = pairwise_auc(scores[labels == 1], scores[labels == 0])
    assert 0.5 < expected < 1
    assert area_under_curve(PNEUMONIA, labels, probabilities) == pytest.approx(expected)


def test_the_area_of_many_classes_is_the_mean_over_those_that_occur() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 3, 4], 50)
    probabilities = rng.dirichlet(np.ones(9), 50).astype(np.float32)
    expected = [
        pairwise_auc(probabilities[labels == index, index], probabilities[labels != index, index])
        for index in (0, 3, 4)
    ]
    assert area_under_curve(SKIN, labels, probabilities) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("label", [0, 1])
def test_images_of_one_class_have_no_area(label: int) -> None:
    with pytest.raises(MedkitError, match="one class alone .* give images of every class"):
        area_under_curve(PNEUMONIA, truth(label, label), xrays(0.1, 0.9))
    with pytest.raises(MedkitError, match="one class alone"):
        area_under_curve(SKIN, truth(label, label), np.full((2, 9), 1 / 9, np.float32))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_probabilities_that_are_no_numbers_have_no_area(value: float) -> None:
    with pytest.raises(MedkitError, match="not finite"):
        area_under_curve(PNEUMONIA, truth(0, 1), xrays(0.1, value))
    with pytest.raises(MedkitError, match="not finite"):
        evaluate(PNEUMONIA, truth(0, 1), xrays(0.1, value), 0.5)


# Operating point


@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_balances_better_than_the_chosen_one(seed: int) -> None:
    labels, probabilities = drawn(seed)
    threshold = balanced_threshold(PNEUMONIA, labels, probabilities)
    assert threshold is not None
    scores = np.unique(np.append(probabilities[:, 1].astype(np.float64), [0, 1]))
    candidates = np.concatenate([scores, (scores[1:] + scores[:-1]) / 2])
    best = max(balance(labels, probabilities, float(value)) for value in candidates)
    assert balance(labels, probabilities, threshold) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_lies_in_the_middle_of_the_widest_of_the_best_gaps(seed: int) -> None:
    labels, probabilities = drawn(seed, count=12)
    scores = np.unique(np.append(probabilities[:, 1].astype(np.float64), [0, 1]))
    gaps = list(pairwise(scores.tolist()))
    quality = [round(balance(labels, probabilities, (low + high) / 2), 9) for low, high in gaps]
    best = [gap for gap, value in zip(gaps, quality, strict=True) if value == max(quality)]
    low, high = max(best, key=lambda gap: gap[1] - gap[0])
    assert balanced_threshold(PNEUMONIA, labels, probabilities) == pytest.approx((low + high) / 2)


@pytest.mark.parametrize(
    ("scores", "threshold"), [((0.2, 0.3, 0.6, 0.9), 0.75), ((0.1, 0.5, 0.7, 0.8), 0.3)]
)
def test_of_two_equally_good_gaps_the_wider_one_is_taken(
    scores: tuple[float, ...], threshold: float
) -> None:
    labels, probabilities = truth(0, 1, 0, 1), xrays(*scores)
    assert balanced_threshold(PNEUMONIA, labels, probabilities) == pytest.approx(threshold)


def test_the_threshold_of_classes_far_apart_is_half_way() -> None:
    labels, probabilities = truth(0, 0, 1, 1), xrays(0.125, 0.25, 0.75, 0.875)
    assert balanced_threshold(PNEUMONIA, labels, probabilities) == 0.5


def test_the_threshold_lies_between_0_and_1_even_for_scores_without_information() -> None:
    threshold = balanced_threshold(PNEUMONIA, truth(0, 1), xrays(0.7, 0.7))
    assert threshold is not None
    assert 0 < threshold < 1


def test_the_threshold_does_not_follow_the_larger_class() -> None:
    labels = truth(*[0] * 2, *[1] * 98)
    probabilities = xrays(0.5, 0.6, *np.linspace(0.55, 1, 98))
    threshold = balanced_threshold(PNEUMONIA, labels, probabilities)
    assert threshold is not None
    decided = decide(PNEUMONIA, probabilities, threshold)
    assert decided[:2].tolist() == [0, 0]


def test_a_task_of_many_classes_gets_no_threshold() -> None:
    assert balanced_threshold(SKIN, truth(0), np.full((1, 9), 1 / 9, np.float32)) is None


# Tables


def test_the_confusion_has_the_truth_in_rows() -> None:
    matrix = confusion_matrix(3, [0, 0, 0, 2], truth(0, 1, 1, 0))
    assert matrix.tolist() == [[1, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_two_classes_are_measured_at_the_threshold() -> None:
    labels, probabilities = truth(0, 0, 0, 0, 1), xrays(0.1, 0.2, 0.45, 0.6, 0.5)
    expected: dict[str, Any] = {
        "images": 5,
        "accuracy": 0.6,
        "balanced_accuracy": 0.75,
        "auc": 0.75,
        "sensitivity": {"NORMAL": 0.5, "PNEUMONIA": 1.0},
        "confusion": [[2, 2], [0, 1]],
        "specificity": 0.5,
    }
    assert evaluate(PNEUMONIA, labels, probabilities, 0.4) == expected
    strict = evaluate(PNEUMONIA, labels, probabilities, 0.55)
    assert (strict["specificity"], strict["sensitivity"]["PNEUMONIA"]) == (0.75, 0.0)
    assert strict["auc"] == expected["auc"]


def test_an_absent_class_has_no_sensitivity_and_no_part_in_the_means() -> None:
    labels = truth(0, 0, 3, 3)
    probabilities = np.eye(9, dtype=np.float32)[[0, 4, 3, 3]]
    result = evaluate(SKIN, labels, probabilities, None)
    assert result["accuracy"] == 0.75
    assert result["balanced_accuracy"] == 0.75
    assert result["auc"] == pytest.approx((0.75 + 1.0) / 2)
    present = {"actinic keratosis": 0.5, "melanoma": 1.0}
    assert result["sensitivity"] == {label: present.get(label) for label in SKIN.labels}
    assert "specificity" not in result
    assert np.sum(result["confusion"]) == result["images"] == 4
