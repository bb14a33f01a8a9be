"""Normalisation moved into the first convolution, so that pixels reach it as they are.

A mean that is subtracted from 8-bit pixels gives numbers that 8 bits cannot
hold. Of ResNet50's rounding errors that is the largest single one. A
convolution can take the raw pixels and subtract the mean in its sums. At the
borders this needs help: the image is padded with zeros *after* normalisation,
so that there is nothing to subtract from. The pixels therefore get one more
channel that is 255 inside of the image and 0 in the padding; its weights hold
the offsets.

Importing this module imports Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from medkit_exporters.quantize.network import (
    Rewritten,
    Wiring,
    flat,
    is_plain_convolution,
)
from medkit_exporters.quantize.pixels import as_rescaling

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


def fold_rescaling(model: Any) -> Rewritten:
    """Return a network without the rescaling layers between its pixels and a convolution.

    Parameters
    ----------
    model
        A Keras model. One that does not begin with Rescaling or Normalization
        layers, paddings with zeros, and a convolution is returned as it is.

    Returns
    -------
    Rewritten
        The network, with the same outputs up to rounding.
    """
    network = as_rescaling(flat(model))
    chain, obstacle = _leading_chain(network)
    rescaling = [layer for layer in chain if _is_rescaling(layer)]
    if not rescaling:
        return Rewritten(model)
    if obstacle:
        return Rewritten(
            model, (f"fold: the rescaling of the pixels stays a step of its own: {obstacle}",)
        )
    convolution = chain[-1]
    scale, offset = np.ones(1), np.zeros(1)
    for layer in rescaling:
        factor, addend = np.ravel(layer.scale), np.ravel(layer.offset)
        scale, offset = scale * factor, offset * factor + addend

    def folded(layer: Any) -> Any:
        if layer is rescaling[0]:
            return MarkInside(name=layer.name)
        if layer in rescaling:
            return keras.layers.Identity(name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=folded)
    for old in network.layers:
        if old in rescaling or isinstance(old, keras.layers.InputLayer):
            continue
        new = copy.get_layer(old.name)
        if old is not convolution:
            new.set_weights(old.get_weights())
            continue
        kernel, *others = old.get_weights()
        shift = (kernel * np.reshape(offset, (-1, 1))).sum(axis=2, keepdims=True) / INSIDE
        kernel = np.concatenate([kernel * np.reshape(scale, (-1, 1)), shift], axis=2)
        new.set_weights([kernel, *others])
    return Rewritten(copy)


def _leading_chain(model: Any) -> tuple[Sequence[Any], str]:
    """Return the layers from the pixels to the first convolution, and what prevents folding.

    The latter is empty if nothing does.
    """
    wiring, tensor, padded = Wiring(model), model.inputs[0], False
    chain: list[Any] = []
    while True:
        readers = wiring.readers(tensor)
        if len(readers) != 1:
            return chain, f"{len(readers)} layers read its result"
        (layer,) = readers
        if is_plain_convolution(layer):
            return [*chain, layer], ""
        if _is_rescaling(layer):
            if padded:
                return [*chain, layer], "padding comes before it"
        elif type(layer) is keras.layers.ZeroPadding2D:
            padded = True
        else:
            return chain, f"{type(layer).__name__} reads its result"
        chain.append(layer)
        tensor = layer.output


def _is_rescaling(layer: Any) -> bool:
    """Whether a layer multiplies and adds, by one value for all or one for each channel."""
    if not isinstance(layer, keras.layers.Rescaling):
        return False
    channels = layer.output.shape[-1]
    return {np.size(layer.scale), np.size(layer.offset)} <= {1, channels}
