"""The ends of a foreign TFLite graph: what it begins with, what it ends in, and its batch.

Importing this module imports the schema of TFLite files, and no TensorFlow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from medkit.models.operators.summary import LOGITS_NAME, PIXELS_NAME
from medkit_exporters.adoption.base import LOGITS, SIGMOID, SOFTMAX
from medkit_exporters.adoption.normalisation import Step
from medkit_exporters.adoption.pixels import PixelRule
from medkit_exporters.adoption.reference import LEAST_PROBABILITY
from medkit_exporters.adoption.taken import Taken
from medkit_exporters.formats.tflite_file import (
    add_constant,
    add_operator,
    add_tensor,
    is_filled,
    kind_of,
    set_data,
)

_KINDS, _TYPES = schema.BuiltinOperator, schema.TensorType
_OPTIONS = schema.BuiltinOptions

_ENDINGS = {_KINDS.SOFTMAX: SOFTMAX, _KINDS.LOGISTIC: SIGMOID}

_PASSING = (_KINDS.DEQUANTIZE, _KINDS.QUANTIZE, _KINDS.RESHAPE, _KINDS.SQUEEZE, _KINDS.CAST)
"""Operators behind the last activation that change no value but by rounding."""

_LINEAR = (_KINDS.FULLY_CONNECTED, _KINDS.CONV_2D, _KINDS.BATCH_MATMUL, _KINDS.LOG_SOFTMAX)
"""Operators that give logits if no activation is fused into them."""

_SHAPES_ONLY = (
    *(_KINDS.CAST, _KINDS.DEQUANTIZE, _KINDS.GATHER, _KINDS.QUANTIZE, _KINDS.REVERSE_V2),
    *(_KINDS.STRIDED_SLICE, _KINDS.TRANSPOSE),
)
"""Operators that may stand before a normalisation, and change no value."""

_ARITHMETIC = {_KINDS.MUL: "mul", _KINDS.ADD: "add", _KINDS.SUB: "sub", _KINDS.DIV: "div"}


def ending_of(model: Any) -> tuple[str, str]:
    """Return what a graph ends in, and the name of its last operator.

    The first is empty where the operators alone do not tell it.
    """
    graph = model.subgraphs[0]
    producers = _producers(graph)
    operator = producers.get(int(graph.outputs[0]))
    while operator is not None and kind_of(model, operator) in _PASSING:
        operator = producers.get(int(operator.inputs[0]))
    if operator is None:
        return "", "nothing"
    kind = kind_of(model, operator)
    fused = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
    linear = LOGITS if kind in _LINEAR and not fused else ""
    return _ENDINGS.get(kind, linear), _name(kind)


def end_in_floats(model: Any, outputs: int, *, ending: str) -> None:
    """Make a graph end in an activation in floating point, or in logits in floating point.

    A softmax in 8 bits knows 256 probabilities, and rounds all below 1/512 to
    zero; that of the same logits in floating point does not. A temperature
    needs the logits as well.

    Parameters
    ----------
    model
        The tables of the file, which are changed.
    outputs
        Number of values for an image.
    ending
        What the graph ends in: :data:`SOFTMAX`, :data:`SIGMOID` or :data:`LOGITS`.
    """
    graph = model.subgraphs[0]
    producers = _producers(graph)
    number = int(graph.outputs[0])
    passed = []
    operator = producers.get(number)
    while operator is not None and kind_of(model, operator) in _PASSING:
        passed.append(operator)
        number = int(operator.inputs[0])
        operator = producers.get(number)
    if ending == LOGITS:
        _set_output(model, _as_floats(model, int(graph.outputs[0])))
    elif operator is not None and kind_of(model, operator) in _ENDINGS:
        last = graph.tensors[number]
        if not passed and last.type == _TYPES.FLOAT32:
            return
        logits = _as_floats(model, _as_rows(model, int(operator.inputs[0]), outputs))
        given = activate(model, logits, ending)
        for old in (*passed, operator):
            if not _is_read(graph, int(old.outputs[0])):
                graph.operators.remove(old)
        if ending == SOFTMAX:
            _producers(graph)[given].builtinOptions.beta = operator.builtinOptions.beta
    else:
        # A softmax of several operators: its logarithm is its logits but for a constant.
        floats = _as_floats(model, int(graph.outputs[0]))
        shape = graph.tensors[floats].shape
        least = _constant(model, "least", np.array([LEAST_PROBABILITY], np.float32))
        above, logits = (add_tensor(model, "logarithm", shape) for _ in range(2))
        largest = add_operator(model, _KINDS.MAXIMUM, [floats, least], above)
        largest.builtinOptionsType = _OPTIONS.MaximumMinimumOptions
        largest.builtinOptions = schema.MaximumMinimumOptionsT()
        add_operator(model, _KINDS.LOG, [above], logits)
        activate(model, logits, ending)


def activate(model: Any, logits: int, ending: str) -> int:
    """Append a softmax or a sigmoid in floating point, as the output, and return its tensor."""
    graph = model.subgraphs[0]
    given = add_tensor(model, "probabilities", graph.tensors[logits].shape)
    if ending == SOFTMAX:
        operator = add_operator(model, _KINDS.SOFTMAX, [logits], given)
        operator.builtinOptionsType = _OPTIONS.SoftmaxOptions
        operator.builtinOptions = schema.SoftmaxOptionsT()
        operator.builtinOptions.beta = 1.0
    else:
        add_operator(model, _KINDS.LOGISTIC, [logits], given)
    _set_output(model, given)
    return given


def begin_with(
    model: Any, taken: Taken, shape: tuple[int, int, int], pixels: PixelRule | None
) -> None:
    """Put in front of a graph what makes its input of pixels.

    Parameters
    ----------
    model
        The tables of the file, which are changed.
    taken
        What the graph takes.
    shape
        Height, width and channels of the images.
    pixels
        What is computed from bytes. With ``None``, the new input is float32
        and takes what a pixel rule gives.
    """
    graph = model.subgraphs[0]
    given = int(graph.inputs[0])
    tensor = graph.tensors[given]
    tensor.shape = np.array(taken.own_shape(shape), np.int32)
    before = len(graph.operators)
    kind = _TYPES.FLOAT32 if pixels is None and not taken.takes_bytes else _TYPES.UINT8
    number = first = add_tensor(model, PIXELS_NAME, [1, *shape], kind)

    def step(code: int, inputs: list[int], sides: Any = (1, *shape), of: int = kind) -> Any:
        nonlocal number
        result = add_tensor(model, PIXELS_NAME, sides, of)
        operator = add_operator(model, code, [number, *inputs], result)
        number = result
        return operator

    if pixels is not None and pixels.bgr:
        gather = step(_KINDS.GATHER, [add_constant(model, PIXELS_NAME, np.array([2, 1, 0]))])
        gather.builtinOptionsType = _OPTIONS.GatherOptions
        gather.builtinOptions = schema.GatherOptionsT()
        gather.builtinOptions.axis = 3
    if pixels is not None and not taken.takes_bytes:
        kind = _TYPES.FLOAT32
        cast = step(_KINDS.CAST, [], of=kind)
        cast.builtinOptionsType = _OPTIONS.CastOptions
        cast.builtinOptions = schema.CastOptionsT()
        cast.builtinOptions.inDataType, cast.builtinOptions.outDataType = _TYPES.UINT8, kind
        for code, numbers, neutral, options, made in (
            (_KINDS.MUL, pixels.multiply, 1.0, _OPTIONS.MulOptions, schema.MulOptionsT),
            (_KINDS.ADD, pixels.add, 0.0, _OPTIONS.AddOptions, schema.AddOptionsT),
        ):
            if set(numbers) != {neutral}:
                values = np.array(numbers, np.float32)
                product = step(code, [_constant(model, PIXELS_NAME, values)], of=kind)
                product.builtinOptionsType, product.builtinOptions = options, made()
    sides = taken.own_shape(shape)
    if taken.channels_first:
        order = add_constant(model, PIXELS_NAME, np.array([0, 3, 1, 2]))
        turned = step(_KINDS.TRANSPOSE, [order], sides, kind)
        turned.builtinOptionsType = _OPTIONS.TransposeOptions
        turned.builtinOptions = schema.TransposeOptionsT()
    if taken.scale is not None and not taken.takes_bytes:
        quantised = step(_KINDS.QUANTIZE, [], sides, tensor.type)
        quantised.builtinOptionsType = _OPTIONS.QuantizeOptions
        quantised.builtinOptions = schema.QuantizeOptionsT()
        graph.tensors[number].quantization = tensor.quantization
    added = graph.operators[before:]
    for operator in graph.operators[:before]:
        operator.inputs = [number if int(each) == given else int(each) for each in operator.inputs]
    graph.operators = [*added, *graph.operators[:before]]
    graph.inputs = [first]
    model.signatureDefs = []  # they are written anew


def set_batch(model: Any, *, free: bool) -> None:
    """Let any number of images into a graph, or one only.

    A reshaping whose result has one row gets as many rows as there are.
    Whether that is right shows when the graph is run.
    """
    graph = model.subgraphs[0]
    first = -1 if free else 1
    for number in (*graph.inputs, *graph.outputs):
        tensor = graph.tensors[int(number)]
        tensor.shapeSignature = np.array([first, *tensor.shape[1:]], np.int32)
    if not free:
        return
    for operator in graph.operators:
        if kind_of(model, operator) != _KINDS.RESHAPE:
            continue
        sides = graph.tensors[int(operator.outputs[0])].shape
        if sides is None or len(sides) < 2 or sides[0] != 1 or min(sides) < 1:
            continue
        shape = np.array([-1, *sides[1:]])
        stated = [int(each) for each in operator.inputs[1:]]
        if stated and not is_filled(model.buffers[graph.tensors[stated[0]].buffer]):
            continue  # it is computed from the batch
        operator.inputs = [int(operator.inputs[0]), add_constant(model, "rows", shape)]
        if operator.builtinOptions is not None:
            operator.builtinOptions.newShape = shape.astype(np.int32)


def first_steps(model: Any) -> list[Step]:
    """Return the products and sums with constants that a graph begins with."""
    graph = model.subgraphs[0]
    number, steps = int(graph.inputs[0]), list[Step]()
    while True:
        readers = [item for item in graph.operators if number in map(int, item.inputs)]
        if len(readers) != 1:
            return steps
        (operator,) = readers
        kind = kind_of(model, operator)
        if kind in _ARITHMETIC:
            places = [int(each) for each in operator.inputs]
            values = _values(model, places[1 - places.index(number)])
            if values is None:
                return steps
            steps.append(Step(_ARITHMETIC[kind], values, data_first=places[0] == number))
        elif kind not in _SHAPES_ONLY:
            return steps
        number = int(operator.outputs[0])


def quantised_input(model: Any) -> Any:
    """Return the integers that all of a float input is turned into first, or ``None``."""
    graph = model.subgraphs[0]
    given = int(graph.inputs[0])
    readers = [item for item in graph.operators if given in map(int, item.inputs)]
    if len(readers) != 1 or kind_of(model, readers[0]) != _KINDS.QUANTIZE:
        return None
    return graph.tensors[int(readers[0].outputs[0])]


def faulty_constant(model: Any) -> str | None:
    """Return the name of a constant with a NaN, or ``None``."""
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            kind = {_TYPES.FLOAT32: np.float32, _TYPES.FLOAT16: np.float16}.get(tensor.type)
            data = model.buffers[tensor.buffer].data
            if kind is None or data is None or not len(data):
                continue
            if np.isnan(np.frombuffer(bytes(data), kind)).any():
                return str(bytes(tensor.name or b"").decode(errors="replace"))
    return None


def custom_operators(model: Any) -> list[str]:
    """Return the names of the operators that are not TFLite's own."""
    return [
        str(bytes(code.customCode or b"").decode(errors="replace"))
        for code in model.operatorCodes
        if max(code.builtinCode, code.deprecatedBuiltinCode) == _KINDS.CUSTOM
    ]


