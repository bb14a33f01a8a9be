"""What is checked before a model is adopted: names, labels, and what only the user can tell."""

from __future__ import annotations

from pathlib import Path

from medkit.datasets.label_files import ACCEPTED, labels_beside, read_label_file
from medkit.datasets.labels import LABELS_MAP_OPTION, fold
from medkit.errors import UsageError
from medkit.images.contract import FULL_SCALE, RULES, InputContract
from medkit.tasks import Task, check_own_name
from medkit.tasks.task import check_labels, check_name
from medkit.wording import counted, unknown
from medkit_exporters.adoption.base import LOGITS, SIGMOID, SOFTMAX, ModelFacts
from medkit_exporters.adoption.options import AdoptOptions

LEAST_IMAGES = 20
"""Images that must measure at least: of fewer, nothing can be told."""


def check_arguments(options: AdoptOptions) -> None:
    """Refuse arguments that cannot be obeyed, whatever the model is. No file is read.

    Raises
    ------
    UsageError
        If there are such.
    """
    try:
        check_name(options.name)
        check_own_name(options.name)
    except ValueError as error:
        raise UsageError(f"--name: {error}") from error
    if options.resize and options.resize not in RULES["resize"]:
        raise UsageError(
            f"{unknown('resize', options.resize, RULES['resize'])}; docs/input.md says which "
            "library has which"
        )
    if options.images < LEAST_IMAGES:
        raise UsageError(
            f"{options.images} images to measure with; accepted: {LEAST_IMAGES} or more"
        )
    for path, option in ((options.labels, "--labels"), (options.trust_code, "--trust-code")):
        if path is not None and (path.is_dir() or not path.exists()):
            raise UsageError(f"no file {path}, which {option} names; check the path")


def read_size(text: str) -> tuple[int, int] | None:
    """Return width and height of a text such as ``224x224``; ``None`` for an empty one.

    Raises
    ------
    UsageError
        If it is none.
    """
    if not text:
        return None
    width, divided, height = text.lower().partition("x")
    if not divided or not width.isdecimal() or not height.isdecimal():
        raise UsageError(f"--size {text!r}; accepted: WIDTHxHEIGHT, such as 224x224")
    return int(width), int(height)


def labels_of(options: AdoptOptions, facts: ModelFacts, hint: tuple[str, ...]) -> tuple[str, ...]:
    """Return the labels in the order of the model's outputs.

    Parameters
    ----------
    options
        May name a file of labels.
    facts
        May hold labels, and tells how many there must be.
    hint
        Names of the class folders of the data, for the error.

    Raises
    ------
    UsageError
        If there are none, or if they do not fit the outputs, contradict each
        other or cannot be class folders.
    """
    path = options.labels or (None if facts.labels else labels_beside(options.model))
    labels, where = facts.labels, facts.labels_from
    if path is not None:
        labels, where = read_label_file(path), str(path)
    if not labels:
        found = f"; the class folders of {options.data} are {', '.join(hint)}" if hint else ""
        raise UsageError(
            f"{options.model} holds no labels; name them in the order of its outputs with "
            f"--labels FILE ({ACCEPTED}){found}"
        )
    try:
        check_labels(labels)
    except ValueError as error:
        raise UsageError(f"{where}: {error}; correct it") from error
    accepted = 2 if facts.outputs == 1 else facts.outputs
    if len(labels) != accepted:
        one = ", with the one that its score is for last" if facts.outputs == 1 else ""
        raise UsageError(
            f"{where} has {counted(len(labels), 'label')}, and the model gives "
            f"{counted(facts.outputs, 'value')}; accepted: {accepted} labels{one}"
        )
    return labels


def check_folders(options: AdoptOptions, labels: tuple[str, ...], folders: tuple[str, ...]) -> None:
    """Refuse images that hold no class folder of a label.

    Where they hold none of any, it is told when they are read.

    Raises
    ------
    UsageError
        If some labels have images, and others none.
    """
    there = set(map(fold, folders))
    missing = [label for label in labels if fold(label) not in there]
    if missing and len(missing) < len(labels):
        raise UsageError(
            f"{options.data} has no images of {', '.join(missing)}: found {', '.join(folders)}; "
            f"give images of each label, or say what a folder is with {LABELS_MAP_OPTION}"
        )


