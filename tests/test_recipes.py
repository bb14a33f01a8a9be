"""What the recipes build: the seed project's networks to the letter, and those that ship."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.errors import UsageError, WeightsUnavailableError
from medkit.images import contract_for
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task
from medkit.training import RECIPES, get_recipe
from medkit.training.recipes import Recipe

keras = pytest.importorskip("keras")

from medkit.training import fit, networks  # noqa: E402


@pytest.fixture(scope="module")
def imagenet_shaped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file of random weights that ResNet50 takes for ImageNet's."""
    path = tmp_path_factory.mktemp("weights") / "resnet50.weights.h5"
    keras.utils.set_random_seed(1)
    keras.applications.ResNet50(include_top=False, weights=None).save_weights(path)
    return path


@pytest.fixture(scope="module")
def skin_seed(imagenet_shaped: Path) -> Any:
    return networks.build_network(SKIN, RECIPES["skin", "seed"], imagenet_shaped)


@pytest.fixture(scope="module")
def skin_default(imagenet_shaped: Path) -> Any:
    return networks.build_network(SKIN, RECIPES["skin", "default"], imagenet_shaped)


@pytest.fixture(scope="module")
def reference(imagenet_shaped: Path) -> Iterator[Any]:
    """Keras' own ResNet50 with the same weights."""
    return keras.applications.ResNet50(
        include_top=False, weights=str(imagenet_shaped), pooling="avg"
    )


def build(task: Task, recipe: str) -> Any:
    return networks.build_network(task, RECIPES[task.name, recipe], None)


def kinds(model: Any) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def activations(model: Any) -> list[str]:
    return [layer.activation.__name__ for layer in model.layers if hasattr(layer, "activation")]


def pixels(task: Task, count: int = 2) -> Any:
    shape = (count, *contract_for(task).shape)
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def begin(model: Any, task: Task, recipe: Recipe, stage: int) -> None:
    fit._begin_stage(model, task, recipe, recipe.stages[stage])


def test_the_seed_pneumonia_network_is_the_student_projects() -> None:
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


def test_the_seed_skin_network_learns_its_head_alone(skin_seed: Any) -> None:
    begin(skin_seed, SKIN, RECIPES["skin", "seed"], 0)
    learning = [layer.name for layer in skin_seed.layers if layer.trainable_variables]
    assert learning == ["head_dense", "probabilities"]


@pytest.mark.parametrize(
    ("task", "loss"),
    [(PNEUMONIA, "BinaryCrossentropy"), (SKIN, "CategoricalCrossentropy")],
    ids=["pneumonia", "skin"],
)
def test_seed_recipes_run_ten_epochs_of_plain_adam(task: Task, loss: str) -> None:
    recipe = RECIPES[task.name, "seed"]
    (stage,) = recipe.stages
    assert (stage.epochs, stage.learning_rate, stage.cosine, stage.patience) == (
        10,
        1e-3,
        False,
        None,
    )
    model = build(PNEUMONIA, "seed")  # any network will do to look at how it is compiled
    fit._begin_stage(model, task, dataclasses.replace(recipe, network="seed-cnn"), stage)
    assert type(model.optimizer) is keras.optimizers.Adam
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)
    assert type(model.loss).__name__ == loss


@pytest.mark.parametrize("task", [PNEUMONIA, SKIN], ids=["pneumonia", "skin"])
def test_seed_recipes_do_nothing_against_overfitting(task: Task) -> None:
    recipe = RECIPES[task.name, "seed"]
    untouched = Recipe(recipe.name, recipe.network, recipe.batch_size, recipe.stages)
    assert recipe == untouched
    assert recipe.augmentation is None
    assert recipe.on_conflict is None
    assert recipe.validation_fraction == recipe.label_smoothing == recipe.weight_decay == 0
    assert recipe.dropout == 0
    assert recipe.weight_cap == 1
    assert not recipe.balance_sources


@pytest.mark.parametrize("task", [PNEUMONIA, SKIN], ids=["pneumonia", "skin"])
def test_default_networks_take_bytes_and_give_probabilities(task: Task, request: Any) -> None:
    binary = task is PNEUMONIA
    model = build(task, "default") if binary else request.getfixturevalue("skin_default")
    assert model.input.dtype == "uint8"
    assert model.input_shape == (None, *contract_for(task).shape)
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


def test_the_default_skin_recipe_first_learns_the_head_then_the_upper_stages(
    skin_default: Any,
) -> None:
    recipe = RECIPES["skin", "default"]

    def learning() -> set[str]:
        layers = [layer for layer in skin_default.layers if layer.trainable_variables]
        assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
        return {layer.name.split("_")[0] for layer in layers}

    begin(skin_default, SKIN, recipe, 0)
    assert learning() == {"probabilities"}
    begin(skin_default, SKIN, recipe, 1)
    assert learning() == {"probabilities", "conv4", "conv5"}


def test_every_layer_of_a_network_without_pretraining_learns() -> None:
    model = build(PNEUMONIA, "default")
    begin(model, PNEUMONIA, RECIPES["pneumonia", "default"], 0)
    assert {layer.name for layer in model.layers if layer.weights} == {
        layer.name for layer in model.layers if layer.trainable_variables
    }


def test_weight_decay_spares_biases_and_normalisation_even_after_a_checkpoint(
    tmp_path: Path,
) -> None:
    model = build(PNEUMONIA, "default")
    begin(model, PNEUMONIA, RECIPES["pneumonia", "default"], 0)
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "last.keras")
    for each in (model, keras.saving.load_model(tmp_path / "last.keras")):
        decayed = {
            variable.path.split("/")[-1]
            for variable in each.trainable_variables
            if each.optimizer._use_weight_decay(variable)
        }
        assert decayed == {"kernel"}


@pytest.mark.parametrize("task", [PNEUMONIA, SKIN], ids=["pneumonia", "skin"])
def test_an_unknown_recipe_is_refused_with_those_there_are(task: Task) -> None:
    assert get_recipe(task, "seed") is RECIPES[task.name, "seed"]
    with pytest.raises(
        UsageError, match=f"unknown recipe 'best' for {task.name}; accepted: seed, default"
    ):
        get_recipe(task, "best")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(WeightsUnavailableError, match="other.weights.h5"):
        networks.build_network(SKIN, RECIPES["skin", "seed"], tmp_path / "other.weights.h5")


@pytest.mark.parametrize("recipe", ["seed", "default"])
def test_without_network_the_way_to_the_imagenet_weights_is_told(
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


def test_every_task_has_both_recipes() -> None:
    assert set(RECIPES) == {(task, name) for task in TASKS for name in ("seed", "default")}
    assert all(recipe.name == name for (_, name), recipe in RECIPES.items())
