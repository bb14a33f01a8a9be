"""The ends of a foreign ONNX graph: what it begins with, what it ends in, and its batch.

Importing this module imports the package ``onnx``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from medkit.models.operators.summary import CALIBRATED_NAME, LOGITS_NAME, PIXELS_NAME
from medkit_exporters.adoption.base import LOGITS, SIGMOID, SOFTMAX
from medkit_exporters.adoption.normalisation import Step
from medkit_exporters.adoption.pixels import PixelRule
from medkit_exporters.adoption.reference import LEAST_PROBABILITY
from medkit_exporters.adoption.taken import Taken
from medkit_exporters.formats.ends import IMAGE, PROBABILITIES

_ACTIVATIONS = {SOFTMAX: "Softmax", SIGMOID: "Sigmoid"}

_IN_INTEGERS = {"QLinearSoftmax": SOFTMAX, "QLinearSigmoid": SIGMOID}
"""ONNX Runtime's own; their first inputs are integers, their scale and their zero point."""

_ENDINGS = {"Softmax": SOFTMAX, "Sigmoid": SIGMOID, **_IN_INTEGERS}

_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")

_PASSING = ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Dropout", *_RESHAPING)
"""Operators behind the last activation that change no value but by rounding."""

_LINEAR = ("Gemm", "MatMul", "Conv", "LogSoftmax", "QLinearConv", "QLinearMatMul", "QGemm")
"""Operators that give logits."""

_SHAPES_ONLY = (
    *("Cast", "DequantizeLinear", "Gather", "Identity", "QuantizeLinear", "Slice", "Transpose"),
)
"""Operators that may stand before a normalisation, and change no value."""

_ARITHMETIC = {"Mul": "mul", "Add": "add", "Sub": "sub", "Div": "div"}

_OWN_NAMES = (IMAGE, PROBABILITIES, CALIBRATED_NAME, LOGITS_NAME, PIXELS_NAME)


def set_names_apart(graph: Any) -> None:
    """Give the values that are called like those that medkit adds another name."""
    used = {name for inner in _graphs(graph) for name in _names(inner)}
    new = {name: f"own/{name}" for name in used if name.partition("/")[0] in _OWN_NAMES}
    for inner in _graphs(graph):
        for value in (*inner.input, *inner.output, *inner.value_info, *inner.initializer):
            value.name = new.get(value.name, value.name)
        for node in inner.node:
            node.input[:] = [new.get(name, name) for name in node.input]
            node.output[:] = [new.get(name, name) for name in node.output]
            if node.name.partition("/")[0] in _OWN_NAMES:
                node.name = f"own/{node.name}"


def ending_of(graph: Any) -> tuple[str, str]:
    """Return what a graph ends in, and the name of its last operator.

    The first is empty where the operators alone do not tell it.
    """
    producers = _producers(graph)
    node = producers.get(graph.output[0].name)
    while node is not None and node.op_type in _PASSING:
        node = producers.get(node.input[0])
    if node is None:
        return "", "nothing"
    kind = node.op_type
    if kind == "Add" and any(_is_product(producers.get(name)) for name in node.input):
        return LOGITS, kind  # a product and its bias
    return _ENDINGS.get(kind, LOGITS if kind in _LINEAR else ""), kind


def end_in_floats(graph: Any, outputs: int, *, ending: str) -> None:
    """Make a graph end in an activation in float32, or in logits in float32.

    Parameters
    ----------
    graph
        The graph, which is changed.
    outputs
        Number of values for an image.
    ending
        What the graph ends in: :data:`SOFTMAX`, :data:`SIGMOID` or :data:`LOGITS`.
    """
    producers = _producers(graph)
    name = graph.output[0].name
    passed = []
    node = producers.get(name)
    while node is not None and node.op_type in _PASSING:
        passed.append(node)
        name = node.input[0]
        node = producers.get(name)
    if ending == LOGITS:
        _set_output(graph, _as_floats(graph, graph.output[0].name), outputs)
    elif node is not None and node.op_type in _ENDINGS:
        logits = node.input[0]
        if node.op_type in _IN_INTEGERS:
            logits = f"{LOGITS_NAME}/dequantised"
            graph.node.append(
                helper.make_node("DequantizeLinear", node.input[:3], [logits], name=logits)
            )
        logits = _as_floats(graph, logits)
        if any(each.op_type in _RESHAPING for each in passed):
            logits = _as_rows(graph, logits, outputs)
        old = [*passed, node]
        activate(graph, logits, ending, outputs)
        for each in old:
            if not _is_read(graph, each.output[0]):
                graph.node.remove(each)
    else:
        # A softmax of several operators: its logarithm is its logits but for a constant.
        floats = _as_floats(graph, graph.output[0].name)
        least, above, logits = (f"{LOGITS_NAME}/{part}" for part in ("least", "above", "log"))
        value = np.array([LEAST_PROBABILITY], np.float32)
        graph.initializer.append(numpy_helper.from_array(value, least))
        graph.node.append(helper.make_node("Max", [floats, least], [above], name=above))
        graph.node.append(helper.make_node("Log", [above], [logits], name=logits))
        activate(graph, logits, ending, outputs)


