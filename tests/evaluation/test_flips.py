"""Flips: the images that are decided differently, with both labels and both probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from compared import at, both, held, sick_from
from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.evaluation.comparison import compare
from medkit.evaluation.outputs import Images, ModelRun, Outputs
from medkit.models.points import OperatingPoint
from medkit.tasks import PNEUMONIA, SKIN


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
    result = compare(PNEUMONIA, ModelRun("f", "int8", "r"), *outputs, images)
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
