"""Which differences between an export and its original pass, and which do not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medkit.comparison import (
    ACCURACY,
    AUC,
    BALANCED_ACCURACY,
    BUDGETS,
    CALIBRATION_ERROR,
    SENSITIVITY,
    Budget,
    Comparison,
    Images,
    Outputs,
    compare,
)
from medkit.decisions import BALANCED, HIGH_SENSITIVITY, OperatingPoint
from medkit.metrics import evaluate
from medkit.tasks import PNEUMONIA, SKIN, Task

Scores = NDArray[np.float32]

LIKELIEST = OperatingPoint(BALANCED)


def both(positive: list[float] | NDArray[Any]) -> Scores:
    """Return the probabilities of both classes."""
    scores = np.asarray(positive, dtype=np.float32)
    return np.stack([1 - scores, scores], axis=1)


def sick_from(threshold: float) -> OperatingPoint:
    """Return the operating point that finds pneumonia from a probability on."""
    return OperatingPoint(BALANCED, "PNEUMONIA", threshold)


def held(
    original: Scores,
    exported: Scores,
    labels: list[int] | NDArray[Any] | None,
    precision: str = "int8",
) -> Comparison:
    """Compare for the two-class task at a threshold of one half."""
    return at(PNEUMONIA, sick_from(0.5), original, exported, labels, precision)


def at(
    task: Task,
    point: OperatingPoint,
    original: Scores,
    exported: Scores,
    labels: list[int] | NDArray[Any] | None,
    precision: str = "int8",
    budget: Budget | None = None,
) -> Comparison:
    """Compare at one operating point of both."""
    truth = None if labels is None else np.asarray(labels, dtype=np.int64)
    images = Images([f"{index}.png" for index in range(len(original))], truth)
    outputs = (Outputs(scores, {BALANCED: point}) for scores in (original, exported))
    return compare(task, ("f", precision, "r"), *outputs, images, budget)


def turned(count: int, wrong: int, right: int = 0) -> tuple[Scores, Scores, NDArray[np.int64]]:
    """Make scores of which the export decides some differently.

    Parameters
    ----------
    count
        Images, half of them of each class; the first four are decided wrongly.
    wrong, right
        Images, rightly and wrongly decided before, that the export turns.

    All scores lie close to the threshold in their order, so that AUC hardly moves.
    """
    labels = np.arange(count) % 2
    sign = np.where(labels == 1, 1.0, -1.0)
    sign[:4] *= -1
    original = 0.5 + sign * (0.001 + np.arange(count) * 1e-6)
    exported = original.copy()
    chosen = [*range(4, 4 + wrong), *range(right)]
    exported[chosen] = 1 - exported[chosen]
    return both(original), both(exported), labels


def broken(count: int, wrong: int, right: int = 0, *, labelled: bool = True) -> set[str]:
    """Return the names of the broken rules."""
    original, exported, labels = turned(count, wrong, right)
    result = held(original, exported, labels if labelled else None)
    return {gate.name for gate in result.gates if gate.message}


# Decisions


@pytest.mark.parametrize(
    ("count", "wrong", "passes"),
    [
        (100, 1, True),
        (100, 2, False),
        (200, 2, True),
        (200, 3, False),
        (300, 3, True),
        (300, 4, False),
        (624, 6, True),
        (624, 7, False),
        (118, 1, True),
        (118, 2, False),
        (10, 1, True),
        (10, 2, False),
    ],
)
def test_accuracy_may_move_by_one_point_or_by_one_image(
    count: int, wrong: int, passes: bool
) -> None:
    assert ("accuracy, change" not in broken(count, wrong)) is passes


def test_accuracy_may_rise_as_far_as_agreement_lets_it() -> None:
    assert not [name for name in broken(100, wrong=0, right=3) if "accuracy" in name]
    assert "agreement" not in broken(100, wrong=0, right=3)
    assert "agreement" in broken(100, wrong=0, right=4)


@pytest.mark.parametrize(
    ("count", "turns", "passes"),
    [
        (100, 3, True),
        (100, 4, False),
        (200, 6, True),
        (200, 7, False),
        (118, 3, True),
        (118, 4, False),
        (20, 1, True),
        (20, 2, False),
    ],
)
def test_at_most_three_images_in_a_hundred_may_be_decided_otherwise(
    count: int, turns: int, passes: bool
) -> None:
    # Half of them for the better, so that the accuracy stays.
    right = turns // 2
    assert ("agreement" not in broken(count, turns - right, right)) is passes
    assert ("agreement" not in broken(count, turns, labelled=False)) is passes


def test_many_flips_that_cancel_out_fail_by_the_bad_end_of_the_interval() -> None:
    """Accuracy stays the same to the image, but nobody could know it from these images."""
    labels = np.arange(400) % 2
    right = np.where(labels == 1, 0.6, 0.4)
    original, exported = right.copy(), right.copy()
    original[:20] = 1 - original[:20]
    exported[20:40] = 1 - exported[20:40]
    result = held(both(original), both(exported), labels)
    assert result.changes[ACCURACY].difference == 0
    names = {gate.name for gate in result.gates if gate.message}
    assert "accuracy, bad end of the interval" in names
    assert "accuracy, change" not in names
    assert (result.worse, result.better, result.mcnemar) == (20, 20, 1.0)


def test_flips_within_the_agreement_that_fall_evenly_pass() -> None:
    assert broken(400, wrong=4, right=4) == set()


def test_one_image_alone_never_breaks_a_rule_of_decisions() -> None:
    for count in (10, 20, 50, 118):
        assert not {
            name for name in broken(count, wrong=1) if not name.startswith(("calib", "AUC"))
        }


def test_a_bad_end_beyond_budget_and_chance_says_so() -> None:
    original, exported, labels = turned(400, wrong=12)
    result = held(original, exported, labels)
    (line,) = [text for text in result.failures if text.startswith("accuracy") and "may be" in text]
    assert "accuracy 0.9900 became 0.9600; by its 95 % interval the loss may be" in line


def test_failures_say_by_how_much() -> None:
    original, exported, labels = turned(100, wrong=5)
    result = held(original, exported, labels)
    assert not result.passed
    assert result.agreement == pytest.approx(0.95)
    assert "agreement 95.00% is below 97% (5 of 100 decided differently)" in result.failures
    assert "accuracy 0.9600 became 0.9100, worse by more than 0.0100" in result.failures


def test_another_budget_may_be_given() -> None:
    original, exported, labels = turned(300, wrong=5)
    point = sick_from(0.5)
    assert not at(PNEUMONIA, point, original, exported, labels).passed
    wider = Budget().with_drop(2)
    assert (wider.accuracy, wider.auc) == (0.02, 0.02)
    assert at(PNEUMONIA, point, original, exported, labels, budget=wider).passed


# Ranking, probabilities, calibration


@pytest.mark.parametrize(("swaps", "passes"), [(100, True), (101, False)])
def test_auc_may_move_by_one_hundredth(swaps: int, passes: bool) -> None:
    # Of 100 times 100 pairs, each step of the one sick image below a healthy one costs a pair.
    healthy = 0.1 + np.arange(100) * 1e-3
    sick = 0.6 + np.arange(100) * 1e-3
    original = np.concatenate([healthy, sick])
    exported = original.copy()
    crossed = min(swaps, 100)
    exported[100] = healthy[100 - crossed] - 5e-4
    if swaps > 100:
        exported[101] = healthy[99] - 5e-4
    labels = np.repeat([0, 1], 100)
    # Decided at a threshold that neither of them crosses.
    result = at(PNEUMONIA, sick_from(0.05), both(original), both(exported), labels)
    assert result.changes[AUC].before == pytest.approx(1)
    assert result.changes[AUC].after == pytest.approx(1 - swaps / 10_000)
    gates = {gate.name: gate.message for gate in result.gates}
    assert (gates["AUC, change"] == "") is passes
    if not passes:
        assert gates["AUC, change"].startswith("AUC 1.0000 became 0.98")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_probabilities_of_float_exports_are_bounded(precision: str) -> None:
    labels = [0, 1, 0, 1] * 5
    original = both([0.1, 0.9, 0.2, 0.8] * 5)
    bound = {"fp32": 1e-4, "fp16": 1e-2, "int8": None}[precision]
    assert BUDGETS[precision].probability == bound
    for share, passes in ((0.9, True), (1.1, bound is None)):
        exported = original.copy()
        exported[0] = both([0.1 + share * (bound or 0.2)])[0]
        result = held(original, exported, labels, precision)
        assert result.passed is passes
        assert result.largest_difference == pytest.approx(share * (bound or 0.2), rel=1e-2)
        if not passes:
            assert result.failures[0].startswith("largest difference")


def test_a_calibration_error_may_fall_but_not_rise() -> None:
    labels = np.arange(200) % 2
    honest = both(np.where(labels == 1, 0.99, 0.01))
    unsure = both(np.where(labels == 1, 0.75, 0.25))
    names = {gate.name for gate in held(honest, unsure, labels).gates if gate.message}
    assert "calibration error, change" in names
    assert held(unsure, honest, labels).passed


def test_a_sensitivity_that_falls_by_more_than_its_budget_fails_though_accuracy_holds() -> None:
    labels = np.zeros(1000, np.int64)
    labels[:100] = 1
    original = np.where(labels == 1, 0.6, 0.4)
    exported = original.copy()
    exported[:5] = 0.4
    result = held(both(original), both(exported), labels)
    names = {gate.name for gate in result.gates if gate.message}
    assert "sensitivity, change" in names
    assert "accuracy, change" not in names
    risen = held(both(exported), both(original), labels)
    assert "sensitivity, change" not in {gate.name for gate in risen.gates if gate.message}


def test_figures_are_those_of_an_evaluation() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 9, 150)
    point = OperatingPoint(BALANCED, "melanoma", 0.2)
    scores = []
    for _ in range(2):
        raw = rng.random((150, 9)) + np.eye(9)[labels]
        scores.append((raw / raw.sum(axis=1, keepdims=True)).astype(np.float32))
    result = at(SKIN, point, scores[0], scores[1], labels)
    for side, probabilities in zip(("before", "after"), scores, strict=True):
        figures = evaluate(SKIN, labels, probabilities, point)
        for name, expected in (
            (ACCURACY, figures["accuracy"]),
            (BALANCED_ACCURACY, figures["balanced_accuracy"]),
            (AUC, figures["auc"]),
            (CALIBRATION_ERROR, figures["calibration_error"]),
            (SENSITIVITY, figures["sensitivity"]["melanoma"]),
        ):
            assert getattr(result.changes[name], side) == pytest.approx(expected, abs=1e-6), name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("labels", [None, [0, 1, 0]])
def test_a_probability_that_is_no_number_fails(
    value: float, side: int, labels: list[int] | None
) -> None:
    scores = [both([0.1, 0.9, 0.2]), both([0.1, 0.9, 0.2])]
    scores[side][1, 1] = value
    result = held(scores[0], scores[1], labels)
    (line,) = result.failures
    assert line.startswith("a probability is not finite")
    assert result.agreement == 0
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["largest_difference"] is None


def test_scores_are_counted_so_that_ties_show() -> None:
    exact = both(np.linspace(0.1, 0.9, 400))
    rounded = both(np.round(np.linspace(0.1, 0.9, 400) * 40) / 40)
    assert held(exact, rounded, None).distinct == (400, 33)


# Without labels, other points, nine classes


def test_without_labels_there_are_decisions_only() -> None:
    original = both([0.1, 0.9, 0.2, 0.8])
    result = held(original, original, None)
    assert result.passed
    assert result.changes == {}
    assert result.mcnemar is None
    assert (result.agreement, result.largest_difference, result.images) == (1, 0, 4)


def test_images_of_one_class_have_no_auc_and_no_sensitivity_of_the_other() -> None:
    result = held(both([0.1, 0.2]), both([0.1, 0.2]), [0, 0])
    assert set(result.changes) == {ACCURACY, BALANCED_ACCURACY, CALIBRATION_ERROR}


def test_the_operating_point_decides_agreement() -> None:
    original, exported = both([0.3, 0.3, 0.9]), both([0.4, 0.4, 0.9])
    assert held(original, exported, None).agreement == 1
    moved = at(PNEUMONIA, sick_from(0.35), original, exported, None)
    assert moved.agreement == pytest.approx(1 / 3)
    healthy = OperatingPoint(BALANCED, "NORMAL", 0.65)
    assert at(PNEUMONIA, healthy, original, exported, None).agreement == pytest.approx(1 / 3)


def test_each_model_decides_by_its_own_operating_point() -> None:
    original, exported = both([0.3, 0.6]), both([0.2, 0.45])
    images = Images(["a", "b"], None)
    own = Outputs(exported, {BALANCED: sick_from(0.4)})
    result = compare(
        PNEUMONIA, ("f", "int8", "r"), Outputs(original, {BALANCED: sick_from(0.5)}), own, images
    )
    assert result.agreement == 1


def test_nine_classes_are_decided_by_the_likeliest_or_by_the_label_of_the_operating_point() -> None:
    original = np.full((45, 9), 0.05, dtype=np.float32)
    original[np.arange(45), np.arange(45) % 9] = 0.6
    labels = np.arange(45) % 9
    assert at(SKIN, LIKELIEST, original, original, labels).passed
    exported = np.roll(original, 1, axis=1)
    result = at(SKIN, LIKELIEST, original, exported, labels)
    assert result.agreement == 0
    names = {gate.name for gate in result.gates if gate.message}
    assert {"agreement", "accuracy, change", "AUC, change", "sensitivity, change"} <= names
    melanoma = OperatingPoint(BALANCED, "melanoma", 0.04)
    assert at(SKIN, melanoma, original, exported, None).agreement == 1


# Other operating points


def at_both_points(
    original: Scores, exported: Scores, labels: Any, threshold: float | None
) -> Comparison:
    """Compare where the export's second point has another threshold, or is missing."""
    second = OperatingPoint(HIGH_SENSITIVITY, "PNEUMONIA", 0.1)
    points = {BALANCED: sick_from(0.5), HIGH_SENSITIVITY: second}
    own = {BALANCED: sick_from(0.5)}
    if threshold is not None:
        own[HIGH_SENSITIVITY] = OperatingPoint(HIGH_SENSITIVITY, "PNEUMONIA", threshold)
    images = Images([str(index) for index in range(len(original))], labels)
    outputs = Outputs(original, points), Outputs(exported, own)
    return compare(PNEUMONIA, ("f", "int8", "r"), *outputs, images)


