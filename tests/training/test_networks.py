"""The networks: the seed project's to the letter, and those that ship."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras")

import keras

from medkit.errors import WeightsUnavailableError
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task
from medkit.training import RECIPES, networks
from trainingruns import build, pixels


def kinds(model: Any) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def activations(model: Any) -> list[str]:
    return [layer.activation.__name__ for layer in model.layers if hasattr(layer, "activation")]


def test_the_seed_pneumonia_network_is_that_of_the_student_project() -> None:
    model = build(PNEUMONIA, "seed")
    assert kinds(model) == [
        "InputLayer",
        "Rescaling",
        "Conv2D",
        "MaxPooling2D",
        "Conv2D",
        "MaxPooling2D",
        "Flatten",
        "Dense",
        "Dense",
    ]
    assert activations(model) == ["relu", "relu", "relu", "sigmoid"]
    assert model.output_shape == (None, 1)


def test_the_seed_skin_network_is_resnet50_with_a_new_head(skin_seed: Any) -> None:
    reference_kinds = kinds(keras.applications.ResNet50(include_top=False, weights=None))
    assert kinds(skin_seed) == [
        "InputLayer",
        "Rescaling",
        *reference_kinds[1:],
        "GlobalAveragePooling2D",
        "Dense",
        "Dense",
    ]
    assert activations(skin_seed)[-2:] == ["relu", "softmax"]
    assert skin_seed.output_shape == (None, 9)


@pytest.mark.parametrize("name", ["pneumonia", "skin"])
def test_seed_networks_see_pixels_from_zero_to_one(name: str, request: Any) -> None:
    model = (
        build(PNEUMONIA, "seed") if name == "pneumonia" else request.getfixturevalue("skin_seed")
    )
    scaling = next(layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling))
    scaled = keras.Model(model.input, scaling.output)(pixels(TASKS[name])).numpy()
    np.testing.assert_allclose(scaled, pixels(TASKS[name]) / 255, rtol=1e-6)


@pytest.mark.parametrize("task", [PNEUMONIA, SKIN], ids=["pneumonia", "skin"])
def test_default_networks_take_bytes_and_give_probabilities(task: Task, request: Any) -> None:
    binary = task is PNEUMONIA
    model = build(task, "default") if binary else request.getfixturevalue("skin_default")
    assert model.input.dtype == "uint8"
    assert model.input_shape == (None, *task.contract.shape)
    raw = model(pixels(task)).numpy()
    assert raw.dtype == np.float32
    assert raw.shape == (2, 1 if binary else 9)
    assert (raw > 0).all()
    assert (raw < 1).all()
    if not binary:
        np.testing.assert_allclose(raw.sum(axis=1), 1, rtol=1e-5)


def test_the_compact_network_is_plain_and_small() -> None:
    model = build(PNEUMONIA, "default")
    assert model.count_params() < 250_000
    for before, after in itertools.pairwise(model.layers):
        assert after.input is before.output, "the network branches"


def test_the_default_skin_network_subtracts_the_imagenet_mean(skin_default: Any) -> None:
    images = pixels(SKIN)
    layer = skin_default.get_layer("subtract_imagenet_mean")
    centred = keras.Model(skin_default.input, layer.output)(images).numpy()
    blue_first = keras.applications.resnet50.preprocess_input(images.astype(np.float32))
    np.testing.assert_allclose(centred, blue_first[..., ::-1], atol=1e-3)


def test_the_flipped_stem_sees_what_keras_preprocessing_would_show(
    skin_default: Any, reference: Any
) -> None:
    images = pixels(SKIN)
    blue_first = keras.applications.resnet50.preprocess_input(images.astype(np.float32))
    for layer in ("conv1_conv", "avg_pool"):
        ours = keras.Model(skin_default.input, skin_default.get_layer(layer).output)(images)
        theirs = keras.Model(reference.input, reference.get_layer(layer).output)(blue_first)
        scale = np.abs(theirs.numpy()).max()
        np.testing.assert_allclose(ours.numpy() / scale, theirs.numpy() / scale, atol=1e-4)


def test_only_the_stem_differs_from_the_given_weights(skin_default: Any, reference: Any) -> None:
    for layer in reference.layers:
        if layer.weights and layer.name != "conv1_conv":
            for ours, theirs in zip(
                skin_default.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (m.get_layer("conv1_conv").get_weights()[0] for m in (skin_default, reference))
    assert not np.array_equal(ours, theirs)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(WeightsUnavailableError, match="other.weights.h5"):
        networks.build_network(SKIN, RECIPES["skin", "seed"], tmp_path / "other.weights.h5")


@pytest.mark.parametrize("recipe", ["seed", "default"])
def test_without_a_connection_the_error_says_where_to_get_the_imagenet_weights(
    monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    def offline(**options: Any) -> None:
        assert options["weights"] == "imagenet"
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    with pytest.raises(WeightsUnavailableError) as raised:
        networks.build_network(SKIN, RECIPES["skin", recipe], None)
    message = str(raised.value)
    assert "cannot be downloaded" in message
    assert networks.IMAGENET_WEIGHTS_FILE in message
    assert "--weights" in message
    assert "\n" not in message
