"""The temperature of a Keras original divides its logits, as the graph of an export does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.defaults import BALANCED
from medkit.images.contract import InputContract
from medkit.models.card import ModelCard
from medkit.models.points import OperatingPoint
from medkit.models.runtimes.loading import load_model

keras = pytest.importorskip("keras")

TEMPERATURE = 3.0
SIDE = 32


def logits(model: Any, images: Any) -> Any:
    """Compute the logits with NumPy: the mean of each channel, times the weights."""
    weights, bias = model.get_weights()
    return images.astype(np.float64).mean(axis=(1, 2)) / 255 @ weights + bias


def network(units: int, activation: str, form: str) -> Any:
    """Make a network that is so sure that float32 cannot tell its probabilities from 1."""
    dense = keras.layers.Dense(units, activation if form != "own layer" else None)
    body = [keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling2D()]
    layers = [*body, dense]
    if form == "own layer":
        layers.append(keras.layers.Activation(activation))
    if form == "nested":
        layers = [*body, keras.Sequential([keras.Input((3,)), dense])]
    pixels = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    values = pixels
    for layer in layers:
        values = layer(values)
    model = keras.Model(pixels, values)
    rng = np.random.default_rng(units)
    model.set_weights([rng.normal(0, 60, (3, units)), np.zeros(units)])
    return model


@pytest.mark.parametrize("form", ["plain", "own layer", "nested"])
@pytest.mark.parametrize(
    ("units", "activation", "multi_label"),
    [(1, "sigmoid", False), (3, "softmax", False), (3, "sigmoid", True)],
)
def test_a_network_that_is_too_sure_is_softened_exactly(
    tmp_path: Path, units: int, activation: str, multi_label: bool, form: str
) -> None:
    from medkit.training.archive import save_archive

    labels = tuple("abc"[: max(units, 2)])
    point = OperatingPoint(BALANCED, thresholds=(0.5,) * 3 if multi_label else None)
    card = ModelCard(
        task="sure",
        labels=labels,
        contract=InputContract(width=SIDE, height=SIDE, channels=3),
        temperature=TEMPERATURE,
        operating_points={BALANCED: point},
        precision="original",
        version="1",
    )
    model = network(units, activation, form)
    save_archive(model, card, tmp_path / "model.keras")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 1, 1, 3), dtype=np.uint8).repeat(SIDE, 1).repeat(SIDE, 2)
    scaled = logits(model, images) / TEMPERATURE
    assert np.abs(scaled).max() * TEMPERATURE > 17, "beyond what float32 tells from 1"
    if activation == "softmax":
        expected = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        expected /= expected.sum(axis=1, keepdims=True)
    else:
        if units == 1:
            scaled = np.concatenate([-scaled, scaled], axis=1)
        expected = 1 / (1 + np.exp(-scaled))
    found = load_model(tmp_path / "model.keras").predict(images)
    assert np.abs(found - expected).max() < 1e-4