def test_another_operating_point_that_moved_fails_though_balanced_decides_alike() -> None:
    labels = np.arange(600) % 2
    scores = both(np.where(labels == 1, np.linspace(0.2, 1, 600), np.linspace(0, 0.8, 600)))
    assert at_both_points(scores, scores, labels, 0.1).passed
    moved = at_both_points(scores, scores, labels, 0.9)
    names = {gate.name for gate in moved.gates if gate.message}
    assert {"agreement at high-sensitivity", "sensitivity at high-sensitivity, change"} <= names
    assert moved.agreement == 1


def test_an_operating_point_that_is_missing_fails() -> None:
    scores = both([0.1, 0.9])
    result = at_both_points(scores, scores, np.array([0, 1]), None)
    assert result.failures == ("it has no operating point high-sensitivity",)


def test_a_rare_class_does_not_widen_the_budget_of_others() -> None:
    """One image of a class of three weighs 3.7 points; those that turned are of another class."""
    labels = np.concatenate([np.repeat(np.arange(8), 100), [8, 8, 8]])
    original = np.full((803, 9), 0.05, np.float32)
    original[np.arange(803), labels] = 0.6
    exported = original.copy()
    exported[200:216] = np.roll(exported[200:216], 3, axis=1)
    result = at(SKIN, LIKELIEST, original, exported, labels)
    assert result.changes[BALANCED_ACCURACY].difference == pytest.approx(-0.16 / 9)
    bounds = {gate.name: gate for gate in result.gates}
    assert bounds["balanced accuracy, change"].bound == 0.01
    assert bounds["balanced accuracy, change"].message


