"""Ends of activations: rectified tensors are cut off where their rounding error is least.

Importing this module imports Keras.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from medkit_exporters.quantize.channels import Channels, by_group, rectified, scalable_channels
from medkit_exporters.quantize.network import Rewritten, copy_network

CAP = 6.0
"""Where :func:`cap_activations` lets rectified tensors end: at that of ReLU6."""

_BINS = 4096
_TINY = 1e-12


def cap_activations(model: Any, images: NDArray[np.uint8], levels: int = 255) -> Rewritten:
    """Return a copy of a network whose rectified tensors end where their error is least.

    The steps of an integer tensor are as wide as its rarest value makes them.
    Here, every tensor ends at the value by which its mean square error is
    least: a lower one cuts off more than its finer steps gain. Tensors are
    scaled so that this end is 6, and their ReLU becomes a ReLU6, which
    converters merge into the layer before. Tensors that can only be scaled
    together are scaled by the one that reaches farthest.

    Parameters
    ----------
    model, images
        As for :func:`medkit_exporters.quantize.equalise.equalise`.
    levels
        Steps of a tensor.

    Returns
    -------
    Rewritten
        The network. Its outputs are the same, except for images that reach a cap.
    """
    copy = copy_network(model)
    groups, skipped = scalable_channels(copy, "ranges")
    for group, histograms in zip(groups, _histograms(copy, groups, images), strict=True):
        top = max(best_top(counts, peak, levels) for counts, peak in histograms)
        group.scale(np.array([CAP / max(top, _TINY)], dtype=np.float32))
    capped = {layer.name for group in groups for layer in group.rectifiers}

    def with_cap(layer: Any) -> Any:
        if layer.name in capped:
            return keras.layers.ReLU(max_value=CAP, name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    return Rewritten(copy_network(copy, clone_function=with_cap), skipped)


def best_top(counts: NDArray[np.int64], peak: float, levels: int) -> float:
    """Return the end of a rectified tensor that gives the least mean squared error.

    Parameters
    ----------
    counts
        Number of positive values in each of equal parts of 0..``peak``.
    peak
        The largest value.
    levels
        Steps between 0 and the end.

    Returns
    -------
    float
        The best end, at most ``peak``. The squared error of a value below the
        end is that of rounding, a twelfth of a square step on average. The
        error of a value above the end is the part that is cut off.
    """
    width = peak / len(counts)
    values = (np.arange(len(counts)) + 0.5) * width
    tops = np.arange(1, len(counts) + 1) * width
    below = np.cumsum(counts)
    # Sums over the values above each top: how many, of values, of squares.
    n, first, second = (
        (counts * values**power).sum() - np.cumsum(counts * values**power) for power in range(3)
    )
    error = second - 2 * tops * first + tops**2 * n + below * (tops / levels) ** 2 / 12
    return float(tops[np.argmin(error)])


def _histograms(
    model: Any, groups: list[Channels], images: NDArray[np.uint8]
) -> list[list[tuple[NDArray[np.int64], float]]]:
    """Return for each tensor how its positive values are spread, and the largest."""
    batches = [[t.max() for t in tensors] for tensors in rectified(model, groups, images)]
    tops = [max(*parts, _TINY) for parts in zip(*batches, strict=True)]
    counts = [np.zeros(_BINS, dtype=np.int64) for _ in tops]
    for tensors in rectified(model, groups, images):
        for number, (tensor, top) in enumerate(zip(tensors, tops, strict=True)):
            positive = tensor[tensor > 0] * np.float32(_BINS / top)
            counts[number] += np.bincount(
                np.minimum(positive.astype(np.int32), _BINS - 1), minlength=_BINS
            )
    return by_group(groups, zip(counts, map(float, tops), strict=True))
