"""One training run from its arguments to the files in ``trained/<task>/``.

TensorFlow is imported only once arguments and data have been checked.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medkit.audit import audit_folder
from medkit.bundles import (
    FORMATS,
    KERAS_NAME,
    MANIFEST_NAME,
    PRECISIONS,
    Bundle,
    ModelCard,
    check_writable,
    export_name,
    file_record,
    trained_folder,
    write_manifest,
)
from medkit.datasets import (
    Dataset,
    Dropped,
    Item,
    check_layout,
    check_policy,
    check_seed,
    class_counts,
    find_conflicts,
    load_tensors,
    read_dataset,
    resolve_conflicts,
    split_validation,
    without_twins,
)
from medkit.decisions import (
    BALANCED,
    OperatingPoints,
    apply_temperature,
    decide,
)
from medkit.errors import DatasetLayoutError, MissingExtraError, UsageError
from medkit.images import contract_for
from medkit.metrics import evaluate_points, evaluate_test_split
from medkit.modelcard import write_card
from medkit.plots import plot_confusion, plot_curves, plot_reliability, plot_roc, save_png
from medkit.runtimes.keras import import_tensorflow
from medkit.splits import digest_of
from medkit.tasks import Task
from medkit.training.precision import compute_type, computing_in
from medkit.training.recipes import Recipe, get_recipe
from medkit.version import __version__

if TYPE_CHECKING:
    from medkit.training.fit import Observer, Split, State

CHECKPOINT_FOLDER = "unfinished"
_PLOTS = {
    "curves": "curves.png",
    "roc": "roc.png",
    "confusion": "confusion.png",
    "reliability": "reliability.png",
}
_NEEDED = (
    ("tensorflow", "tensorflow"),
    ("sklearn", "scikit-learn"),
    ("scipy", "scipy"),
    ("imagehash", "imagehash"),
)
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
    on_conflict
        One of :data:`medkit.datasets.POLICIES`; ``None`` leaves it to the recipe.
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
    on_conflict: str | None = None
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class _DataNotes:
    """What was wrong with the data and what became of it."""

    policy: str | None
    dropped: Sequence[Dropped]
    audit: dict[str, Any]
    untwinned: Sequence[bool]


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
    policy = _policy(options, recipe, dataset)
    kept, dropped = resolve_conflicts(dataset, policy) if policy else (dataset.train, ())
    audit = audit_folder(options.data, only=(task.train_folder, task.test_folder))
    if unreadable := audit.of("unreadable"):
        raise DatasetLayoutError(
            f"{len(unreadable)} of {audit.images} files cannot be decoded, such as "
            f"{unreadable[0].images[0]}; remove or replace them ('medkit audit' lists them)"
        )
    if dropped:
        observer.note(f"{len(dropped)} of {len(dataset.train)} training images kept out")
    splits: dict[str, Sequence[Item]] = {"train": kept, "test": dataset.test}
    if recipe.validation_fraction:
        train_items, validation = split_validation(kept, recipe.validation_fraction, options.seed)
        splits = {"train": train_items, "validation": validation, "test": dataset.test}
        _check_validation(task, validation)
    digests = {name: digest_of(items) for name, items in splits.items()}

    import_tensorflow("train")
    from medkit.training.fit import Checkpoint, Split, State, fit, image_weights, load_best
    from medkit.training.networks import build_network

    _make_repeatable(options.seed)
    checkpoint = Checkpoint(
        folder / CHECKPOINT_FOLDER,
        {
            "task": task.name,
            "recipe": _plain(recipe),
            "seed": options.seed,
            "data": digests,
            "compute type": compute_type(recipe),
        },
    )
    state = checkpoint.load() if options.resume else State()
    if state.history:
        observer.note(f"continuing after epoch {len(state.history)}")
    with computing_in(compute_type(recipe)):
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
        options,
        recipe,
        model,
        folder,
        state,
        tensors,
        splits,
        _DataNotes(policy, dropped, audit.summary(), without_twins(dataset)),
        interrupted,
    )
    if not interrupted:
        shutil.rmtree(folder / CHECKPOINT_FOLDER)
    return TrainResult(folder, manifest, interrupted)


def _check(options: TrainOptions, folder: Path) -> None:
    """Refuse what cannot work before anything heavy is imported or read."""
    if options.resume and options.overwrite:
        raise UsageError("--resume continues a run and --overwrite discards it; give one of them")
    check_seed(options.seed)
    if options.on_conflict is not None:
        check_policy(options.on_conflict)
    check_layout(options.task, options.data)
    if options.weights is not None and not options.weights.is_file():
        raise UsageError(
            f"no file {options.weights}; --weights takes Keras' ResNet50 weights without top (.h5)"
        )
    for module, package in _NEEDED:
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


def _policy(options: TrainOptions, recipe: Recipe, dataset: Dataset) -> str | None:
    """Return what to do with conflicts: as asked, else as the recipe says of these or of any."""
    if options.on_conflict is not None or recipe.on_conflict is None:
        return options.on_conflict
    known = find_conflicts(dataset).digest == recipe.known_conflicts
    return recipe.on_known_conflicts if known else recipe.on_conflict


def _check_validation(task: Task, validation: Sequence[Item]) -> None:
    """Refuse a validation split on which no operating point can be chosen."""
    alert = sum(task.labels[item.label] == task.alert for item in validation)
    if not 0 < alert < len(validation):
        raise DatasetLayoutError(
            f"the validation split of {len(validation)} images has {alert} of {task.alert}; "
            "give more training images of every class"
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
    data: _DataNotes,
    interrupted: bool,
) -> dict[str, Any]:
    """Round, measure and save the model; draw the plots; write the manifest last."""
    from medkit.training.archive import round_weights, save_archive
    from medkit.training.calibrate import changed_views, fit_rules, fixed_rules
    from medkit.training.fit import predict_probabilities

    task = options.task
    round_weights(model)
    held_out = {name: split for name, split in tensors.items() if name != "train"}
    temperature, points = fixed_rules(task)
    if (validation := held_out.get("validation")) is not None:
        temperature, points = fit_rules(
            task,
            validation.labels,
            lambda images: predict_probabilities(model, images),
            changed_views(validation.images, recipe.augmentation, options.seed),
        )
    scores = {
        name: apply_temperature(predict_probabilities(model, split.images), temperature)
        for name, split in held_out.items()
    }
    test = tensors["test"]
    metrics = {
        name: evaluate_points(task, split.labels, scores[name], points)
        for name, split in held_out.items()
        if name != "test"
    }
    metrics |= evaluate_test_split(task, test.labels, scores["test"], points, data.untwinned)

    folder.mkdir(parents=True, exist_ok=True)
    _remove_exports(folder)
    contract = contract_for(task).to_dict()
    card = ModelCard(task.name, task.labels, contract, temperature, points, "original", __version__)
    save_archive(model, card, folder / KERAS_NAME)
    watched = "validation" if "validation" in splits else "official test (not used to choose)"
    balanced = metrics["test"][BALANCED]
    for name, figure in (
        ("curves", plot_curves(state.history, state.best_epoch, watched)),
        ("roc", plot_roc(task, test.labels, scores["test"], points)),
        ("confusion", plot_confusion(task, balanced["confusion"])),
        ("reliability", plot_reliability(balanced)),
    ):
        save_png(figure, folder / _PLOTS[name])

    manifest: dict[str, Any] = {
        "format": 2,
        "task": task.name,
        "labels": list(task.labels),
        "contract": contract,
        "temperature": temperature,
        "operating_points": {name: point.to_dict() for name, point in points.items()},
        "chosen_on": "validation" if "validation" in held_out else "nothing: fixed",
        "metrics": metrics,
        "by_source": _by_source(task, splits, scores, points),
        "recipe": _plain(recipe),
        "seed": options.seed,
        "compute_type": compute_type(recipe),
        "kept_epoch": state.best_epoch,
        "epochs": len(state.history),
        "interrupted": interrupted,
        "parameters": model.count_params(),
        "data": {
            "source": task.source,
            "counts": {name: class_counts(task, items) for name, items in splits.items()},
            "on_conflict": data.policy,
            "kept_out": [asdict(item) for item in data.dropped],
            "audit": data.audit,
            "sha256": {name: digest_of(items) for name, items in splits.items()},
        },
        "history": state.history,
        "versions": {"medkit": __version__, **_versions()},
        "files": {name: file_record(folder / name) for name in (KERAS_NAME, *_PLOTS.values())},
        "exports": {},
    }
    write_manifest(folder, manifest)
    write_card(Bundle(folder, task, manifest))
    return manifest


def _by_source(
    task: Task,
    splits: dict[str, Sequence[Item]],
    scores: dict[str, NDArray[np.float32]],
    points: OperatingPoints,
) -> list[dict[str, Any]]:
    """Count, by class and source, the training images and how many others are found."""
    cells: dict[tuple[int, str], dict[str, Any]] = {}
    for split, items in splits.items():
        decided = decide(task, scores[split], points[BALANCED]) if split in scores else None
        for index, item in enumerate(items):
            if not item.source:
                continue
            empty = {"train": 0, **{name: {"images": 0, "found": 0} for name in scores}}
            cell = cells.setdefault((item.label, item.source), empty)
            if decided is None:
                cell["train"] += 1
            else:
                cell[split]["images"] += 1
                cell[split]["found"] += int(decided[index] == item.label)
    return [
        {"label": task.labels[label], "source": source, **cells[label, source]}
        for label, source in sorted(cells)
    ]


def _remove_exports(folder: Path) -> None:
    """Delete exports of the model that is being replaced: they would decide like the old one."""
    for export_format in FORMATS:
        for precision in PRECISIONS:
            (folder / export_name(export_format, precision)).unlink(missing_ok=True)


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
