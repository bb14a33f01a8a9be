"""The adoption of a model that was trained elsewhere, from its file to a bundle.

TensorFlow is imported after the arguments have been checked.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.division import SPLITS_NAME, Splits, divide, write_splits
from medkit.datasets.own import read_own_images
from medkit.datasets.own_files import labels_in
from medkit.datasets.sampling import check_seed, class_counts, stratified_sample, truth_of
from medkit.datasets.splits import digest_of
from medkit.errors import ModelFileError, UndecidedError, UsageError
from medkit.extras import require
from medkit.files import check_writable, sha256_of
from medkit.models.adoption import SAME, UNCALIBRATED, Adoption
from medkit.models.bundle import KERAS_NAME, Bundle, file_record
from medkit.models.card import ModelCard
from medkit.models.decisions import apply_temperature
from medkit.models.formats import format_of
from medkit.models.manifest import (
    BY_PIXELS,
    DataRecord,
    ExportEntry,
    Manifest,
    write_manifest,
)
from medkit.models.multilabel import unmeasured
from medkit.models.runtimes.base import predict_all
from medkit.models.runtimes.loading import load_model
from medkit.reports.modelcard import write_card
from medkit.tasks import Task, write_task
from medkit.version import __version__
from medkit.wording import Remark, counted
from medkit_exporters.adoption.base import LOGITS, OpenedModel
from medkit_exporters.adoption.checks import (
    check_arguments,
    check_blind,
    check_folders,
    check_free,
    check_measurable,
    described,
    ending_of,
    labels_of,
)
from medkit_exporters.adoption.fitting import (
    Rules,
    check_learned,
    check_parts,
    fit,
    fixed_rules,
)
from medkit_exporters.adoption.measuring import Measured, Trials, find_rules
from medkit_exporters.adoption.opening import Asked, opener_for
from medkit_exporters.adoption.options import AdoptOptions, AdoptResult
from medkit_exporters.adoption.original import (
    check_kept,
    check_original,
    open_original,
    pixels_of_original,
)
from medkit_exporters.adoption.pixels import (
    BYTES,
    PIXEL_RULES,
    PixelRule,
    get_pixel_rule,
    rules_for,
)
from medkit_exporters.adoption.reference import noise_and_plain, probabilities_of

MODULES = ("scipy", "sklearn", "jinja2", "tomli_w", "h5py")
"""Optional packages that every adoption needs, beside those of the file's kind."""

