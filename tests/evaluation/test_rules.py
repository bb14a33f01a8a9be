"""Budgets and rules: which differences between an export and its original pass."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from compared import Scores, at, both, held, sick_from
from medkit.defaults import BALANCED
from medkit.evaluation.rules import (
    ACCURACY,
    AUC,
    BALANCED_ACCURACY,
    BUDGETS,
    RULES,
    SAME_FILE,
    SENSITIVITY,
    Budget,
    Rule,
)
from medkit.models.formats import PRECISIONS
from medkit.models.points import OperatingPoint
from medkit.tasks import PNEUMONIA, SKIN

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parity.md"

LIKELIEST = OperatingPoint(BALANCED)


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
    assert "accuracy 0.9900 became 0.9600; by its 95 % interval the change may be -0.0" in line


def test_failures_say_by_how_much() -> None:
    original, exported, labels = turned(100, wrong=5)
    result = held(original, exported, labels)
    assert not result.passed
    assert result.agreement == pytest.approx(0.95)
    assert "agreement 95.00% is below 97% (5 of 100 decided differently)" in result.failures
    assert "accuracy 0.9600 became 0.9100, a change of -0.0500, beyond -0.0100" in result.failures


def test_another_budget_may_be_given() -> None:
    original, exported, labels = turned(300, wrong=5)
    point = sick_from(0.5)
    assert not at(PNEUMONIA, point, original, exported, labels).passed
    wider = Budget().with_drop(2)
    assert (wider.accuracy, wider.auc) == (0.02, 0.02)
    assert at(PNEUMONIA, point, original, exported, labels, budget=wider).passed


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
    assert bounds["balanced accuracy, change"].bound == -0.01
    assert bounds["balanced accuracy, change"].message


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


# What the documentation promises

COLUMNS = {"float32": ("fp32",), "float16": ("fp16",), "integer files": ("int8", "int16", "mixed")}
"""Precisions that a column of the page's tables is for."""


def promised(after: str) -> dict[str, dict[str, float | None]]:
    """Read a table of the page: for each precision, the bound of each row as a plain number.

    Parameters
    ----------
    after
        Text that the table follows.
    """
    lines = PAGE.read_text(encoding="utf-8").partition(after)[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    head, _, *body = rows
    return {
        precision: {row[0]: number(row[column]) for row in body}
        for column, title in enumerate(head)
        if column
        for precision in COLUMNS[title]
    }


def number(cell: str) -> float | None:
    """Return a bound as a plain number: points and per cent are hundredths."""
    if cell == "not bounded":
        return None
    found = re.fullmatch(r"([-+]?[\d.]+)( %| points?)?", cell)
    assert found, cell
    return float(found[1]) / (100 if found[2] else 1)


def test_the_page_promises_the_budgets_of_an_export_against_its_original() -> None:
    page = promised("## What must hold")
    assert page.keys() == BUDGETS.keys()
    for precision, budget in BUDGETS.items():
        assert page[precision] == {
            "largest difference of a probability": budget.probability,
            "accuracy and balanced accuracy, change": -budget.accuracy,
            "AUC, change": -budget.auc,
            "sensitivity, change": -budget.sensitivity,
            "calibration error, change": budget.calibration_error,
            "images decided alike": budget.agreement,
        }


def test_the_page_promises_the_budgets_of_two_runtimes_on_one_file() -> None:
    page = promised("must also agree on the *same* file")
    assert page.keys() == SAME_FILE.keys()
    for precision, budget in SAME_FILE.items():
        assert page[precision] == {
            "largest difference of a probability": budget.probability,
            "images decided alike": budget.agreement,
        }


def test_every_precision_has_its_budgets() -> None:
    assert set(BUDGETS) == set(SAME_FILE) == set(PRECISIONS)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_weights_of_a_rule_are_what_one_image_changes(rule: Rule) -> None:
    """If every image turns, the figure changes by 1."""
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = rule.weights(labels, 2)
    assert weights.shape == labels.shape
    assert weights.sum() == pytest.approx(1)
    assert bool((weights[labels != 2] == 0).all()) is (rule.figure == SENSITIVITY)


def test_two_runtimes_may_differ_less_than_an_export_and_its_original() -> None:
    for precision, same in SAME_FILE.items():
        assert same.agreement > BUDGETS[precision].agreement
