"""Edits of an ONNX graph that the converters do not offer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from medkit.errors import ExportError
from medkit_exporters.branches import check_count
from medkit_exporters.settings import Range


def take_raw_pixels(graph: Any) -> None:
    """Replace the float input and its quantisation by a uint8 input: the same numbers, unscaled."""
    (pixels,) = graph.input
    consumers = [node for node in graph.node if pixels.name in node.input]
    quantizers = [node for node in consumers if node.op_type == "QuantizeLinear"]
    if len(consumers) != 1 or len(quantizers) != 1:
        found = ", ".join(node.op_type for node in consumers)
        raise ExportError(f"the int8 input feeds {found}; expected one QuantizeLinear")
    (quantizer,) = quantizers
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    scale, zero_point = (constants[name].item() for name in quantizer.input[1:3])
    if (scale, zero_point) != (1.0, 0):
        raise ExportError(
            f"the int8 input has scale {scale} and zero point {zero_point}; "
            "it must have 1.0 and 0 so that raw pixels fit"
        )
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == quantizer.output[0]:
                node.input[position] = pixels.name
    graph.node.remove(quantizer)
    pixels.type.tensor_type.elem_type = TensorProto.UINT8


def clip_branches(graph: Any, ranges: Sequence[tuple[Range | None, ...]]) -> None:
    """Give the branches of rectified additions their ranges.

    As :func:`medkit_exporters.flatbuffer.clip_branches` does.
    """
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)

    def rectified(addition: Any) -> bool:
        (after,) = readers[addition.output[0]]
        # Without Relu or Clip, a lowest value of 0 rectifies.
        return after.op_type in ("Relu", "Clip") or (
            after.op_type == "QuantizeLinear" and constants[after.input[2]].item() == 0
        )

    additions = []
    for node in graph.node:
        if node.op_type == "Add" and rectified(node):
            dequantizers: list[Any] = [producers.get(name) for name in node.input]
            if all(item and item.op_type == "DequantizeLinear" for item in dequantizers):
                additions.append(dequantizers)
    check_count(len(additions), len(ranges))
    for dequantizers, pair in zip(additions, ranges, strict=True):
        for node, wanted in zip(dequantizers, pair, strict=True):
            if wanted is None:
                continue
            quantizer = producers[node.input[0]]
            step = np.array((wanted[1] - wanted[0]) / 255, np.float32)
            zero = np.array(round(-wanted[0] / float(step)), np.uint8)
            for position, name, array in ((1, "scale", step), (2, "zero_point", zero)):
                label = f"{node.name}/branch_{name}"
                graph.initializer.append(numpy_helper.from_array(array, label))
                for place in (quantizer, node):
                    place.input[position] = label


def cast_pixels(graph: Any) -> None:
    """Make the float input take the same numbers as bytes."""
    (pixels,) = graph.input
    floats = f"{pixels.name}_as_float"
    for node in graph.node:
        node.input[:] = [floats if name == pixels.name else name for name in node.input]
    cast = onnx.helper.make_node("Cast", [pixels.name], [floats], to=TensorProto.FLOAT)
    graph.node.insert(0, cast)
    pixels.type.tensor_type.elem_type = TensorProto.UINT8


def free_batch(graph: Any) -> None:
    """Name the first dimension of input and output, so that any batch size goes in."""
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    # Shapes recorded inside the graph may hold the converter's guesses of it.
    del graph.value_info[:]


def compact(model: Any) -> None:
    """Leave out of a model, in place, what no runtime needs: a thirtieth of a small int8 file."""
    graph = model.graph
    _drop_zero_points(graph)
    _drop_default_attributes(graph)
    _share_constants(graph)
    _drop_unused(model)
    _shorten_names(graph)


def _drop_zero_points(graph: Any) -> None:
    """Leave out the zero points of biases, 32-bit zeros, which are what an absent one means."""
    constants = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3:
            continue
        stored = constants.get(node.input[0])
        if stored is None or stored.data_type != TensorProto.INT32:
            continue
        if not numpy_helper.to_array(constants[node.input[2]]).any():
            del node.input[2]


def _drop_default_attributes(graph: Any) -> None:
    """Leave out of convolutions what says what is so anyway."""
    constants = {item.name: item for item in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        producer = producers.get(node.input[1])
        kernel = constants.get(producer.input[0] if producer is not None else node.input[1])
        for attribute in list(node.attribute):
            value = onnx.helper.get_attribute_value(attribute)
            by_default = (
                (attribute.name == "group" and value == 1)
                or (attribute.name in ("dilations", "strides") and set(value) == {1})
                or (attribute.name == "pads" and set(value) == {0})
                or (attribute.name == "auto_pad" and value == b"NOTSET")
                or (
                    attribute.name == "kernel_shape"
                    and kernel is not None
                    and list(value) == list(kernel.dims[2:])
                )
            )
            if by_default:
                node.attribute.remove(attribute)


def _share_constants(graph: Any) -> None:
    """Read equal constants from one place."""
    first: dict[tuple[Any, ...], str] = {}
    renamed = {}
    for item in graph.initializer:
        array = numpy_helper.to_array(item)
        key = item.data_type, array.shape, array.tobytes()
        renamed[item.name] = first.setdefault(key, item.name)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def _drop_unused(model: Any) -> None:
    """Require only constants and operator sets in use; the quantiser lists all that it knows."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    domains = {node.domain for node in graph.node}
    needed = [entry for entry in model.opset_import if entry.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(needed)


def _shorten_names(graph: Any) -> None:
    """Number the values, and call operators by their layer.

    The converters' names repeat the path of the layer up to four times for
    each node: a sixth of a small int8 file.
    """
    names: dict[str, str] = {value.name: value.name for value in (*graph.input, *graph.output)}

    def short(name: str) -> str:
        return names.setdefault(name, str(len(names))) if name else name

    for initializer in graph.initializer:
        initializer.name = short(initializer.name)
    taken: Counter[str] = Counter()
    for node in graph.node:
        layer = _layer(node.name)
        taken[layer] += 1
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = ""
        else:
            node.name = f"{layer}.{taken[layer]}" if taken[layer] > 1 else layer
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]


def _layer(name: str) -> str:
    """Return the layer in a node's path, without the number that the converter adds."""
    path = name.split("/")
    layer = path[1] if len(path) > 1 else name
    stem, _, number = layer.rpartition("_")
    return stem.rstrip("_") if number.isdigit() else layer