# Flips


def test_flips_name_the_file_both_labels_and_both_probabilities() -> None:
    result = held(both([0.1, 0.6, 0.9]), both([0.1, 0.4, 0.9]), [0, 1, 1])
    (flip,) = result.flips
    assert (flip.name, flip.truth, flip.point) == ("1.png", "PNEUMONIA", BALANCED)
    assert (flip.original, flip.export, flip.label) == ("PNEUMONIA", "NORMAL", "PNEUMONIA")
    assert (flip.before, flip.after) == (pytest.approx(0.6), pytest.approx(0.4))


def test_flips_across_another_operating_point_are_listed_under_its_name() -> None:
    scores = both([0.1, 0.32]), both([0.1, 0.28])
    points = {
        BALANCED: sick_from(0.5),
        HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, "PNEUMONIA", 0.3),
    }
    images = Images(["a", "b"], None)
    outputs = (Outputs(found, points) for found in scores)
    result = compare(PNEUMONIA, ("f", "int8", "r"), *outputs, images)
    (flip,) = result.flips
    assert (flip.name, flip.truth, flip.point) == ("b", None, HIGH_SENSITIVITY)
    assert (flip.original, flip.export) == ("PNEUMONIA", "NORMAL")


def test_a_flip_between_other_labels_tells_the_probability_of_the_originals() -> None:
    original = np.full((1, 9), 0.01, np.float32)
    exported = original.copy()
    original[0, 4], exported[0, 5] = 0.9, 0.9
    (flip,) = at(SKIN, OperatingPoint(BALANCED, "melanoma", 0.5), original, exported, [4]).flips
    assert (flip.original, flip.export, flip.label) == (
        "nevus",
        "pigmented benign keratosis",
        "nevus",
    )
    assert (flip.before, flip.after) == (pytest.approx(0.9), pytest.approx(0.01))