def ending_of(options: AdoptOptions, facts: ModelFacts) -> tuple[str, bool]:
    """Return what the adopted model ends in, and whether an image can have several labels.

    Raises
    ------
    UsageError
        If the model does not tell and nobody says it, or if it tells otherwise.
    """
    several = options.multi_label
    if facts.outputs == 1:
        if several:
            raise UsageError("a model of one value tells two labels apart; leave --multi-label out")
        if facts.ending == SOFTMAX:
            raise UsageError(
                f"{options.model} ends in a softmax of one value, which is always 1; no image "
                "matters to it"
            )
        return SIGMOID, False
    if facts.ending == LOGITS:
        if several is None:
            raise UsageError(
                f"{options.model} ends in {facts.outputs} logits, which do not tell how many "
                "labels an image has; say it with --one-label (a softmax follows) or "
                "--multi-label (a sigmoid for each)"
            )
        return (SIGMOID, True) if several else (SOFTMAX, False)
    told = facts.ending == SIGMOID
    if several is not None and several != told:
        raise UsageError(
            f"{options.model} ends in a {facts.ending}, so an image "
            f"{'can have several labels' if told else 'has one label'}; leave "
            f"{'--one-label' if told else '--multi-label'} out"
        )
    return facts.ending, told


def described(
    options: AdoptOptions, facts: ModelFacts, labels: tuple[str, ...], multi_label: bool
) -> Task:
    """Return the task, with the resize that was asked for, or the default until it is found.

    Raises
    ------
    UsageError
        If the alert label is missing or unknown, or if another value is wrong.
    """
    alert = options.alert
    if alert and alert not in labels:
        raise UsageError(unknown("label", alert, labels, "--alert"))
    binary = len(labels) == 2 and not multi_label
    if not alert and not multi_label:
        if not binary:
            raise UsageError(
                "which label must not be missed? The operating points are for it: name it with "
                f"--alert; accepted: {', '.join(labels)}"
            )
        alert = labels[1]
    height, width = facts.height, facts.width
    if height is None or width is None:
        raise UsageError(f"{options.model} takes images of any size; say which with --size")
    contract = InputContract(
        width=width,
        height=height,
        channels=facts.channels,
        decoder=FULL_SCALE,
        resize=options.resize or RULES["resize"][0],
    )
    try:
        return Task(
            name=options.name,
            title=options.title or options.name.replace("-", " ").replace("_", " "),
            labels=labels,
            contract=contract,
            positive=labels[1] if binary else None,
            alert=alert,
            multi_label=multi_label,
        )
    except ValueError as error:
        raise UsageError(f"{error}; correct it") from error


def check_blind(options: AdoptOptions, facts: ModelFacts, known: tuple[str, ...]) -> None:
    """Refuse to adopt a model without data if nothing tells how it was trained.

    Parameters
    ----------
    options, facts
        The arguments, and what the model tells.
    known
        Names of the pixel rules that can be meant.

    Raises
    ------
    UsageError
        If pixel rule or resize are missing.
    """
    data = "or give labelled images with --data, which tell it by measuring"
    if not options.pixels and facts.pixels is None and not facts.takes_bytes:
        raise UsageError(
            f"{options.model} does not tell which pixels it was trained on; say it with --pixels "
            f"({', '.join(known)}, or MEAN/STD), {data}"
        )
    if not options.resize:
        raise UsageError(
            "no model tells how its images were resized; say it with --resize, such as "
            f"{RULES['resize'][0]} (docs/input.md says which library has which), {data}"
        )


def check_free(options: AdoptOptions, taken: Path) -> None:
    """Raise :class:`UsageError` if a bundle is there and may not be replaced."""
    if taken.exists() and not options.overwrite:
        raise UsageError(
            f"{taken} exists: --overwrite replaces the model, --name or --out write elsewhere"
        )


def check_measurable(options: AdoptOptions, images: int) -> None:
    """Raise :class:`UsageError` if too few images are there to measure with."""
    if images < LEAST_IMAGES:
        raise UsageError(
            f"{options.data} leaves {counted(images, 'image')} to measure pixels and resize with, "
            f"beside the test part; accepted: {LEAST_IMAGES} or more, or --pixels and --resize"
        )
