"""Groups of channels that can be multiplied by factors without a change of the outputs.

A channel can be made stronger where it is produced and its consumers weaker
by the same factor, because ReLU, pooling and addition commute with a positive
factor. Channels that meet in an addition must share their factors.

Importing this module imports Keras and SciPy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from medkit_exporters.quantize.network import (
    Wiring,
    activation_of,
    inputs_of,
    is_idle,
    is_plain_convolution,
    name_of,
    outputs_of,
)

_BATCH = 16

_COMMUTING = (
    keras.layers.AveragePooling2D,
    keras.layers.Cropping2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.UpSampling2D,
    keras.layers.ZeroPadding2D,
)

_PRODUCTS = (
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


@dataclass
class Channels:
    """Channels that must share their factors, because additions and the like tie them together.

    Attributes
    ----------
    producers
        Layers whose output channels can be scaled.
    rectifiers
        ReLU layers, whose outputs' ranges count.
    consumers
        Layers that undo the factors in their kernels.
    obstacles
        Parts of the network that are tied in and cannot be scaled, in words.
    quantised
        Whether the channels are computed by one product and read by another,
        so that their rounding matters.
    """

    producers: list[Any] = field(default_factory=list)
    rectifiers: list[Any] = field(default_factory=list)
    consumers: list[Any] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    quantised: bool = False

    @property
    def scalable(self) -> bool:
        """Whether the channels can be scaled, and have ranges to do it by."""
        return bool(self.producers and self.rectifiers and self.consumers) and not self.obstacles

    def add_writer(self, operation: Any, wiring: Wiring) -> None:
        """Enter an operation that writes a tensor of these channels."""
        if _is_plain_relu(operation):
            self.rectifiers.append(operation)
        if _can_scale_outputs(operation, wiring):
            self.producers.append(operation)
        elif not _commutes(operation):
            self.obstacles.append(f"{name_of(operation)} writes them")

    def add_reader(self, operation: Any, computed: bool) -> None:
        """Enter an operation that reads a tensor which a product ``computed``, or did not."""
        if isinstance(operation, _PRODUCTS) and computed:
            self.quantised = True
        if _can_undo(operation):
            self.consumers.append(operation)
        elif not _commutes(operation):
            self.obstacles.append(f"{name_of(operation)} reads them")

    def scale(self, factors: NDArray[np.float32]) -> None:
        """Multiply the channels, in place, by ``factors``, shape (channels,) or (1,)."""
        for layer in self.producers:
            # All weights of a product, and scale and offset of a normalisation, end
            # in the channels; what follows in the latter are its statistics.
            scaled = None
            if isinstance(layer, keras.layers.BatchNormalization):
                scaled = 2 if layer.center else 1
            weights = layer.get_weights()
            weights[:scaled] = [array * factors for array in weights[:scaled]]
            layer.set_weights(weights)
        for layer in self.consumers:
            kernel, *others = layer.get_weights()
            layer.set_weights([kernel / factors[:, np.newaxis], *others])


def scalable_channels(model: Any, step: str) -> tuple[list[Channels], tuple[str, ...]]:
    """Group a flat network's channels by the commuting layers between them.

    Parameters
    ----------
    model
        The network.
    step
        Beginning of the line about the other channels.

    Returns
    -------
    groups, skipped
        The groups that can be scaled; a line about the others, if there are any.
    """
    wiring = Wiring(model)
    tied, computed = _ties(model, wiring), _computed_by_products(wiring)
    groups: dict[int, Channels] = {}

    def group_of(tensor: Any) -> Channels:
        return groups.setdefault(tied[id(tensor)], Channels())

    for operation in wiring.operations:
        for tensor in outputs_of(operation):
            group_of(tensor).add_writer(operation, wiring)
        for tensor in inputs_of(operation):
            group_of(tensor).add_reader(operation, id(tensor) in computed)
    for tensor in model.inputs:
        group_of(tensor).obstacles.append("pixels are among them")
    for tensor in model.outputs:
        group_of(tensor).obstacles.append("the network returns them")
    return [group for group in groups.values() if group.scalable], _told(groups.values(), step)


def _ties(model: Any, wiring: Wiring) -> DisjointSet:
    """Return the tensors, by identity, in sets whose channels must share their factors."""
    tied = DisjointSet(id(tensor) for tensor in model.inputs)
    for operation in wiring.operations:
        for tensor in outputs_of(operation):
            tied.add(id(tensor))
            if _commutes(operation):
                for source in inputs_of(operation):
                    tied.merge(id(source), id(tensor))
    return tied


def _computed_by_products(wiring: Wiring) -> set[int]:
    """Return the tensors, by identity, that a product has some part in."""
    computed: set[int] = set()
    for operation in wiring.operations:
        sources = {id(tensor) for tensor in inputs_of(operation)}
        if isinstance(operation, _PRODUCTS) or sources & computed:
            computed |= {id(tensor) for tensor in outputs_of(operation)}
    return computed


def _told(groups: Iterable[Channels], step: str) -> tuple[str, ...]:
    counted = [group for group in groups if group.quantised]
    left = [group for group in counted if not group.scalable]
    if not left:
        return ()
    reasons = Counter(
        reason
        for group in left
        for reason in dict.fromkeys(group.obstacles or ["no plain ReLU writes them"])
    )
    text = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    return (f"{step}: {len(left)} of {len(counted)} groups of channels left as they are: {text}",)


def _commutes(operation: Any) -> bool:
    """Whether a layer gives factors of its input's channels on to its output's."""
    if isinstance(operation, keras.layers.Add):
        # An input of one channel, or of one place for all, would need factors of its own.
        return len({tensor.shape for tensor in inputs_of(operation)}) == 1
    if isinstance(operation, _COMMUTING):
        return bool(operation.data_format == "channels_last")
    return is_idle(operation) or _is_plain_relu(operation)


def _is_plain_relu(layer: Any) -> bool:
    """Whether a layer is a ReLU without an end or a slope below zero."""
    if isinstance(layer, keras.layers.ReLU):
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    return isinstance(layer, keras.layers.Activation) and activation_of(layer) == "relu"


def _can_scale_outputs(operation: Any, wiring: Wiring) -> bool:
    if isinstance(operation, keras.layers.BatchNormalization):
        # One that stays a step of its own has a single scale for the factors of all channels.
        last = len(operation.output.shape) - 1
        plain = operation.scale and operation.axis in (-1, last)
        return bool(plain and wiring.can_merge(operation))
    convolution = type(operation) is keras.layers.Conv2D
    if convolution and operation.data_format != "channels_last":
        return False
    product = convolution or type(operation) is keras.layers.Dense
    return product and activation_of(operation) == "linear"


def _can_undo(operation: Any) -> bool:
    return is_plain_convolution(operation) or type(operation) is keras.layers.Dense


def rectified(
    model: Any, groups: list[Channels], images: NDArray[np.uint8]
) -> Iterator[list[NDArray[np.float32]]]:
    """Yield every rectified tensor of the groups, batch by batch."""
    tensors = [layer.output for group in groups for layer in group.rectifiers]
    if not tensors:
        return
    probe = keras.Model(model.input, tensors)
    for start in range(0, len(images), _BATCH):
        outputs = probe(images[start : start + _BATCH], training=False)
        yield [np.asarray(item) for item in (outputs if len(tensors) > 1 else [outputs])]


def by_group(groups: list[Channels], values: Iterable[Any]) -> list[list[Any]]:
    """Return values of rectified tensors, which come one after the other, by group."""
    remaining = iter(values)
    return [[next(remaining) for _ in group.rectifiers] for group in groups]
