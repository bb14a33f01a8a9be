"""Arithmetic on pixels as a Rescaling layer: the same outputs, and only where that is so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from medkit_exporters.quantize.pixels import as_rescaling  # noqa: E402

layers, ops = keras.layers, keras.ops
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)


def network(prepare: Callable[[Any], Any]) -> Any:
    keras.utils.set_random_seed(5)
    pixels = keras.Input((12, 12, 3), dtype="uint8")
    x = layers.ZeroPadding2D(1)(prepare(ops.cast(pixels, "float32")))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, name="first")(x))
    return keras.Model(pixels, layers.Dense(2)(layers.Flatten()(layers.ReLU()(x))))


def outputs(model: Any) -> Any:
    return np.asarray(model(IMAGES, training=False))


@pytest.mark.parametrize(
    "prepare",
    [
        lambda x: x / 127.5 - 1.0,
        lambda x: (x - np.array([120.0, 110, 100], np.float32)) / 60.0,
        lambda x: x[..., ::-1] * 2.0 + 1.0,
        lambda x: ops.stack([x[..., 1], x[..., 2], x[..., 0]], axis=-1) - 100.0,
        lambda x: layers.Rescaling(1 / 255)(x) * -1.0,
        keras.applications.resnet50.preprocess_input,
        keras.applications.densenet.preprocess_input,
    ],
    ids=["one", "means", "reversed", "turned", "negative", "caffe", "torch"],
)
def test_arithmetic_by_channel_becomes_one_layer(prepare: Callable[[Any], Any]) -> None:
    model = network(prepare)
    rescaled = as_rescaling(model)
    assert [type(item) for item in rescaled.operations[1:4]] == [
        layers.Rescaling,
        layers.ZeroPadding2D,
        layers.Conv2D,
    ]
    np.testing.assert_allclose(outputs(rescaled), outputs(model), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "prepare",
    [
        lambda x: x * x / 255.0,
        lambda x: x - ops.mean(x, axis=(1, 2), keepdims=True),
        lambda x: ops.flip(x, axis=1) / 255.0,
        lambda x: (x + x[..., ::-1]) / 255.0,
        lambda x: ops.stack([x[..., 0]] * 3, axis=-1) / 255.0,
        lambda x: x / 255.0 * np.linspace(0, 1, 12, dtype=np.float32)[:, np.newaxis],
        lambda x: layers.MaxPooling2D(1)(x / 255.0),
    ],
    ids=["squares", "means of images", "mirrored", "mixed", "one channel", "vignette", "pooling"],
)
def test_anything_else_is_left_as_it_is(prepare: Callable[[Any], Any]) -> None:
    model = network(prepare)
    assert as_rescaling(model) is model


def test_pixels_that_others_read_too_are_left_as_they_are() -> None:
    pixels = keras.Input((12, 12, 3), dtype="uint8")
    x = ops.cast(pixels, "float32") / 255.0
    paths = [layers.Conv2D(4, 3)(x), layers.Conv2D(4, 3)(x)]
    model = keras.Model(pixels, layers.Add()(paths))
    assert as_rescaling(model) is model
