"""Edits of an ONNX graph that the converters do not offer.

Importing this module imports the package ``onnx``.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx import TensorProto, numpy_helper
from onnx_ir.passes.common import (
    DeduplicateInitializersPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)

from medkit.errors import ExportError
from medkit_exporters.quantize.branches import Addition, Branch, layers_in, not_found


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


def divide(graph: Any) -> None:
    """Replace products with a reciprocal by divisions: the quantiser knows only the latter.

    Layer normalisation divides by a root. The graph is changed in place.
    """
    for reciprocal in [node for node in graph.node if node.op_type == "Reciprocal"]:
        (divisor,), (inverse,) = reciprocal.input, reciprocal.output
        readers = [node for node in graph.node if inverse in node.input]
        once = all(
            node.op_type == "Mul" and list(node.input).count(inverse) == 1 for node in readers
        )
        if not once or any(inverse == value.name for value in graph.output):
            continue
        for node in readers:
            (dividend,) = (name for name in node.input if name != inverse)
            node.op_type, node.input[:] = "Div", [dividend, divisor]
        graph.node.remove(reciprocal)


def keep_logits(graph: Any) -> None:
    """Take the last product's output as it is, instead of rounded to integers.

    The logits stay as fine as the integer product made them, so that ranking,
    and with it the AUC, is not lost to ties.
    """
    producers = {name: node for node in graph.node for name in node.output}
    activation = producers[graph.output[0].name]
    back: Any = producers.get(activation.input[0])
    there: Any = producers.get(back.input[0]) if back is not None else None
    if there is None or (back.op_type, there.op_type) != ("DequantizeLinear", "QuantizeLinear"):
        return  # the product computes in floats anyway
    activation.input[0] = there.input[0]
    for node in (back, there):
        if sum(node.output[0] in reader.input for reader in graph.node) == 0:
            graph.node.remove(node)


def clip_branches(graph: Any, additions: Sequence[Addition]) -> tuple[str, ...]:
    """Give the branches of rectified additions their ranges, in place.

    Parameters
    ----------
    graph
        Graph of an int8 file with uint8 activations.
    additions
        Additions that :func:`medkit_exporters.quantize.branches.branch_ranges` returned.
        They are found in the file by the names of their layers.

    Returns
    -------
    tuple of str
        A line about additions that are not found.
    """
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)

    def rectified(addition: Any) -> bool:
        after = readers[addition.output[0]]
        # Without Relu or Clip, a lowest value of 0 rectifies.
        return len(after) == 1 and (
            after[0].op_type in ("Relu", "Clip")
            or (after[0].op_type == "QuantizeLinear" and constants[after[0].input[2]].item() == 0)
        )

    def names_of(tensor: str) -> set[str]:
        """Return the layers that a tensor's name, or that of the weights behind it, speaks of."""
        node = producers.get(tensor)
        weights = node.input[1:] if node is not None and node.op_type == "Conv" else []
        return layers_in(";".join([tensor, *weights]))

    def conversions_of(branch: Branch, addition: Any) -> list[tuple[Any, Any]]:
        """Return the nodes that quantise, and convert back, what may be a branch."""
        pairs = []
        for name in addition.input:
            back: Any = producers.get(name)
            there: Any = producers.get(back.input[0]) if back is not None else None
            if (
                there is not None
                and back.op_type == "DequantizeLinear"
                and there.op_type == "QuantizeLinear"
                and len(readers[there.output[0]]) == len(readers[name]) == 1
                and not names_of(there.input[0]).isdisjoint(branch.layers)
            ):
                pairs.append((there, back))
        return pairs

    nodes = [node for node in graph.node if node.op_type == "Add" and rectified(node)]
    missing = 0
    for addition in additions:
        places = [node for node in nodes if addition.name in layers_in(node.name)]
        found = [conversions_of(branch, place) for place in places for branch in addition.branches]
        if len(places) != 1 or any(len(pairs) != 1 for pairs in found):
            missing += 1
            continue
        for (pair,), branch in zip(found, addition.branches, strict=True):
            low, high = branch.range
            step = np.array((high - low) / 255, np.float32)
            zero = np.array(round(-low / float(step)), np.uint8)
            for position, name, array in ((1, "scale", step), (2, "zero_point", zero)):
                label = f"{pair[1].name}/branch_{name}"
                graph.initializer.append(numpy_helper.from_array(array, label))
                for place in pair:
                    place.input[position] = label
    return not_found(missing, len(additions))


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


def compact(model: Any) -> Any:
    """Return a model without what no runtime needs: a thirtieth of a small int8 file.

    The given model is changed.
    """
    _drop_zero_points(model.graph)
    _drop_default_attributes(model.graph)
    shared = onnx_ir.from_proto(model)
    for step in (
        # Equal constants of any size are stored once.
        DeduplicateInitializersPass(size_limit=sys.maxsize),
        RemoveUnusedNodesPass(),
        # The quantiser lists all operator sets that it knows.
        RemoveUnusedOpsetsPass(),
    ):
        step(shared)
    compacted = onnx_ir.to_proto(shared)
    del compacted.graph.value_info[:]  # it lists the shape of each constant
    _shorten_names(compacted.graph)
    return compacted


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
