"""A task of one's own: described from its images and the arguments, with a recipe for its network.

TensorFlow is not imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from medkit.datasets.division import SHARE
from medkit.datasets.entries import is_folder, visible_folders
from medkit.datasets.label_files import ACCEPTED, read_label_file
from medkit.datasets.labels import Labels, fold
from medkit.datasets.location import task_meant
from medkit.datasets.own_files import OwnFiles, labels_in, list_own_files
from medkit.defaults import OWN_NETWORK
from medkit.errors import DatasetLayoutError, ImageError, UsageError
from medkit.files import names_file
from medkit.images.contract import LARGEST_SIDE, SMALLEST_SIDE, InputContract
from medkit.images.reading import read_image
from medkit.models.recipe import OWN, Augmentation, Recipe, Stage
from medkit.tasks import Task, read_task, task_file
from medkit.tasks.task import check_labels, check_name
from medkit.training.applications import APPLICATIONS
from medkit.wording import unknown

NETWORKS = (OWN_NETWORK, *APPLICATIONS)
"""The networks that a task of one's own can have."""

GREY, COLOUR = 1, 3
"""Channels of the input."""

_SIDES = {OWN_NETWORK: 128}
_USUAL_SIDE = 224  # what most weights of keras.applications were trained with

_LOOKED_AT = 50  # images that tell whether a set is grey

_MOST_EPOCHS = 1000

Value = TypeVar("Value")

# No mirrored images: left and right may be what a task is about.
_AUGMENTATION = Augmentation(
    rotation=15.0,
    zoom=0.2,
    stretch=0.1,
    shift=0.08,
    brightness=0.25,
    contrast=0.25,
    gamma=0.25,
    noise=6.0,
    erase=0.2,
)


@dataclass(frozen=True)
class OwnOptions:
    """What is said of a task of one's own. What is left out is told by the images.

    Attributes
    ----------
    labels
        The labels, in the order of the model's outputs; empty for the class
        folders in alphabetical order.
    network
        One of :data:`NETWORKS`; letter case does not count.
    from_scratch
        Whether a network of ``keras.applications`` begins with random weights.
    size
        Width and height of the tensor in pixels; ``None`` for the network's
        usual one.
    channels
        :data:`GREY` or :data:`COLOUR`; ``None`` if the images tell.
    alert
        The label that must not be missed; ``None`` for the second of two.
    title
        One line for people; ``None`` for the name.
    epochs
        The most epochs; ``None`` for the recipe's.
    """

    labels: tuple[str, ...] = ()
    network: str = OWN_NETWORK
    from_scratch: bool = False
    size: tuple[int, int] | None = None
    channels: int | None = None
    alert: str | None = None
    title: str | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class OwnPlan:
    """A task of one's own, and how it is trained.

    Attributes
    ----------
    task, recipe
        The task and the recipe.
    remarks
        Lines on what was told by the images.
    """

    task: Task
    recipe: Recipe
    remarks: tuple[str, ...] = ()


