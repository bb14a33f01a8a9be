"""Equalisation: a network rewritten so that 8 bits suit it, and that computes the same.

In a convolutional network one channel of an activation may span a hundredth
of another's range; quantised with one scale they share 256 steps, of which
the weak channel gets two or three. A channel can be made stronger where it is
produced and its consumers weaker by the same factor, without any change of
the network's output, because ReLU, pooling and addition commute with a
positive factor (Nagel et al. 2019, Data-Free Quantization Through Weight
Equalization and Bias Correction). Here, the factor also looks at the weights
that read the channel: they decide how much its errors count.

Importing this module imports Keras.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from medkit_exporters.source import copy_network, inputs_of

_BATCH = 16
# A channel that never fires, or weights near zero, would ask for endless factors.
_LEAST_SHARE, _LARGEST_FACTOR = 1 / 256, 16.0
_TINY = 1e-12

CAP = 6.0
"""Where :func:`cap_activations` lets rectified tensors end: at that of ReLU6."""

_BINS = 4096

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
    for group, peaks in zip(groups, _mean_peaks(copy, groups, images), strict=True):
        group.scale(_factors(peaks, group.consumers))
    return copy


def cap_activations(model: Any, images: NDArray[np.uint8], levels: int = 255) -> Any:
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
        As for :func:`equalise`.
    levels
        Steps of a tensor.

    Returns
    -------
    keras.Model
        With the same outputs but for images that reach a cap.
    """
    copy = copy_network(model)
    groups = _scalable_channels(copy)
    for group, histograms in zip(groups, _histograms(copy, groups, images), strict=True):
        top = max(best_top(counts, peak, levels) for counts, peak in histograms)
        group.scale(np.array([CAP / max(top, _TINY)], dtype=np.float32))
    capped = {layer.name for group in groups for layer in group.rectifiers}

    def with_cap(layer: Any) -> Any:
        if layer.name in capped:
            return keras.layers.ReLU(max_value=CAP, name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    return copy_network(copy, clone_function=with_cap)


def best_top(counts: NDArray[np.int64], peak: float, levels: int) -> float:
    """Return where a rectified tensor must end so that its mean square error is least.

    Parameters
    ----------
    counts
        How many positive values lie in each of equal parts of 0..``peak``.
    peak
        The largest value.
    levels
        Steps between 0 and the end.

    Returns
    -------
    float
        At most ``peak``. A value below the end is off by rounding, by a
        twelfth of a square step on average; one above by what is cut off.
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


def _scalable_channels(model: Any) -> list[_Channels]:
    """Group the network's channels by the commuting layers between them."""
    parents: dict[int, int] = {}

    def root(key: int) -> int:
        while parents.setdefault(key, key) != key:
            key = parents[key]
        return key

    for layer in model.layers:
        if _commutes(layer):
            for tensor in inputs_of(layer):
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
        for tensor in inputs_of(layer):
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


def _rectified(
    model: Any, groups: list[_Channels], images: NDArray[np.uint8]
) -> Iterator[list[NDArray[np.float32]]]:
    """Give every rectified tensor of the groups, batch by batch."""
    tensors = [layer.output for group in groups for layer in group.rectifiers]
    if not tensors:
        return
    probe = keras.Model(model.input, tensors)
    for start in range(0, len(images), _BATCH):
        outputs = probe(images[start : start + _BATCH], training=False)
        yield [np.asarray(item) for item in (outputs if len(tensors) > 1 else [outputs])]


def _by_group(groups: list[_Channels], values: Iterable[Any]) -> list[list[Any]]:
    remaining = iter(values)
    return [[next(remaining) for _ in group.rectifiers] for group in groups]


def _mean_peaks(
    model: Any, groups: list[_Channels], images: NDArray[np.uint8]
) -> list[list[NDArray[np.float32]]]:
    """Return each channel's maximum, averaged over images, of each tensor, shape (channels,)."""
    batches = [
        [_peaks(tensor).sum(axis=0) for tensor in tensors]
        for tensors in _rectified(model, groups, images)
    ]
    return _by_group(groups, (sum(parts) / len(images) for parts in zip(*batches, strict=True)))


def _histograms(
    model: Any, groups: list[_Channels], images: NDArray[np.uint8]
) -> list[list[tuple[NDArray[np.int64], float]]]:
    """Return for each tensor how its positive values are spread, and the largest."""
    batches = [[t.max() for t in tensors] for tensors in _rectified(model, groups, images)]
    tops = [max(*parts, _TINY) for parts in zip(*batches, strict=True)]
    counts = [np.zeros(_BINS, dtype=np.int64) for _ in tops]
    for tensors in _rectified(model, groups, images):
        for number, (tensor, top) in enumerate(zip(tensors, tops, strict=True)):
            positive = tensor[tensor > 0] * np.float32(_BINS / top)
            counts[number] += np.bincount(
                np.minimum(positive.astype(np.int32), _BINS - 1), minlength=_BINS
            )
    return _by_group(groups, zip(counts, map(float, tops), strict=True))


def _peaks(activation: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each channel's maximum of each image, shape (n, channels)."""
    return np.asarray(activation.max(axis=(1, 2)))


def _factors(peaks: list[Any], consumers: list[Any]) -> NDArray[np.float32]:
    """Return the factor of each channel, shape (channels,), their geometric mean 1.

    A rounding error of a channel counts by the size of the weights that read
    it, and its strength takes room from the others: the product of both sums
    over the channels is least where the factors are the square roots of size
    over strength.
    """
    shares = [np.maximum(peak / max(peak.max(), _TINY), _LEAST_SHARE) for peak in peaks]
    activation = np.exp(np.mean(np.log(shares), axis=0))
    kernels = [layer.get_weights()[0] for layer in consumers]
    squares = [np.square(k).sum(axis=(*range(k.ndim - 2), k.ndim - 1)) for k in kernels]
    size = np.sqrt(np.sum(squares, axis=0))
    weights = np.maximum(size / max(size.max(), _TINY), _LEAST_SHARE)
    factors = np.sqrt(weights / activation)
    factors /= np.exp(np.log(factors).mean())
    return np.asarray(np.clip(factors, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR), dtype=np.float32)
