"""Edits of a TFLite file that the converter does not offer."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from medkit.bundles import CARD_NAME, ModelCard

_ACTIVATIONS = {
    "sigmoid": (schema.BuiltinOperator.LOGISTIC, schema.BuiltinOptions.NONE, None),
    "softmax": (
        schema.BuiltinOperator.SOFTMAX,
        schema.BuiltinOptions.SoftmaxOptions,
        schema.SoftmaxOptionsT,
    ),
}


def attach_card(content: bytes, card: ModelCard) -> bytes:
    """Return the file with ``card`` as its metadata buffer named ``medkit``.

    Tensors are renamed to the first layer that the converter fused into them.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    _shorten_names(model)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(card.to_json().encode(), dtype=np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = CARD_NAME
    entry.buffer = len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def append_activation(content: bytes, activation: str) -> bytes:
    """Return the file with a floating-point sigmoid or softmax after its output.

    An 8-bit activation knows 256 probabilities and rounds all below 1/512 to
    zero; in floating point the last 8-bit step is the logit's.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    (logits,) = graph.outputs
    output = _like(graph.tensors[logits], name="probabilities", buffer=len(model.buffers))
    model.buffers.append(schema.BufferT())
    graph.tensors.append(output)
    number = len(graph.tensors) - 1

    code, options_type, options = _ACTIVATIONS[activation]
    operator_code = schema.OperatorCodeT()
    operator_code.builtinCode = operator_code.deprecatedBuiltinCode = code
    operator_code.version = 1
    model.operatorCodes.append(operator_code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [logits], [number]
    if options is not None:
        operator.builtinOptionsType, operator.builtinOptions = options_type, options()
        operator.builtinOptions.beta = 1.0
    graph.operators.append(operator)
    graph.outputs = [number]
    for signature in model.signatureDefs or []:
        for named in signature.outputs:
            named.tensorIndex = number
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _like(tensor: Any, name: str, buffer: int) -> Any:
    """Return a new float32 tensor of the same shape."""
    copy = schema.TensorT()
    copy.shape, copy.shapeSignature = tensor.shape, tensor.shapeSignature
    copy.type, copy.name, copy.buffer = schema.TensorType.FLOAT32, name.encode(), buffer
    return copy


def _shorten_names(model: Any) -> None:
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            fused = tensor.name.decode().split(";")[0]
            tensor.name = fused.split("/", 1)[-1].encode()
