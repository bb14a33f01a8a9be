"""Figures and comparisons of tasks in which an image can have several labels, or none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score

from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.evaluation.comparison import Comparison, compare
from medkit.evaluation.intervals import auc_variance, mean_auc_interval, redraws
from medkit.evaluation.metrics import evaluate
from medkit.evaluation.multilabel import balanced_interval
from medkit.evaluation.outputs import Images, ModelRun, Outputs
from medkit.models.decisions import decide
from medkit.models.figures import Figures
from medkit.models.points import OperatingPoint
from medkit.tasks import Task
from multilabels import LUNGS, PAIR

POINTS = {
    BALANCED: OperatingPoint(BALANCED, thresholds=(0.5, 0.4, 0.3)),
    HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, thresholds=(0.3, 0.3, 0.2)),
}

Drawn = tuple[NDArray[np.int64], NDArray[np.float32]]


def drawn(count: int = 300, seed: int = 0) -> Drawn:
    rng = np.random.default_rng(seed)
    # What makes an image hard makes all its labels hard.
    truth = (rng.random((count, 3)) < [0.5, 0.3, 0.15]).astype(np.int64)
    hard = rng.normal(0, 0.8, (count, 1))
    logits = 2.5 * truth - [1, 1.2, 2] + hard + rng.normal(0, 0.8, (count, 3))
    return truth, (1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.fixture(scope="module")
def figures() -> Figures:
    return evaluate(LUNGS, *drawn(), POINTS[BALANCED])


def test_figures_are_those_of_scikit_learn_label_by_label(figures: Figures) -> None:
    truth, scores = drawn()
    decided = decide(LUNGS, scores, POINTS[BALANCED])
    for index, label in enumerate(LUNGS.labels):
        there, found = truth[:, index], decided[:, index]
        assert figures.class_auc[label] == pytest.approx(roc_auc_score(there, scores[:, index]))
        assert figures.sensitivity[label] == pytest.approx(recall_score(there, found))
        assert figures.specificity[label] == pytest.approx(recall_score(1 - there, ~found))
        assert figures.images_of(index) == there.sum()
        assert sum(figures.confusion[index]) == len(truth)
    assert figures.auc == pytest.approx(roc_auc_score(truth, scores))
    assert figures.accuracy == pytest.approx((decided == truth).all(axis=1).mean())
    each = [balanced_accuracy_score(*pair) for pair in zip(truth.T, decided.T, strict=True)]
    assert figures.balanced_accuracy == pytest.approx(np.mean(each))
    assert figures.threshold is None
    assert figures.thresholds == dict(zip(LUNGS.labels, (0.5, 0.4, 0.3), strict=True))


def test_calibration_is_of_every_label_of_every_image(figures: Figures) -> None:
    truth, scores = drawn()
    assert sum(entry.images for entry in figures.reliability) == truth.size
    first = figures.reliability[0]
    inside = scores < 0.1
    assert first.confidence == pytest.approx(scores[inside].mean(), abs=1e-6)
    assert first.accuracy == pytest.approx(truth[inside].mean())


def test_intervals_hold_their_figures_and_are_those_of_redrawn_images(figures: Figures) -> None:
    truth, scores = drawn()
    decided = decide(LUNGS, scores, POINTS[BALANCED]).astype(bool)
    draws = list(redraws(truth))
    assert all(len(indices) == len(truth) for indices in draws)
    for found, measured in (
        (
            figures.intervals.auc,
            [roc_auc_score(truth[indices], scores[indices]) for indices in draws[:400]],
        ),
        (
            figures.intervals.balanced_accuracy,
            [balanced_interval(truth[i] == 1, decided[i])[0] for i in draws[:400]],
        ),
    ):
        assert found is not None
        low, high = np.quantile(measured, [0.025, 0.975])
        # No label counts as more images than an AUC, or a share, of its height has.
        assert found[0] <= low + 0.005
        assert found[1] >= high - 0.005
        assert found[1] - found[0] < 1.7 * (high - low)
    columns = {label: label for label in range(3)}
    areas = [roc_auc_score(truth[indices], scores[indices]) for indices in draws]
    assert auc_variance(truth, [scores], columns) ** 0.5 == pytest.approx(np.std(areas), rel=0.1)


def test_the_variance_of_one_label_is_that_of_two_classes() -> None:
    truth, scores = drawn()
    alone = auc_variance(truth[:, 1], [scores], {1: 1})
    assert auc_variance(truth, [scores], {1: 1}) == pytest.approx(alone, rel=1e-9)
    # Labels that share their hard images vary together.
    apart = sum(auc_variance(truth, [scores], {label: label}) for label in range(3)) / 9
    assert auc_variance(truth, [scores], {0: 0, 1: 1, 2: 2}) > 1.1 * apart


def test_a_perfect_label_is_not_known_better_than_its_images_tell() -> None:
    truth = np.tile([[0, 1], [1, 0]], (10, 1))
    low, high = mean_auc_interval(truth, truth.astype(np.float64), {0: 0, 1: 1})
    assert (low, high) == (pytest.approx(0.83, abs=0.03), 1.0)
    value, (low, high) = balanced_interval(truth == 1, truth == 1)
    assert value == pytest.approx(1)
    assert low < 0.9


def test_a_label_that_no_image_has_is_left_out_of_the_means() -> None:
    truth, scores = drawn()
    truth[:, 2] = 0
    found = evaluate(LUNGS, truth, scores, POINTS[BALANCED])
    assert found.class_auc["No lung"] is None
    assert found.sensitivity["No lung"] is None
    known = [found.class_auc[label] for label in LUNGS.labels[:2]]
    assert found.auc == pytest.approx(np.mean([area for area in known if area is not None]))
    nothing = evaluate(LUNGS, np.zeros_like(truth), scores, POINTS[BALANCED])
    assert nothing.auc is None
    assert 0 < nothing.balanced_accuracy < 1


def test_figures_of_other_tasks_are_stored_without_thresholds(figures: Figures) -> None:
    assert figures.to_dict()["thresholds"] == figures.thresholds
    assert "thresholds" not in replace(figures, thresholds=None).to_dict()


# Comparisons


def compared(
    original: NDArray[np.float32],
    export: NDArray[np.float32],
    truth: NDArray[np.int64] | None,
    task: Task = LUNGS,
    precision: str = "int8",
) -> Comparison:
    labels = len(task.labels)
    points = {
        name: replace(point, thresholds=(point.thresholds or ())[:labels])
        for name, point in POINTS.items()
    }
    run = ModelRun("model.tflite", precision, "LiteRT")
    images = Images([f"{number}.png" for number in range(len(original))], truth)
    pair = (Outputs(scores[:, :labels], points) for scores in (original, export))
    return compare(task, run, *pair, images)


def test_the_same_outputs_pass() -> None:
    truth, scores = drawn()
    for precision in ("int8", "fp32"):
        found = compared(scores, scores, truth, precision=precision)
        assert found.passed
        assert found.agreement == 1
        assert {name: change.difference for name, change in found.changes.items()} == (
            dict.fromkeys(found.changes, 0)
        )
        assert len(found.changes) == 5


def test_images_are_decided_alike_if_all_their_labels_are() -> None:
    truth, scores = drawn()
    other = scores.copy()
    other[0], other[1, 0] = 1 - scores[0], 1 - scores[1, 0]
    found = compared(scores, other, None)
    assert found.agreement == pytest.approx(1 - 2 / len(truth))
    at_balanced = [flip for flip in found.flips if flip.point == BALANCED]
    assert {flip.name for flip in at_balanced} == {"0.png", "1.png"}
    (one,) = [flip for flip in at_balanced if flip.name == "1.png"]
    assert one.label == "Effusion"
    assert one.truth is None
    assert ("Effusion" in one.original) != ("Effusion" in one.export)


@pytest.mark.parametrize("task", [LUNGS, PAIR], ids=lambda task: task.name)
def test_a_label_that_got_lost_is_found(task: Task) -> None:
    truth, scores = drawn()
    lost = scores.copy()
    lost[:, 1] = 0.01
    found = compared(scores, lost, truth[:, : len(task.labels)], task)
    failed = " ".join(found.failures)
    assert not found.passed
    for rule in ("agreement", "accuracy", "balanced accuracy", "AUC", "sensitivity"):
        assert rule in failed
    assert found.changes["balanced accuracy"].difference < -0.05


def test_figures_of_a_comparison_are_those_of_the_models() -> None:
    truth, scores = drawn()
    _, noise = drawn(seed=1)
    other = (0.7 * scores + 0.3 * noise).astype(np.float32)
    found = compared(scores, other, truth)
    for name, measured in (
        ("before", evaluate(LUNGS, truth, scores, POINTS[BALANCED])),
        ("after", evaluate(LUNGS, truth, other, POINTS[BALANCED])),
    ):
        known = [value for value in measured.sensitivity.values() if value is not None]
        for figure, value in (
            ("accuracy", measured.accuracy),
            ("balanced accuracy", measured.balanced_accuracy),
            ("AUC", measured.auc),
            ("sensitivity", np.mean(known)),
        ):
            assert getattr(found.changes[figure], name) == pytest.approx(value)
    change = found.changes["AUC"]
    assert change.low < change.difference < change.high


def test_one_label_of_one_image_may_always_turn() -> None:
    truth, scores = drawn(40)
    other = scores.copy()
    decided = decide(LUNGS, scores, POINTS[BALANCED])
    image, label = np.argwhere(decided & (truth == 1))[0]
    other[image, label] = 0.01
    found = compared(scores, other, truth)
    counted = ("agreement", "accuracy", "balanced accuracy", "sensitivity")
    broken = [message for message in found.failures if message.startswith(counted)]
    assert broken == []
    assert (found.worse, found.better) in {(1, 0), (0, 0)}


def test_the_alert_label_is_the_one_whose_sensitivity_counts() -> None:
    truth, scores = drawn()
    lost = scores.copy()
    lost[:, 0] = 0.01  # not the alert label
    found = compared(scores, lost, truth[:, :2], PAIR)
    assert found.changes["sensitivity"].difference == 0
    assert found.changes["balanced accuracy"].difference < -0.05
