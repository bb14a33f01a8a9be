"""Ranges of branches that are added and rectified, for both formats.

A convolution without an activation before an addition reaches as far down as
up, and takes steps twice as wide as the sum's. Much of that range hardly
matters: what lies so low that the other branch cannot lift it above zero
makes zero, and what lies above the sum's top makes the top. Each range ends
where the error of the rectified *sum* is least.

Importing this module imports Keras.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from medkit_exporters.quantize.network import (
    Wiring,
    activation_of,
    flat,
    inputs_of,
)
from medkit_exporters.settings import Range

_IMAGES, _BATCH = 16, 8
_SHARES = np.linspace(1.0, 0.2, 17)
_ROUNDS = 2
_LEAST_SHARE = 1 / 64


@dataclass(frozen=True)
class Branch:
    """An input of a rectified addition that has a range of its own.

    Attributes
    ----------
    layers
        Names of the convolution, and of the normalisation after it: a file
        may call the tensor by either.
    range
        Range that it should have.
    """

    layers: tuple[str, ...]
    range: Range


@dataclass(frozen=True)
class Addition:
    """A rectified addition of two tensors.

    Attributes
    ----------
    name
        Name of the Keras layer.
    branches
        The inputs that should have another range than the converter chose.
    """

    name: str
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class _Found:
    layer: Any
    top: float
    names: tuple[tuple[str, ...], ...]


def branch_ranges(model: Any, images: NDArray[np.uint8]) -> tuple[list[Addition], tuple[str, ...]]:
    """Return the range that each branch of each rectified addition should have.

    Parameters
    ----------
    model
        A Keras model.
    images
        uint8, shape (n, height, width, channels), calibration images.

    Returns
    -------
    additions, skipped
        The rectified additions of two tensors that have a branch which nothing
        else reads and which ends in a convolution; a line about the others,
        if there are any.
    """
    model = flat(model)
    wiring = Wiring(model)
    found: list[_Found] = []
    left: Counter[str] = Counter()
    for layer in wiring.operations:
        if not isinstance(layer, keras.layers.Add):
            continue
        after = wiring.readers(layer.output)
        top = _rectified_top(after[0]) if len(after) == 1 else None
        shapes = {tensor.shape for tensor in inputs_of(layer)}
        if len(inputs_of(layer)) != 2 or len(shapes) > 1:
            left["they add other than two tensors of one shape"] += 1
        elif top is None:
            left["no ReLU alone reads them"] += 1
        else:
            names = tuple(_linear_branch(wiring, tensor) for tensor in inputs_of(layer))
            if any(names):
                found.append(_Found(layer, top, names))
            else:
                left["they add no convolution of their own"] += 1
    skipped: tuple[str, ...] = ()
    if left:
        text = ", ".join(f"{reason} ({count})" for reason, count in left.most_common())
        total = left.total() + len(found)
        skipped = (f"branches: {left.total()} of {total} additions left as they are: {text}",)
    return _additions(model, found, images), skipped


def _additions(model: Any, found: Sequence[_Found], images: NDArray[np.uint8]) -> list[Addition]:
    if not found:
        return []
    wanted = [tensor for addition in found for tensor in inputs_of(addition.layer)]
    probe = keras.Model(model.input, wanted)
    chosen = images[:: max(1, len(images) // _IMAGES)][:_IMAGES]
    batches = [
        [
            np.asarray(tensor).ravel()
            for tensor in probe(chosen[start : start + _BATCH], training=False)
        ]
        for start in range(0, len(chosen), _BATCH)
    ]
    values = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    additions = []
    for addition, pair in zip(found, zip(values[::2], values[1::2], strict=True), strict=True):
        branches = tuple(
            Branch(names, best_range(pair[side], pair[1 - side], addition.top))
            for side, names in enumerate(addition.names)
            if names
        )
        additions.append(Addition(addition.layer.name, branches))
    return additions


def best_range(own: NDArray[np.float32], other: NDArray[np.float32], top: float) -> Range:
    """Return the range of 255 steps by which a rectified sum is off the least.

    Parameters
    ----------
    own, other
        Values of the branch and of what they are added to, shape (n,).
    top
        Upper end of the rectified sum; infinity for no end.

    Returns
    -------
    tuple of float
        Lowest and highest value, around 0.
    """
    exact = np.clip(own + other, 0, top)
    low, high = min(float(own.min()), 0.0), max(float(own.max()), 0.0)
    # Kernels cannot add numbers whose steps are too far apart.
    least = _LEAST_SHARE * max(float(other.max() - other.min()), high - low, 1e-6)
    high = max(high, least)
    widest = low, high

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        zero = np.rint(-low / step)
        rounded = (np.clip(np.rint(own / step) + zero, 0, 255) - zero) * step
        return float(np.square(np.clip(rounded + other, 0, top) - exact).mean())

    for _ in range(_ROUNDS):
        low = min((share * widest[0] for share in _SHARES), key=lambda end: error(end, high))
        highs = (max(share * widest[1], least) for share in _SHARES)
        high = min(highs, key=lambda end: error(low, end))
    return float(low), float(high)


def layers_in(name: str) -> set[str]:
    """Return the names of layers that a tensor's or node's name in a converted file speaks of.

    The converters join the names of merged tensors by semicolons, and the
    parts of each by slashes. TensorFlow adds a number to the name of every
    layer.
    """
    parts = (part.partition(":")[0] for path in name.split(";") for part in path.split("/"))
    pairs = (part.rpartition("_") for part in parts)
    return {stem for stem, _, number in pairs if stem and number.isdigit()}


def not_found(count: int, total: int) -> tuple[str, ...]:
    """Return a line about additions that a converted file does not have, if there are any."""
    if not count:
        return ()
    return (f"branches: {count} of {total} additions are not found in the file",)


def _rectified_top(layer: Any) -> float | None:
    """Return where a ReLU ends; ``None`` if the layer is none."""
    if isinstance(layer, keras.layers.ReLU):
        if layer.negative_slope or layer.threshold:
            return None
        return float(layer.max_value) if layer.max_value is not None else np.inf
    if isinstance(layer, keras.layers.Activation):
        return {"relu": np.inf, "relu6": 6.0}.get(activation_of(layer))
    return None


def _linear_branch(wiring: Wiring, tensor: Any) -> tuple[str, ...]:
    """Return the names of the layers that a branch ends in; none if it is not one of its own.

    It comes from a convolution, perhaps normalised, without an activation.
    """
    if len(wiring.readers(tensor)) != 1:
        return ()
    layer, names = wiring.producer(tensor), []
    if isinstance(layer, keras.layers.BatchNormalization):
        names.append(layer.name)
        if len(wiring.readers(layer.input)) != 1:
            return ()
        layer = wiring.producer(layer.input)
    convolution = isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
    if not convolution or activation_of(layer) != "linear":
        return ()
    return (*names, layer.name)
