"""The adoption of a model that was trained elsewhere, from its file to a bundle.

TensorFlow is imported after the arguments have been checked.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medkit.batch.routing import colours_of
from medkit.datasets.division import divide
from medkit.datasets.own import read_own_images
from medkit.datasets.own_files import labels_in
from medkit.datasets.sampling import (
    check_seed,
    read_pixels,
    stratified_sample,
    truth_of,
)
from medkit.errors import UndecidedError, UsageError
from medkit.extras import require
from medkit.files import check_writable
from medkit.models.adoption import SAME
from medkit.models.multilabel import unmeasured
from medkit.tasks import Task
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
    check_learned,
    check_parts,
    fit,
    fixed_rules,
)
from medkit_exporters.adoption.measuring import Measured, Trials, find_rules
from medkit_exporters.adoption.opening import Asked, opener_for
from medkit_exporters.adoption.options import AdoptOptions, AdoptResult
from medkit_exporters.adoption.original import (
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
from medkit_exporters.adoption.writing import Found, Kept, write_bundle

MODULES = ("scipy", "sklearn", "jinja2", "tomli_w", "h5py")
"""Optional packages that every adoption needs, beside those of the file's kind."""

_SHARE = 0.3
"""Share of the images for validation, and for the test, where their folders do not tell."""

Note = Callable[[str], None]


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
        found = Found(task, rule, fixed_rules(task), Measured(), None)
        note(Remark("without --data, temperature and operating points are not fitted"))
    else:
        found = _find(options, opened, task, ending, note)
    kept = None
    if original is not None:
        note(f"comparing with {original.path}")
        kept = _beside(original, opened, found, ending)
    return write_bundle(options, opened, found, ending, kept)


def _beside(original: OpenedModel, opened: OpenedModel, found: Found, ending: str) -> Kept:
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
    return Kept(original, replace(found, pixels=rule, rules=rules), own)


def _find(options: AdoptOptions, opened: OpenedModel, task: Task, ending: str, note: Note) -> Found:
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
    contract = replace(task.contract, resize=resize)
    task = replace(task, contract=contract, images=colours_of(read_pixels(drawn, contract)))
    held_out = len(splits.validation) + len(splits.test)
    note(f"fitting temperature and operating points, measuring {counted(held_out, 'image')}")
    fitted = fit(task, splits, lambda pixels: predict(rule.apply(pixels)))
    return Found(task, rule, fitted, measured, splits)


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
