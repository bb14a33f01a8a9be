from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from medkit_exporters.adoption.normalisation import Step, taken_by
from medkit_exporters.adoption.pixels import PIXEL_RULES

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def steps(*each: tuple[str, Sequence[float]]) -> list[Step]:
    return [Step(kind, np.array(values)) for kind, values in each]


@pytest.mark.parametrize(
    ("each", "name"),
    [
        (steps(("mul", [1 / 255])), "0..255"),
        (steps(("div", [127.5]), ("sub", [1.0])), "0..255"),
        (steps(("mul", [1 / 255]), ("sub", MEAN), ("div", DEVIATION)), "0..255"),
        (steps(("sub", [103.939, 116.779, 123.68])), "0..255"),
        (steps(("sub", MEAN), ("div", DEVIATION)), "0..1"),
        (steps(("mul", [2.0]), ("add", [-1.0])), "0..1"),
        (steps(("mul", [255.0])), "0..1"),
    ],
)
def test_known_normalisations_tell_what_they_take(each: list[Step], name: str) -> None:
    assert taken_by(each, 3) == PIXEL_RULES[name]


@pytest.mark.parametrize(
    "each",
    [
        [],
        steps(("mul", [1.0])),
        steps(("mul", [0.7]), ("add", [0.1])),  # a batch normalisation of unknown numbers
        steps(("add", [3.0])),
        steps(("mul", [1 / 255, 1 / 255])),
        steps(("div", [0.0])),
        [Step("div", np.array([255.0]), data_first=False)],
    ],
)
def test_others_tell_nothing(each: list[Step]) -> None:
    assert taken_by(each, 3) is None
