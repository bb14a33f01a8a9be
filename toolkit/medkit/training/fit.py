"""The training loop: epochs, the best of them, and a checkpoint after each.

Importing this module imports Keras and TensorFlow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.errors import TrainingError
from medkit.evaluation.metrics import area_under_curve
from medkit.models.manifest import EpochRecord
from medkit.models.recipe import Recipe, Stage
from medkit.tasks import Task
from medkit.training.batches import Batches
from medkit.training.checkpoint import Checkpoint, State
from medkit.training.data import Tensors
from medkit.training.networks import predict_probabilities
from medkit.training.observer import Observer
from medkit.training.stages import StepCallback, begin_stage


@dataclass(frozen=True)
class FitInputs:
    """The inputs of the training loop, besides the model.

    Attributes
    ----------
    task, recipe, seed
        Task, recipe and seed of the run.
    train
        Images to train on.
    watched
        Images on which each epoch is measured: the validation split. A recipe
        without one watches the test split, and chooses nothing on it.
    checkpoint
        Checkpoint that keeps each epoch.
    observer
        Observer of the progress.
    """

    task: Task
    recipe: Recipe
    seed: int
    train: Tensors
    watched: Tensors
    checkpoint: Checkpoint
    observer: Observer

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return math.ceil(len(self.train.labels) / self.recipe.batch_size)

    @property
    def epochs(self) -> int:
        """The most epochs that the recipe can have."""
        return sum(stage.epochs for stage in self.recipe.stages)


@dataclass(frozen=True)
class Fitted:
    """The result of the loop.

    Attributes
    ----------
    state
        After the last epoch that was kept. The best weights are in the
        checkpoint.
    interrupted
        Whether Ctrl-C ended the loop.
    """

    state: State
    interrupted: bool


def fit(model: Any, inputs: FitInputs, state: State) -> Fitted:
    """Run the recipe's remaining epochs.

    Parameters
    ----------
    model
        A new model. It is not used if ``state`` is that of an unfinished run.
    inputs
        Everything else.
    state
        State to begin with.

    Raises
    ------
    TrainingError
        If the loss is no longer finite, or if the checkpoint is damaged.
    """
    recipe = inputs.recipe
    if state.history:
        model = inputs.checkpoint.load_model(state)
    targets = _targets(inputs.task, recipe, inputs.train.labels)
    try:
        while state.stage < len(recipe.stages):
            stage = recipe.stages[state.stage]
            if state.epoch == 0:
                begin_stage(model, inputs.task, recipe, stage)
            if state.epoch >= stage.epochs or _exhausted(stage, state):
                state = replace(state, stage=state.stage + 1, epoch=0, stale=0)
                continue
            record = _run_epoch(model, inputs, state, targets)
            # Without validation nothing is chosen, and the last epoch is kept.
            chooses = bool(recipe.validation_fraction)
            is_best = record.watched_loss < state.best_loss
            ended = _after(state, record, is_best or not chooses)
            inputs.checkpoint.save(model, ended, is_best or not chooses)
            state = ended  # not earlier: an epoch counts when it is saved
            inputs.checkpoint.tidy(state)
            inputs.observer.epoch_ends(record, is_best and chooses)
    except KeyboardInterrupt:
        return Fitted(state, interrupted=True)
    return Fitted(state, interrupted=False)


def _run_epoch(
    model: Any, inputs: FitInputs, state: State, targets: NDArray[np.float32]
) -> EpochRecord:
    """Train for one epoch, and measure the watched split."""
    recipe, train, number = inputs.recipe, inputs.train, len(state.history) + 1
    stage = recipe.stages[state.stage]
    inputs.observer.epoch_begins(number, inputs.epochs, inputs.steps)
    _seed_layers(model, inputs.seed, number)
    batches = Batches(
        train.images,
        targets,
        train.weights,
        recipe.batch_size,
        recipe.augmentation,
        inputs.seed,
        number,
    )
    steps = StepCallback(stage, state.epoch, inputs.steps, inputs.observer)
    fitted = model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[steps])
    watched = _watch(model, inputs.task, inputs.watched)
    loss = float(fitted.history["loss"][0])
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss of epoch {number} is not finite; lower the recipe's learning rate"
        )
    return EpochRecord(
        epoch=number,
        stage=state.stage,
        loss=loss,
        learning_rate=steps.rate,
        watched_loss=watched.loss,
        watched_accuracy=watched.accuracy,
        watched_auc=watched.auc,
    )


def _after(state: State, record: EpochRecord, is_best: bool) -> State:
    """Return the state after an epoch."""
    return State(
        stage=state.stage,
        epoch=state.epoch + 1,
        history=(*state.history, record),
        best_loss=record.watched_loss if is_best else state.best_loss,
        best_epoch=record.epoch if is_best else state.best_epoch,
        stale=0 if is_best else state.stale + 1,
    )


def _exhausted(stage: Stage, state: State) -> bool:
    """Whether the stage's patience has ended."""
    return stage.patience is not None and state.stale >= stage.patience


def _targets(task: Task, recipe: Recipe, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return what the loss compares with, smoothed by the recipe's share.

    Shape (n, 1) for a two-class task, else one-hot, shape (n, classes).
    """
    classes = len(task.labels)
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    smooth = one_hot * (1 - recipe.label_smoothing) + recipe.label_smoothing / classes
    return smooth[:, 1:] if task.binary else smooth


@dataclass(frozen=True)
class _Watched:
    """Figures of the watched split; the loss is weighted as in training."""

    loss: float
    accuracy: float
    auc: float


def _watch(model: Any, task: Task, split: Tensors) -> _Watched:
    """Measure the watched split."""
    probabilities = predict_probabilities(model, split.images)
    if not np.isfinite(probabilities).all():
        raise TrainingError(
            "the network's outputs are not finite; lower the recipe's learning rate"
        )
    chosen = np.clip(probabilities[np.arange(len(split.labels)), split.labels], 1e-7, 1)
    return _Watched(
        loss=float(np.average(-np.log(chosen), weights=split.weights)),
        accuracy=float((probabilities.argmax(axis=1) == split.labels).mean()),
        auc=area_under_curve(task, split.labels, probabilities),
    )


def _seed_layers(model: Any, seed: int, epoch: int) -> None:
    """Restart every random layer from seed and epoch, so that a resumed run repeats itself."""
    for index, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            key = np.random.SeedSequence((seed, epoch, index)).generate_state(2)
            generator.state.assign(key.astype(np.uint32))
