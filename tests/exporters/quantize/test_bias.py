"""The logits' drift of an export: measured from probabilities, and taken back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from medkit.models.runtimes.base import both_classes  # noqa: E402
from medkit_exporters.quantize.bias import logit_drift, shift_logits  # noqa: E402

FEATURES = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)


def head(units: int, activation: str) -> Any:
    keras.utils.set_random_seed(4)
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(units, activation=activation)(inputs))


def probabilities(model: Any) -> Any:
    return both_classes(np.asarray(model(FEATURES)))


@pytest.mark.parametrize(
    ("units", "activation", "shift"),
    [(3, "softmax", [0.5, -0.25, -0.25]), (1, "sigmoid", [-0.2, 0.2])],
    ids=["softmax", "sigmoid"],
)
def test_a_shift_of_the_logits_is_measured_and_undone(
    units: int, activation: str, shift: list[float]
) -> None:
    model = head(units, activation)
    drifted = shift_logits(model, np.array(shift))
    drift = logit_drift(probabilities(model), probabilities(drifted), multi_label=False)
    np.testing.assert_allclose(drift, shift, atol=1e-5)
    restored = shift_logits(drifted, -drift)
    np.testing.assert_allclose(probabilities(restored), probabilities(model), atol=1e-6)


def test_the_logits_of_several_labels_drift_each_for_itself() -> None:
    model, shift = head(2, "sigmoid"), np.array([0.5, 0.25])
    drifted = shift_logits(model, shift)
    drift = logit_drift(probabilities(model), probabilities(drifted), multi_label=True)
    np.testing.assert_allclose(drift, shift, atol=1e-5)
    sure = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    assert np.isfinite(logit_drift(sure, sure[::-1], multi_label=True)).all()


def test_the_given_network_is_left_as_it_was() -> None:
    model = head(3, "softmax")
    before = probabilities(model)
    shift_logits(model, np.array([1.0, 0.0, -1.0]))
    np.testing.assert_array_equal(probabilities(model), before)


def test_certain_probabilities_give_a_finite_drift() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    assert np.isfinite(logit_drift(sure, sure[::-1], multi_label=False)).all()
