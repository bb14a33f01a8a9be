"""Shapes and types of all tensors of an ONNX file, also around ONNX Runtime's own operators."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_UNARY = (0,)
_QUANTISED_PAIR = (0, 3)

STAND_INS: Mapping[str, tuple[str, tuple[int, ...]]] = MappingProxyType(
    {
        "QLinearAdd": ("Add", _QUANTISED_PAIR),
        "QLinearMul": ("Mul", _QUANTISED_PAIR),
        "QLinearAveragePool": ("AveragePool", _UNARY),
        "QLinearGlobalAveragePool": ("GlobalAveragePool", _UNARY),
        "QLinearReduceMean": ("ReduceMean", _UNARY),
        "QLinearSigmoid": ("Sigmoid", _UNARY),
        "QLinearSoftmax": ("Softmax", _UNARY),
        "QLinearLeakyRelu": ("LeakyRelu", _UNARY),
        "QuantizeLinear": ("QuantizeLinear", (0, 1, 2)),
        "DequantizeLinear": ("DequantizeLinear", (0, 1, 2)),
        "DynamicQuantizeLinear": ("DynamicQuantizeLinear", _UNARY),
        "Gelu": ("Identity", _UNARY),
        "FastGelu": ("Identity", _UNARY),
        "QuickGelu": ("Identity", _UNARY),
        "BiasGelu": ("Add", (0, 1)),
        "LayerNormalization": ("Identity", _UNARY),
        "SkipLayerNormalization": ("Identity", _UNARY),
        "SimplifiedLayerNormalization": ("Identity", _UNARY),
    }
)
"""Operators of ONNX Runtime that multiply no matrices: a standard operator whose output has the
same shape, and the places of the inputs that it takes."""

_PRODUCTS: Mapping[str, tuple[str, tuple[int, ...]]] = MappingProxyType(
    {
        "QGemm": ("Gemm", _QUANTISED_PAIR),
        "FusedGemm": ("Gemm", (0, 1)),
        "FusedConv": ("Conv", (0, 1)),
        "QLinearConv": ("QLinearConv", tuple(range(9))),
        "QLinearConvTranspose": ("ConvTranspose", _QUANTISED_PAIR),
        "DynamicQuantizeMatMul": ("MatMul", (0, 1)),
        "MatMulIntegerToFloat": ("MatMul", (0, 1)),
        "MultiHeadAttention": ("Identity", _UNARY),
    }
)
_GEMM_ONLY = ("transA", "transB")


def with_shapes(model: Any) -> Any:
    """Return a model whose tensors are all described, as far as the file tells.

    The batch is one image where its size is free. Functions of the file
    stand in its graph.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``. It is not changed.
    """
    import onnx

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    _one_image(twin.graph)
    imported = {item.domain for item in twin.opset_import}
    for domain in sorted({node.domain for node in twin.graph.node} - imported):
        twin.opset_import.add(domain=domain, version=1)  # else nothing is inferred
    replaced = {name for node in twin.graph.node if _stand_in(node) for name in node.output}
    for value in twin.graph.output:
        if value.name in replaced:
            value.ClearField("type")  # a product of integers may give another type
    inferred = onnx.shape_inference.infer_shapes(twin, data_prop=True).graph
    described = onnx.ModelProto()
    described.CopyFrom(model)
    for field in ("input", "output", "value_info"):
        del getattr(described.graph, field)[:]
        getattr(described.graph, field).extend(getattr(inferred, field))
    for node, twin_node in zip(described.graph.node, inferred.node, strict=True):
        _describe_inner(node, twin_node)
    return described


def _one_image(graph: Any) -> None:
    """Set the first side of the inputs to 1 where it is free, and every side of the same name."""
    held = {item.name for item in graph.initializer}
    names = set()
    for value in graph.input:
        sides = value.type.tensor_type.shape.dim
        if value.name in held or not sides or sides[0].HasField("dim_value"):
            continue
        names.add(sides[0].dim_param)
        sides[0].dim_value = 1
    for value in (*graph.input, *graph.output, *graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param and side.dim_param in names:
                side.dim_value = 1


def _stand_in(node: Any) -> bool:
    """Put the standard operator of the same shape in an operator's place, if there is one."""
    known = {**STAND_INS, **_PRODUCTS}.get(node.op_type)
    if known is None or node.domain in ("", "ai.onnx"):
        return False
    kind, places = known
    inputs = [node.input[place] for place in places if place < len(node.input)]
    node.op_type, node.domain = kind, ""
    del node.input[:]
    node.input.extend(inputs)
    if kind == "Gemm":
        kept = [item for item in node.attribute if item.name in _GEMM_ONLY]
        del node.attribute[:]
        node.attribute.extend(kept)
    return True


def _describe_inner(node: Any, twin: Any) -> None:
    """Copy what was inferred about the graphs inside of an operator."""
    for attribute, inferred in zip(node.attribute, twin.attribute, strict=False):
        if attribute.g.node:
            del attribute.g.value_info[:]
            attribute.g.value_info.extend(inferred.g.value_info)
            for inner, inner_twin in zip(attribute.g.node, inferred.g.node, strict=True):
                _describe_inner(inner, inner_twin)
