"""What a stage sets: the layers that learn, optimiser, loss and learning rate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras")

import keras

from medkit.models.recipe import Recipe, Stage
from medkit.tasks import PNEUMONIA, SKIN, Task
from medkit.training import RECIPES, networks
from medkit.training.stages import begin_stage, cosine_rate
from trainingruns import MakeRecorder, Shorten, build, contents, train


def test_each_stage_frees_its_layers_of_a_pretrained_backbone_also_after_a_resume(
    tiny_data: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
) -> None:
    def backbone(model: Any) -> dict[str, list[Any]]:
        return {
            layer.name: layer.get_weights()
            for layer in model.layers
            if networks.is_backbone(layer) and layer.weights
        }

    two_stages = (
        Stage(epochs=1, learning_rate=1e-3, free_from=None),
        Stage(epochs=2, learning_rate=1e-3, free_from="conv3", cosine=False),
    )
    small(("skin", "default"), stages=two_stages, batch_size=16)
    data = tiny_data / "skin_cancer_isic"
    whole = train(data, tmp_path / "whole", recorder(), SKIN).manifest
    assert [record.stage for record in whole.history] == [0, 1, 1]

    out = tmp_path / "stopped"
    train(data, out, recorder(stop=(3, 1)), SKIN)
    freed = backbone(keras.saving.load_model(out / "skin/unfinished/last-2.keras"))
    train(data, out, recorder(), SKIN, resume=True)
    assert contents(out) == contents(tmp_path / "whole")
    keras.utils.set_random_seed(0)
    fresh = backbone(networks.build_network(SKIN, RECIPES["skin", "default"], None))

    def moved(before: Any, after: Any) -> set[str]:
        return {
            name
            for name in before
            if any(not np.array_equal(a, b) for a, b in zip(before[name], after[name], strict=True))
        }

    assert moved(fresh, freed) == {"conv3_conv"}


def begin(model: Any, task: Task, recipe: Recipe, stage: int) -> None:
    begin_stage(model, task, recipe, recipe.stages[stage])


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
    begin_stage(model, task, dataclasses.replace(recipe, network="seed-cnn"), stage)
    assert type(model.optimizer) is keras.optimizers.Adam
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)
    assert type(model.loss).__name__ == loss


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


def test_weight_decay_leaves_out_biases_and_normalisation_even_after_a_checkpoint(
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


def test_the_cosine_rate_rises_over_an_epoch_and_falls_to_a_hundredth() -> None:
    stage = Stage(epochs=5, learning_rate=2e-3)
    assert cosine_rate(stage, 0.25) == pytest.approx(5e-4)
    assert cosine_rate(stage, 1) == pytest.approx(2e-3)
    assert cosine_rate(stage, 3) == pytest.approx(2e-3 * (0.01 + 0.99 / 2))
    assert cosine_rate(stage, 5) == cosine_rate(stage, 6) == pytest.approx(2e-5)


def test_a_stage_of_one_epoch_only_rises() -> None:
    stage = Stage(epochs=1, learning_rate=1.0)
    assert [cosine_rate(stage, position) for position in (0.5, 1)] == [0.5, 1.0]
