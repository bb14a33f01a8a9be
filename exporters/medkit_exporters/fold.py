"""Normalisation moved into the first convolution, so that pixels reach it as they are.

A mean that is subtracted from 8-bit pixels gives numbers that 8 bits no
longer hold: of ResNet50's rounding errors that is the largest single one. A
convolution can take the raw pixels and subtract the mean in its sums, but at
the borders, where it is padded with zeros *after* normalisation, there is
nothing to subtract from. The pixels therefore get one more channel that is
255 inside of the image and 0 in the padding; its weights hold the offsets.

Importing this module imports Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

INSIDE = 255.0
"""Value of the added channel: the largest of a pixel, so that it needs no other scale."""


class MarkInside(keras.layers.Layer):  # type: ignore[misc]
    """Appends a channel of :data:`INSIDE` to images (n, height, width, channels)."""

    def call(self, pixels: Any) -> Any:
        """Return the images as floats, with one channel more."""
        floats = keras.ops.cast(pixels, self.compute_dtype)
        return keras.ops.pad(
            floats, [[0, 0], [0, 0], [0, 0], [0, 1]], mode="constant", constant_values=INSIDE
        )


def fold_rescaling(model: Any) -> Any:
    """Return a network without the rescaling layers between its pixels and a convolution.

    Parameters
    ----------
    model
        A Keras model. One that does not begin with rescaling layers,
        paddings with zeros, and a convolution is returned as it is.

    Returns
    -------
    keras.Model
        With the same outputs, up to rounding.
    """
    chain = _leading_chain(model)
    if chain is None:
        return model
    *before, convolution = chain
    rescaling = [layer for layer in before if isinstance(layer, keras.layers.Rescaling)]
    scale, offset = np.ones(1), np.zeros(1)
    for layer in rescaling:
        scale, offset = scale * layer.scale, offset * layer.scale + layer.offset

    def folded(layer: Any) -> Any:
        if layer is rescaling[0]:
            return MarkInside(name=layer.name)
        if layer in rescaling:
            return keras.layers.Identity(name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=folded)
    for old, new in zip(model.layers, copy.layers, strict=True):
        weights = old.get_weights()
        if old is convolution:
            kernel = weights[0]
            shift = (kernel * np.reshape(offset, (-1, 1))).sum(axis=2, keepdims=True) / INSIDE
            weights[0] = np.concatenate([kernel * np.reshape(scale, (-1, 1)), shift], axis=2)
        new.set_weights(weights)
    return copy


def _leading_chain(model: Any) -> Sequence[Any] | None:
    """Return the layers from the pixels to the first convolution, if only they can be folded."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    chain = []
    for layer in layers:
        chain.append(layer)
        if type(layer) is keras.layers.Conv2D and layer.groups == 1:
            break
        if not isinstance(layer, keras.layers.Rescaling | keras.layers.ZeroPadding2D):
            return None
    found = [isinstance(layer, keras.layers.Rescaling) for layer in chain]
    if not chain or not any(found) or type(chain[-1]) is not keras.layers.Conv2D:
        return None
    padded = next((n for n, layer in enumerate(chain) if not found[n]), 0)
    return chain if not any(found[padded:]) else None