def activate(graph: Any, logits: str, ending: str, outputs: int) -> None:
    """Append a softmax or a sigmoid in float32, as the output."""
    options = {"axis": 1} if ending == SOFTMAX else {}
    node = helper.make_node(_ACTIVATIONS[ending], [logits], [PROBABILITIES], **options)
    graph.node.append(node)
    _set_output(graph, PROBABILITIES, outputs)


def begin_with(
    graph: Any, taken: Taken, shape: tuple[int, int, int], pixels: PixelRule | None
) -> None:
    """Put in front of a graph what makes its input of pixels.

    Parameters
    ----------
    graph
        The graph, which is changed.
    taken
        What the graph takes.
    shape
        Height, width and channels of the images.
    pixels
        What is computed from bytes. With ``None``, the new input is float32
        and takes what a pixel rule gives.
    """
    (given,) = graph.input
    own = given.name
    as_bytes = pixels is not None or taken.takes_bytes
    kind = TensorProto.UINT8 if as_bytes else TensorProto.FLOAT
    before: list[Any] = []
    name = IMAGE

    def step(operator: str, *inputs: str, **options: Any) -> None:
        nonlocal name
        result = f"{PIXELS_NAME}/{len(before)}"
        before.append(helper.make_node(operator, [name, *inputs], [result], name=result, **options))
        name = result

    def constant(part: str, values: NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(values, f"{PIXELS_NAME}/{part}"))
        return f"{PIXELS_NAME}/{part}"

    if pixels is not None and pixels.bgr:
        step("Gather", constant("order", np.array([2, 1, 0], np.int64)), axis=3)
    if pixels is not None and not taken.takes_bytes:
        step("Cast", to=TensorProto.FLOAT)
        for operator, numbers, neutral in (("Mul", pixels.multiply, 1.0), ("Add", pixels.add, 0.0)):
            if set(numbers) != {neutral}:
                step(operator, constant(operator, np.array(numbers, np.float32)))
    if taken.channels_first:
        step("Transpose", perm=[0, 3, 1, 2])
    if taken.scale is not None and not taken.takes_bytes:
        zero = np.array(taken.zero_point, taken.dtype)
        scale = constant("scale", np.array(taken.scale, np.float32))
        step("QuantizeLinear", scale, constant("zero", zero))
    elif taken.dtype == "float16":
        step("Cast", to=TensorProto.FLOAT16)
    for node in graph.node:
        for inner in (graph_ for graph_ in _graphs_of(node)):
            _replace(inner, own, name)
        node.input[:] = [name if each == own else each for each in node.input]
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *kept])
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(IMAGE, kind, ["batch", *shape]))


def set_batch(graph: Any, *, free: bool) -> None:
    """Let any number of images into a graph, or one only.

    A reshaping to one row gets as many rows as there are. Whether that is
    right shows when the graph is run.
    """
    for value in (*graph.input, *graph.output):
        side = value.type.tensor_type.shape.dim[0]
        side.Clear()
        if free:
            side.dim_param = "batch"
        else:
            side.dim_value = 1
    # Shapes recorded inside the graph may hold another batch.
    del graph.value_info[:]
    if not free:
        return
    constants = _constants(graph)
    for number, node in enumerate(graph.node):
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is None or len(shape) < 2 or shape[0] != 1:
            continue
        rows = 0 if -1 in shape[1:] else -1  # 0 takes over the input's
        name = f"rows/{number}"
        new = np.array([rows, *shape[1:]], np.int64)
        graph.initializer.append(numpy_helper.from_array(new, name))
        node.input[1] = name