def plan_own(
    name: str,
    data: Path,
    options: OwnOptions,
    folder: Path,
    spellings: Mapping[str, str] | None = None,
) -> OwnPlan:
    """Describe a task of one's own and choose its recipe. A few images are opened.

    Parameters
    ----------
    name
        The task's name.
    data
        The labelled images; see :func:`medkit.datasets.own.read_own_images`.
    options
        What is said of it.
    folder
        Folder that gets the model. A ``task.toml`` in it says what the options
        leave out.
    spellings
        Other spellings of labels; see
        :func:`medkit.datasets.labels.read_labels_map`.

    Raises
    ------
    UsageError
        If a name, a label or an option is not accepted, or if a name is nearly
        that of the built-in task whose images these are.
    DatasetLayoutError
        If there are no labelled images, or none for a label.
    ModelFileError
        If there is a ``task.toml`` that cannot be read.
    """
    _check(check_name, name)
    described = task_file(folder)
    before = read_task(described) if described else None
    if before is not None and before.multi_label:
        raise UsageError(
            f"{described}: {name} is a multi-label task, and medkit trains tasks with one label "
            "for each image; train it elsewhere, and bring it with: medkit adopt"
        )
    if before is None and (meant := task_meant(name, data)) is not None:
        raise UsageError(
            f"no task {name!r}, and {data} holds the classes of {meant.name}, which is built in; "
            f"did you mean {meant.name}? For a task of your own on these images choose a name "
            f"such as {meant.name}-own"
        )
    network = _network(options.network)
    labels = _labels(name, data, options.labels or (before.labels if before else ()), spellings)
    alert = _alert(labels, options.alert, before.alert if before else None)
    contract = before.contract if before else None
    found = _files(name, data, labels, spellings)
    remarks = [f"{name}, a task of your own: {', '.join(labels)}; not to be missed: {alert}"]
    channels = options.channels or (contract.channels if contract else None)
    if channels is None:
        channels = GREY if _are_grey(found) else COLOUR
        remarks.append(
            f"the images are {'grey' if channels == GREY else 'coloured'}, and so is the input; "
            f"give --{'colour' if channels == GREY else 'grey'} to change it"
        )
    side = _SIDES.get(network, _USUAL_SIDE)
    before_size = (contract.width, contract.height) if contract else (side, side)
    width, height = options.size or before_size
    _check_side(width, height)
    title = options.title or (before.title if before else name.replace("-", " ").replace("_", " "))
    plain = InputContract(width, height, channels)
    if contract is not None:
        plain = replace(contract, width=width, height=height, channels=channels)
    try:
        task = Task(
            name=name,
            title=title,
            labels=labels,
            contract=plain,
            positive=labels[1] if len(labels) == 2 else None,
            alert=alert,
        )
        if before is not None:
            task = replace(
                task, screening_sensitivity=before.screening_sensitivity, notes=before.notes
            )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return OwnPlan(task, _recipe(network, options), tuple(remarks))


def read_labels(given: str) -> tuple[str, ...]:
    """Return labels from a text such as ``a,b,c``, or from a file of labels.

    Raises
    ------
    UsageError
        If it is neither, or if the file cannot be read or holds no list of labels.
    """
    if names_file(given):
        return read_label_file(Path(given))
    labels = tuple(text.strip() for text in given.split(",") if text.strip())
    if len(labels) < 2:
        raise UsageError(
            f"--labels {given} is no file, and no list of labels; accepted: A,B,C, or {ACCEPTED}"
        )
    return labels


def read_size(given: str) -> tuple[int, int]:
    """Return width and height from a text such as ``128`` or ``160x120``.

    Raises
    ------
    UsageError
        If it is none.
    """
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", given.lower())
    if found is None:
        raise UsageError(f"--size {given}; accepted: pixels a side, or WIDTHxHEIGHT")
    return int(found[1]), int(found[2] or found[1])


def _network(name: str) -> str:
    """Return a network's name as it is written."""
    by_fold = {known.casefold(): known for known in NETWORKS}
    if name.casefold() not in by_fold:
        raise UsageError(unknown("network", name, NETWORKS))
    return by_fold[name.casefold()]


def _check(check: Callable[[Value], None], value: Value) -> None:
    """Call a check, and make a usage error of its :class:`ValueError`."""
    try:
        check(value)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _labels(
    name: str, data: Path, wanted: Sequence[str], spellings: Mapping[str, str] | None
) -> tuple[str, ...]:
    """Return the task's labels, checked against those that the images have."""
    found = labels_in(_set_in(name, data), spellings)
    labels = tuple(wanted or found)
    if not wanted and len(labels) < 2:
        there = f"one class only, {labels[0]!r}" if labels else "no class folder"
        raise DatasetLayoutError(
            f"{data} holds {there}; expected a folder of images for each of two or more classes"
        )
    _check(check_labels, labels)
    known = {fold(label) for label in found}
    missing = [label for label in labels if fold(label) not in known]
    if missing:
        raise DatasetLayoutError(
            f"{data} holds no class {', '.join(map(repr, missing))}; found: {', '.join(found)}"
        )
    return labels


