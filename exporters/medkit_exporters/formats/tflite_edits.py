"""Edits of a TFLite file that the converter does not offer.

Importing this module imports Keras.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from medkit.models.operators.summary import LOGIT_COPIES_NAME, LOGITS_NAME
from medkit_exporters.formats.tflite_file import (
    add_constant,
    add_operator,
    add_tensor,
    is_filled,
    kind_of,
    read,
    set_data,
    write,
)
from medkit_exporters.quantize.branches import Addition, Branch, layers_in, not_found

LOGIT_COPIES = 4
"""How often the last product is computed, so that its steps are as many times finer."""

_KINDS = schema.BuiltinOperator
_FUSED = schema.ActivationFunctionType

_PRODUCTS = (_KINDS.CONV_2D, _KINDS.DEPTHWISE_CONV_2D, _KINDS.FULLY_CONNECTED)

_PROPORTIONAL = (
    *_PRODUCTS,
    _KINDS.ADD,
    _KINDS.AVERAGE_POOL_2D,
    _KINDS.CONCATENATION,
    _KINDS.MAX_POOL_2D,
    _KINDS.MEAN,
    _KINDS.PAD,
    _KINDS.QUANTIZE,
    _KINDS.REDUCE_MAX,
    _KINDS.RESHAPE,
    _KINDS.STRIDED_SLICE,
    _KINDS.TRANSPOSE,
)
"""Operators whose output doubles if all that is computed before them doubles."""

_SIZES = (schema.TensorType.INT32, schema.TensorType.INT64)

_ACTIVATIONS = {
    "sigmoid": (_KINDS.LOGISTIC, schema.BuiltinOptions.NONE, None),
    "softmax": (
        _KINDS.SOFTMAX,
        schema.BuiltinOptions.SoftmaxOptions,
        schema.SoftmaxOptionsT,
    ),
}


@dataclass(frozen=True)
class Edited:
    """A file after an edit.

    Attributes
    ----------
    content
        Bytes of the file.
    skipped
        Parts that the edit left as they were, with the reason; one line each.
    """

    content: bytes
    skipped: tuple[str, ...] = ()


def append_activation(content: bytes, activation: str) -> bytes:
    """Return the file with a floating-point sigmoid or softmax after its output.

    An 8-bit activation knows 256 probabilities and rounds all below 1/512 to
    zero; in floating point the last 8-bit step is the logit's.
    """
    model = read(content)
    graph = model.subgraphs[0]
    (logits,) = graph.outputs
    number = add_tensor(model, "probabilities", graph.tensors[logits].shape)
    graph.tensors[number].shapeSignature = graph.tensors[logits].shapeSignature
    code, options_type, options = _ACTIVATIONS[activation]
    operator = add_operator(model, code, [logits], number)
    if options is not None:
        operator.builtinOptionsType, operator.builtinOptions = options_type, options()
        operator.builtinOptions.beta = 1.0
    _replace_output(model, number)
    return write(model)


def refine_logits(content: bytes) -> Edited:
    """Return an int8 file whose logits have steps of a quarter.

    The last product's outputs are 8-bit: of a two-class network, 256
    different scores. The product is therefore computed :data:`LOGIT_COPIES`
    times with biases that lie fractions of a step apart, each time in
    integers, and the roundings' mean is taken in floating point: as dither
    does in audio (Vanderkooy and Lipshitz 1984), it carries what lies between
    the steps.
    """
    model = read(content)
    graph = model.subgraphs[0]
    product = _last_product(model)
    if product is None:
        return Edited(content, ("logits: they keep their 8-bit steps: no product gives them",))
    pixels, weights, bias = product.inputs
    (rounded,) = product.outputs
    (output,) = graph.outputs
    tensors = graph.tensors
    units = int(tensors[weights].shape[0])
    step = float(tensors[rounded].quantization.scale[0])
    unit_steps = np.broadcast_to(
        np.asarray(tensors[pixels].quantization.scale, np.float64)[0]
        * np.asarray(tensors[weights].quantization.scale, np.float64),
        units,
    )
    if bias < 0:  # one of zeros is left out
        scales = len(tensors[weights].quantization.scale)
        bias = add_constant(model, f"{LOGITS_NAME}/bias", np.zeros(units))
        tensors[bias].quantization = schema.QuantizationParametersT()
        tensors[bias].quantization.scale = unit_steps[:scales].astype(np.float32)
        tensors[bias].quantization.zeroPoint = np.zeros(scales, np.int64)
        product.inputs = [pixels, weights, bias]
    shifts = (np.arange(LOGIT_COPIES) - (LOGIT_COPIES - 1) / 2) / LOGIT_COPIES * step
    biases = np.frombuffer(bytes(model.buffers[tensors[bias].buffer].data), np.int32)
    moved = biases + np.rint(shifts[:, np.newaxis] / unit_steps)
    kernel = np.frombuffer(bytes(model.buffers[tensors[weights].buffer].data), np.int8)
    set_data(model, tensors[bias], moved.astype(np.int32).reshape(-1))
    set_data(model, tensors[weights], np.tile(kernel.reshape(units, -1), (LOGIT_COPIES, 1)))
    for index in (bias, weights):
        _repeat_channels(tensors[index].quantization, units)
    floats = tensors[output]
    for tensor in (tensors[rounded], floats):
        tensor.shape = [*tensor.shape[:-1], LOGIT_COPIES * units]
        if tensor.shapeSignature is not None:
            tensor.shapeSignature = [*tensor.shapeSignature[:-1], LOGIT_COPIES * units]

    apart = output if units == 1 else _set_apart(model, output, units)
    mean = add_tensor(model, LOGITS_NAME, [1, units])
    tensors[mean].shapeSignature = [-1, units]
    axis = add_constant(model, f"{LOGITS_NAME}/axis", np.array([1]))
    reduction = add_operator(model, _KINDS.MEAN, [apart, axis], mean)
    reduction.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    reduction.builtinOptions = schema.ReducerOptionsT()
    reduction.builtinOptions.keepDims = units == 1
    _replace_output(model, mean)
    return Edited(write(model))


def _last_product(model: Any) -> Any:
    """Return the dense layer whose output, as floats, is the file's; ``None`` if none is."""
    graph = model.subgraphs[0]
    producers = {int(number): op for op in graph.operators for number in op.outputs}
    conversion = producers.get(int(graph.outputs[0]))
    if conversion is None or kind_of(model, conversion) != _KINDS.DEQUANTIZE:
        return None
    product = producers.get(int(conversion.inputs[0]))
    if product is None or kind_of(model, product) != _KINDS.FULLY_CONNECTED:
        return None
    constants = [number for number in product.inputs[1:] if number >= 0]
    if not all(is_filled(model.buffers[graph.tensors[number].buffer]) for number in constants):
        return None
    plain = product.builtinOptions.fusedActivationFunction == _FUSED.NONE
    read_once = _readers(graph)[int(product.outputs[0])] == 1
    return product if plain and read_once else None


