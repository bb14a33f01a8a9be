"""Ends of activations: above all but the rarest values, and where the error is least."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

keras = pytest.importorskip("keras")

from exporters.networks import residual_network  # noqa: E402
from medkit_exporters.quantize.caps import best_top, cap_activations  # noqa: E402

layers = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)


def outputs(model: Any) -> NDArray[np.float32]:
    return np.asarray(model(IMAGES, training=False))


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
    capped = cap_activations(model, IMAGES).model
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
    capped = cap_activations(model, calm).model
    inner = keras.Model(capped.input, capped.get_layer("inner_relu").output)
    assert float(np.asarray(inner(wild)).max()) == 6
    assert np.abs(np.asarray(capped(wild)) - np.asarray(model(wild))).max() > 1e-3


def test_a_network_without_a_free_channel_is_copied_as_it_is() -> None:
    pixels = keras.Input((16, 16, 3), dtype="uint8")
    x = layers.Rescaling(1 / 128)(pixels)
    model = keras.Model(pixels, layers.Dense(2)(layers.Flatten()(layers.ReLU()(x))))
    np.testing.assert_array_equal(outputs(cap_activations(model, IMAGES).model), outputs(model))
