"""Weights rounded together: on the grid, and closer in the outputs than rounded one by one."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from medkit_exporters.quantize import rounding  # noqa: E402
from medkit_exporters.quantize.rounding import round_columns, round_together  # noqa: E402

RNG = np.random.default_rng(7)


def correlated(rows: int, inputs: int) -> Any:
    """Return positive inputs that go together, as rectified features do."""
    mixed = RNG.normal(size=(rows, 6)) @ RNG.normal(size=(6, inputs))
    return np.maximum(mixed + 0.3 * RNG.normal(size=(rows, inputs)), 0)


def nearest(kernel: Any) -> Any:
    steps = np.abs(kernel).max(axis=0) / 127
    return np.rint(kernel / steps) * steps


def test_every_column_lies_on_its_grid_of_255_values() -> None:
    kernel = RNG.normal(size=(40, 5)).astype(np.float32)
    features = correlated(300, 40)
    rounded = round_columns(kernel, features.T @ features / 300)
    levels = rounded / (np.abs(kernel).max(axis=0) / 127)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    np.testing.assert_allclose(np.abs(levels).max(axis=0), 127, atol=1e-3)


def test_outputs_change_several_times_less_than_by_rounding_to_the_nearest() -> None:
    kernel = RNG.normal(size=(60, 8)).astype(np.float32)
    features = correlated(2000, 60)
    rounded = round_columns(kernel, features.T @ features / 2000)
    fresh = features[::7] + 0.01 * RNG.normal(size=features[::7].shape)

    def error(other: Any) -> float:
        return float(np.square(fresh @ (other - kernel)).mean())

    assert error(rounded) < error(nearest(kernel)) / 3


def test_inputs_that_have_nothing_to_do_with_one_another_are_rounded_to_the_nearest() -> None:
    kernel = RNG.normal(size=(30, 4)).astype(np.float32)
    np.testing.assert_allclose(
        round_columns(kernel, np.eye(30)), nearest(kernel), rtol=1e-5, atol=1e-6
    )


def test_a_column_of_zeros_and_inputs_that_never_fire_stay_finite() -> None:
    kernel = RNG.normal(size=(10, 3)).astype(np.float32)
    kernel[:, 1] = 0
    moments = np.zeros((10, 10))
    rounded = round_columns(kernel, moments)
    assert np.isfinite(rounded).all()
    assert not rounded[:, 1].any()


def network() -> Any:
    """Build convolutions with and without normalisation, bias and branches."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    layers = keras.layers
    pixels = keras.Input((16, 16, 1), dtype="uint8")
    first = layers.Conv2D(6, 3, strides=2, use_bias=False)(layers.Rescaling(1 / 255)(pixels))
    first = layers.ReLU()(layers.BatchNormalization()(first))
    branch = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(first))
    both = layers.ReLU()(layers.Add()([first, branch]))
    outputs = layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(both))
    model = keras.Model(pixels, outputs)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            shapes = [weights.shape for weights in layer.get_weights()]
            layer.set_weights([rng.uniform(0.5, 1.5, shape) for shape in shapes])
    return model


IMAGES = RNG.integers(0, 256, (40, 16, 16, 1), dtype=np.uint8)


def test_a_network_keeps_its_layers_and_nearly_its_outputs() -> None:
    model = network()
    rounded = round_together(model, IMAGES).model
    assert [type(layer) for layer in rounded.layers] == [type(layer) for layer in model.layers]
    expected = model.predict(IMAGES, verbose=0)
    found = rounded.predict(IMAGES, verbose=0)
    assert 0 < np.abs(found - expected).max() < 5e-3


def test_every_kernel_of_a_network_holds_255_values_a_channel_once_normalised() -> None:
    rounded = round_together(network(), IMAGES).model
    products = [x for x in rounded.layers if type(x).__name__ in ("Conv2D", "Dense")]
    assert len(products) == 3
    for layer in products:
        kernel = layer.get_weights()[0]
        levels = kernel / (np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0) / 127)
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    for layer in rounded.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, _, mean, variance = layer.get_weights()
            np.testing.assert_allclose(gamma / np.sqrt(variance + layer.epsilon), 1, rtol=1e-6)
            assert not mean.any()


def test_the_given_network_is_left_as_it_was() -> None:
    model = network()
    before = [array.copy() for array in model.get_weights()]
    round_together(model, IMAGES)
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


def peak_of(model: Any, images: Any) -> int:
    """Return the most bytes that arrays of NumPy took while a network was rounded."""
    tracemalloc.start()
    try:
        round_together(model, images)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_layer_of_57600_inputs_takes_no_memory_by_their_square() -> None:
    """The seed's network has such a layer; the products of its inputs would fill 25 GiB."""
    pixels = keras.Input((60, 60, 1), dtype="uint8")
    wide = keras.layers.Conv2D(16, 1)(keras.layers.Rescaling(1 / 255)(pixels))
    flat = keras.layers.Flatten()(wide)
    model = keras.Model(pixels, keras.layers.Dense(32)(flat))
    images = RNG.integers(0, 256, (16, 60, 60, 1), dtype=np.uint8)
    assert peak_of(model, images) < 200 << 20


def test_patches_of_large_maps_are_not_held_for_a_whole_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = keras.Input((12, 12, 3), dtype="uint8")
    model = keras.Model(pixels, keras.layers.Conv2D(2, 3)(keras.layers.Rescaling(1.0)(pixels)))
    extract, held = rounding.tf.image.extract_patches, []

    def watched(values: Any, **options: Any) -> Any:
        held.append(len(values))
        return extract(values, **options)

    monkeypatch.setattr(rounding.tf.image, "extract_patches", watched)
    round_together(model, RNG.integers(0, 256, (16, 12, 12, 3), dtype=np.uint8))
    assert held == [1] * 16


def test_layers_whose_products_do_not_fit_at_once_are_rounded_to_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = keras.Input((8, 8, 3), dtype="uint8")
    features = keras.layers.Rescaling(1 / 255)(pixels)
    for channels in (4, 5, 6):
        features = keras.layers.Conv2D(channels, 3, padding="same", activation="relu")(features)
    model = keras.Model(pixels, features)
    images = RNG.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    at_once = round_together(model, images).model.get_weights()
    monkeypatch.setattr(rounding, "_MOST_BYTES", 8 * 27**2)
    assert [len(group) for group in rounding._groups(model.layers[2:])] == [1, 1, 1]
    for found, expected in zip(
        round_together(model, images).model.get_weights(), at_once, strict=True
    ):
        np.testing.assert_array_equal(found, expected)
