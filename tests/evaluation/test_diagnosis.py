"""Causes that are tried out, and those that must not be named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("keras")

from medkit.evaluation.diagnosis import diagnose
from medkit.evaluation.outputs import Outputs
from medkit.models.runtimes.base import predict_all
from medkit.models.runtimes.loading import load_model
from medkit.tasks import SKIN

Made = NDArray[np.uint8]


class Pretender:
    """A model that computes what it is told to."""

    path, runtime = Path("pretender.tflite"), "none"

    def __init__(self, honest: Any, compute: Any) -> None:
        self.card, self._compute = honest.card, compute

    def predict(self, images: Made) -> Any:
        return self._compute(images)


@pytest.fixture(scope="module")
def honest(pooled_models: Path) -> Any:
    return load_model(pooled_models / "skin/model.keras")


def pictures(count: int = 40) -> Made:
    rng = np.random.default_rng(1)
    means = rng.uniform(0, 255, (count, 1, 1, 3))
    noise = rng.normal(0, 10, (count, *SKIN.contract.shape))
    return (means + noise).clip(0, 255).astype(np.uint8)


def causes(honest: Any, compute: Any, images: Made | None = None) -> list[str]:
    images = pictures() if images is None else images
    original = Outputs(predict_all(honest, images), honest.card.operating_points)
    return diagnose(SKIN, Pretender(honest, compute), honest, images, original)


def test_swapped_channels_are_told_from_moved_labels(honest: Any) -> None:
    (line,) = causes(honest, lambda images: honest.predict(images[..., ::-1]))
    assert "red and blue are swapped" in line
    order = [1, 0, *range(2, 9)]
    (line,) = causes(honest, lambda images: honest.predict(images)[:, order])
    assert "labels actinic keratosis, basal cell carcinoma are moved" in line


def test_only_the_nearest_scaling_is_named(honest: Any) -> None:
    for factor, offset, name in ((1 / 255, 0.0, "divided by 255"), (-1.0, 255.0, "inverted")):

        def scaled(images: Made, factor: float = factor, offset: float = offset) -> Any:
            raw = honest.predict_floats((images * factor + offset).astype(np.float32))
            powers = raw ** (1 / honest.card.temperature)
            return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

        lines = [line for line in causes(honest, scaled) if "pixels that were" in line]
        assert len(lines) == 1
        assert name in lines[0]


def test_random_and_constant_answers_have_no_cause_but_that_they_ignore_the_image(
    honest: Any,
) -> None:
    rng = np.random.default_rng(3)
    noise = rng.dirichlet(np.ones(9), 100).astype(np.float32)
    assert causes(honest, lambda images: noise[: len(images)]) == []
    certain = np.eye(9, dtype=np.float32)[[4]]
    (line,) = causes(honest, lambda images: np.repeat(certain, len(images), axis=0))
    assert "hardly depends on the image" in line


def test_of_few_images_and_of_no_numbers_nothing_is_concluded(honest: Any) -> None:
    swapped = lambda images: honest.predict(images[..., ::-1])  # noqa: E731
    assert causes(honest, swapped, pictures(9)) == []
    assert causes(honest, lambda images: np.full((len(images), 9), np.nan, np.float32)) == []
