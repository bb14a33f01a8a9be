"""The layers of Keras that medkit knows: what comes out of them, and how much work they are.

Shapes and options are those of a network's configuration, with one image in
the batch. No layer is made, and nothing of a file is run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from medkit.models.operators.products import UnknownShape

Sides = tuple[int | None, ...]
"""Shape of a tensor; ``None`` for a side that the input decides."""

Rule = Callable[[Mapping[str, Any], Sequence[Sides]], Any]

_SAME_SHAPE = frozenset(
    {
        *("Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization"),
        *("Dropout", "ELU", "GaussianDropout", "GaussianNoise", "GroupNormalization"),
        *("Identity", "LayerNormalization", "LeakyReLU", "Masking", "Normalization", "PReLU"),
        *("RMSNormalization", "RandomBrightness", "RandomColorJitter", "RandomContrast"),
        *("RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomHue", "RandomRotation"),
        *("RandomSaturation", "RandomShear", "RandomSharpness", "RandomTranslation"),
        *("RandomZoom", "ReLU", "Rescaling", "Softmax", "SpatialDropout1D", "SpatialDropout2D"),
        *("SpatialDropout3D", "SpectralNormalization", "ThresholdedReLU", "UnitNormalization"),
    }
)
"""Layers that give what they take, changed value by value."""

_MERGES = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"})


def is_known(kind: str) -> bool:
    """Whether the shape that a layer gives, and its work, are known from its configuration."""
    return kind in _SAME_SHAPE or kind in _MERGES or kind in _OUTPUTS or kind in _WORK


def does_work(kind: str) -> bool:
    """Whether a layer multiplies and adds."""
    return kind in _WORK


def output_of(kind: str, config: Mapping[str, Any], given: Sequence[Sides]) -> Sides | None:
    """Return the shape that a layer gives, or ``None`` if its inputs do not tell."""
    if not given:
        return None
    if kind in _SAME_SHAPE:
        return given[0]
    try:
        if kind in _MERGES:
            return _broadcast(given)
        found = _OUTPUTS[kind](config, given)
    except (UnknownShape, KeyError, IndexError, TypeError, ValueError):
        return None
    return tuple(found)


def work_of(kind: str, config: Mapping[str, Any], given: Sequence[Sides]) -> int | None:
    """Return the multiply-accumulates of a layer, or ``None`` if its inputs do not tell."""
    try:
        return int(_WORK[kind](config, given))
    except (UnknownShape, KeyError, IndexError, TypeError, ValueError):
        return None


def _size(sides: Sequence[int | None]) -> int:
    known = [side for side in sides if side is not None]
    if len(known) < len(sides):
        raise UnknownShape
    return math.prod(known)


def _broadcast(given: Sequence[Sides]) -> Sides:
    widest = max(map(len, given))
    aligned = [(1,) * (widest - len(sides)) + tuple(sides) for sides in given]
    return tuple(
        None if None in column else max(side or 0 for side in column)
        for column in zip(*aligned, strict=True)
    )


def _listed(value: Any, number: int) -> list[int]:
    """Return an option that is one number for all sides, or a list of one for each."""
    return [int(value)] * number if isinstance(value, int) else [int(item) for item in value]


def _channels_first(config: Mapping[str, Any]) -> bool:
    return config.get("data_format") == "channels_first"


def _split(config: Mapping[str, Any], sides: Sides) -> tuple[list[int | None], int | None]:
    """Return the places and the channels of a feature map."""
    if _channels_first(config):
        return list(sides[2:]), sides[1]
    return list(sides[1:-1]), sides[-1]


def _joined(config: Mapping[str, Any], places: Sequence[int | None], channels: int | None) -> Sides:
    return (1, channels, *places) if _channels_first(config) else (1, *places, channels)


def _slid(
    places: Sequence[int | None], size: Any, strides: Any, padding: str, dilation: Any = 1
) -> list[int | None]:
    """Return the places of a window that slides over others."""
    number = len(places)
    found: list[int | None] = []
    for place, k, s, d in zip(
        places,
        _listed(size, number),
        _listed(strides, number),
        _listed(dilation, number),
        strict=True,
    ):
        if place is None:
            found.append(None)
        elif padding == "valid":
            found.append((place - (k - 1) * d - 1) // s + 1)
        else:
            found.append(-(-place // s))
    return found


def _convolved(config: Mapping[str, Any], given: Sequence[Sides]) -> list[int | None]:
    places, _ = _split(config, given[0])
    return _slid(
        places,
        config["kernel_size"],
        config.get("strides", 1),
        config.get("padding", "valid"),
        config.get("dilation_rate", 1),
    )


def _convolution(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    return _joined(config, _convolved(config, given), config["filters"])


def _kernel(config: Mapping[str, Any], given: Sequence[Sides]) -> int:
    places, _ = _split(config, given[0])
    return math.prod(_listed(config["kernel_size"], len(places)))


def _convolution_work(config: Mapping[str, Any], given: Sequence[Sides]) -> int:
    _, channels = _split(config, given[0])
    taken = _size([channels]) // int(config.get("groups") or 1)
    return _size(_convolution(config, given)) * _kernel(config, given) * taken


def _depthwise(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    _, channels = _split(config, given[0])
    made = _size([channels]) * int(config.get("depth_multiplier", 1))
    return _joined(config, _convolved(config, given), made)


def _depthwise_work(config: Mapping[str, Any], given: Sequence[Sides]) -> int:
    return _size(_depthwise(config, given)) * _kernel(config, given)


def _separable_work(config: Mapping[str, Any], given: Sequence[Sides]) -> int:
    between = _size(_depthwise(config, given))
    return between * (_kernel(config, given) + int(config["filters"]))


def _transposed(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    places, _ = _split(config, given[0])
    number = len(places)
    extra = config.get("output_padding")
    found: list[int | None] = []
    for i, place in enumerate(places):
        k = _listed(config["kernel_size"], number)[i]
        s = _listed(config.get("strides", 1), number)[i]
        k = (k - 1) * _listed(config.get("dilation_rate", 1), number)[i] + 1
        same = config.get("padding", "valid") == "same"
        if place is None:
            found.append(None)
        elif extra is not None:
            cut = 2 * (k // 2) if same else 0
            found.append((place - 1) * s + k - cut + _listed(extra, number)[i])
        else:
            found.append(place * s + (0 if same else max(k - s, 0)))
    return _joined(config, found, config["filters"])


def _transposed_work(config: Mapping[str, Any], given: Sequence[Sides]) -> int:
    return _size(given[0]) * _kernel(config, given) * int(config["filters"])


def _pooled(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    places, channels = _split(config, given[0])
    size = config["pool_size"]
    strides = config.get("strides") or size
    return _joined(config, _slid(places, size, strides, config.get("padding", "valid")), channels)


def _pooled_whole(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    places, channels = _split(config, given[0])
    return _joined(config, [1] * len(places), channels) if config.get("keepdims") else (1, channels)


def _pairs(value: Any, number: int) -> list[tuple[int, int]]:
    """Return how much is added or cut before and after each side."""
    if isinstance(value, int):
        return [(value, value)] * number
    if number == 1 and all(isinstance(item, int) for item in value):
        return [(int(value[0]), int(value[-1]))]
    return [(item, item) if isinstance(item, int) else (item[0], item[1]) for item in value]


def _resized_by(option: str, sign: int) -> Rule:
    def rule(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
        places, channels = _split(config, given[0])
        pairs = _pairs(config[option], len(places))
        found = [
            None if place is None else place + sign * sum(pair)
            for place, pair in zip(places, pairs, strict=True)
        ]
        return _joined(config, found, channels)

    return rule


def _repeated(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    places, channels = _split(config, given[0])
    times = _listed(config["size"], len(places))
    found = [None if p is None else p * t for p, t in zip(places, times, strict=True)]
    return _joined(config, found, channels)


def _cut_to(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    _, channels = _split(config, given[0])
    return _joined(config, [int(config["height"]), int(config["width"])], channels)


def _reshaped(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    target = [int(side) for side in config["target_shape"]]
    if -1 in target:
        rest = math.prod(side for side in target if side != -1)
        target[target.index(-1)] = _size(given[0][1:]) // rest
    return (1, *target)


def _permuted(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    return (1, *(given[0][place] for place in config["dims"]))


def _concatenated(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    axis = int(config.get("axis", -1)) % len(given[0])
    total = _sum([sides[axis] for sides in given])
    return (*given[0][:axis], total, *given[0][axis + 1 :])


def _sum(sides: Sequence[int | None]) -> int | None:
    known = [side for side in sides if side is not None]
    return sum(known) if len(known) == len(sides) else None


def _dense(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    return (*given[0][:-1], int(config["units"]))


def _dense_work(config: Mapping[str, Any], given: Sequence[Sides]) -> int:
    return _size(given[0]) * int(config["units"])


def _einsum_sizes(config: Mapping[str, Any], given: Sequence[Sides]) -> dict[str, int | None]:
    """Return the size of each letter of the equation of a dense layer."""
    operands, _, result = config["equation"].replace(" ", "").partition("->")
    data = operands.partition(",")[0]
    if "." in data:
        raise UnknownShape  # the sides under an ellipsis have no letters
    made = config["output_shape"]
    made = [made] if isinstance(made, int) else list(made)
    sizes: dict[str, int | None] = dict(zip(result[-len(made) :], made, strict=True))
    return {**sizes, **dict(zip(data, given[0], strict=True))}


def _einsum(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    sizes = _einsum_sizes(config, given)
    return tuple(sizes[letter] for letter in config["equation"].replace(" ", "").split("->")[1])


def _einsum_work(config: Mapping[str, Any], given: Sequence[Sides]) -> int:
    return _size(list(_einsum_sizes(config, given).values()))


def _recurrent(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    units = int(config["units"])
    return (1, given[0][1], units) if config.get("return_sequences") else (1, units)


def _recurrent_work(gates: int) -> Rule:
    def rule(config: Mapping[str, Any], given: Sequence[Sides]) -> int:
        _, steps, taken = given[0]
        units = int(config["units"])
        return _size([steps]) * (_size([taken]) + units) * gates * units

    return rule


def _attention_work(config: Mapping[str, Any], given: Sequence[Sides]) -> int:
    """Count the projections of queries, keys and values, both products, and the projection back."""
    query, value = given[0], given[1] if len(given) > 1 else given[0]
    key = given[2] if len(given) > 2 else value
    heads, deep = int(config["num_heads"]), int(config["key_dim"])
    wide = int(config.get("value_dim") or deep)
    made = config.get("output_shape")
    out = _size([query[-1]]) if made is None else math.prod(_listed(made, 1))
    asked, seen = _size(query[:-1]), _size(value[:-1])
    projections = _size(query) * deep + _size(key) * deep + _size(value) * wide
    return heads * (projections + asked * seen * (deep + wide) + asked * wide * out)


def _attention(config: Mapping[str, Any], given: Sequence[Sides]) -> Sides:
    made = config.get("output_shape")
    return given[0] if made is None else (*given[0][:-1], *_listed(made, 1))


def _by_rank(name: str, rule: Rule) -> dict[str, Rule]:
    return {f"{name}{rank}D": rule for rank in (1, 2, 3)}


_OUTPUTS: Mapping[str, Rule] = MappingProxyType(
    {
        **_by_rank("Conv", _convolution),
        **_by_rank("SeparableConv", _convolution),
        **_by_rank("DepthwiseConv", _depthwise),
        **{f"Conv{rank}DTranspose": _transposed for rank in (1, 2, 3)},
        **_by_rank("MaxPooling", _pooled),
        **_by_rank("AveragePooling", _pooled),
        **_by_rank("GlobalMaxPooling", _pooled_whole),
        **_by_rank("GlobalAveragePooling", _pooled_whole),
        **_by_rank("ZeroPadding", _resized_by("padding", 1)),
        **_by_rank("Cropping", _resized_by("cropping", -1)),
        **_by_rank("UpSampling", _repeated),
        "CenterCrop": _cut_to,
        "RandomCrop": _cut_to,
        "Resizing": _cut_to,
        "Flatten": lambda config, given: (1, _size(given[0][1:])),
        "Reshape": _reshaped,
        "Permute": _permuted,
        "RepeatVector": lambda config, given: (1, int(config["n"]), given[0][-1]),
        "Concatenate": _concatenated,
        "Embedding": lambda config, given: (*given[0], int(config["output_dim"])),
        "Dense": _dense,
        "EinsumDense": _einsum,
        "LSTM": _recurrent,
        "GRU": _recurrent,
        "SimpleRNN": _recurrent,
        "MultiHeadAttention": _attention,
    }
)

_WORK: Mapping[str, Rule] = MappingProxyType(
    {
        **_by_rank("Conv", _convolution_work),
        **_by_rank("SeparableConv", _separable_work),
        **_by_rank("DepthwiseConv", _depthwise_work),
        **{f"Conv{rank}DTranspose": _transposed_work for rank in (1, 2, 3)},
        "Dense": _dense_work,
        "EinsumDense": _einsum_work,
        "LSTM": _recurrent_work(4),
        "GRU": _recurrent_work(3),
        "SimpleRNN": _recurrent_work(1),
        "MultiHeadAttention": _attention_work,
    }
)
