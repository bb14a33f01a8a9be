"""Training: from a data folder to ``trained/<task>/``.

Importing this package does not import TensorFlow; :func:`train_model` does, after
every argument and folder has been checked.
"""

from medkit.training.recipes import RECIPES, Recipe, get_recipe
from medkit.training.run import TrainOptions, TrainResult, train_model

__all__ = ["RECIPES", "Recipe", "TrainOptions", "TrainResult", "get_recipe", "train_model"]
