"""A training run from its arguments to the files in ``trained/<task>/``.

TensorFlow is imported after arguments and data have been checked.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medkit.datasets.conflicts import check_policy, find_conflicts
from medkit.datasets.division import SPLITS_NAME
from medkit.datasets.grouping import read_grouping
from medkit.datasets.labels import Labels
from medkit.datasets.location import check_layout, find_dataset
from medkit.datasets.own_files import list_own_files
from medkit.datasets.sampling import check_seed
from medkit.defaults import RECIPE, SEED
from medkit.errors import UsageError
from medkit.extras import require
from medkit.files import check_writable
from medkit.models.manifest import MANIFEST_NAME, Manifest
from medkit.models.recipe import Recipe
from medkit.models.runtimes.keras import import_tensorflow
from medkit.tasks import TASKS, Task, folder_for_new, trained_folder
from medkit.training.checkpoint import (
    CHECKPOINT_FOLDER,
    STATE_NAME,
    Checkpoint,
    Identity,
    State,
    described,
)
from medkit.training.data import Tensors, TrainingData, read_tensors, read_training_data
from medkit.training.observer import Observer
from medkit.training.own_data import read_own_training_data
from medkit.training.precision import compute_type, computing_in
from medkit.training.recipes import get_recipe
from medkit.wording import counted

if TYPE_CHECKING:
    from medkit.training.fit import Fitted
    from medkit.training.outcome import Run

MODULES = (
    "tensorflow",
    "keras",
    "sklearn",
    "scipy",
    "imagehash",
    "h5py",
    "matplotlib",
    "jinja2",
    "tomli_w",
)
"""Optional packages that a run needs, from the audit of the data to the model card."""


@dataclass(frozen=True)
class TrainOptions:
    """Arguments of a run.

    Attributes
    ----------
    task
        Task to learn.
    data
        The data set's folder, with its split folders, or a folder that holds
        it. One's own images need no splits; see
        :func:`medkit.datasets.own.read_own_images`.
    recipe
        ``default`` or ``seed`` for a built-in task; any other has the recipe
        that :func:`medkit.training.own.plan_own` chose.
    out
        Folder in which the task's folder is made; ``None`` for the folder of
        the shipped models, and for a task of one's own for
        :func:`medkit.tasks.folder_for_new`.
    weights
        File of ImageNet weights; ``None`` lets Keras download them.
    seed
        Decides split, order, augmentation and initial weights.
    on_conflict
        One of :data:`medkit.datasets.conflicts.POLICIES`; ``None`` leaves it
        to the recipe.
    resume
        Continue the unfinished run in the output folder.
    overwrite
        Replace a trained model, or an unfinished run, in the output folder.
    spellings
        Other spellings of class folders; see
        :func:`medkit.datasets.labels.read_labels_map`.
    group_by
        What tells the patients of one's own images; see
        :func:`medkit.datasets.grouping.read_grouping`.
    """

    task: Task
    data: Path
    recipe: str | Recipe = RECIPE
    out: Path | None = None
    weights: Path | None = None
    seed: int = SEED
    on_conflict: str | None = None
    resume: bool = False
    overwrite: bool = False
    spellings: Mapping[str, str] = field(default_factory=dict)
    group_by: str | None = None

    @property
    def folder(self) -> Path:
        """The folder that gets the model."""
        return folder_for(self.task.name, self.out)

    @property
    def is_own(self) -> bool:
        """Whether the task is none of the built-in ones."""
        return self.task.name not in TASKS


def folder_for(name: str, out: Path | None) -> Path:
    """Return the folder that gets the model of a task; see :class:`TrainOptions`."""
    return (out or (trained_folder() if name in TASKS else folder_for_new())) / name


@dataclass(frozen=True)
class TrainResult:
    """Result of a run.

    Attributes
    ----------
    folder
        Folder with the files.
    manifest
        Content of ``manifest.json``; ``None`` if the run was interrupted
        before its first epoch ended.
    interrupted
        Whether Ctrl-C ended the run. Then the best epoch so far was written,
        and ``resume`` continues the run.
    """

    folder: Path
    manifest: Manifest | None
    interrupted: bool


def train_model(options: TrainOptions, observer: Observer) -> TrainResult:
    """Train a model, measure it on the held-out splits, and write its bundle.

    Parameters
    ----------
    options
        The arguments.
    observer
        Observer of the progress.

    Raises
    ------
    MissingExtraError
        If an optional package is absent, before anything is read.
    UsageError
        If arguments or data folder do not fit, or if there is no run to
        resume, before TensorFlow is imported.
    TrainingError
        If the unfinished run is another one or damaged, or if the loss is no
        longer finite.
    WeightsUnavailableError
        If ImageNet weights are needed and cannot be had.
    """
    require("train a model", *MODULES, extra="train")
    if options.task.multi_label:
        raise UsageError(
            f"{options.task.name} is a multi-label task, and medkit trains tasks with one label "
            "for each image; train it elsewhere, and bring it with: medkit adopt"
        )
    task, recipe = options.task, options.recipe
    if isinstance(recipe, str):
        recipe = get_recipe(task, recipe)
    _check(options)
    if options.is_own:
        _check_network(task, recipe, options.weights)
    data = _read(options, recipe)
    for line in data.remarks():
        observer.note(line)
    if data.policy is None and (conflicts := find_conflicts(data.dataset)):
        observer.note(
            f"trained on as it lies: {counted(len(conflicts.mislabelled), 'image')} under two "
            f"labels, {counted(len(conflicts.leaked), 'training image')} in the test split"
        )
    if data.kept_out:
        noun = "image" if data.divided else "training image"
        observer.note(f"{len(data.kept_out)} of {counted(data.read, noun)} kept out")
    if data.divided is not None:
        counts = ", ".join(f"{len(items):,} for {name}" for name, items in data.splits.items())
        observer.note(f"divided by patient, in {SPLITS_NAME}: {counts}")

    import_tensorflow("train a model")
    from medkit.training.archive import round_weights
    from medkit.training.networks import build_network
    from medkit.training.outcome import Run, draw, measure, record, save

    _make_repeatable(options.seed)
    policy = compute_type(recipe)
    run = Run(task, recipe, options.seed, options.weights, options.folder, data, policy)
    identity = Identity(task.name, recipe, options.seed, data.digests, policy)
    if options.is_own:
        identity = replace(identity, described=described(task))
    checkpoint = Checkpoint(run.folder / CHECKPOINT_FOLDER, identity)
    state = checkpoint.load() if options.resume else State()
    tensors = read_tensors(data, task.contract, recipe)
    fitted = _fit(run, tensors, checkpoint, state, observer)
    if not fitted.state.history:
        return TrainResult(run.folder, None, fitted.interrupted)

    model = build_network(task, recipe, options.weights)
    checkpoint.load_best(model, fitted.state)
    round_weights(model)
    measured = measure(run, model, tensors)
    save(run, model, measured)
    draw(run, fitted, measured, tensors["test"].labels)
    manifest = record(run, model, fitted, measured)
    if not fitted.interrupted:
        shutil.rmtree(run.folder / CHECKPOINT_FOLDER)
    return TrainResult(run.folder, manifest, fitted.interrupted)


def _read(options: TrainOptions, recipe: Recipe) -> TrainingData:
    """Read the images of a published data set, or one's own."""
    asked = options.task, options.data, recipe, options.seed, options.on_conflict, options.spellings
    if options.is_own:
        return read_own_training_data(*asked, options.group_by)
    return read_training_data(*asked)