def _values(model: Any, number: int) -> NDArray[np.float64] | None:
    """Return the numbers that a constant stands for, or ``None``."""
    graph = model.subgraphs[0]
    tensor = graph.tensors[number]
    producer = _producers(graph).get(number)
    if producer is not None and kind_of(model, producer) == _KINDS.DEQUANTIZE:
        return _values(model, int(producer.inputs[0]))
    kinds = {_TYPES.FLOAT32: np.float32, _TYPES.FLOAT16: np.float16}
    kinds |= {_TYPES.INT8: np.int8, _TYPES.UINT8: np.uint8}
    kind, data = kinds.get(tensor.type), model.buffers[tensor.buffer].data
    if kind is None or data is None or not len(data):
        return None
    values = np.frombuffer(bytes(data), kind).astype(np.float64)
    if np.dtype(kind).kind != "f":
        scales = getattr(tensor.quantization, "scale", None)
        if scales is None or len(scales) != 1:
            return None
        values = float(scales[0]) * (values - float(tensor.quantization.zeroPoint[0]))
    return values


def _as_floats(model: Any, number: int) -> int:
    """Return a tensor in floating point: itself, or what a new operator makes of it."""
    tensor = model.subgraphs[0].tensors[number]
    if tensor.type == _TYPES.FLOAT32:
        return number
    floats = add_tensor(model, LOGITS_NAME, tensor.shape)
    operator = add_operator(model, _KINDS.DEQUANTIZE, [number], floats)
    operator.builtinOptionsType = _OPTIONS.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    return floats


