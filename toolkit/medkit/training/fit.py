"""The training loop: stages, schedule, best epoch, checkpoints.

Importing this module imports Keras and TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from medkit.datasets import Item
from medkit.errors import MedkitError, TrainingError
from medkit.metrics import area_under_curve
from medkit.runtimes import both_classes
from medkit.tasks import Task
from medkit.training.batches import Batches
from medkit.training.networks import is_backbone, needs_imagenet
from medkit.training.recipes import Recipe, Stage

_PREDICTION_BATCH = 64

_Weights = list[NDArray[np.float32]]


class Observer(Protocol):
    """Told of a run's progress; methods return nothing and must not fail."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def epoch_begins(self, epoch: int, epochs: int, steps: int) -> None:
        """Epoch ``epoch`` (from 1) of at most ``epochs`` starts, with ``steps`` steps."""

    def step(self, loss: float) -> None:
        """One step ended; ``loss`` is the epoch's mean so far."""

    def epoch_ends(self, record: dict[str, Any], best: bool) -> None:
        """An epoch ended with these figures; ``best`` if none was better before."""


@dataclass
class Split:
    """Tensors of one split.

    Attributes
    ----------
    images
        uint8, shape (n, height, width, channels).
    labels
        int64, shape (n,).
    weights
        float32, shape (n,): how much each image counts; see :func:`image_weights`.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]


@dataclass
class State:
    """Where a run stands: all that a checkpoint keeps besides weights.

    Attributes
    ----------
    stage, epoch
        Next epoch to run, counted within its stage.
    history
        One record an epoch.
    best_loss, best_epoch
        Of the watched split; the epoch counts over all stages, from 1.
    stale
        Epochs of this stage since the best.
    """

    stage: int = 0
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_loss: float = math.inf
    best_epoch: int = 0
    stale: int = 0


class Checkpoint:
    """The folder that keeps an unfinished run.

    The files of an epoch carry its number, so that an interruption while they
    are written leaves those that the state file speaks of as they were.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self._folder = folder
        self._identity = identity
        self._state = folder / "state.json"

    def last(self, state: State) -> Path:
        """Return where model and optimiser after the last epoch lie."""
        return self._folder / f"last-{len(state.history)}.keras"

    def mean(self, state: State) -> Path:
        """Return where the mean of this stage's weights lies, if it averages."""
        return self._folder / f"mean-{len(state.history)}.weights.h5"

    def best(self, state: State) -> Path:
        """Return where the best epoch's weights lie."""
        return self._folder / f"best-{state.best_epoch}.weights.h5"

    def load(self) -> State:
        """Return the state of the unfinished run.

        Raises
        ------
        TrainingError
            If it belongs to another task, recipe, seed or data set.
        """
        try:
            stored = json.loads(self._state.read_text())
            identity, state = stored["identity"], State(**stored["state"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"checkpoint {self._state} cannot be read ({error}); start anew with --overwrite"
            ) from error
        changed = [key for key in self._identity if identity.get(key) != self._identity[key]]
        if changed:
            raise TrainingError(
                f"cannot resume {self._folder}: it was started with another "
                f"{', '.join(changed)}; give the same arguments, or leave --resume out"
            )
        return state

    def load_model(self, state: State) -> Any:
        """Return model and optimiser as they were after the last epoch.

        Raises
        ------
        TrainingError
            If the file is missing or damaged.
        """
        try:
            return keras.saving.load_model(self.last(state))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrainingError(
                f"checkpoint {self.last(state)} cannot be read ({error}); "
                "start anew with --overwrite"
            ) from error

    def save(self, model: Any, state: State, is_best: bool, mean: _Weights | None) -> None:
        """Keep model, optimiser and state; the state file is replaced last and atomically.

        With ``mean``, that is what was judged, and what the best epoch is kept as.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with _holding(model, mean):
            if mean is not None:
                model.save_weights(self.mean(state))
            if is_best:
                model.save_weights(self.best(state))
        model.save(self.last(state))
        temporary = self._state.with_suffix(".tmp")
        temporary.write_text(json.dumps({"identity": self._identity, "state": vars(state)}))
        temporary.replace(self._state)

    def tidy(self, state: State) -> None:
        """Delete the files of other epochs."""
        needed = (self._state, self.last(state), self.mean(state), self.best(state))
        for path in self._folder.iterdir():
            if path not in needed:
                path.unlink()


def fit(
    model: Any,
    task: Task,
    recipe: Recipe,
    train: Split,
    watched: Split,
    seed: int,
    checkpoint: Checkpoint,
    state: State,
    observer: Observer,
) -> tuple[Any, bool]:
    """Run the recipe's remaining epochs.

    Parameters
    ----------
    model
        Freshly built, or ignored if ``state`` is that of an unfinished run.
    watched
        The validation split; for a recipe without one the test split, whose
        figures are then only recorded.
    state
        Updated in place.

    Returns
    -------
    model, interrupted
        The model after its last epoch, and whether Ctrl-C ended the run.
        The best epoch's weights lie in ``checkpoint.best(state)``.

    Raises
    ------
    TrainingError
        If the loss stops being finite.
    """
    if state.history:
        model = checkpoint.load_model(state)
    targets = _targets(task, recipe, train.labels)
    total = sum(stage.epochs for stage in recipe.stages)
    steps = math.ceil(len(train.labels) / recipe.batch_size)
    try:
        while state.stage < len(recipe.stages):
            stage = recipe.stages[state.stage]
            if state.epoch == 0:
                if stage.average and state.history:
                    load_best(model, checkpoint, state)
                _begin_stage(model, task, recipe, stage)
            if state.epoch >= stage.epochs or _exhausted(stage, state):
                state.stage, state.epoch, state.stale = state.stage + 1, 0, 0
                continue
            number = len(state.history) + 1
            observer.epoch_begins(number, total, steps)
            _seed_layers(model, seed, number)
            batches = Batches(
                train.images,
                targets,
                train.weights,
                recipe.batch_size,
                recipe.augmentation,
                seed,
                number,
            )
            schedule = _Schedule(stage, state.epoch, steps, observer)
            fitted = model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[schedule])
            mean = _running_mean(model, checkpoint, state) if stage.average else None
            with _holding(model, mean):
                judged = _watch(model, task, watched)
            record = {
                "epoch": number,
                "stage": state.stage,
                "loss": float(fitted.history["loss"][0]),
                "learning_rate": schedule.rate,
                **judged,
            }
            if not math.isfinite(record["loss"]):
                raise TrainingError(
                    f"the loss of epoch {number} is not finite; lower the recipe's learning rate"
                )
            is_best = record["watched_loss"] < state.best_loss or not recipe.validation_fraction
            ended = replace(
                state,
                epoch=state.epoch + 1,
                history=[*state.history, record],
                best_loss=record["watched_loss"] if is_best else state.best_loss,
                best_epoch=number if is_best else state.best_epoch,
                stale=0 if is_best else state.stale + 1,
            )
            checkpoint.save(model, ended, is_best, mean)
            vars(state).update(vars(ended))  # not before: an interrupted save does not count
            checkpoint.tidy(state)
            observer.epoch_ends(record, is_best)
    except KeyboardInterrupt:
        return model, True
    return model, False


def image_weights(recipe: Recipe, items: Sequence[Item]) -> NDArray[np.float32]:
    """Make every class count alike, up to the recipe's cap; the mean image weighs 1.

    With ``balance_sources``, every class of every source counts alike, so
    that within a source no class is the likelier one.

    Returns
    -------
    numpy.ndarray
        float32, shape (n,).
    """
    cells = [(item.label, item.source if recipe.balance_sources else "") for item in items]
    counts = Counter(cells)
    most = max(counts.values())
    weights = np.array([min(most / counts[cell], recipe.weight_cap) for cell in cells])
    return np.asarray(weights / weights.mean(), dtype=np.float32)


def predict_probabilities(model: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a Keras model's probabilities, shape (n, classes), whatever its output's form."""
    return both_classes(np.asarray(model.predict(images, batch_size=_PREDICTION_BATCH, verbose=0)))


def _begin_stage(model: Any, task: Task, recipe: Recipe, stage: Stage) -> None:
    """Free the stage's layers and start a fresh optimiser."""
    if needs_imagenet(recipe):
        free = False
        for layer in model.layers:
            if is_backbone(layer):
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


def _running_mean(model: Any, checkpoint: Checkpoint, state: State) -> _Weights:
    """Return the mean of the weights after each epoch of the stage, this one included.

    Statistics of batch normalisation are averaged like all others.
    """
    current: _Weights = model.get_weights()
    if state.epoch == 0:
        return current
    share = 1 / (state.epoch + 1)
    model.load_weights(checkpoint.mean(state))
    earlier: _Weights = model.get_weights()
    model.set_weights(current)
    return [old + share * (new - old) for old, new in zip(earlier, current, strict=True)]


@contextlib.contextmanager
def _holding(model: Any, weights: _Weights | None) -> Iterator[None]:
    """Give a model other weights for a while; ``None`` leaves it its own."""
    if weights is None:
        yield
        return
    own = model.get_weights()
    model.set_weights(weights)
    try:
        yield
    finally:
        model.set_weights(own)


def _exhausted(stage: Stage, state: State) -> bool:
    return stage.patience is not None and state.stale >= stage.patience


def _targets(task: Task, recipe: Recipe, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """One-hot or 0/1 targets, smoothed by the recipe's share."""
    classes = 2 if task.binary else len(task.labels)
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    smooth = one_hot * (1 - recipe.label_smoothing) + recipe.label_smoothing / classes
    return smooth[:, 1:] if task.binary else smooth


def _watch(model: Any, task: Task, split: Split) -> dict[str, float]:
    """Loss, accuracy and AUC on the watched split, the loss weighted as in training."""
    probabilities = predict_probabilities(model, split.images)
    if not np.isfinite(probabilities).all():
        raise TrainingError(
            "the network's outputs are not finite; lower the recipe's learning rate"
        )
    chosen = np.clip(probabilities[np.arange(len(split.labels)), split.labels], 1e-7, 1)
    return {
        "watched_loss": float(np.average(-np.log(chosen), weights=split.weights)),
        "watched_accuracy": float((probabilities.argmax(axis=1) == split.labels).mean()),
        "watched_auc": area_under_curve(task, split.labels, probabilities),
    }


def _seed_layers(model: Any, seed: int, epoch: int) -> None:
    """Restart every random layer from seed and epoch, so that a resumed run repeats itself."""
    for index, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            key = np.random.SeedSequence((seed, epoch, index)).generate_state(2)
            generator.state.assign(key.astype(np.uint32))


@keras.saving.register_keras_serializable("medkit")
class SelectiveAdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW that never decays biases and normalisation; Keras' own forgets that when saved."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])


class _Schedule(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the rate before every step and reports the loss after it."""

    def __init__(self, stage: Stage, epoch: int, steps: int, observer: Observer) -> None:
        super().__init__()
        self._stage, self._epoch, self._steps, self._observer = stage, epoch, steps, observer
        self.rate = stage.learning_rate

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self._stage.cosine:
            position = (self._epoch * self._steps + batch + 1) / self._steps
            span = max(self._stage.epochs - 1, 1)
            fall = 0.5 * (1 + math.cos(math.pi * min(max(position - 1, 0) / span, 1)))
            self.rate = self._stage.learning_rate * min(position, 0.01 + 0.99 * fall)
        self.model.optimizer.learning_rate = self.rate

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._observer.step(float((logs or {}).get("loss", math.nan)))


def load_best(model: Any, checkpoint: Checkpoint, state: State) -> None:
    """Give ``model`` the best epoch's weights."""
    best = checkpoint.best(state)
    try:
        model.load_weights(best)
    except (OSError, ValueError) as error:
        raise MedkitError(f"best weights {best} cannot be read: {error}") from error
