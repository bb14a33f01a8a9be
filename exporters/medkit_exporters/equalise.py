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

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from medkit_exporters.source import copy_network

_BATCH = 16
# A channel that never fires, or weights near zero, would ask for endless factors.
_LEAST_SHARE, _LARGEST_FACTOR = 1 / 64, 16.0
_TINY = 1e-12

_CAP = 6.0
_CAPPED_SHARE = 1e-5

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
    rectifiers
        ReLU layers, whose outputs' ranges count.
    consumers
        Layers that undo the factors in their kernels.
    fixed
        Whether something is tied in that knows no factors.
    """

    producers: list[Any] = field(default_factory=list)
    rectifiers: list[Any] = field(default_factory=list)
    consumers: list[Any] = field(default_factory=list)
    fixed: bool = False

    @property
    def scalable(self) -> bool:
        """Whether the channels can be scaled, and have ranges to do it by."""
        return bool(self.producers and self.rectifiers and self.consumers) and not self.fixed

    def scale(self, factors: NDArray[np.float32]) -> None:
        """Multiply the channels, in place, by ``factors``, shape (channels,) or (1,)."""
        for layer in self.producers:
            # All weights of a convolution, and scale and offset of a normalisation, end
            # in the channels; what follows in the latter are its statistics.
            scaled = 2 if isinstance(layer, keras.layers.BatchNormalization) else None
            weights = layer.get_weights()
            weights[:scaled] = [array * factors for array in weights[:scaled]]
            layer.set_weights(weights)
        for layer in self.consumers:
            kernel, *others = layer.get_weights()
            layer.set_weights([kernel / factors[:, np.newaxis], *others])


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
    copy = copy_network(model)
    groups = _scalable_channels(copy)
    for group, peaks in zip(groups, _measure(copy, groups, images, _peaks), strict=True):
        group.scale(_factors(peaks, group.consumers))
    return copy


def cap_activations(model: Any, images: NDArray[np.uint8]) -> Any:
    """Return a copy of a network whose rectified tensors end where hardly a value lies.

    The steps of an 8-bit tensor are as wide as its rarest value makes them.
    Here, all but one in a hundred thousand of a tensor's values lie below 6,
    and its ReLU becomes a ReLU6, which converters merge into the layer
    before. Tensors that can only be scaled together are scaled by the one
    that reaches farthest.

    Parameters
    ----------
    model, images
        As for :func:`equalise`.

    Returns
    -------
    keras.Model
        With the same outputs but for images that reach a cap.
    """
    copy = copy_network(model)
    groups = _scalable_channels(copy)
    for group, tops in zip(groups, _measure(copy, groups, images, _top), strict=True):
        group.scale(np.array([_CAP / max(*tops, _TINY)], dtype=np.float32))
    capped = {layer.name for group in groups for layer in group.rectifiers}

    def with_cap(layer: Any) -> Any:
        if layer.name in capped:
            return keras.layers.ReLU(max_value=_CAP, name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    return copy_network(copy, clone_function=with_cap)


def _scalable_channels(model: Any) -> list[_Channels]:
    """Group the network's channels by the commuting layers between them."""
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
        if _is_relu(layer):
            group.rectifiers.append(layer)
        if _commutes(layer):
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
    return [group for group in groups.values() if group.scalable]


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


def _measure(
    model: Any,
    groups: list[_Channels],
    images: NDArray[np.uint8],
    statistic: Callable[[NDArray[np.float32]], Any],
) -> list[list[Any]]:
    """Return a statistic of every rectified tensor, by group, averaged over batches."""
    tensors = [layer.output for group in groups for layer in group.rectifiers]
    if not tensors:
        return []
    probe = keras.Model(model.input, tensors)
    batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    sums = [0.0] * len(tensors)
    for batch in batches:
        outputs = probe(batch, training=False)
        outputs = outputs if len(tensors) > 1 else [outputs]
        sums = [a + statistic(np.asarray(b)) for a, b in zip(sums, outputs, strict=True)]
    means = iter(total / len(batches) for total in sums)
    return [[next(means) for _ in group.rectifiers] for group in groups]


def _peaks(activation: NDArray[np.float32]) -> Any:
    """Return each channel's maximum, averaged over images, shape (channels,)."""
    return activation.max(axis=(1, 2)).mean(axis=0)


def _top(activation: NDArray[np.float32]) -> Any:
    """Return the value that all but the share ``_CAPPED_SHARE`` lie below."""
    return np.quantile(activation, 1 - _CAPPED_SHARE)


def _factors(peaks: list[Any], consumers: list[Any]) -> NDArray[np.float32]:
    """Return the factor of each channel, shape (channels,), their geometric mean 1.

    The square root of the weights' share over the activation's share gives
    both the same share of their tensor's range.
    """
    shares = [np.maximum(peak / max(peak.max(), _TINY), _LEAST_SHARE) for peak in peaks]
    activation = np.exp(np.mean(np.log(shares), axis=0))
    kernels = [np.abs(layer.get_weights()[0]) for layer in consumers]
    reach = np.max([k.max(axis=(*range(k.ndim - 2), k.ndim - 1)) for k in kernels], axis=0)
    weights = np.maximum(reach / max(reach.max(), _TINY), _LEAST_SHARE)
    factors = np.sqrt(weights / activation)
    factors /= np.exp(np.log(factors).mean())
    return np.asarray(np.clip(factors, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR), dtype=np.float32)
