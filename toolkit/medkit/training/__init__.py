"""Training: from a data folder to the files in ``trained/<task>/``.

Importing this package does not import TensorFlow. :func:`train_model` imports
it after all arguments and data have been checked.
"""

from medkit.models.recipe import Recipe
from medkit.training.own import OwnOptions, OwnPlan, plan_own
from medkit.training.recipes import RECIPES, get_recipe
from medkit.training.run import TrainOptions, TrainResult, folder_for, train_model

__all__ = [
    "RECIPES",
    "OwnOptions",
    "OwnPlan",
    "Recipe",
    "TrainOptions",
    "TrainResult",
    "folder_for",
    "get_recipe",
    "plan_own",
    "train_model",
]
