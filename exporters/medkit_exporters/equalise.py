"""Equalisation: a network rewritten so that 8 bits suit it, and that computes the same.

In a convolutional network one channel of an activation may span a hundredth
of another's range; quantised with one scale they share 256 steps, of which
the weak channel gets two or three. A channel can be made stronger where it is
produced and its consumers weaker by the same factor, without any change of
the network's output, because ReLU, pooling and addition commute with a
positive factor (Nagel et al. 2019, Data-Free Quantization Through Weight
Equalization and Bias Correction). Here, the factor also looks at the weights
that read the channel, so that the trouble does not move into those.

Importing this module imports Keras.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

_BATCH = 16
# A channel that never fires, or weights near zero, would ask for endless factors.
_LEAST_SHARE, _LARGEST_FACTOR = 1 / 64, 16.0

_COMMUTING = (
    keras.layers.Add,
    keras.layers.Dropout,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.ZeroPadding2D,
)


@dataclass
class _Channels:
    """Channels that must share their factors: all that additions and the like tie together.

    Attributes
    ----------
    producers
        Layers whose output channels can be scaled.
    activations
        Rectified tensors whose ranges count.
    consumers
        Layers that undo the factors in their kernels.
    fixed
        Whether something is tied in that knows no factors.
    """

    producers: list[Any] = field(default_factory=list)
    activations: list[Any] = field(default_factory=list)
    consumers: list[Any] = field(default_factory=list)
    fixed: bool = False


def equalise(model: Any, images: NDArray[np.uint8]) -> Any:
    """Return a copy of a network whose channels use their ranges alike.

    Parameters
    ----------
    model
        A Keras model of convolutions, batch normalisations, ReLU, pooling
        and additions. Other layers are left alone, as are the channels that
        they read or write.
    images
        uint8, shape (n, height, width, channels), from which ranges are taken.

    Returns
    -------
    keras.Model
        With the same outputs, up to rounding.
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    groups = [
        group
        for group in _tied_channels(copy)
        if group.producers and group.activations and group.consumers and not group.fixed
    ]
    tensors = [tensor for group in groups for tensor in group.activations]
    if not tensors:
        return copy
    ranges = iter(_channel_ranges(keras.Model(copy.input, tensors), images))
    measured = [[next(ranges) for _ in group.activations] for group in groups]
    for group, spans in zip(groups, measured, strict=True):
        factors = _factors(spans, group.consumers)
        for layer in group.producers:
            _scale_output(layer, factors)
        for layer in group.consumers:
            kernel, *others = layer.get_weights()
            layer.set_weights([kernel / factors[:, np.newaxis], *others])
    return copy


def _tied_channels(model: Any) -> Iterator[_Channels]:
    """Group the network's tensors by the commuting layers between them."""
    parents: dict[int, int] = {}

    def root(key: int) -> int:
        while parents.setdefault(key, key) != key:
            key = parents[key]
        return key

    for layer in model.layers:
        if _commutes(layer):
            for tensor in _inputs(layer):
                parents[root(id(tensor))] = root(id(layer.output))
    groups: dict[int, _Channels] = {}

    def group_of(tensor: Any) -> _Channels:
        return groups.setdefault(root(id(tensor)), _Channels())

    for layer in model.layers:
        group = group_of(layer.output)
        if _commutes(layer):
            if _is_relu(layer):
                group.activations.append(layer.output)
            continue
        if isinstance(layer, keras.layers.BatchNormalization) or _is_linear_convolution(layer):
            group.producers.append(layer)
        else:
            group.fixed = True
        for tensor in _inputs(layer):
            if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
                group_of(tensor).consumers.append(layer)
            else:
                group_of(tensor).fixed = True
    for tensor in model.outputs:
        group_of(tensor).fixed = True
    yield from groups.values()


def _commutes(layer: Any) -> bool:
    return isinstance(layer, _COMMUTING) or _is_relu(layer)


def _is_relu(layer: Any) -> bool:
    if isinstance(layer, keras.layers.ReLU):
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    return isinstance(layer, keras.layers.Activation) and layer.activation.__name__ == "relu"


def _is_linear_convolution(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Conv2D) and layer.activation.__name__ == "linear"


def _inputs(layer: Any) -> list[Any]:
    if isinstance(layer, keras.layers.InputLayer):
        return []
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _channel_ranges(probe: Any, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Return the mean over images of each channel's maximum, one array a tensor."""
    sums: list[Any] = []
    for start in range(0, len(images), _BATCH):
        outputs = probe(images[start : start + _BATCH], training=False)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        peaks = [np.asarray(output).max(axis=(1, 2)).sum(axis=0) for output in outputs]
        sums = [a + b for a, b in zip(sums, peaks, strict=True)] if sums else peaks
    return [total / len(images) for total in sums]


def _factors(spans: list[NDArray[np.float32]], consumers: list[Any]) -> NDArray[np.float32]:
    """Return the factor of each channel, shape (channels,), their geometric mean 1.

    The square root of the weights' share over the activation's share gives
    both the same share of their tensor's range.
    """
    shares = [np.maximum(span / max(span.max(), 1e-12), _LEAST_SHARE) for span in spans]
    activation = np.exp(np.mean(np.log(shares), axis=0))
    kernels = [layer.get_weights()[0] for layer in consumers]
    weights = np.max(
        [np.abs(k).max(axis=(*range(k.ndim - 2), k.ndim - 1)) for k in kernels], axis=0
    )
    weights = np.maximum(weights / max(weights.max(), 1e-12), _LEAST_SHARE)
    factors = np.sqrt(weights / activation)
    factors /= np.exp(np.log(factors).mean())
    return np.asarray(np.clip(factors, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR), dtype=np.float32)


def _scale_output(layer: Any, factors: NDArray[np.float32]) -> None:
    if isinstance(layer, keras.layers.BatchNormalization):
        scale, offset, *statistics = layer.get_weights()
        layer.set_weights([scale * factors, offset * factors, *statistics])
    else:
        layer.set_weights([weights * factors for weights in layer.get_weights()])