def _set_in(name: str, data: Path) -> Path:
    """Return the folder of the task's name in a folder of sets, else the folder itself."""
    if not is_folder(data):
        return data
    inside = [each for each in visible_folders(data) if fold(each.name) == name]
    return inside[0] if len(inside) == 1 and visible_folders(inside[0]) else data


def _alert(labels: tuple[str, ...], given: str | None, before: str | None) -> str:
    if given is not None:
        if given not in labels:
            raise UsageError(f"--alert: {unknown('label', given, labels)}")
        return given
    if before in labels:
        return before
    if len(labels) == 2:
        return labels[1]
    raise UsageError(
        f"which of {len(labels)} labels must not be missed? give it with --alert; accepted: "
        f"{', '.join(labels)}"
    )


def _files(
    name: str, data: Path, labels: tuple[str, ...], spellings: Mapping[str, str] | None
) -> OwnFiles:
    """List the images; refuse them if a label has none."""
    any_input = InputContract(SMALLEST_SIDE, SMALLEST_SIDE, COLOUR)
    probe = Task(name, name, labels, any_input, None, labels[0])
    found = list_own_files(probe, data, Labels.of(probe, spellings))
    held = {label for file in found.files for label in file.labels}
    empty = [label for label in labels if label not in held]
    if empty:
        raise DatasetLayoutError(
            f"no image of {', '.join(empty)} in {found.root}; give some, or leave the class out "
            f"with --labels-map '{empty[0]}='"
        )
    return found


def _are_grey(found: OwnFiles) -> bool:
    """Whether some images, evenly drawn, are all grey; one that cannot be read does not count."""
    places = np.unique(np.linspace(0, len(found.files) - 1, _LOOKED_AT).astype(int))
    for place in places:
        try:
            pixels = np.asarray(read_image(found.files[place].path, least_side=64).pixels)
        except (ImageError, OSError):
            continue  # the audit names it
        if pixels.ndim == 3 and not (pixels == pixels[..., :1]).all():
            return False
    return True


def _check_side(width: int, height: int) -> None:
    for side in (width, height):
        if not SMALLEST_SIDE <= side <= LARGEST_SIDE:
            raise UsageError(
                f"--size {width}x{height}; accepted: {SMALLEST_SIDE} to {LARGEST_SIDE:,} pixels a "
                "side"
            )


def _recipe(network: str, options: OwnOptions) -> Recipe:
    """Return the recipe for a network."""
    if options.epochs is not None and not 1 <= options.epochs <= _MOST_EPOCHS:
        raise UsageError(f"--epochs {options.epochs}; accepted: 1 to {_MOST_EPOCHS:,}")
    from_scratch = options.from_scratch and network != OWN_NETWORK  # which knows nothing else
    if network == OWN_NETWORK or from_scratch:
        stages: tuple[Stage, ...] = (
            Stage(epochs=options.epochs or 40, learning_rate=2e-3, patience=10),
        )
        weight_decay, dropout = 1e-3, 0.3
    else:
        stages = _transfer_stages(network, options.epochs or 32)
        weight_decay, dropout = 5e-2, 0.2
    return Recipe(
        name=OWN,
        network=network,
        batch_size=32,
        stages=stages,
        augmentation=_AUGMENTATION,
        validation_fraction=SHARE,
        on_conflict="error",
        weight_cap=10.0,
        label_smoothing=0.05,
        weight_decay=weight_decay,
        dropout=dropout,
        from_scratch=from_scratch,
    )


def _transfer_stages(network: str, epochs: int) -> tuple[Stage, ...]:
    """Return the two stages of transfer learning, as the recipe for skin has them.

    The new head is trained first, on frozen features. Then a ResNet learns
    from conv4 on, and any other network as a whole, at a lower rate.
    """
    head = min(2, max(1, epochs // 4))
    stages = (Stage(epochs=head, learning_rate=2e-3, free_from=None),)
    if epochs == head:
        return stages
    is_resnet = network.startswith("ResNet")
    finer = Stage(
        epochs=epochs - head,
        learning_rate=3e-4 if is_resnet else 1e-4,
        free_from="conv4" if is_resnet else "",
        patience=8,
    )
    return (*stages, finer)