_SHARE = 0.3
"""Share of the images for validation, and for the test, where their folders do not tell."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class _Found:
    """How a model is to be fed, and by which rules it decides."""

    task: Task
    pixels: PixelRule
    rules: Rules
    measured: Measured
    splits: Splits | None


def adopt_model(options: AdoptOptions, note: Note = lambda text: None) -> AdoptResult:
    """Adopt a model that was trained elsewhere: write its bundle and its ``task.toml``.

    Parameters
    ----------
    options
        The arguments.
    note
        Called with a line before each lengthy step, and with remarks on what
        was found.

    Raises
    ------
    MissingExtraError
        If a package is absent, before anything is read.
    UsageError
        If the arguments do not fit the model or the data.
    UndecidedError
        If measuring does not tell how the model was trained. It holds what
        was measured.
    ModelFileError
        If the file is damaged, holds code, or is no classifier of images.
    DatasetLayoutError
        If the labelled images cannot be read or divided.
    """
    check_arguments(options)
    check_original(options)
    opener = opener_for(options.model)
    require("adopt a model", *MODULES, extra="train")
    check_seed(options.seed)
    check_free(options, options.folder)
    check_writable(options.folder)
    if options.pixels:
        get_pixel_rule(options.pixels, 3)  # a wrong word, before the model is opened
    note(f"opening {options.model}")
    opened = opener.open(options.model, Asked(options.size, options.trust_code))
    facts = opened.facts
    for line in facts.remarks:
        note(Remark(line))
    original = open_original(options, facts)
    folders = labels_in(options.data, options.spellings) if options.data is not None else ()
    labels = labels_of(options, facts, folders)
    ending, multi_label = ending_of(options, facts)
    if not multi_label:
        check_folders(options, labels, folders)
    task = described(options, facts, labels, multi_label)
    if options.pixels:
        get_pixel_rule(options.pixels, facts.channels)
    if options.data is None:
        check_blind(options, facts, tuple(rule.name for rule in rules_for(facts.channels)))
        told = facts.pixels or PIXEL_RULES[BYTES]
        rule = get_pixel_rule(options.pixels, facts.channels) if options.pixels else told
        found = _Found(task, rule, fixed_rules(task), Measured(), None)
        note(Remark("without --data, temperature and operating points are not fitted"))
    else:
        found = _find(options, opened, task, ending, note)
    kept = None
    if original is not None:
        note(f"comparing with {original.path}")
        kept = _beside(original, opened, found, ending)
    return _written(options, opened, found, ending, kept)


@dataclass(frozen=True)
class _Kept:
    """The original of an exported file, and what was found for it."""

    opened: OpenedModel
    found: _Found
    ending: str


def _beside(original: OpenedModel, opened: OpenedModel, found: _Found, ending: str) -> _Kept:
    """Find the pixels that an original takes, and fit its rules."""
    task, images = found.task, noise_and_plain(found.task.contract.shape)
    own = original.facts.ending if original.facts.ending != LOGITS else ending

    def probabilities(rule: PixelRule, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return probabilities_of(original, rule.apply(pixels), own)

    rule = pixels_of_original(
        tuple(dict.fromkeys((found.pixels, *rules_for(task.contract.channels)))),
        probabilities_of(opened, found.pixels.apply(images), ending),
        lambda rule: probabilities(rule, images),
    )
    rules = fixed_rules(task)
    if found.splits is not None:
        rules = fit(task, found.splits, lambda pixels: probabilities(rule, pixels))
    return _Kept(original, replace(found, pixels=rule, rules=rules), own)


def _find(
    options: AdoptOptions, opened: OpenedModel, task: Task, ending: str, note: Note
) -> _Found:
    """Measure with labelled images how the model is to be fed, and fit its rules."""
    assert options.data is not None
    note(f"reading {options.data}")
    images = read_own_images(
        task, options.data, spellings=options.spellings, group_by=options.group_by
    )
    splits = divide(images, validation=_SHARE, test=_SHARE, seed=options.seed)
    for line in dict.fromkeys((*images.remarks(), *splits.remarks)):
        note(Remark(line))
    if "train" in images.parts and "validation" not in images.parts:
        note(
            Remark(
                "validation was cut from the training images; if the model was trained on them, "
                "its temperature is too confident: give a validation split"
            )
        )
    check_parts(task, splits)
    if task.multi_label:
        for line in unmeasured(task, truth_of(task, splits.validation)):
            note(Remark(line))

    def predict(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return probabilities_of(opened, values, ending)

    rules = _rules_to_try(options, opened, task)
    # The test part must tell how good the model is, so it takes no part in any choice.
    known = (*splits.validation, *splits.train)
    drawn = stratified_sample(known, min(options.images, len(known)), options.seed)
    given = bool(options.pixels and options.resize)
    if not given:
        check_measurable(options, len(drawn))
    truth = truth_of(task, drawn)
    trials = Trials(predict, task.contract, drawn, truth)
    try:
        rule, resize, measured = find_rules(
            trials, rules, options.resize, accept_tie=options.accept_tie, note=note
        )
    except UndecidedError:
        check_learned(task, truth, trials)
        raise
    if line := check_learned(task, truth, trials, asked=given):
        note(Remark(line))
    if any(each.verdict == SAME for each in measured.candidates) and not options.resize:
        note(
            Remark(
                "some resizes make the same pixels of these images, so nothing tells them apart; "
                f"{resize} is taken"
            )
        )
    told = opened.facts.pixels or (PIXEL_RULES[BYTES] if opened.facts.takes_bytes else None)
    if told is not None and rule != told:
        note(
            Remark(
                f"the model tells that it takes pixels {told.name}, and is better with "
                f"{rule.name}, which is taken"
            )
        )
    task = replace(task, contract=replace(task.contract, resize=resize))
    held_out = len(splits.validation) + len(splits.test)
    note(f"fitting temperature and operating points, measuring {counted(held_out, 'image')}")
    fitted = fit(task, splits, lambda pixels: predict(rule.apply(pixels)))
    return _Found(task, rule, fitted, measured, splits)


def _rules_to_try(options: AdoptOptions, opened: OpenedModel, task: Task) -> tuple[PixelRule, ...]:
    """Return the pixel rule that was asked for, or all that the file can be fed by."""
    channels = task.contract.channels
    if options.pixels:
        return (get_pixel_rule(options.pixels, channels),)
    told = (opened.facts.pixels,) if opened.facts.pixels is not None else ()
    fitting = []
    for rule in dict.fromkeys((*rules_for(channels), *told)):
        with suppress(UsageError):  # a file whose input are bytes takes nothing else
            opened.predict(rule.apply(np.full((1, *task.contract.shape), 127, np.uint8)))
            fitting.append(rule)
    return tuple(fitting)


def _written(
    options: AdoptOptions, opened: OpenedModel, found: _Found, ending: str, kept: _Kept | None
) -> AdoptResult:
    """Write the bundle into a folder beside its place, and move it there when it is whole."""
    folder, task = options.folder, found.task
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{task.name}-") as made:
        # A task's folder has the task's name.
        place = Path(made) / task.name
        place.mkdir()
        path = _write_model(place, opened, found, ending)
        if kept is not None:
            check_kept(_write_model(place, kept.opened, kept.found, kept.ending), kept.opened.path)
        manifest = _manifest(options, opened, found, path, kept)
        write_task(place, task)
        write_manifest(place, manifest)
        write_card(Bundle(place, task, manifest))
        if folder.exists():
            shutil.rmtree(folder)
        place.rename(folder)
    return AdoptResult(
        folder, task, manifest, folder / path.name, found.pixels.name, found.measured
    )


def _write_model(place: Path, opened: OpenedModel, found: _Found, ending: str) -> Path:
    """Write a model file with its card, and check what it gives."""
    task = found.task
    card = ModelCard(
        task=task.name,
        labels=task.labels,
        contract=task.contract,
        temperature=found.rules.temperature,
        operating_points=found.rules.points,
        precision="original",
        version=__version__,
        calibrated=found.splits is not None,
    )
    path = opened.write(place, card, found.pixels, ending)
    _check_alike(opened, path, found, ending)
    return path


def _check_alike(opened: OpenedModel, path: Path, found: _Found, ending: str) -> None:
    """Check on noise and plain images that the file that was written gives the same.

    Raises
    ------
    ModelFileError
        If a probability differs by more than the tolerance of the file.
    """
    written, images = load_model(path), noise_and_plain(found.task.contract.shape)
    temperature = found.rules.temperature
    wanted = apply_temperature(
        probabilities_of(opened, found.pixels.apply(images), ending),
        temperature,
        multi_label=found.task.multi_label,
    )
    difference = float(np.abs(predict_all(written, images) - wanted).max())
    # A temperature is applied to probabilities of 1e-7 at least, and in a graph to any.
    rounding = len(found.task.labels) * 1e-7 ** (1 / max(temperature, 1.0))
    if not difference <= opened.facts.tolerance / min(temperature, 1.0) + rounding:
        raise ModelFileError(
            f"{opened.path}: the file that was made of it gives probabilities that are off by "
            f"{difference:.2g}, so it was not kept; adopt another form of the model"
        )


def _manifest(
    options: AdoptOptions, opened: OpenedModel, found: _Found, path: Path, kept: _Kept | None
) -> Manifest:
    """Return the manifest of a bundle whose model file is written."""
    task, splits, measured = found.task, found.splits, found.measured
    record, files, exports = file_record(path), {}, {}
    reference = kept.found.rules if kept is not None else found.rules
    if kept is not None:
        files[KERAS_NAME] = file_record(path.with_name(KERAS_NAME))
    if path.name == KERAS_NAME:
        files[path.name] = record
    else:
        exports[path.name] = ExportEntry(
            bytes=record.bytes,
            sha256=record.sha256,
            precision=opened.facts.precision,
            format=format_of(path).name,
            temperature=load_model(path).card.temperature,
            operating_points=found.rules.points,
            graph_temperature=found.rules.temperature,
            metrics=found.rules.metrics or None,
        )
    data = DataRecord()
    if splits is not None:
        parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
        files[SPLITS_NAME] = file_record(write_splits(path.parent, splits))
        data = DataRecord(
            counts={name: class_counts(task, items) for name, items in parts.items()},
            sha256={name: digest_of(items) for name, items in parts.items()},
            compared_by=BY_PIXELS,
        )
    return Manifest(
        task=task.name,
        labels=task.labels,
        contract=task.contract,
        temperature=reference.temperature,
        operating_points=reference.points,
        chosen_on="validation" if splits is not None else UNCALIBRATED,
        metrics=reference.metrics,
        seed=options.seed,
        parameters=(kept.opened if kept is not None else opened).facts.parameters,
        data=data,
        versions={"medkit": __version__},
        adoption=Adoption(
            file=options.model.name,
            sha256="" if options.model.is_dir() else sha256_of(options.model),
            pixels=found.pixels.name,
            calibrated=splits is not None,
            images=measured.images,
            measured=measured.candidates,
        ),
        files=files,
        exports=exports,
    )
