"""Labels in another order than the outputs are refused, and others are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from medkit.errors import UsageError
from medkit_exporters.adoption.label_order import check_order

pytest.importorskip("scipy")

LABELS = ("a", "b", "c", "d", "e")


def outputs(truth: NDArray[np.int64], share: float, seed: int = 0) -> NDArray[np.float32]:
    """Return outputs that are right for a share of single-label images, and else drawn."""
    rng = np.random.default_rng(seed)
    found = np.where(rng.random(len(truth)) < share, truth, rng.integers(0, 5, len(truth)))
    return (0.1 + 0.5 * np.eye(5)[found]).astype(np.float32)


TRUTH = np.arange(150) % 5


@pytest.mark.parametrize(
    "order", [(1, 0, 2, 3, 4), (0, 1, 4, 3, 2), (1, 2, 3, 4, 0), (3, 2, 1, 0, 4)]
)
@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_the_true_order_is_told(order: tuple[int, ...], share: float) -> None:
    given = tuple(LABELS[index] for index in order)
    truth = np.argsort(order)[TRUTH]  # an image of "a" counts as that label's place in the file
    found = outputs(TRUTH, share)
    with pytest.raises(UsageError, match=r"another order .*: a, b, c, d, e is right in"):
        check_order(given, truth, found, [found])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_labels_in_order_are_taken_however_bad_the_model_is(share: float, seed: int) -> None:
    found = outputs(TRUTH, share, seed)
    check_order(LABELS, TRUTH, found, [found])


def test_a_model_that_sees_one_label_everywhere_is_not_taken_for_a_wrong_order() -> None:
    found = np.tile(np.array([0.1, 0.6, 0.1, 0.1, 0.1], np.float32), (150, 1))
    check_order(LABELS, TRUTH, found, [found])


def test_a_label_that_is_seen_as_another_one_is_no_wrong_order() -> None:
    found = outputs(np.where(TRUTH == 2, 3, TRUTH), 1.0)
    check_order(LABELS, TRUTH, found, [found])


def test_a_wrong_rule_under_which_labels_change_places_is_no_wrong_order() -> None:
    best, mirrored = outputs(TRUTH, 1.0), outputs(4 - TRUTH, 1.0)
    check_order(LABELS, TRUTH, best, [best, mirrored])


def test_the_true_rule_tells_where_a_wrong_one_is_the_best() -> None:
    plain, turned = outputs(TRUTH * 0, 0.8), outputs((TRUTH + 1) % 5, 1.0)
    with pytest.raises(UsageError, match="e, a, b, c, d is right in 100.0% of 150 images"):
        check_order(LABELS, TRUTH, plain, [plain, turned])


def test_labels_of_a_multi_label_model_that_changed_places_are_told() -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random((200, 5)) < 0.3).astype(np.int64)
    found = np.clip(truth * 0.6 + rng.uniform(0, 0.6, truth.shape), 0, 1).astype(np.float32)
    check_order(LABELS, truth, found, [found])
    swapped = found[:, [0, 3, 2, 1, 4]]
    with pytest.raises(UsageError, match="a, d, c, b, e is right in"):
        check_order(LABELS, truth, swapped, [swapped])


def test_a_few_images_tell_no_order() -> None:
    found = outputs((TRUTH[:15] + 1) % 5, 1.0)
    check_order(LABELS, TRUTH[:15], found, [found])
