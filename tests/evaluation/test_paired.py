"""Differences of two models on the same images, their intervals, and what chance does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("scipy")
sklearn_metrics = pytest.importorskip("sklearn.metrics")

from medkit.evaluation.paired import Change, auc_change, bootstrap_changes, chance, mcnemar  # noqa: E402

RNG = np.random.default_rng(5)


def hits(before: NDArray[Any], after: NDArray[Any]) -> Any:
    """Return what computes the share of right decisions of both models."""
    both = np.stack([before, after]).astype(np.float64)
    return lambda drawn: both[:, drawn].mean(axis=1, keepdims=True)


def binary(scores: NDArray[Any]) -> NDArray[np.float32]:
    return np.stack([1 - scores, scores], axis=1).astype(np.float32)


# Bootstrap


def test_models_that_decide_alike_have_a_change_of_nothing_without_any_spread() -> None:
    right = RNG.random(200) < 0.7
    (change,) = bootstrap_changes(np.zeros(200, np.int64), hits(right, right))
    assert (change.difference, change.low, change.high) == (0, 0, 0)
    assert change.before == change.after == right.mean()


def test_the_interval_of_a_paired_share_is_that_of_the_decisions_that_changed() -> None:
    """Normal approximation: the spread comes from discordant images alone."""
    count, worse, better = 1000, 30, 10
    before = np.ones(count, bool)
    before[:better] = False
    after = np.ones(count, bool)
    after[better : better + worse] = False
    (change,) = bootstrap_changes(np.zeros(count, np.int64), hits(before, after))
    assert change.difference == pytest.approx(-0.02)
    spread = np.sqrt(worse + better - (worse - better) ** 2 / count) / count
    assert change.low == pytest.approx(-0.02 - 1.96 * spread, abs=2e-3)
    assert change.high == pytest.approx(-0.02 + 1.96 * spread, abs=2e-3)


def test_pairing_makes_the_interval_narrower_than_that_of_either_figure() -> None:
    right = RNG.random(400) < 0.6
    after = right.copy()
    after[:4] = ~after[:4]
    (change,) = bootstrap_changes(np.zeros(400, np.int64), hits(right, after))
    assert change.high - change.low < 0.03 < 2 * 1.96 * np.sqrt(0.24 / 400)


def test_several_figures_keep_their_order() -> None:
    def figures(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([[1.0, 5.0], [2.0, 4.0]])

    first, second = bootstrap_changes(np.zeros(9, np.int64), figures)
    assert (first, second) == (Change(1, 2, 1, 1), Change(5, 4, -1, -1))


def test_images_are_redrawn_within_their_class() -> None:
    labels = np.array([0] * 3 + [1] * 50)

    def figures(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        assert (labels[drawn] == 0).sum() == 3
        return np.zeros((2, 1))

    bootstrap_changes(labels, figures)


# AUC


def test_both_aucs_are_those_of_the_roc_curve() -> None:
    labels = RNG.integers(0, 2, 300)
    before = RNG.normal(labels, 1.0)
    after = np.round(before + RNG.normal(0, 0.3, 300), 1)  # with ties
    change = auc_change(labels, binary(before), binary(after), [1])
    for found, scores in ((change.before, before), (change.after, after)):
        expected = sklearn_metrics.roc_auc_score(labels, scores.astype(np.float32))
        assert found == pytest.approx(expected, abs=1e-9)
    assert change.low < change.difference < change.high


def test_against_a_model_without_any_skill_the_interval_has_delongs_variance_of_one_auc() -> None:
    """A constant score has the AUC 0.5 and no spread, so that only the other's is left."""
    labels = RNG.integers(0, 2, 250)
    scores = RNG.normal(labels, 1.2).astype(np.float32)
    change = auc_change(labels, binary(np.zeros(250)), binary(scores), [1])
    sick, healthy = scores[labels == 1], scores[labels == 0]
    pairs = (np.sign(sick[:, None] - healthy) + 1) / 2
    variance = pairs.mean(axis=1).var(ddof=1) / len(sick)
    variance += pairs.mean(axis=0).var(ddof=1) / len(healthy)
    reach = 1.959964 * np.sqrt(variance)
    assert change.before == 0.5
    assert change.low == pytest.approx(pairs.mean() - reach - 0.5, abs=1e-6)
    assert change.high == pytest.approx(pairs.mean() + reach - 0.5, abs=1e-6)


def test_the_mean_auc_of_several_labels_has_the_spread_that_redrawing_images_shows() -> None:
    labels = np.repeat(np.arange(3), 60)
    logits = RNG.normal(0, 1, (180, 3)) + 1.5 * np.eye(3)[labels]
    before = np.exp(logits)
    after = np.exp(logits + RNG.normal(0, 0.5, logits.shape))
    before, after = (x / x.sum(axis=1, keepdims=True) for x in (before, after))
    change = auc_change(labels, before.astype(np.float32), after.astype(np.float32), [0, 1, 2])

    def macro(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        truth = labels[drawn]
        return np.array(
            [
                [np.mean([_area(truth == c, scores[drawn, c]) for c in range(3)])]
                for scores in (before, after)
            ]
        )

    (redrawn,) = bootstrap_changes(labels, macro)
    assert change.difference == pytest.approx(redrawn.difference, abs=1e-6)
    assert change.high - change.low == pytest.approx(redrawn.high - redrawn.low, rel=0.12)


def _area(truth: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """The share of pairs in the right order, ties by half."""
    pairs = scores[truth][:, None] - scores[~truth][None]
    return float((pairs > 0).mean() + (pairs == 0).mean() / 2)


def test_a_class_of_one_image_adds_no_spread() -> None:
    labels = np.array([0, 1, 1, 1])
    scores = binary(np.array([0.1, 0.4, 0.8, 0.9]))
    change = auc_change(labels, scores, scores, [1])
    assert (change.difference, change.low, change.high) == (0, 0, 0)


# McNemar and chance


@pytest.mark.parametrize(
    ("worse", "better", "expected"),
    [(0, 0, 1.0), (5, 0, 0.0625), (0, 5, 0.0625), (3, 3, 1.0), (10, 1, 12 * 2 / 2**11)],
)
def test_mcnemars_exact_test_is_the_toss_of_a_coin(
    worse: int, better: int, expected: float
) -> None:
    assert mcnemar(worse, better) == pytest.approx(expected)


def test_chance_is_how_far_even_flips_spread() -> None:
    """Simulated: of 500 images, one in fifty turns, for the better or for the worse."""
    turns = RNG.random((4000, 500)) < 0.02
    signs = RNG.choice([-1, 1], (4000, 500))
    spread = np.quantile((turns * signs).mean(axis=1), 0.975)
    assert chance(0.02, np.full(500, 1 / 500)) == pytest.approx(spread, rel=0.08)
    assert chance(0.0, np.full(500, 1 / 500)) == 0
