"""The recipes: their names, and what the seed project did not do."""

from __future__ import annotations

import dataclasses

import pytest

from medkit.errors import UsageError
from medkit.models.recipe import Recipe
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task
from medkit.training import RECIPES, get_recipe


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
def test_an_unknown_recipe_is_refused_and_the_known_ones_are_named(task: Task) -> None:
    assert get_recipe(task, "seed") is RECIPES[task.name, "seed"]
    with pytest.raises(
        UsageError, match=f"unknown recipe 'best' for {task.name}; accepted: seed, default"
    ):
        get_recipe(task, "best")


def test_every_task_has_both_recipes() -> None:
    assert set(RECIPES) == {(task, name) for task in TASKS for name in ("seed", "default")}
    assert all(recipe.name == name for (_, name), recipe in RECIPES.items())


def test_a_task_without_recipes_cannot_be_trained() -> None:
    other = dataclasses.replace(PNEUMONIA, name="spine")
    with pytest.raises(
        UsageError, match="no recipe for the task spine; medkit trains pneumonia and"
    ):
        get_recipe(other, "default")
