"""The settings of a stage of a recipe: layers that learn, optimiser, loss and learning rate.

Importing this module imports Keras.
"""

from __future__ import annotations

import math
from typing import Any

import keras

from medkit.models.recipe import Recipe, Stage
from medkit.tasks import Task
from medkit.training.networks import is_backbone, needs_imagenet
from medkit.training.observer import Observer


def begin_stage(model: Any, task: Task, recipe: Recipe, stage: Stage) -> None:
    """Choose the layers that learn, and compile the model with a new optimiser."""
    if needs_imagenet(recipe):
        free = False
        for layer in model.layers:
            if is_backbone(layer, recipe.network):
                free = free or (
                    stage.free_from is not None and layer.name.startswith(stage.free_from)
                )
                # Statistics of 32 images at 128 pixels would be worse than ImageNet's.
                layer.trainable = free and not isinstance(layer, keras.layers.BatchNormalization)
    if recipe.weight_decay:
        optimizer = SelectiveAdamW(stage.learning_rate, weight_decay=recipe.weight_decay)
    else:
        optimizer = keras.optimizers.Adam(stage.learning_rate)
    losses = keras.losses
    loss = losses.BinaryCrossentropy() if task.binary else losses.CategoricalCrossentropy()
    model.compile(optimizer=optimizer, loss=loss, jit_compile=False)


@keras.saving.register_keras_serializable("medkit")
class SelectiveAdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW without decay of biases and normalisation.

    Keras' own class can leave variables out, too, but does not save that
    they were left out.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])


class StepCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the learning rate before each step of an epoch, and reports the loss after it.

    Parameters
    ----------
    stage
        Stage with the schedule of the learning rate.
    epoch
        Number of the epoch within the stage, from 0.
    steps
        Number of steps in an epoch.
    observer
        Observer of each step.
    """

    def __init__(self, stage: Stage, epoch: int, steps: int, observer: Observer) -> None:
        super().__init__()
        self._stage, self._epoch, self._steps, self._observer = stage, epoch, steps, observer
        self.rate = stage.learning_rate

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Set the rate."""
        if self._stage.cosine:
            done = self._epoch * self._steps + batch + 1
            self.rate = cosine_rate(self._stage, done / self._steps)
        self.model.optimizer.learning_rate = self.rate

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Report the mean loss so far."""
        self._observer.step(float((logs or {}).get("loss", math.nan)))


def cosine_rate(stage: Stage, position: float) -> float:
    """Return the learning rate at a position in a stage, in epochs.

    It rises evenly over the first epoch, and then falls along half a cosine
    to a hundredth of the peak.
    """
    span = max(stage.epochs - 1, 1)
    fall = 0.5 * (1 + math.cos(math.pi * min(max(position - 1, 0) / span, 1)))
    return stage.learning_rate * min(position, 0.01 + 0.99 * fall)