def _set_apart(model: Any, output: int, units: int) -> int:
    """Give the copies of several logits a dimension of their own, and return the tensor."""
    tensors = model.subgraphs[0].tensors
    apart = add_tensor(model, LOGIT_COPIES_NAME, [1, LOGIT_COPIES, units])
    tensors[apart].shapeSignature = [-1, LOGIT_COPIES, units]
    shape = add_constant(model, f"{LOGIT_COPIES_NAME}/shape", np.array([-1, LOGIT_COPIES, units]))
    reshape = add_operator(model, _KINDS.RESHAPE, [output, shape], apart)
    reshape.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    reshape.builtinOptions = schema.ReshapeOptionsT()
    return apart


def clip_branches(content: bytes, additions: Sequence[Addition]) -> Edited:
    """Return an int8 file whose rectified additions read their branches in given ranges.

    Parameters
    ----------
    content
        The file.
    additions
        Additions that :func:`medkit_exporters.quantize.branches.branch_ranges` returned.
        They are found in the file by the names of their layers.
    """
    model = read(content)
    graph = model.subgraphs[0]
    readers = _readers(graph)

    def speaks_of(number: int, *layers: str) -> bool:
        return not layers_in(graph.tensors[number].name.decode()).isdisjoint(layers)

    def tensors_of(branch: Branch, operator: Any) -> list[int]:
        """Return the inputs of an addition that may be a branch."""
        return [
            int(number)
            for number in operator.inputs
            if speaks_of(number, *branch.layers) and readers[int(number)] == 1
        ]

    rectified = [
        operator
        for operator in graph.operators
        if kind_of(model, operator) == _KINDS.ADD
        and operator.builtinOptions.fusedActivationFunction in (_FUSED.RELU, _FUSED.RELU6)
    ]
    missing = 0
    for addition in additions:
        places = [op for op in rectified if speaks_of(op.outputs[0], addition.name)]
        found = [tensors_of(branch, place) for place in places for branch in addition.branches]
        if len(places) != 1 or any(len(numbers) != 1 for numbers in found):
            missing += 1
            continue
        for (number,), branch in zip(found, addition.branches, strict=True):
            low, high = branch.range
            step = (high - low) / 255
            quantization = graph.tensors[number].quantization
            quantization.scale = np.array([step], np.float32)
            quantization.zeroPoint = np.array([round(-128 - low / step)], np.int64)
    return Edited(write(model), not_found(missing, len(additions)))


