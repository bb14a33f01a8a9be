"""The ends of an ONNX file that any runtime can use: names, calibrated output.

Importing this module imports the package ``onnx``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from medkit.errors import ExportError
from medkit.models.card import ModelCard
from medkit.models.formats import CARD_NAME, export_formats
from medkit.models.operators.summary import CALIBRATED_NAME
from medkit.models.seal import sealed
from medkit_exporters.formats.ends import IMAGE, PROBABILITIES, logit_factors


def with_final_ends(content: bytes, card: ModelCard) -> bytes:
    """Return a file with named ends, whose output is calibrated.

    Raises
    ------
    ExportError
        If the file does not end in a softmax or sigmoid.
    """
    model = onnx.load_from_string(content)
    graph = model.graph
    (pixels,), (output,) = graph.input, graph.output
    sides = output.type.tensor_type.shape.dim
    factors = logit_factors(card, sides[-1].dim_value)
    if factors is not None:
        _multiply_logits(graph, factors)
        sides[-1].dim_value = max(sides[-1].dim_value, len(factors))
    _rename(graph, {pixels.name: IMAGE, output.name: PROBABILITIES})
    onnx.checker.check_model(model)
    final: bytes = model.SerializeToString()
    return final


def attach_card(content: bytes, card: ModelCard) -> bytes:
    """Return a file, sealed, with ``card`` as its only metadata property."""
    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, {CARD_NAME: card.to_json()})
    return sealed(model.SerializeToString(), export_formats()["onnx"].seal)


def _multiply_logits(graph: Any, factors: NDArray[np.float32]) -> None:
    """Put a product with constants before the activation, both in float32."""
    producers = {name: node for node in graph.node for name in node.output}
    (output,) = graph.output
    activation: Any = producers.get(output.name)
    widening = None
    if activation is not None and activation.op_type == "Cast":
        # A file in half precision. Its last steps are so small that they cost nothing in float32.
        widening, activation = activation, producers.get(activation.input[0])
    if activation is None or activation.op_type not in ("Softmax", "Sigmoid"):
        raise ExportError("the ONNX file does not end in a softmax or a sigmoid")
    (logits,) = activation.input
    graph.node.remove(activation)
    if widening is not None:
        graph.node.remove(widening)
        floats = f"{CALIBRATED_NAME}/float32"
        graph.node.append(onnx.helper.make_node("Cast", [logits], [floats], to=TensorProto.FLOAT))
        logits = floats
    constant = f"{CALIBRATED_NAME}/factors"
    graph.initializer.append(numpy_helper.from_array(factors, constant))
    graph.node.append(
        onnx.helper.make_node("Mul", [logits, constant], [CALIBRATED_NAME], name=CALIBRATED_NAME)
    )
    activation.input[0], activation.output[0] = CALIBRATED_NAME, output.name
    graph.node.append(activation)


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Give values other names; those of the converter's files are else numbers."""
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
