"""Ranges of branches that are added and rectified, for both formats.

A convolution without an activation before an addition reaches as far down as
up, and takes steps twice as wide as the sum's. Much of that range hardly
matters: what lies so low that the other branch cannot lift it above zero
makes zero, and what lies above the sum's top makes the top. Each range ends
where the error of the rectified *sum* is least.

Importing this module imports Keras.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from medkit.errors import ExportError
from medkit_exporters.settings import Range
from medkit_exporters.source import inputs_of

_IMAGES, _BATCH = 16, 8
_SHARES = np.linspace(1.0, 0.2, 17)
_ROUNDS = 2
_LEAST_SHARE = 1 / 64


def branch_ranges(model: Any, images: NDArray[np.uint8]) -> list[tuple[Range | None, ...]]:
    """Return the range that each input of each rectified addition should have.

    Parameters
    ----------
    model
        A Keras model.
    images
        uint8, shape (n, height, width, channels), calibration images.

    Returns
    -------
    list
        For each rectified addition of two tensors, in the order of the layers:
        the range of each input, or ``None`` where the input is not a branch of
        its own that ends in a convolution.
    """
    consumers = _consumers(model)
    found = []
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Add) or len(layer.input) != 2:
            continue
        after = consumers[id(layer.output)]
        top = _rectified_top(after[0]) if len(after) == 1 else None
        if top is None:
            continue
        free = [
            len(consumers[id(tensor)]) == 1 and _is_linear(model, tensor) for tensor in layer.input
        ]
        found.append((layer, top, free))
    wanted = [tensor for layer, _, free in found if any(free) for tensor in layer.input]
    if not wanted:
        return [(None,) * 2 for _ in found]
    probe = keras.Model(model.input, wanted)
    chosen = images[:: max(1, len(images) // _IMAGES)][:_IMAGES]
    batches = [
        [np.asarray(tensor).ravel() for tensor in probe(chosen[start : start + _BATCH])]
        for start in range(0, len(chosen), _BATCH)
    ]
    values = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    pairs = iter(zip(values[::2], values[1::2], strict=True))
    return [
        _best_ranges(next(pairs), top, free) if any(free) else (None, None)
        for _, top, free in found
    ]


def _best_ranges(
    pair: tuple[NDArray[np.float32], ...], top: float, free: list[bool]
) -> tuple[Range | None, ...]:
    return tuple(
        best_range(pair[side], pair[1 - side], top) if free[side] else None for side in (0, 1)
    )


def best_range(own: NDArray[np.float32], other: NDArray[np.float32], top: float) -> Range:
    """Return the range of 255 steps by which a rectified sum is off the least.

    Parameters
    ----------
    own, other
        Values of the branch and of what they are added to, shape (n,).
    top
        Where the rectified sum ends; infinity for no end.

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


def check_count(found: int, expected: int) -> None:
    """Raise :class:`ExportError` unless a file has its network's rectified additions."""
    if found != expected:
        raise ExportError(f"{found} rectified additions in the file; the network has {expected}")


def _consumers(model: Any) -> dict[int, list[Any]]:
    readers: dict[int, list[Any]] = {id(layer.output): [] for layer in model.layers}
    for layer in model.layers:
        for tensor in inputs_of(layer):
            readers.setdefault(id(tensor), []).append(layer)
    return readers


def _rectified_top(layer: Any) -> float | None:
    """Return where a ReLU ends; ``None`` if the layer is none."""
    if isinstance(layer, keras.layers.ReLU):
        return float(layer.max_value) if layer.max_value is not None else np.inf
    if isinstance(layer, keras.layers.Activation) and layer.activation.__name__ == "relu":
        return float(np.inf)
    return None


def _is_linear(model: Any, tensor: Any) -> bool:
    """Whether a tensor comes from a convolution, perhaps normalised, without an activation."""
    producers = {id(layer.output): layer for layer in model.layers}
    layer = producers[id(tensor)]
    if isinstance(layer, keras.layers.BatchNormalization):
        layer = producers[id(layer.input)]
    return isinstance(layer, keras.layers.Conv2D) and layer.activation.__name__ == "linear"
