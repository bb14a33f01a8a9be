"""Equalisation: the same network to a user, an easier one to 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

keras = pytest.importorskip("keras")

from exporters.networks import residual_network  # noqa: E402
from medkit_exporters.quantize.equalise import equalise  # noqa: E402

layers = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)


def spread(model: Any, layer: str) -> float:
    """How many times more a tensor's strongest channel reaches than its weakest."""
    probe = keras.Model(model.input, model.get_layer(layer).output)
    peaks = np.asarray(probe(IMAGES, training=False)).max(axis=(0, 1, 2))
    return float(peaks.max() / peaks.min())


def outputs(model: Any) -> NDArray[np.float32]:
    return np.asarray(model(IMAGES, training=False))


def test_the_outputs_stay() -> None:
    model = residual_network()
    np.testing.assert_allclose(outputs(equalise(model, IMAGES).model), outputs(model), atol=2e-6)


def test_the_given_network_is_left_as_it_was() -> None:
    model = residual_network()
    before = [weights.copy() for weights in model.get_weights()]
    equalise(model, IMAGES)
    for weights, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, old)


@pytest.mark.parametrize("layer", ["stem_relu", "inner_relu", "sum_relu"])
def test_channels_of_every_kind_of_tensor_come_nearer_to_each_other(layer: str) -> None:
    model = residual_network()
    assert spread(equalise(model, IMAGES).model, layer) < 0.5 * spread(model, layer)


def test_what_leaves_the_network_keeps_its_scale() -> None:
    model = residual_network(ending="features")
    changed = equalise(model, IMAGES).model
    np.testing.assert_allclose(outputs(changed), outputs(model), rtol=1e-4)
    # Only the inner tensor is free there: the sum is what the network gives.
    assert spread(changed, "inner_relu") < 0.5 * spread(model, "inner_relu")
    assert spread(changed, "sum_relu") == pytest.approx(spread(model, "sum_relu"), rel=1e-4)


@pytest.mark.parametrize(
    "rectifier",
    [
        layers.ReLU(max_value=6.0),
        layers.ReLU(negative_slope=0.1),
        layers.Activation("tanh"),
        layers.Activation("sigmoid"),
    ],
    ids=["capped", "leaky", "tanh", "sigmoid"],
)
def test_channels_through_anything_but_a_plain_relu_are_left_alone(rectifier: Any) -> None:
    pixels = keras.Input((16, 16, 3), dtype="uint8")
    x = layers.Rescaling(1 / 128)(pixels)
    x = rectifier(layers.Conv2D(8, 3)(x))
    x = layers.Conv2D(4, 3)(x)
    model = keras.Model(pixels, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    changed = equalise(model, IMAGES).model
    np.testing.assert_allclose(outputs(changed), outputs(model), atol=1e-5)
    for weights, old in zip(changed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, old)


def test_a_channel_that_never_fires_does_not_break_the_others() -> None:
    model = residual_network()
    kernel, bias = model.get_layer("inner").get_weights()
    kernel[..., 3], bias[3] = 0, -1
    model.get_layer("inner").set_weights([kernel, bias])
    changed = equalise(model, IMAGES).model
    assert all(np.isfinite(weights).all() for weights in changed.get_weights())
    np.testing.assert_allclose(outputs(changed), outputs(model), atol=2e-6)


def test_a_network_without_a_free_channel_is_copied_as_it_is() -> None:
    pixels = keras.Input((16, 16, 3), dtype="uint8")
    x = layers.Rescaling(1 / 128)(pixels)
    model = keras.Model(pixels, layers.Dense(2)(layers.Flatten()(layers.ReLU()(x))))
    np.testing.assert_array_equal(outputs(equalise(model, IMAGES).model), outputs(model))
