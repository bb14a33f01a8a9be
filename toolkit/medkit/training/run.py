"""One training run from its arguments to the files in ``trained/<task>/``.

TensorFlow is imported only once arguments and data have been checked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medkit.bundles import (
    FORMATS,
    KERAS_NAME,
    MANIFEST_NAME,
    PRECISIONS,
    ModelCard,
    check_writable,
    export_name,
    file_record,
    trained_folder,
    write_manifest,
)
from medkit.datasets import (
    Dropped,
    Item,
    check_layout,
    check_seed,
    class_counts,
    drop_conflicts,
    load_tensors,
    read_dataset,
    split_validation,
)
from medkit.errors import MissingExtraError, UsageError
from medkit.images import contract_for
from medkit.metrics import balanced_threshold, evaluate
from medkit.runtimes.keras import import_tensorflow
from medkit.tasks import Task
from medkit.training.recipes import Recipe, get_recipe
from medkit.version import __version__

if TYPE_CHECKING:
    from medkit.training.fit import Observer, Split, State

CHECKPOINT_FOLDER = "unfinished"
DROPPED_NAME = "dropped.csv"
_PLOTS = {"curves": "curves.png", "roc": "roc.png", "confusion": "confusion.png"}
_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "pillow", "scikit-learn")


@dataclass(frozen=True)
class TrainOptions:
    """Arguments of a run.

    Attributes
    ----------
    task
        What to learn.
    data
        The data set's folder, with its split folders.
    recipe
        ``default`` or ``seed``.
    out
        Folder that gets a folder named after the task; ``None`` is where
        the shipped models lie.
    weights
        ImageNet weights file; ``None`` lets Keras download them.
    seed
        Decides split, order, augmentation and initial weights.
    resume
        Continue the unfinished run in the output folder.
    overwrite
        Replace a trained model, or an unfinished run, that is there.
    """

    task: Task
    data: Path
    recipe: str = "default"
    out: Path | None = None
    weights: Path | None = None
    seed: int = 0
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class TrainResult:
    """Outcome of a run.

    Attributes
    ----------
    folder
        Where the files are.
    manifest
        What was written as ``manifest.json``; ``None`` if the run was
        interrupted before its first epoch ended.
    interrupted
        Whether Ctrl-C ended it; the best model so far is then what was
        written, and ``resume`` continues.
    """

    folder: Path
    manifest: dict[str, Any] | None
    interrupted: bool


def train_model(options: TrainOptions, observer: Observer) -> TrainResult:
    """Train a model, measure it on both held-out splits, and write its bundle.

    Parameters
    ----------
    options
        The arguments.
    observer
        Told of the progress.

    Raises
    ------
    UsageError
        For arguments or a data folder that do not fit, or if there is nothing
        to resume, before anything heavy.
    TrainingError
        If the unfinished run is another's, or the loss stops being finite.
    WeightsUnavailableError
        If ImageNet weights are needed and cannot be had.
    """
    task, recipe = options.task, get_recipe(options.task, options.recipe)
    folder = (options.out or trained_folder()) / task.name
    _check(options, folder)

    dataset = read_dataset(task, options.data)
    kept, dropped = drop_conflicts(dataset) if recipe.clean else (dataset.train, ())
    if dropped:
        observer.note(f"{len(dropped)} of {len(dataset.train)} training images kept out")
    splits: dict[str, Sequence[Item]] = {"train": kept, "test": dataset.test}
    if recipe.validation_fraction:
        train_items, validation = split_validation(kept, recipe.validation_fraction, options.seed)
        splits = {"train": train_items, "validation": validation, "test": dataset.test}
    digests = {name: _digest(items) for name, items in splits.items()}

    import_tensorflow("train")
    from medkit.training.fit import Checkpoint, Split, State, fit, image_weights, load_best
    from medkit.training.networks import build_network

    _make_repeatable(options.seed)
    checkpoint = Checkpoint(
        folder / CHECKPOINT_FOLDER,
        {"task": task.name, "recipe": _plain(recipe), "seed": options.seed, "data": digests},
    )
    state = checkpoint.load() if options.resume else State()
    if state.history:
        observer.note(f"continuing after epoch {len(state.history)}")
    network = build_network(task, recipe, options.weights)
    observer.note(f"{network.name}: {network.count_params():,} parameters")
    contract = contract_for(task)
    tensors = {
        name: Split(*load_tensors(items, contract), image_weights(recipe, items))
        for name, items in splits.items()
    }
    watched = tensors.get("validation", tensors["test"])
    _, interrupted = fit(
        network, task, recipe, tensors["train"], watched, options.seed, checkpoint, state, observer
    )
    if not state.history:
        return TrainResult(folder, None, interrupted)

    model = build_network(task, recipe, options.weights)
    load_best(model, checkpoint, state)
    manifest = _write_bundle(
        options, recipe, model, folder, state, tensors, splits, dropped, interrupted
    )
    if not interrupted:
        shutil.rmtree(folder / CHECKPOINT_FOLDER)
    return TrainResult(folder, manifest, interrupted)


def _check(options: TrainOptions, folder: Path) -> None:
    """Refuse what cannot work before anything heavy is imported or read."""
    if options.resume and options.overwrite:
        raise UsageError("--resume continues a run and --overwrite discards it; give one of them")
    check_seed(options.seed)
    check_layout(options.task, options.data)
    if options.weights is not None and not options.weights.is_file():
        raise UsageError(
            f"no file {options.weights}; --weights takes Keras' ResNet50 weights without top (.h5)"
        )
    for module, package in (("tensorflow", "tensorflow"), ("sklearn", "scikit-learn")):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(package, "export", "train")
    check_writable(folder)
    unfinished = folder / CHECKPOINT_FOLDER / "state.json"
    if options.resume and not unfinished.is_file():
        raise UsageError(f"no unfinished run in {folder}; leave --resume out to start one")
    if not options.resume and not options.overwrite:
        for path in (unfinished, folder / MANIFEST_NAME):
            if path.is_file():
                way = "--resume continues it, " if path is unfinished else ""
                raise UsageError(
                    f"{path} exists: {way}--overwrite replaces it, --out DIR goes elsewhere"
                )


def _make_repeatable(seed: int) -> None:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _write_bundle(
    options: TrainOptions,
    recipe: Recipe,
    model: Any,
    folder: Path,
    state: State,
    tensors: dict[str, Split],
    splits: dict[str, Sequence[Item]],
    dropped: Sequence[Dropped],
    interrupted: bool,
) -> dict[str, Any]:
    """Round, measure and save the model; draw the plots; write the manifest last."""
    from medkit.training.archive import round_weights, save_archive
    from medkit.training.fit import predict_probabilities
    from medkit.training.plots import plot_confusion, plot_curves, plot_roc

    task = options.task
    round_weights(model)
    scores = {
        name: predict_probabilities(model, split.images)
        for name, split in tensors.items()
        if name != "train"
    }
    threshold = 0.5 if task.binary else None
    chosen_on = "fixed"
    if "validation" in scores:
        threshold = balanced_threshold(task, tensors["validation"].labels, scores["validation"])
        chosen_on = "validation"
    metrics = {
        name: evaluate(task, tensors[name].labels, probabilities, threshold)
        for name, probabilities in scores.items()
    }

    folder.mkdir(parents=True, exist_ok=True)
    _remove_exports(folder)
    contract = contract_for(task).to_dict()
    card = ModelCard(task.name, task.labels, contract, threshold, "original", __version__)
    save_archive(model, card, folder / KERAS_NAME)
    watched = "validation" if "validation" in splits else "official test (not used to choose)"
    plot_curves(state.history, state.best_epoch, watched, folder / _PLOTS["curves"])
    test = tensors["test"]
    plot_roc(task, test.labels, scores["test"], threshold, folder / _PLOTS["roc"])
    plot_confusion(task, metrics["test"]["confusion"], folder / _PLOTS["confusion"])
    _write_dropped(dropped, folder / DROPPED_NAME)

    manifest: dict[str, Any] = {
        "format": 1,
        "task": task.name,
        "labels": list(task.labels),
        "contract": contract,
        "operating_point": {"name": "balanced", "threshold": threshold, "chosen_on": chosen_on},
        "metrics": metrics,
        "recipe": _plain(recipe),
        "seed": options.seed,
        "kept_epoch": state.best_epoch,
        "epochs": len(state.history),
        "interrupted": interrupted,
        "parameters": model.count_params(),
        "data": {
            "source": task.source,
            "counts": {name: class_counts(task, items) for name, items in splits.items()},
            "kept_out": len(dropped),
            "sha256": {name: _digest(items) for name, items in splits.items()},
        },
        "history": state.history,
        "versions": {"medkit": __version__, **_versions()},
        "files": {
            name: file_record(folder / name)
            for name in (KERAS_NAME, *_PLOTS.values(), DROPPED_NAME)
        },
        "exports": {},
    }
    write_manifest(folder, manifest)
    return manifest


def _remove_exports(folder: Path) -> None:
    """Delete exports of the model that is being replaced: they would decide like the old one."""
    for export_format in FORMATS:
        for precision in PRECISIONS:
            (folder / export_name(export_format, precision)).unlink(missing_ok=True)


def _write_dropped(dropped: Sequence[Dropped], path: Path) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("image", "reason"))
        writer.writerows((item.name, item.reason) for item in dropped)


def _digest(items: Sequence[Item]) -> str:
    """SHA-256 over names and content hashes: which images, under which labels."""
    lines = sorted(f"{item.sha256}  {item.name}\n" for item in items)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe in JSON's own types, so that it compares equal after a round trip."""
    plain = asdict(recipe)
    return {**plain, "stages": list(plain["stages"])}


def _versions() -> dict[str, str]:
    import platform

    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
