"""Decisions of tasks in which an image can have several labels, or none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.errors import ModelFileError, UsageError
from medkit.models.card import ModelCard
from medkit.models.decisions import (
    apply_temperature,
    choose_points,
    decide,
    fit_temperature,
    found_by_points,
    halfway_points,
    marks,
    match_points,
    names_of,
)
from medkit.models.multilabel import unmeasured
from medkit.models.points import OperatingPoint, OperatingPoints
from medkit.models.runtimes.base import check_shapes, finish
from medkit.tasks import PNEUMONIA, SKIN, Task
from multilabels import LUNGS, PAIR

WHERE = Path("model.tflite")

POINT = OperatingPoint(BALANCED, thresholds=(0.2, 0.5, 0.9))


def card(task: Task = LUNGS, points: OperatingPoints | None = None) -> ModelCard:
    points = points or halfway_points(task)
    return ModelCard(task.name, task.labels, task.contract, 2.0, points, "fp32", "1")


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


# Decisions


def test_each_label_is_decided_from_its_own_threshold() -> None:
    scores = np.array([[0.2, 0.49, 0.95], [0.1, 0.1, 0.89], [1, 1, 1]], np.float32)
    decided = decide(LUNGS, scores, POINT)
    assert decided.tolist() == [[True, False, True], [False] * 3, [True] * 3]
    assert names_of(LUNGS, decided) == ["Effusion;No lung", "", "Effusion;Mass;No lung"]
    assert np.array_equal(marks(LUNGS, decided), decided)


def test_labels_of_other_tasks_are_marked_one_an_image() -> None:
    assert marks(SKIN, np.array([8, 0])).tolist() == np.eye(9, dtype=bool)[[8, 0]].tolist()
    assert names_of(PNEUMONIA, np.array([1, 0])) == ["PNEUMONIA", "NORMAL"]


@pytest.mark.parametrize(
    ("task", "point"),
    [
        (LUNGS, OperatingPoint(BALANCED)),
        (PAIR, OperatingPoint(BALANCED, "Mass", 0.5)),
        (PNEUMONIA, OperatingPoint(BALANCED, thresholds=(0.5, 0.5))),
    ],
)
def test_a_point_of_the_other_kind_is_refused(task: Task, point: OperatingPoint) -> None:
    scores = np.full((1, len(task.labels)), 0.5, np.float32)
    with pytest.raises(UsageError, match=f"task {task.name} needs .* threshold"):
        decide(task, scores, point)


# The temperature


def test_a_temperature_divides_the_logit_of_each_label() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 3))
    scaled = apply_temperature(sigmoid(logits), 2.5, multi_label=True)
    assert scaled == pytest.approx(sigmoid(logits / 2.5), abs=1e-5)
    assert apply_temperature(np.full((1, 2), np.nan, np.float32), 2.0, multi_label=True).dtype == (
        np.float32
    )


def test_a_label_that_is_far_from_there_stays_as_far() -> None:
    logits = np.array([[-60.0, -20.0, 12.0]])
    scaled = apply_temperature(sigmoid(logits), 4.0, multi_label=True)
    assert scaled == pytest.approx(sigmoid(logits / 4), rel=1e-3)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_a_temperature_that_was_applied_is_found_again(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 3))
    truth = (rng.random(logits.shape) < sigmoid(logits)).astype(np.int64)
    fitted = fit_temperature(truth, sigmoid(logits * temperature))
    assert fitted == pytest.approx(temperature, rel=0.05)


def test_two_labels_with_two_sigmoids_are_no_two_classes() -> None:
    raw = np.array([[0.9, 0.8]], np.float32)
    given = finish(card(PAIR), raw)
    assert given == pytest.approx(sigmoid(np.log(raw / (1 - raw)) / 2), abs=1e-5)
    shape = [1, *PAIR.contract.shape]
    check_shapes(card(PAIR), WHERE, shape, [1, 2])
    with pytest.raises(ModelFileError, match=r"gives \[1\], but its card promises .* 2 labels"):
        check_shapes(card(PAIR), WHERE, shape, [1, 1])


# Operating points


def drawn(count: int = 400) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    truth = (rng.random((count, 3)) < [0.5, 0.2, 0.1]).astype(np.int64)
    return truth, sigmoid(truth * 3.0 - [0, 2, 4] + rng.normal(0, 1, (count, 3)))


def test_each_label_gets_a_threshold_that_suits_it() -> None:
    truth, scores = drawn()
    points = choose_points(LUNGS, truth, scores)
    assert list(points) == [BALANCED, HIGH_SENSITIVITY]
    balanced, screening = (points[name].thresholds or () for name in points)
    assert balanced[0] > balanced[1] > balanced[2]
    assert all(low <= high for low, high in zip(screening, balanced, strict=True))
    found = decide(LUNGS, scores, points[HIGH_SENSITIVITY])
    sensitivity = (found & (truth == 1)).sum(axis=0) / truth.sum(axis=0)
    assert (sensitivity >= LUNGS.screening_sensitivity).all()
    assert unmeasured(LUNGS, truth) == []


def test_a_label_that_validation_does_not_show_keeps_one_half_and_that_is_said() -> None:
    truth, scores = drawn()
    truth[:, 0], truth[:, 2] = 1, 0
    for point in choose_points(LUNGS, truth, scores).values():
        assert point.thresholds is not None
        assert point.thresholds[0] == point.thresholds[2] == 0.5
        assert point.thresholds[1] != 0.5
    assert unmeasured(LUNGS, truth) == [
        "Effusion: 400 of 400 validation images have it, so its threshold stays 0.5",
        "No lung: 0 of 400 validation images have it, so its threshold stays 0.5",
    ]


def test_thresholds_follow_scores_that_lie_elsewhere_label_by_label() -> None:
    truth, scores = drawn()
    points = choose_points(LUNGS, truth, scores)
    moved = apply_temperature(scores, 1.5, multi_label=True)
    matched = match_points(LUNGS, found_by_points(LUNGS, scores, points), points, moved)
    assert matched != points
    for name in points:
        before, after = decide(LUNGS, scores, points[name]), decide(LUNGS, moved, matched[name])
        assert np.array_equal(before, after)


def test_a_model_without_validation_decides_from_one_half() -> None:
    assert halfway_points(LUNGS)[BALANCED].thresholds == (0.5, 0.5, 0.5)


# What files hold


def test_a_card_holds_the_thresholds_and_is_read_again() -> None:
    made = card(points={BALANCED: POINT})
    stored = json.loads(made.to_json())
    assert stored["operating_points"] == {BALANCED: {"thresholds": [0.2, 0.5, 0.9]}}
    read = ModelCard.from_json(made.to_json(), WHERE)
    assert read == made
    assert read.multi_label
    assert (
        POINT.in_words(LUNGS.labels, 2) == "Effusion from 0.20, Mass from 0.50, No lung from 0.90"
    )


def test_the_card_of_another_task_holds_what_it_held() -> None:
    points = {BALANCED: OperatingPoint(BALANCED, "PNEUMONIA", 0.5)}
    stored = json.loads(card(PNEUMONIA, points).to_json())
    assert stored["operating_points"] == {BALANCED: {"label": "PNEUMONIA", "threshold": 0.5}}


@pytest.mark.parametrize(
    "points",
    [
        {BALANCED: replace(POINT, thresholds=(0.2, 0.5))},
        {BALANCED: replace(POINT, thresholds=(0.2, 0.5, 1.5))},
        {BALANCED: replace(POINT, thresholds=(0.2, 0.5, float("nan")))},
        {BALANCED: replace(POINT, thresholds=())},
        {BALANCED: replace(POINT, label="Mass", threshold=0.5)},
        {BALANCED: POINT, "other": OperatingPoint("other", "Mass", 0.5)},
    ],
)
def test_thresholds_that_cannot_be_obeyed_are_refused(points: OperatingPoints) -> None:
    with pytest.raises(ValueError, match="cannot be obeyed"):
        card(points=points)


def test_a_model_of_the_other_kind_does_not_fit_a_task() -> None:
    with pytest.raises(ModelFileError, match="its kind multi-label differs from that of task"):
        card(LUNGS).check(replace(LUNGS, multi_label=False, alert="Mass"), LUNGS.contract, WHERE)
    card(LUNGS).check(LUNGS, LUNGS.contract, WHERE)