def count_in_steps(content: bytes, cap: float) -> Edited:
    """Return an int8 file whose rectified tensors have steps of 1.

    Multiplying all activations by one number changes nothing but the scales
    of the first and the last product, if all that lies between is
    proportional. With steps of 1, the scales of biases are those of their
    weights and need not be stored again; and as a tensor's largest integer is
    where its ReLU6 ends, ReLU does the same.

    Parameters
    ----------
    content
        The file.
    cap
        Upper end of the rectified tensors.
    """
    model = read(content)
    graph = model.subgraphs[0]
    products = [op for op in graph.operators if kind_of(model, op) in _PRODUCTS]
    last = _last_product(model)
    if last is None or len(products) < 2 or products[-1] is not last:
        return Edited(content, ("steps: they keep their scales: no dense layer is last",))
    first = products[0]
    obstacle = _obstacle_to_steps(model, first, last, cap)
    if obstacle:
        return Edited(content, (f"steps: they keep their scales: {obstacle}",))
    factor = 255 / cap
    between = graph.operators[graph.operators.index(first) : graph.operators.index(last)]
    for operator in between:
        for number in operator.outputs:
            _rescale(graph.tensors[number], factor)
        options = operator.builtinOptions
        if getattr(options, "fusedActivationFunction", None) == _FUSED.RELU6:
            options.fusedActivationFunction = _FUSED.RELU
    _rescale(graph.tensors[first.inputs[1]], factor)
    _rescale(graph.tensors[last.inputs[1]], 1 / factor)
    for operator in products:
        pixels, weights, *biases = (graph.tensors[n] for n in operator.inputs if n >= 0)
        for bias in biases:
            step = np.float32(pixels.quantization.scale[0])
            bias.quantization.scale = step * weights.quantization.scale
    return Edited(write(model))


