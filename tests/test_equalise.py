"""Equalisation: the same network to a user, an easier one to 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

keras = pytest.importorskip("keras")

from medkit_exporters.equalise import best_top, cap_activations, equalise  # noqa: E402

layers = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)


def residual_network(ending: str = "dense") -> Any:
    """A small residual network whose channels differ in strength by a thousand."""
    keras.utils.set_random_seed(1)
    pixels = keras.Input((16, 16, 3), dtype="uint8")
    x = layers.Rescaling(1 / 128, -1.0)(pixels)
    stem = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(stem))
    x = layers.MaxPooling2D()(layers.ZeroPadding2D()(x))
    inner = layers.Conv2D(12, 1, name="inner")(x)
    inner = layers.Activation("relu", name="inner_relu")(inner)
    inner = layers.Conv2D(8, 3, padding="same", name="outer")(inner)
    x = layers.ReLU(name="sum_relu")(layers.Add()([x, inner]))
    x = layers.GlobalAveragePooling2D()(x)
    if ending == "dense":
        x = layers.Dropout(0.5)(x)
        x = layers.Dense(3, activation="softmax", name="head")(x)
    model = keras.Model(pixels, x)
    rng = np.random.default_rng(2)
    norm = model.get_layer("stem_norm")
    strength = np.geomspace(1, 1000, 8).astype(np.float32)
    norm.set_weights([strength, 0.1 * strength, np.zeros(8), np.ones(8)])
    kernel, bias = model.get_layer("inner").get_weights()
    spread = np.geomspace(0.01, 10, 12).astype(np.float32)
    kernel = kernel / strength[:, np.newaxis] * spread
    model.get_layer("inner").set_weights([kernel, bias + rng.uniform(0, spread)])
    if ending == "dense":
        kernel, bias = model.get_layer("head").get_weights()
        model.get_layer("head").set_weights([kernel / strength[:, np.newaxis], bias])
    return model


def spread(model: Any, layer: str) -> float:
    """How many times more a tensor's strongest channel reaches than its weakest."""
    probe = keras.Model(model.input, model.get_layer(layer).output)
    peaks = np.asarray(probe(IMAGES, training=False)).max(axis=(0, 1, 2))
    return float(peaks.max() / peaks.min())


def outputs(model: Any) -> NDArray[np.float32]:
    return np.asarray(model(IMAGES, training=False))


def test_the_outputs_stay() -> None:
    model = residual_network()
    np.testing.assert_allclose(outputs(equalise(model, IMAGES)), outputs(model), atol=2e-6)


def test_the_given_network_is_left_as_it_was() -> None:
    model = residual_network()
    before = [weights.copy() for weights in model.get_weights()]
    equalise(model, IMAGES)
    for weights, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, old)


@pytest.mark.parametrize("layer", ["stem_relu", "inner_relu", "sum_relu"])
def test_channels_of_every_kind_of_tensor_come_nearer_to_each_other(layer: str) -> None:
    model = residual_network()
    assert spread(equalise(model, IMAGES), layer) < 0.5 * spread(model, layer)


def test_what_leaves_the_network_keeps_its_scale() -> None:
    model = residual_network(ending="features")
    changed = equalise(model, IMAGES)
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
    changed = equalise(model, IMAGES)
    np.testing.assert_allclose(outputs(changed), outputs(model), atol=1e-5)
    for weights, old in zip(changed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, old)


def test_a_channel_that_never_fires_does_not_break_the_others() -> None:
    model = residual_network()
    kernel, bias = model.get_layer("inner").get_weights()
    kernel[..., 3], bias[3] = 0, -1
    model.get_layer("inner").set_weights([kernel, bias])
    changed = equalise(model, IMAGES)
    assert all(np.isfinite(weights).all() for weights in changed.get_weights())
    np.testing.assert_allclose(outputs(changed), outputs(model), atol=2e-6)


def test_a_tensor_ends_where_its_mean_square_error_is_least() -> None:
    values = np.abs(np.random.default_rng(5).normal(0, 1, 200_000))
    values[:3] = 20.0  # three that would make all steps four times as wide
    counts, _ = np.histogram(values, bins=4096, range=(0, 20))

    def error(top: float) -> float:
        step = top / 255
        return float(np.square(np.minimum(np.rint(values / step), 255) * step - values).mean())

    top = best_top(counts, 20.0, 255)
    assert 3 < top < 20
    assert error(top) < 1.05 * min(error(other) for other in np.linspace(2, 20, 60))
    # 16-bit steps are fine enough for the outliers.
    assert best_top(counts, 20.0, 65535) == pytest.approx(20.0)


def test_caps_lie_above_all_but_the_rarest_values_and_leave_the_outputs() -> None:
    model = residual_network()
    capped = cap_activations(model, IMAGES)
    np.testing.assert_allclose(outputs(capped), outputs(model), atol=1e-3)
    tops = {}
    for name in ("stem_relu", "inner_relu", "sum_relu"):
        layer = capped.get_layer(name)
        assert layer.max_value == 6
        probe = keras.Model(capped.input, layer.output)
        tops[name] = float(np.asarray(probe(IMAGES, training=False)).max())
    assert tops["inner_relu"] == pytest.approx(6)
    # These two are added and so share their scale.
    assert max(tops["stem_relu"], tops["sum_relu"]) == pytest.approx(6)


def test_caps_cut_off_what_reaches_beyond_them() -> None:
    model = residual_network()
    wild = np.where(np.random.default_rng(1).random(IMAGES.shape) < 0.5, 0, 255).astype(np.uint8)
    calm = np.full_like(IMAGES, 128)
    capped = cap_activations(model, calm)
    inner = keras.Model(capped.input, capped.get_layer("inner_relu").output)
    assert float(np.asarray(inner(wild)).max()) == 6
    assert np.abs(np.asarray(capped(wild)) - np.asarray(model(wild))).max() > 1e-3


def test_a_network_without_a_free_channel_is_copied_as_it_is() -> None:
    pixels = keras.Input((16, 16, 3), dtype="uint8")
    x = layers.Rescaling(1 / 128)(pixels)
    model = keras.Model(pixels, layers.Dense(2)(layers.Flatten()(layers.ReLU()(x))))
    for change in (equalise, cap_activations):
        np.testing.assert_array_equal(outputs(change(model, IMAGES)), outputs(model))
