"""What a Keras network tells of itself. Importing this module imports Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from medkit.errors import ExportError, ModelFileError, UsageError
from medkit.images.contract import LARGEST_SIDE, SMALLEST_SIDE
from medkit_exporters.adoption.base import LOGITS, SIGMOID, SOFTMAX, ModelFacts
from medkit_exporters.quantize.network import (
    Wiring,
    activation_of,
    flat,
    inputs_of,
    is_idle,
)

_ENDINGS = {"softmax": SOFTMAX, "sigmoid": SIGMOID, "linear": LOGITS}

_RESHAPING = ("Flatten", "Reshape", "Cast")
"""Layers after the last activation that leave each value as it is."""

_NORMALISING = frozenset(
    [
        "Add",
        "Cast",
        "CenterCrop",
        "Divide",
        "GetItem",
        "Multiply",
        "Normalization",
        "Rescaling",
        "Resizing",
        "Subtract",
        "TrueDivide",
        "ZeroPadding2D",
    ]
)
"""What networks begin with before their first product. Dropout and augmentation do nothing."""

_NORMALISED = 20.0
"""Bytes span 255. What spans less than this was normalised."""


def facts_of(network: Any, path: Path, size: tuple[int, int] | None) -> ModelFacts:
    """Read what a network takes and gives, and check that it classifies images.

    Parameters
    ----------
    network
        The Keras model.
    path
        Its file, for errors.
    size
        Width and height for a network that leaves them free.

    Raises
    ------
    ModelFileError
        If the network is no classifier of images, or holds weights that are not finite.
    UsageError
        If a size is missing, or contradicts the network's.
    """
    for many, what in ((network.inputs, "inputs"), (network.outputs, "outputs")):
        if len(many) != 1:
            raise ModelFileError(
                f"{path} has {len(many)} {what}; accepted: models with one input and one output"
            )
    height, width, channels = read_input(tuple(network.inputs[0].shape), path)
    outputs = read_outputs(tuple(network.outputs[0].shape), path)
    _check_weights(network, path)
    try:
        plain = flat(network)
    except ExportError as error:
        if not _is_own_class(network):
            raise ModelFileError(f"{path}: {error}") from error
        # A network by code of its own tells no layers; its numbers are all there is.
        height, width = sized(path, height, width, size)
        ending = ending_by_numbers(network, (height, width, channels))
        count = network.count_params()
        return ModelFacts(height, width, channels, outputs, ending, parameters=count)
    ending = _ending_of(plain, path)
    return ModelFacts(
        *sized(path, height, width, size),
        channels=channels,
        outputs=outputs,
        ending=ending,
        takes_bytes=_takes_bytes(plain),
        parameters=network.count_params(),
    )


def sized(
    path: Path, height: int | None, width: int | None, size: tuple[int, int] | None
) -> tuple[int, int]:
    """Return height and width of the input: the model's, or for a free size the one asked for.

    Raises
    ------
    UsageError
        If neither tells, if they contradict each other, or if a side is not accepted.
    """
    wide, high = size or (width, height)
    if wide is None or high is None:
        raise UsageError(
            f"{path} takes images of any size; say with --size WIDTHxHEIGHT which it was trained "
            "with, such as --size 224x224"
        )
    if height not in (None, high) or width not in (None, wide):
        raise UsageError(
            f"{path} takes images of {width or 'any'}x{height or 'any'} pixels, not of "
            f"{wide}x{high}; leave --size out"
        )
    for side in (wide, high):
        if not SMALLEST_SIDE <= side <= LARGEST_SIDE:
            raise UsageError(
                f"images of {wide}x{high} pixels; accepted: sides of "
                f"{SMALLEST_SIDE} to {LARGEST_SIDE:,} pixels"
            )
    return high, wide


def read_input(shape: tuple[Any, ...], path: Path) -> tuple[int | None, int | None, int]:
    """Return height, width and channels of a model's input; ``None`` for a side that is free.

    Raises
    ------
    ModelFileError
        If it does not take grey or colour images, the channels last.
    """
    if len(shape) != 4 or shape[3] not in (1, 3):
        hint = ""
        if len(shape) == 4 and shape[1] in (1, 3):
            hint = ": the channels come first, and medkit takes them last"
        elif len(shape) == 4 and shape[3] is not None:
            hint = f": {shape[3]} channels"
        raise ModelFileError(
            f"{path} takes inputs of shape {_shown(shape)}{hint}; accepted: images of shape "
            "(height, width, channels) with 1 (grey) or 3 channels (RGB)"
        )
    return shape[1], shape[2], shape[3]


def read_outputs(shape: tuple[Any, ...], path: Path) -> int:
    """Return the number of values that a model gives for an image.

    Raises
    ------
    ModelFileError
        If their shape is not that of a classification.
    """
    if len(shape) != 2 or shape[1] is None:
        raise ModelFileError(
            f"{path} gives values of shape {_shown(shape)} for an image, which is no "
            "classification; accepted: models that give one number for each label"
        )
    return int(shape[1])


def _shown(shape: tuple[Any, ...]) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape[1:])})"


def _check_weights(network: Any, path: Path) -> None:
    for variable in network.variables:
        values = np.asarray(variable)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise ModelFileError(
                f"{path} has weights that are no finite numbers, in {variable.path}; train it "
                "again, or take an earlier epoch"
            )


def _is_own_class(network: Any) -> bool:
    return not type(network).__module__.startswith("keras.")


def _ending_of(network: Any, path: Path) -> str:
    """Return what a flat network's outputs are."""
    wiring = Wiring(network)
    last = wiring.producer(network.outputs[0])
    while last is not None and (is_idle(last) or type(last).__name__ in _RESHAPING):
        last = wiring.producer(inputs_of(last)[0])
    kind = type(last).__name__
    name = kind.lower() if kind in ("Softmax", "Sigmoid") else activation_of(last)
    if name not in _ENDINGS:
        raise ModelFileError(
            f"{path} ends in the activation {name}; accepted: softmax, sigmoid, or none (logits)"
        )
    return _ENDINGS[name]