def _obstacle_to_steps(model: Any, first: Any, last: Any, cap: float) -> str:
    """Say why not all activations can be multiplied by one number; nothing if they can."""
    graph = model.subgraphs[0]
    names = {number: name for name, number in vars(_KINDS).items() if isinstance(number, int)}
    constants = {
        number
        for number, tensor in enumerate(graph.tensors)
        if is_filled(model.buffers[tensor.buffer])
    }
    scaled: set[int] = set()
    places = [next(n for n, op in enumerate(graph.operators) if op is end) for end in (first, last)]
    for place, operator in enumerate(graph.operators):
        kind = kind_of(model, operator)
        given = {int(number) for number in operator.inputs if number >= 0}
        taken = given - constants
        if all(graph.tensors[number].type in _SIZES for number in operator.outputs):
            constants |= {int(number) for number in operator.outputs}  # a shape is computed
            continue
        if place < places[0]:
            continue
        if place > places[1]:
            if taken & scaled:
                return f"{names[kind]} reads them beside the last product"
            continue
        if place > places[0] and not (taken and taken <= scaled):
            return f"{names[kind]} reads other tensors beside them"
        if kind not in _PROPORTIONAL or (kind == _KINDS.ADD and given & constants):
            return f"{names[kind]} is not proportional"
        fused = getattr(operator.builtinOptions, "fusedActivationFunction", _FUSED.NONE)
        if fused not in (_FUSED.NONE, _FUSED.RELU, _FUSED.RELU6):
            return "another activation than ReLU is merged into a product"
        if place == places[1]:
            continue  # its output keeps its scale
        (number,) = operator.outputs
        if fused == _FUSED.RELU6 and _largest(graph.tensors[number]) > cap * (1 + 1e-5):
            return "a tensor reaches beyond the end of its ReLU6"
        scaled.add(int(number))
    return ""


def _largest(tensor: Any) -> float:
    """Return the largest number that an int8 tensor can hold."""
    return float((127 - tensor.quantization.zeroPoint[0]) * tensor.quantization.scale[0])


def _rescale(tensor: Any, factor: float) -> None:
    if tensor.quantization is None or tensor.quantization.scale is None:
        return  # a shape
    scaled = np.asarray(tensor.quantization.scale, np.float64) * factor
    # What was 6/255 is 1 but for the rounding of single precision.
    whole = np.rint(scaled)
    near = np.abs(scaled - whole) < 1e-6 * np.maximum(whole, 1)
    tensor.quantization.scale = np.where(near, whole, scaled).astype(np.float32)


def take_raw_pixels(content: bytes) -> bytes:
    """Return a file with a floating-point input as one that takes the same numbers as bytes."""
    model = read(content)
    graph = model.subgraphs[0]
    (floats,) = graph.inputs
    number = add_tensor(model, "pixels", graph.tensors[floats].shape, schema.TensorType.UINT8)
    graph.tensors[number].shapeSignature = graph.tensors[floats].shapeSignature
    cast = add_operator(model, _KINDS.CAST, [number], floats)
    cast.builtinOptionsType = schema.BuiltinOptions.CastOptions
    cast.builtinOptions = schema.CastOptionsT()
    cast.builtinOptions.inDataType = schema.TensorType.UINT8
    cast.builtinOptions.outDataType = schema.TensorType.FLOAT32
    graph.operators.insert(0, graph.operators.pop())
    graph.inputs = [number]
    for signature in model.signatureDefs or []:
        for named in signature.inputs:
            named.tensorIndex = number
    return write(model)


def _readers(graph: Any) -> Counter[int]:
    """Count the operators that read each tensor."""
    return Counter(int(n) for op in graph.operators for n in op.inputs if n >= 0)


def _repeat_channels(quantization: Any, units: int) -> None:
    """Give every copy of a channel the channel's scale; one scale for all stays one."""
    if len(quantization.scale) == units > 1:
        quantization.scale = np.tile(quantization.scale, LOGIT_COPIES)
        quantization.zeroPoint = np.tile(quantization.zeroPoint, LOGIT_COPIES)


def _replace_output(model: Any, number: int) -> None:
    model.subgraphs[0].outputs = [number]
    for signature in model.signatureDefs or []:
        for named in signature.outputs:
            named.tensorIndex = number