def _as_rows(model: Any, number: int, columns: int) -> int:
    """Return a tensor with one row for each image."""
    tensor = model.subgraphs[0].tensors[number]
    if len(tensor.shape) == 2:
        return number
    rows = add_tensor(model, LOGITS_NAME, [1, columns], tensor.type)
    model.subgraphs[0].tensors[rows].quantization = tensor.quantization
    shape = add_constant(model, LOGITS_NAME, np.array([-1, columns]))
    operator = add_operator(model, _KINDS.RESHAPE, [number, shape], rows)
    operator.builtinOptionsType = _OPTIONS.ReshapeOptions
    operator.builtinOptions = schema.ReshapeOptionsT()
    return rows


def _constant(model: Any, name: str, values: NDArray[np.float32]) -> int:
    number = add_tensor(model, name, values.shape)
    set_data(model, model.subgraphs[0].tensors[number], values)
    return number


def _producers(graph: Any) -> dict[int, Any]:
    return {int(number): operator for operator in graph.operators for number in operator.outputs}


def _is_read(graph: Any, number: int) -> bool:
    inner = any(number in map(int, operator.inputs) for operator in graph.operators)
    return inner or number in map(int, graph.outputs)


def _set_output(model: Any, number: int) -> None:
    model.subgraphs[0].outputs = [number]


def _name(kind: int) -> str:
    return next(str(name) for name, number in vars(_KINDS).items() if number == kind)
