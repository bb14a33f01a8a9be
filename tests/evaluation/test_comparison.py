"""Comparisons of an export and its original: figures, agreement and operating points."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

from compared import Scores, at, both, held, sick_from
from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.errors import MissingExtraError
from medkit.evaluation.comparison import Comparison, compare
from medkit.evaluation.metrics import evaluate
from medkit.evaluation.outputs import Images, ModelRun, Outputs
from medkit.evaluation.rules import (
    ACCURACY,
    AUC,
    BALANCED_ACCURACY,
    CALIBRATION_ERROR,
    SENSITIVITY,
)
from medkit.models.points import OperatingPoint
from medkit.tasks import PNEUMONIA, SKIN

LIKELIEST = OperatingPoint(BALANCED)


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
            (ACCURACY, figures.accuracy),
            (BALANCED_ACCURACY, figures.balanced_accuracy),
            (AUC, figures.auc),
            (CALIBRATION_ERROR, figures.calibration_error),
            (SENSITIVITY, figures.sensitivity["melanoma"]),
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
        PNEUMONIA,
        ModelRun("f", "int8", "r"),
        Outputs(original, {BALANCED: sick_from(0.5)}),
        own,
        images,
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
    return compare(PNEUMONIA, ModelRun("f", "int8", "r"), *outputs, images)


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


def test_what_was_broken_elsewhere_fails_a_comparison() -> None:
    good = held(both([0.1, 0.9]), both([0.1, 0.9]), [0, 1])
    assert good.passed
    bad = good.failing("its first layer computes in float32")
    assert bad.failures == ("its first layer computes in float32",)
    assert not bad.passed
    assert good.failing() == good


def test_moving_images_across_an_edge_of_confidence_is_no_error_of_calibration() -> None:
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
        ModelRun("a.tflite", "int8", "LiteRT"),
        Outputs(before, points),
        Outputs(after, points),
        Images([str(number) for number in range(400)], labels),
    )
    assert abs(found.changes["calibration error"].difference) < 0.002
    assert not [failure for failure in found.failures if "calibration" in failure]


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r'scipy is needed .*"medkit-edge\[evaluate\]"'):
        held(both([0.1, 0.9]), both([0.1, 0.9]), None)
