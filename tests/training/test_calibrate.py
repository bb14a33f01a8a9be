"""Temperature and operating points, as a run fits them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("keras")

from medkit.datasets.sampling import load_tensors
from medkit.models.bundle import load_bundle
from medkit.models.recipe import Augmentation
from medkit.tasks import PNEUMONIA
from medkit.training.calibrate import changed_views, fit_rules
from trainingruns import keras_probabilities, splits_of


def test_temperature_and_points_are_fitted_to_validation_images_and_to_changed_copies(
    tiny_trained: Path, tiny_xrays: Path
) -> None:
    bundle = load_bundle(PNEUMONIA, tiny_trained)
    images, labels = load_tensors(
        PNEUMONIA, splits_of(tiny_xrays)["validation"], PNEUMONIA.contract
    )
    together = changed_views(
        images, Augmentation(rotation=5, flip_horizontal=True, noise=4, erase=0.2), 0
    )

    def predict(views: NDArray[np.uint8]) -> Any:
        return keras_probabilities(tiny_trained / "pneumonia/model.keras", views)

    temperature, points = fit_rules(PNEUMONIA, labels, predict, together)
    assert temperature == bundle.temperature
    assert points == bundle.operating_points
    assert len(together) == 5 * len(images)
    np.testing.assert_array_equal(together[: len(images)], images)
    assert all((copy != images).any() for copy in np.split(together, 5)[1:])