def test_what_was_broken_elsewhere_fails_a_comparison() -> None:
    good = held(both([0.1, 0.9]), both([0.1, 0.9]), [0, 1])
    assert good.passed
    bad = good.failing("its first layer computes in float32")
    assert bad.failures == ("its first layer computes in float32",)
    assert not bad.passed
    assert good.failing() == good


def test_moving_images_across_an_edge_of_sureness_is_no_error_of_calibration() -> None:
    labels = np.tile([0, 1], 200)
    before = np.full((400, 2), 0.5, np.float32)
    sure = np.where(np.arange(400) % 4 < 2, 0.799, 0.801)  # on both sides of a bin's edge
    right = np.arange(400) % 5 < 4
    before[np.arange(400), np.where(right, labels, 1 - labels)] = sure
    before[np.arange(400), np.where(right, 1 - labels, labels)] = 1 - sure
    # Those that are wrong fall below the edge, the others rise above it.
    after = before.copy()
    likeliest = before.argmax(axis=1)
    moved = np.where(right, 0.801, 0.799)
    after[np.arange(400), likeliest] = moved
    after[np.arange(400), 1 - likeliest] = 1 - moved
    points = {BALANCED: OperatingPoint(BALANCED)}
    found = compare(
        PNEUMONIA,
        ("a.tflite", "int8", "LiteRT"),
        Outputs(before, points),
        Outputs(after, points),
        Images([str(number) for number in range(400)], labels),
    )
    assert abs(found.changes["calibration error"].difference) < 0.002
    assert not [failure for failure in found.failures if "calibration" in failure]