def first_steps(graph: Any) -> list[Step]:
    """Return the products and sums with constants that a graph begins with."""
    constants = _constants(graph)
    name, steps = graph.input[0].name, list[Step]()
    while True:
        readers = [node for node in graph.node if name in node.input]
        if len(readers) != 1:
            return steps
        (node,) = readers
        if node.op_type in _ARITHMETIC:
            data_first = node.input[0] == name
            values = constants.get(node.input[1 if data_first else 0])
            if values is None:
                return steps
            steps.append(Step(_ARITHMETIC[node.op_type], values.reshape(-1), data_first))
        elif node.op_type not in _SHAPES_ONLY:
            return steps
        name = node.output[0]


def quantisation_of(graph: Any) -> tuple[float, int] | None:
    """Return scale and zero point of an integer input, where the operator that takes it tells."""
    constants = _constants(graph)
    for node in graph.node:
        if node.input[:1] != [graph.input[0].name]:
            continue
        if node.op_type != "DequantizeLinear" and not node.op_type.startswith("QLinear"):
            continue
        found = [constants.get(name) for name in node.input[1:3]]
        if any(each is None or each.size != 1 for each in found):
            return None
        scale, zero = (*(each.item() for each in found if each is not None), 0)[:2]
        return float(scale), int(zero)
    return None


def faulty_constant(graph: Any) -> str | None:
    """Return the name of a constant with a NaN, or ``None``."""
    for inner in _graphs(graph):
        for name, values in _constants(inner).items():
            if values.dtype.kind == "f" and np.isnan(values).any():
                return name
    return None


def has_joint_ranges(graph: Any) -> bool:
    """Whether a graph fixes the ranges of its integers when it runs, of all images of a batch."""
    return any(
        node.op_type.startswith("DynamicQuantize")
        for inner in _graphs(graph)
        for node in inner.node
    )


def _is_product(node: Any) -> bool:
    return node is not None and (node.op_type in _LINEAR or node.op_type == "DequantizeLinear")


def _as_floats(graph: Any, name: str) -> str:
    """Return a value in float32: itself where the graph has no other floats, or a cast."""
    if not _has_halves(graph):
        return name
    floats = f"{LOGITS_NAME}/float32"
    graph.node.append(helper.make_node("Cast", [name], [floats], name=floats, to=TensorProto.FLOAT))
    return floats


def _has_halves(graph: Any) -> bool:
    """Whether a graph holds numbers in half precision, or makes some."""
    values = (*graph.input, *graph.output)
    return (
        any(item.data_type == TensorProto.FLOAT16 for item in graph.initializer)
        or any(value.type.tensor_type.elem_type == TensorProto.FLOAT16 for value in values)
        or any(
            attribute.name == "to" and attribute.i == TensorProto.FLOAT16
            for node in graph.node
            for attribute in node.attribute
        )
    )


def _as_rows(graph: Any, name: str, columns: int) -> str:
    """Return a value with one row for each image."""
    rows, shape = f"{LOGITS_NAME}/rows", f"{LOGITS_NAME}/shape"
    graph.initializer.append(numpy_helper.from_array(np.array([-1, columns], np.int64), shape))
    graph.node.append(helper.make_node("Reshape", [name, shape], [rows], name=rows))
    return rows


def _constants(graph: Any) -> dict[str, NDArray[Any]]:
    """Return the constants of a graph by their names."""
    found = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1:
            value = helper.get_attribute_value(node.attribute[0])
            if isinstance(value, TensorProto):
                found[node.output[0]] = numpy_helper.to_array(value)
            elif isinstance(value, int | float | list):
                found[node.output[0]] = np.array(value)
    return found


def _producers(graph: Any) -> dict[str, Any]:
    return {name: node for node in graph.node for name in node.output}


def _is_read(graph: Any, name: str) -> bool:
    inner = any(name in _names(each) for node in graph.node for each in _graphs_of(node))
    return (
        inner
        or any(name in node.input for node in graph.node)
        or any(value.name == name for value in graph.output)
    )


def _set_output(graph: Any, name: str, outputs: int) -> None:
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", outputs]))


def _graphs_of(node: Any) -> Iterator[Any]:
    """Give the graphs inside of an operator, and those inside of these."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            if graph.node:
                yield from _graphs(graph)


def _graphs(graph: Any) -> Iterator[Any]:
    """Give a graph, and those inside of its operators."""
    yield graph
    for node in graph.node:
        yield from _graphs_of(node)


def _names(graph: Any) -> Iterator[str]:
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from node.input
        yield from node.output


def _replace(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if each == old else each for each in node.input]
