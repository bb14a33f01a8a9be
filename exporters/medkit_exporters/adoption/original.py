"""The Keras original of a lone exported file, which is kept so that parity compares both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.errors import UsageError
from medkit.models.bundle import KERAS_NAME
from medkit_exporters.adoption.base import ModelFacts, OpenedModel
from medkit_exporters.adoption.opening import Asked, opener_for
from medkit_exporters.adoption.options import AdoptOptions
from medkit_exporters.adoption.pixels import PixelRule

EXPORTED = (".tflite", ".onnx")
"""Suffixes of files that have an original."""


def check_original(options: AdoptOptions) -> None:
    """Refuse an original that cannot be one. No file is read.

    Raises
    ------
    UsageError
        If the model is no exported file, or if the original is one.
    ModelFileError
        If there is no such file.
    MissingExtraError
        If a package that it needs is absent.
    """
    if options.original is None:
        return
    if options.model.suffix.lower() not in EXPORTED:
        raise UsageError(
            f"--original is for {' and '.join(EXPORTED)} files; {options.model} is itself what "
            "parity compares with; leave --original out"
        )
    if options.original.suffix.lower() in EXPORTED:
        raise UsageError(
            f"{options.original} is an exported file itself; accepted by --original: the Keras "
            "model that it was made from"
        )
    opener_for(options.original)


def open_original(options: AdoptOptions, facts: ModelFacts) -> OpenedModel | None:
    """Open the original that was named, if any.

    Parameters
    ----------
    options
        The arguments.
    facts
        What the exported file tells.

    Raises
    ------
    UsageError
        If the exported file cannot have been made from it.
    ModelFileError
        If it is damaged, holds code, or is no classifier of images.
    """
    path = options.original
    if path is None:
        return None
    size = options.size
    if facts.width is not None and facts.height is not None:
        size = facts.width, facts.height
    original = opener_for(path).open(path, Asked(size, options.trust_code))
    for what, own, other in (
        ("channels", original.facts.channels, facts.channels),
        ("outputs", original.facts.outputs, facts.outputs),
    ):
        if own != other:
            raise UsageError(
                f"{path} has {own} {what}, and {options.model} has {other}; name the model that "
                "it was made from"
            )
    return original


def pixels_of_original(
    rules: tuple[PixelRule, ...],
    wanted: NDArray[np.float32],
    probabilities: Callable[[PixelRule], NDArray[np.float32]],
) -> PixelRule:
    """Return the pixel rule under which an original gives most nearly what its export gives.

    An export may have the normalisation in its graph where its original has
    none, or the other way round.

    Parameters
    ----------
    rules
        The rules that are tried; of several that are as near, the first is taken.
    wanted
        Probabilities that the export gives of some images.
    probabilities
        Gives those of the original, by a rule.
    """
    return min(rules, key=lambda rule: float(abs(probabilities(rule) - wanted).max()))


def check_kept(path: Path, original: Path) -> None:
    """Raise :class:`UsageError` unless an original could be kept as a Keras file."""
    if path.name != KERAS_NAME:
        raise UsageError(
            f"{original} cannot be kept as a Keras file; accepted by --original: .keras and .h5 "
            "files of Keras' own layers"
        )