def _check_network(task: Task, recipe: Recipe, weights: Path | None) -> None:
    """Build a network for nothing, so that size and weights are refused before any work."""
    import_tensorflow("train a model")
    from medkit.training.networks import build_network

    build_network(task, recipe, weights)


def _check(options: TrainOptions) -> None:
    """Refuse arguments that do not fit, before any image is read."""
    if options.resume and options.overwrite:
        raise UsageError("--resume continues a run and --overwrite discards it; give one of them")
    check_seed(options.seed)
    if options.on_conflict is not None:
        check_policy(options.on_conflict)
    labels = Labels.of(options.task, options.spellings)
    if options.is_own:
        list_own_files(options.task, options.data, labels)
        if options.group_by is not None:
            read_grouping(options.group_by)
    else:
        # A folder that holds no set is refused with what is missing.
        data = find_dataset(options.task, options.data, labels) or options.data
        check_layout(options.task, data, labels)
    if options.weights is not None and not options.weights.is_file():
        whose = "the network's" if options.is_own else "ResNet50"
        raise UsageError(
            f"no file {options.weights}; --weights takes Keras' {whose} weights without top (.h5)"
        )
    folder = options.folder
    check_writable(folder)
    unfinished = folder / CHECKPOINT_FOLDER / STATE_NAME
    if options.resume and not unfinished.is_file():
        raise UsageError(f"no unfinished run in {folder}; leave --resume out to start one")
    if not options.resume and not options.overwrite:
        for path in (unfinished, folder / MANIFEST_NAME):
            if path.is_file():
                resume = "--resume continues it, " if path is unfinished else ""
                raise UsageError(
                    f"{path} exists: {resume}--overwrite replaces it, --out DIR writes elsewhere"
                )


def _make_repeatable(seed: int) -> None:
    """Make initial weights and operations depend on the seed alone."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _fit(
    run: Run,
    tensors: dict[str, Tensors],
    checkpoint: Checkpoint,
    state: State,
    observer: Observer,
) -> Fitted:
    """Build the network and run the epochs that are left."""
    from medkit.training.fit import FitInputs, fit
    from medkit.training.networks import build_network

    if state.history:
        observer.note(f"continuing after epoch {len(state.history)}")
    with computing_in(run.compute_type):
        network = build_network(run.task, run.recipe, run.weights)
    observer.note(f"{network.name}: {network.count_params():,} parameters")
    inputs = FitInputs(
        task=run.task,
        recipe=run.recipe,
        seed=run.seed,
        train=tensors["train"],
        watched=tensors[run.data.watched],
        checkpoint=checkpoint,
        observer=observer,
    )
    return fit(network, inputs, state)
