"""Normalisation folded into the first convolution: the same outputs, borders included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

keras = pytest.importorskip("keras")

from medkit_exporters.quantize.fold import MarkInside, fold_rescaling  # noqa: E402

layers = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)
MEANS = [-123.68, -116.779, -103.939]


def network(*before: Any, **options: Any) -> Any:
    """Build a network that begins with the given layers and a convolution."""
    keras.utils.set_random_seed(4)
    x = pixels = keras.Input((12, 12, 3), dtype="uint8")
    for layer in before:
        x = layer(x)
    x = layers.Conv2D(5, 3, name="first", **options)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(pixels, layers.Dense(2)(layers.Flatten()(x)))


def outputs(model: Any) -> NDArray[np.float32]:
    return np.asarray(model(IMAGES, training=False))


@pytest.mark.parametrize(
    ("before", "options"),
    [
        ((layers.Rescaling(1.0, MEANS),), {"padding": "same"}),
        ((layers.Rescaling(1.0, MEANS), layers.ZeroPadding2D(2)), {"strides": 2}),
        ((layers.Rescaling(1.0, -123.0), layers.Rescaling(1 / 60)), {"padding": "same"}),
        ((layers.Rescaling(1 / 127.5, -1.0),), {"use_bias": False}),
    ],
    ids=["means by channel", "explicit padding", "two steps", "no bias"],
)
def test_the_outputs_stay_at_the_borders_too(before: Any, options: Any) -> None:
    model = network(*before, **options)
    folded = fold_rescaling(model).model
    np.testing.assert_allclose(outputs(folded), outputs(model), rtol=1e-4, atol=1e-3)
    assert not any(isinstance(layer, layers.Rescaling) for layer in folded.layers)
    assert folded.get_layer("first").get_weights()[0].shape == (3, 3, 4, 5)


def test_pixels_reach_the_convolution_as_they_are() -> None:
    folded = fold_rescaling(network(layers.Rescaling(1.0, MEANS), padding="same")).model
    seen = keras.Model(folded.input, folded.get_layer("first").input)
    taken = np.asarray(seen(IMAGES))
    np.testing.assert_array_equal(taken[..., :3], IMAGES)
    np.testing.assert_array_equal(taken[..., 3], 255)


@pytest.mark.parametrize(
    "before",
    [
        (),
        (layers.ZeroPadding2D(1), layers.Rescaling(1.0, -5.0)),
        (layers.Rescaling(1 / 255), layers.AveragePooling2D(2)),
    ],
    ids=["no rescaling", "padding before it", "another layer between"],
)
def test_what_cannot_be_folded_is_left_as_it_is(before: Any) -> None:
    model = network(*before)
    assert fold_rescaling(model).model is model


def test_the_given_network_is_left_as_it_was() -> None:
    model = network(layers.Rescaling(1.0, MEANS))
    before = [weights.copy() for weights in model.get_weights()]
    fold_rescaling(model)
    assert not any(isinstance(layer, MarkInside) for layer in model.layers)
    for weights, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, old)
