"""The figures that go into manifests and gates, against ones computed by hand or by brute force."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict, astuple
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medkit.defaults import BALANCED
from medkit.errors import MedkitError, MissingExtraError
from medkit.evaluation.intervals import (
    auc_interval,
    mean_auc_interval,
    mean_share_interval,
    share_interval,
)
from medkit.evaluation.metrics import (
    area_under_curve,
    calibration_error,
    class_areas,
    evaluate,
    evaluate_points,
    reliability_bins,
)
from medkit.models.figures import Figures
from medkit.models.points import OperatingPoint
from medkit.records import read_record
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task

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


def sick_from(threshold: float) -> OperatingPoint:
    return OperatingPoint("careful", "PNEUMONIA", threshold)


LIKELIEST = OperatingPoint(BALANCED)


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
        evaluate(PNEUMONIA, truth(0, 1), xrays(0.1, value), LIKELIEST)


def test_each_of_many_labels_has_its_area_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 3, 4], 50)
    probabilities = rng.dirichlet(np.ones(9), 50).astype(np.float32)
    areas = class_areas(SKIN, labels, probabilities)
    assert list(areas) == list(SKIN.labels)
    for index, (label, area) in enumerate(areas.items()):
        if index in (0, 3, 4):
            column = probabilities[:, index]
            expected = pairwise_auc(column[labels == index], column[labels != index])
            assert area == pytest.approx(expected), label
        else:
            assert area is None, label


def test_of_two_labels_only_the_positive_one_has_an_area() -> None:
    probabilities = xrays(0.1, 0.4, 0.35, 0.8)
    assert class_areas(PNEUMONIA, truth(0, 0, 1, 1), probabilities) == {"PNEUMONIA": 0.75}
    assert class_areas(PNEUMONIA, truth(1, 1, 1, 1), probabilities) == {"PNEUMONIA": None}


def test_an_area_without_scikit_learn_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    told = r'scikit-learn is needed to compute the AUC .*"medkit-edge\[evaluate\]"'
    with pytest.raises(MissingExtraError, match=told):
        class_areas(PNEUMONIA, truth(0, 1), xrays(0.1, 0.9))
    with pytest.raises(MissingExtraError, match=told):
        evaluate(PNEUMONIA, truth(0, 1), xrays(0.1, 0.9), LIKELIEST)


def test_an_area_asks_for_no_network_library() -> None:
    code = (
        "import sys, numpy as np\n"
        "from medkit.evaluation.metrics import area_under_curve\n"
        "from medkit.tasks import PNEUMONIA\n"
        "scores = np.float32([[0.9, 0.1], [0.2, 0.8]])\n"
        "assert area_under_curve(PNEUMONIA, np.array([0, 1]), scores) == 1\n"
        "print(sorted({'tensorflow', 'keras', 'onnx'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Calibration


def test_sureness_is_held_against_being_right_bin_by_bin() -> None:
    # The likeliest label of the last image is NORMAL, as of all whose labels are equally likely.
    labels, probabilities = truth(0, 0, 0, 0, 1), xrays(0.0625, 0.125, 0.4375, 0.625, 0.5)
    bins = reliability_bins(labels, probabilities)
    assert [astuple(entry) for entry in bins] == [
        (0.5, 0.6, 2, 0.53125, 0.5),
        (0.6, 0.7, 1, 0.625, 0.0),
        (0.8, 0.9, 1, 0.875, 1.0),
        (0.9, 1.0, 1, 0.9375, 1.0),
    ]
    assert list(asdict(bins[0])) == ["lower", "upper", "images", "confidence", "accuracy"]
    # Both images of the first bin count: 2 * 0.03125, 0.625, 0.125 and 0.0625 over 5.
    assert calibration_error(bins) == pytest.approx(0.175)


def test_full_sureness_belongs_to_the_last_bin() -> None:
    (entry,) = reliability_bins(truth(1, 0), xrays(1.0, 1.0))
    assert (entry.lower, entry.upper, entry.images) == (0.9, 1.0, 2)
    assert calibration_error([entry]) == 0.5


def test_bins_are_of_the_likeliest_of_many_labels() -> None:
    probabilities = np.full((4, 9), 0.0625, np.float32)
    probabilities[np.arange(4), [0, 3, 3, 8]] = 0.5
    (entry,) = reliability_bins(truth(0, 3, 4, 8), probabilities)
    assert (entry.lower, entry.images) == (0.5, 4)
    assert (entry.confidence, entry.accuracy) == (0.5, 0.75)


@pytest.mark.parametrize(("sharpened", "expected"), [(1.0, 0.0), (2.0, np.log(2) / 2 - 0.25)])
def test_the_calibration_error_is_the_distance_of_sureness_and_truth(
    sharpened: float, expected: float
) -> None:
    # Sharpened, p becomes p² / (p² + (1 - p)²), by log(2) / 2 - 1/4 too sure on the mean.
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, 50_000)
    labels = (rng.random(50_000) < scores).astype(np.int64)
    odds = (scores / (1 - scores)) ** sharpened
    probabilities = xrays(*(odds / (1 + odds)))
    said, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    found = calibration_error(reliability_bins(labels, probabilities))
    assert found == pytest.approx(expected, abs=0.01)
    assert found == pytest.approx(abs(said.mean() - right.mean()), abs=0.01)


# Tables


def test_the_confusion_has_the_truth_in_rows() -> None:
    probabilities = np.eye(9, dtype=np.float32)[[0, 1, 1, 0]]
    result = evaluate(SKIN, truth(0, 0, 0, 2), probabilities, LIKELIEST)
    rest = (0,) * 6
    assert result.confusion == ((1, 2, 0, *rest), (0, 0, 0, *rest), (1, 0, 0, *rest)) + (
        ((0,) * 9,) * 6
    )


def test_two_classes_are_measured_at_the_operating_point() -> None:
    labels, probabilities = truth(0, 0, 0, 0, 1), xrays(0.0625, 0.125, 0.4375, 0.625, 0.5)
    expected: dict[str, Any] = {
        "images": 5,
        "operating_point": "careful",
        "threshold": 0.4,
        "accuracy": 0.6,
        "balanced_accuracy": 0.75,
        "auc": 0.75,
        "calibration_error": pytest.approx(0.175),
        "sensitivity": {"NORMAL": 0.5, "PNEUMONIA": 1.0},
        "specificity": {"NORMAL": 1.0, "PNEUMONIA": 0.5},
        "class_auc": {"PNEUMONIA": 0.75},
        "confusion": ((2, 2), (0, 1)),
        "reliability": tuple(asdict(each) for each in reliability_bins(labels, probabilities)),
    }
    result = evaluate(PNEUMONIA, labels, probabilities, sick_from(0.4))
    found = result.to_dict()
    assert found.pop("intervals")
    assert found == expected
    strict = evaluate(PNEUMONIA, labels, probabilities, sick_from(0.55))
    assert strict.specificity == {"NORMAL": 0.0, "PNEUMONIA": 0.75}
    assert strict.sensitivity == {"NORMAL": 0.75, "PNEUMONIA": 0.0}
    for name in ("auc", "class_auc", "calibration_error", "reliability"):
        assert getattr(strict, name) == getattr(result, name), "no matter of decisions"


def test_an_absent_class_has_no_sensitivity_and_no_part_in_the_means() -> None:
    labels = truth(0, 0, 3, 3)
    probabilities = np.eye(9, dtype=np.float32)[[0, 4, 3, 3]]
    result = evaluate(SKIN, labels, probabilities, LIKELIEST)
    assert (result.operating_point, result.threshold) == (BALANCED, None)
    assert result.accuracy == 0.75
    assert result.balanced_accuracy == 0.75
    assert result.auc == pytest.approx((0.75 + 1.0) / 2)
    present = {"actinic keratosis": 0.5, "melanoma": 1.0}
    assert result.sensitivity == {label: present.get(label) for label in SKIN.labels}
    assert result.class_auc == {
        label: {"actinic keratosis": 0.75, "melanoma": 1.0}.get(label) for label in SKIN.labels
    }
    assert result.specificity == {label: 0.75 if label == "nevus" else 1.0 for label in SKIN.labels}
    assert np.sum(result.confusion) == result.images == 4
    for label in SKIN.labels:
        assert (result.intervals.sensitivity[label] is None) is (label not in present)
        assert result.intervals.specificity[label] is not None


@pytest.mark.parametrize(("task", "classes"), [(PNEUMONIA, 2), (SKIN, 9)], ids=TASKS)
@pytest.mark.parametrize("label", [0, 1])
def test_images_of_one_class_have_every_figure_but_those_that_need_two(
    task: Task, classes: int, label: int
) -> None:
    probabilities = np.eye(classes, dtype=np.float32)[[label, label, 1 - label]]
    result = evaluate(task, truth(*[label] * 3), probabilities, LIKELIEST)
    assert result.accuracy == result.balanced_accuracy == pytest.approx(2 / 3)
    assert result.auc is result.intervals.auc is None
    assert set(result.class_auc.values()) == {None}
    assert result.specificity[task.labels[label]] is None
    assert result.intervals.specificity[task.labels[label]] is None
    assert result.specificity[task.labels[1 - label]] == pytest.approx(2 / 3)


def test_every_operating_point_is_measured_by_its_name() -> None:
    labels, probabilities = drawn(0)
    points = {BALANCED: OperatingPoint(BALANCED), "careful": sick_from(0.2)}
    results = evaluate_points(PNEUMONIA, labels, probabilities, points)
    assert list(results) == [BALANCED, "careful"]
    for name, result in results.items():
        assert result == evaluate(PNEUMONIA, labels, probabilities, points[name])
    assert results[BALANCED].confusion != results["careful"].confusion


# Intervals


def nine_classes(count: int = 90) -> tuple[Labels, Floats]:
    """Draw labels of three of nine classes, and probabilities that know something of them."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 3, 4], count)
    logits = rng.normal(0, 1, (count, 9)) + 1.5 * np.eye(9)[labels]
    powers = np.exp(np.round(logits, 1))
    return labels, (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_share_has_an_interval_that_holds_it(task: Task) -> None:
    labels, probabilities = drawn(0) if task.binary else nine_classes()
    result = evaluate(task, labels, probabilities, LIKELIEST)
    intervals = asdict(result.intervals)
    single = ("accuracy", "balanced_accuracy", "auc", "calibration_error")
    assert set(intervals) == {*single, "sensitivity", "specificity"}
    pairs = [(getattr(result, name), intervals[name]) for name in single]
    for name in ("sensitivity", "specificity"):
        assert list(intervals[name]) == list(task.labels)
        pairs += [(getattr(result, name)[label], intervals[name][label]) for label in task.labels]
    known = [(value, ends) for value, ends in pairs if value is not None]
    assert len(known) == 4 + (4 if task.binary else 3 + 9)
    for value, (low, high) in known:
        assert 0 <= low <= value <= high <= 1
        assert low < high


def test_shares_have_wilsons_intervals_of_their_counts() -> None:
    labels, probabilities = truth(0, 0, 0, 0, 1), xrays(0.1, 0.2, 0.45, 0.6, 0.5)
    intervals = evaluate(PNEUMONIA, labels, probabilities, sick_from(0.4)).intervals
    assert intervals.accuracy == pytest.approx(share_interval(3, 5))
    assert intervals.sensitivity["NORMAL"] == pytest.approx(share_interval(2, 4))
    assert intervals.sensitivity["PNEUMONIA"] == pytest.approx(share_interval(1, 1))
    assert intervals.specificity["NORMAL"] == pytest.approx(share_interval(1, 1))
    assert intervals.specificity["PNEUMONIA"] == pytest.approx(share_interval(2, 4))


def test_the_area_of_two_classes_has_delongs_interval() -> None:
    labels, probabilities = drawn(0)
    found = evaluate(PNEUMONIA, labels, probabilities, LIKELIEST).intervals.auc
    scores = probabilities[:, 1].astype(np.float64)
    assert found == pytest.approx(auc_interval(labels == 1, scores))


def test_means_over_classes_are_means_of_the_classes_that_have_images() -> None:
    labels, probabilities = nine_classes()
    found = evaluate(SKIN, labels, probabilities, LIKELIEST).intervals
    decided = probabilities.argmax(axis=1)

    present = [0, 3, 4]
    groups = [(decided == labels)[labels == label] for label in present]
    counts = [(int(group.sum()), len(group)) for group in groups]
    assert found.balanced_accuracy == pytest.approx(mean_share_interval(counts))
    columns = {label: label for label in present}
    scores = probabilities.astype(np.float64)
    assert found.auc == pytest.approx(mean_auc_interval(labels, scores, columns))


@pytest.mark.parametrize("sizes", [(2, 3), (11, 100)])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_images_that_are_all_right_leave_a_doubt_about_every_figure(
    task: Task, sizes: tuple[int, int]
) -> None:
    labels = np.repeat([0, 1], sizes)
    probabilities = np.full((sum(sizes), len(task.labels)), 0.01 / (len(task.labels) - 1))
    probabilities[np.arange(len(labels)), labels] = 0.99
    found = evaluate(task, labels, probabilities.astype(np.float32), LIKELIEST)
    assert (found.accuracy, found.balanced_accuracy, found.auc) == (1, 1, 1)
    intervals = found.intervals
    for low, high in (intervals.accuracy, intervals.balanced_accuracy, intervals.auc):
        assert 0 < low < 0.999
        assert high == pytest.approx(1)
    low, high = intervals.calibration_error
    assert low < high


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_results_survive_json(task: Task) -> None:
    labels, probabilities = drawn(0) if task.binary else nine_classes()
    result = evaluate(task, labels, probabilities, LIKELIEST)
    stored = json.loads(json.dumps(asdict(result), allow_nan=False))
    assert read_record(Figures, stored) == result
