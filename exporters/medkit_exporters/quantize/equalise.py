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

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit_exporters.quantize.channels import Channels, by_group, rectified, scalable_channels
from medkit_exporters.quantize.network import Rewritten, copy_network

# A channel that never fires, or weights near zero, would ask for endless factors.
_LEAST_SHARE, _LARGEST_FACTOR = 1 / 256, 16.0
_TINY = 1e-12


def equalise(model: Any, images: NDArray[np.uint8]) -> Rewritten:
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
    Rewritten
        The network, with the same outputs up to rounding.
    """
    copy = copy_network(model)
    groups, skipped = scalable_channels(copy, "equalise")
    for group, peaks in zip(groups, _mean_peaks(copy, groups, images), strict=True):
        group.scale(_factors(peaks, group.consumers))
    return Rewritten(copy, skipped)


def _mean_peaks(
    model: Any, groups: list[Channels], images: NDArray[np.uint8]
) -> list[list[NDArray[np.float32]]]:
    """Return each channel's maximum, averaged over images, of each tensor, shape (channels,)."""
    batches = [
        [_peaks(tensor).sum(axis=0) for tensor in tensors]
        for tensors in rectified(model, groups, images)
    ]
    return by_group(groups, (sum(parts) / len(images) for parts in zip(*batches, strict=True)))


def _peaks(activation: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each channel's maximum of each image, shape (n, channels)."""
    return np.asarray(activation.max(axis=tuple(range(1, activation.ndim - 1))))


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
