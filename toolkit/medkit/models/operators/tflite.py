"""The operators of a TFLite file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.models.operators.summary import (
    PRODUCTS,
    Operator,
    OperatorSummary,
    Pixels,
    fault_of,
    joint_type,
    size_of,
)


def read_operators(path: Path) -> OperatorSummary:
    """List what a TFLite file computes; raise any error for one that is damaged."""
    return summarise(path.read_bytes())


def summarise(content: bytes) -> OperatorSummary:
    """List what the bytes of a TFLite file hold."""
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != b"TFL3":
        raise ValueError("no TFLite file")
    kinds = _names(schema.BuiltinOperator)
    types = {number: name.lower() for number, name in _names(schema.TensorType).items()}
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    codes = [
        kinds[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes
    ]
    operators = []
    tensors: Counter[str] = Counter()
    for graph in model.subgraphs:
        tensors.update(types[tensor.type] for tensor in graph.tensors)
        stored = {  # weights of half precision are taken through an operator
            int(node.outputs[0]): graph.tensors[node.inputs[0]]
            for node in graph.operators
            if codes[node.opcodeIndex] == "DEQUANTIZE"
        }
        for node in graph.operators:
            kind = codes[node.opcodeIndex]
            inputs = [graph.tensors[index] for index in node.inputs if index >= 0]
            constants = [stored.get(int(index), graph.tensors[index]) for index in node.inputs]
            operands = inputs[:2] if kind in PRODUCTS else inputs[:1]
            output = graph.tensors[node.outputs[0]]
            weights = inputs[1].shape if len(inputs) > 1 else ()
            operators.append(
                Operator(
                    name=output.name.decode(),
                    kind=kind,
                    computes_in=joint_type(types[tensor.type] for tensor in operands),
                    work=_work(kind, output.shape, weights),
                    fault=fault_of(kind, _weights(model, constants)),
                )
            )
    given = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
    scales = getattr(given.quantization, "scale", None)
    pixels = Pixels(types[given.type])
    if scales is not None and len(scales):
        zero_point = int(given.quantization.zeroPoint[0])
        pixels = Pixels(types[given.type], float(scales[0]), zero_point)
    return OperatorSummary(tuple(operators), dict(sorted(tensors.items())), pixels)


def _weights(model: Any, inputs: Sequence[Any]) -> list[NDArray[Any]]:
    """Return an operator's second input, and its scales, where they are constants."""
    if len(inputs) < 2:
        return []
    tensor = inputs[1]
    data = model.buffers[tensor.buffer].data
    known = {0: np.float32, 1: np.float16, 9: np.int8}  # by the schema's TensorType
    arrays = []
    if data is not None and len(data) and tensor.type in known:
        arrays.append(np.frombuffer(bytes(data), known[tensor.type]))
    scales = getattr(tensor.quantization, "scale", None)
    if scales is not None and len(scales):
        arrays.append(np.asarray(scales))
    return arrays


def _work(kind: str, output: Sequence[int], weights: Sequence[int]) -> int:
    if kind in ("CONV_2D", "FULLY_CONNECTED"):
        return size_of(output) * size_of(weights[1:])
    if kind == "DEPTHWISE_CONV_2D":
        return size_of(output) * size_of(weights[1:3])
    return 0


def _names(enumeration: Any) -> dict[int, str]:
    """Turn a class of numbered constants around."""
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}