def ending_by_numbers(network: Any, shape: tuple[int, int, int]) -> str:
    """Return what the outputs are, by those for noise of several ranges."""
    noise = np.random.default_rng(0).uniform(-1, 1, (16, *shape)).astype(np.float32)
    parts = [np.asarray(network(noise * scale, training=False)) for scale in (1.0, 255.0)]
    given = np.concatenate(parts)
    if not ((given >= 0) & (given <= 1)).all():
        return LOGITS
    sums = given.sum(axis=1)
    return SOFTMAX if given.shape[1] > 1 and np.allclose(sums, 1, atol=1e-3) else SIGMOID


def _takes_bytes(network: Any) -> bool:
    """Whether a flat network begins with a normalisation of pixels of 0..255.

    What comes before the first product is run on black and on white.
    """
    wiring, tensor = Wiring(network), network.inputs[0]
    normalises = False
    while True:
        readers = wiring.readers(tensor)
        if len(readers) != 1:
            break
        (layer,) = readers
        kind = type(layer).__name__
        augments = kind.startswith("Random") or is_idle(layer)
        if not augments and (kind not in _NORMALISING or len(inputs_of(layer)) != 1):
            break
        normalises |= kind in ("Rescaling", "TrueDivide", "Divide", "Multiply", "Subtract", "Add")
        tensor = layer.output
    if not normalises:
        return False
    _, height, width, channels = network.inputs[0].shape
    shape = (1, height or 2 * SMALLEST_SIDE, width or 2 * SMALLEST_SIDE, channels)
    begun = keras.Model(network.inputs[0], tensor)
    black, white = (
        np.asarray(begun(np.full(shape, level, np.float32), training=False))
        for level in (0.0, 255.0)
    )
    span = float(np.abs(white - black).max())
    # Of 0..1, a rescaling makes less than 1/100; of bytes it makes some units.
    shifted = float(np.abs(black).max()) > _NORMALISED
    return _NORMALISED / 40 <= span < _NORMALISED or (span < 2 * 255 and shifted)
