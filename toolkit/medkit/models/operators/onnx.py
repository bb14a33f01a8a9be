"""The operators of an ONNX file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medkit.extras import require
from medkit.models.operators.summary import (
    CONVERSIONS,
    PRODUCTS,
    Operator,
    OperatorSummary,
    Pixels,
    fault_of,
    joint_type,
    size_of,
)


def read_operators(path: Path) -> OperatorSummary:
    """List what an ONNX file computes; raise any error for one that is damaged."""
    return summarise(path.read_bytes())


def summarise(content: bytes) -> OperatorSummary:
    """List what the bytes of an ONNX file hold.

    An operator between DequantizeLinear and QuantizeLinear computes in the
    integers that the former takes: runtimes merge the three.
    """
    require("inspect an .onnx file", "onnx")
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
    if not graph.node:
        raise ValueError("no operators")  # no bytes at all are a valid, empty message
    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    names[onnx.TensorProto.FLOAT] = "float32"
    shapes: dict[str, list[int]] = {item.name: list(item.dims) for item in graph.initializer}
    types = {item.name: names[item.data_type] for item in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        # A free batch size counts as one image.
        shapes[value.name] = [size.dim_value or 1 for size in tensor.shape.dim]
        types[value.name] = names[tensor.elem_type]
    producers = {name: node for node in graph.node for name in node.output}

    def taken(name: str) -> str:
        """Return the type that goes into an operator by this name."""
        producer = producers.get(name)
        if producer is not None and producer.op_type == "DequantizeLinear":
            name = producer.input[0]
        return str(types.get(name, "unknown"))

    constants = {item.name: item for item in graph.initializer}

    def weights_of(inputs: Sequence[str]) -> list[NDArray[Any]]:
        """Return an operator's second input, and its scales, where they are constants."""
        names = inputs[1:2]
        producer = producers.get(inputs[1]) if len(inputs) > 1 else None
        if producer is not None and producer.op_type == "DequantizeLinear":
            names = list(producer.input[:2])
        return [onnx.numpy_helper.to_array(constants[n]) for n in names if n in constants]

    operators = []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        operands = inputs[:2] if node.op_type in PRODUCTS else inputs[:1]
        own = node.op_type in CONVERSIONS
        found = (types.get(name, "unknown") if own else taken(name) for name in operands)
        operators.append(
            Operator(
                name=node.name or node.output[0],
                kind=node.op_type,
                computes_in=joint_type(found),
                work=_work(
                    node.op_type,
                    [shapes.get(name, []) for name in inputs],
                    shapes.get(node.output[0], []),
                ),
                fault=fault_of(node.op_type, weights_of(inputs)),
            )
        )
    pixels = _pixels(graph, names[graph.input[0].type.tensor_type.elem_type])
    return OperatorSummary(tuple(operators), dict(sorted(Counter(types.values()).items())), pixels)


def _pixels(graph: Any, dtype: str) -> Pixels:
    """Read by what scale and zero point the first DequantizeLinear takes the input."""
    from onnx import numpy_helper

    known = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == graph.input[0].name:
            values = [numpy_helper.to_array(known[name]).item() for name in node.input[1:]]
            return Pixels(dtype, float(values[0]), int(values[1]) if len(values) > 1 else 0)
    return Pixels(dtype)


def _work(kind: str, inputs: Sequence[Sequence[int]], output: Sequence[int]) -> int:
    if kind == "Conv":
        return size_of(output) * size_of(inputs[1][1:])
    if kind in ("MatMul", "Gemm"):
        return size_of(output) * inputs[0][-1]
    return 0
