"""The ends of a TFLite file that any runtime can use: names, a signature, calibrated output.

Importing this module imports the schema of TFLite files, and no TensorFlow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from medkit.errors import ExportError
from medkit.models.card import ModelCard
from medkit.models.operators.summary import CALIBRATED_NAME
from medkit_exporters.formats.ends import IMAGE, PROBABILITIES, logit_factors
from medkit_exporters.formats.tflite_file import (
    add_operator,
    add_tensor,
    kind_of,
    read,
    set_data,
    write,
)

SIGNATURE = "serving_default"
"""Key of the signature; TensorFlow's own converters use the same."""

_KINDS = schema.BuiltinOperator


def with_final_ends(content: bytes, card: ModelCard) -> bytes:
    """Return a file with named ends and a signature, whose output is calibrated.

    Raises
    ------
    ExportError
        If the file does not end in a floating-point softmax or sigmoid.
    """
    model = read(content)
    graph = model.subgraphs[0]
    (pixels,), (output,) = graph.inputs, graph.outputs
    factors = logit_factors(card, int(graph.tensors[output].shape[-1]))
    if factors is not None:
        _multiply_logits(model, factors)
    graph.tensors[pixels].name = IMAGE.encode()
    graph.tensors[output].name = PROBABILITIES.encode()
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE.encode(), 0
    signature.inputs = [_named(IMAGE, pixels)]
    signature.outputs = [_named(PROBABILITIES, output)]
    model.signatureDefs = [signature]
    return write(model)


def _multiply_logits(model: Any, factors: NDArray[np.float32]) -> None:
    """Put a product with constants before the activation.

    A softmax of TFLite has a factor of its own, ``beta``. XNNPACK and other
    delegates do not take a softmax with another factor than 1, so a product is
    what every runtime computes.
    """
    graph = model.subgraphs[0]
    (output,) = graph.outputs
    place = next(
        (place for place, item in enumerate(graph.operators) if output in item.outputs), None
    )
    activation = None if place is None else graph.operators[place]
    if activation is None or kind_of(model, activation) not in (_KINDS.SOFTMAX, _KINDS.LOGISTIC):
        raise ExportError("the TFLite file does not end in a softmax or a sigmoid")
    (logits,) = activation.inputs
    if graph.tensors[logits].type != schema.TensorType.FLOAT32:
        raise ExportError("the last activation of the TFLite file is not computed in float32")
    columns = max(int(graph.tensors[logits].shape[-1]), len(factors))
    scaled = add_tensor(model, CALIBRATED_NAME, _resized(graph.tensors[logits].shape, columns))
    constant = add_tensor(model, CALIBRATED_NAME, factors.shape)
    set_data(model, graph.tensors[constant], factors)
    product = add_operator(model, _KINDS.MUL, [int(logits), constant], scaled)
    product.builtinOptionsType = schema.BuiltinOptions.MulOptions
    product.builtinOptions = schema.MulOptionsT()
    graph.operators.insert(place, graph.operators.pop())
    activation.inputs = np.array([scaled], np.int32)
    given = graph.tensors[output]
    given.shape = _resized(given.shape, columns)
    given.shapeSignature = _resized(given.shapeSignature, columns)


def _resized(shape: Any, columns: int) -> Any:
    """Return a shape with another last side; ``None`` stays."""
    return None if shape is None else np.array([*shape[:-1], columns], np.int32)


def _named(name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), int(tensor)
    return entry
