"""Edits of a TFLite file that the converter does not offer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

from medkit.bundles import CARD_NAME, ModelCard
from medkit.census import LOGIT_COPIES_NAME, LOGITS_NAME
from medkit_exporters.branches import needed_range

LOGIT_COPIES = 8
"""How often the last product is computed, so that its steps are as many times finer."""

_PRODUCT = schema.BuiltinOperator.FULLY_CONNECTED

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
    model = _read(content)
    _shorten_names(model)
    _drop_orphans(model)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(card.to_json().encode(), dtype=np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = CARD_NAME
    entry.buffer = len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return _write(model)


def append_activation(content: bytes, activation: str) -> bytes:
    """Return the file with a floating-point sigmoid or softmax after its output.

    An 8-bit activation knows 256 probabilities and rounds all below 1/512 to
    zero; in floating point the last 8-bit step is the logit's.
    """
    model = _read(content)
    graph = model.subgraphs[0]
    (logits,) = graph.outputs
    number = _add_tensor(model, "probabilities", graph.tensors[logits].shape)
    graph.tensors[number].shapeSignature = graph.tensors[logits].shapeSignature
    code, options_type, options = _ACTIVATIONS[activation]
    operator = _add_operator(model, code, [logits], number)
    if options is not None:
        operator.builtinOptionsType, operator.builtinOptions = options_type, options()
        operator.builtinOptions.beta = 1.0
    _replace_output(model, number)
    return _write(model)


def refine_logits(content: bytes) -> bytes:
    """Return an int8 file whose logits have steps of an eighth.

    The last product's outputs are 8-bit: of a two-class network, 256
    different scores. The product is therefore computed :data:`LOGIT_COPIES`
    times with biases that lie fractions of a step apart, each time in
    integers, and the roundings' mean is taken in floating point: as dither
    does in audio (Vanderkooy and Lipshitz 1984), it carries what lies between
    the steps.
    """
    model = _read(content)
    graph = model.subgraphs[0]
    product = next(op for op in graph.operators if _kind(model, op) == _PRODUCT)
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
        bias = _add_constant(model, f"{LOGITS_NAME}/bias", np.zeros(units))
        tensors[bias].quantization = schema.QuantizationParametersT()
        tensors[bias].quantization.scale = unit_steps[:scales].astype(np.float32)
        tensors[bias].quantization.zeroPoint = np.zeros(scales, np.int64)
        product.inputs = [pixels, weights, bias]
    shifts = (np.arange(LOGIT_COPIES) - (LOGIT_COPIES - 1) / 2) / LOGIT_COPIES * step
    biases = np.frombuffer(bytes(model.buffers[tensors[bias].buffer].data), np.int32)
    moved = biases + np.rint(shifts[:, np.newaxis] / unit_steps)
    kernel = np.frombuffer(bytes(model.buffers[tensors[weights].buffer].data), np.int8)
    _set_data(model, tensors[bias], moved.astype(np.int32).reshape(-1))
    _set_data(model, tensors[weights], np.tile(kernel.reshape(units, -1), (LOGIT_COPIES, 1)))
    for index in (bias, weights):
        _repeat_channels(tensors[index].quantization, units)
    floats = tensors[output]
    for tensor in (tensors[rounded], floats):
        tensor.shape = [*tensor.shape[:-1], LOGIT_COPIES * units]
        if tensor.shapeSignature is not None:
            tensor.shapeSignature = [*tensor.shapeSignature[:-1], LOGIT_COPIES * units]

    apart = _add_tensor(model, LOGIT_COPIES_NAME, [1, LOGIT_COPIES, units])
    tensors[apart].shapeSignature = [-1, LOGIT_COPIES, units]
    shape = _add_constant(model, f"{LOGIT_COPIES_NAME}/shape", np.array([-1, LOGIT_COPIES, units]))
    reshape = _add_operator(model, schema.BuiltinOperator.RESHAPE, [output, shape], apart)
    reshape.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    reshape.builtinOptions = schema.ReshapeOptionsT()
    mean = _add_tensor(model, LOGITS_NAME, [1, units])
    tensors[mean].shapeSignature = [-1, units]
    axis = _add_constant(model, f"{LOGITS_NAME}/axis", np.array([1]))
    reduction = _add_operator(model, schema.BuiltinOperator.MEAN, [apart, axis], mean)
    reduction.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    reduction.builtinOptions = schema.ReducerOptionsT()
    reduction.builtinOptions.keepDims = False
    _replace_output(model, mean)
    return _write(model)


def clip_branches(content: bytes) -> bytes:
    """Return an int8 file whose additions read no more of a convolution's range than counts.

    Where two branches are added and rectified, what lies so low that the
    other branch cannot lift it above zero makes zero, and what lies above the
    sum's top makes the top. The range of a branch that no activation bounds
    ends there, and its 255 steps are the finer; the sums stay the same, as
    integer kernels saturate.
    """
    model = _read(content)
    graph = model.subgraphs[0]
    producers = {number: op for op in graph.operators for number in op.outputs}
    readers = Counter(number for op in graph.operators for number in op.inputs)
    rectified = (
        schema.ActivationFunctionType.RELU,
        schema.ActivationFunctionType.RELU6,
    )
    for addition in graph.operators:
        if (
            _kind(model, addition) != schema.BuiltinOperator.ADD
            or addition.builtinOptions.fusedActivationFunction not in rectified
        ):
            continue
        (_, top) = _range(graph.tensors[addition.outputs[0]])
        ranges = [_range(graph.tensors[number]) for number in addition.inputs]
        for number, own, other in zip(addition.inputs, ranges, ranges[::-1], strict=True):
            producer = producers.get(number)
            if (
                producer is None
                or _kind(model, producer) != schema.BuiltinOperator.CONV_2D
                or producer.builtinOptions.fusedActivationFunction
                != schema.ActivationFunctionType.NONE
                or readers[number] > 1
            ):
                continue
            low, high = needed_range(own, other, top)
            quantization = graph.tensors[number].quantization
            step = (high - low) / 255
            quantization.scale = np.array([step], np.float32)
            quantization.zeroPoint = np.array([round(-128 - low / step)], np.int64)
    return _write(model)


def _range(tensor: Any) -> tuple[float, float]:
    """Return the lowest and the highest value of an int8 tensor."""
    step, zero = float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])
    return (-128 - zero) * step, (127 - zero) * step


def take_raw_pixels(content: bytes) -> bytes:
    """Return a file with a floating-point input as one that takes the same numbers as bytes."""
    model = _read(content)
    graph = model.subgraphs[0]
    (floats,) = graph.inputs
    number = _add_tensor(model, "pixels", graph.tensors[floats].shape, schema.TensorType.UINT8)
    graph.tensors[number].shapeSignature = graph.tensors[floats].shapeSignature
    cast = _add_operator(model, schema.BuiltinOperator.CAST, [number], floats)
    cast.builtinOptionsType = schema.BuiltinOptions.CastOptions
    cast.builtinOptions = schema.CastOptionsT()
    cast.builtinOptions.inDataType = schema.TensorType.UINT8
    cast.builtinOptions.outDataType = schema.TensorType.FLOAT32
    graph.operators.insert(0, graph.operators.pop())
    graph.inputs = [number]
    for signature in model.signatureDefs or []:
        for named in signature.inputs:
            named.tensorIndex = number
    return _write(model)


class _SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Writes equal vectors once: the zero points of hundreds of channels are all zero."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802
        key = x.dtype.str, x.tobytes()
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


def _read(content: bytes) -> Any:
    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


def _write(model: Any) -> bytes:
    builder = _SharingBuilder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _kind(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _add_operator(model: Any, code: int, inputs: list[int], output: int) -> Any:
    """Append an operator and return it."""
    operator_code = schema.OperatorCodeT()
    operator_code.builtinCode = operator_code.deprecatedBuiltinCode = code
    operator_code.version = 1
    model.operatorCodes.append(operator_code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = inputs, [output]
    model.subgraphs[0].operators.append(operator)
    return operator


def _add_tensor(model: Any, name: str, shape: Any, kind: int = schema.TensorType.FLOAT32) -> int:
    """Append a tensor without content and return its number."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name.encode(), list(shape), kind
    tensor.buffer = len(model.buffers)
    model.buffers.append(schema.BufferT())
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def _add_constant(model: Any, name: str, values: NDArray[Any]) -> int:
    """Append a tensor of 32-bit integers and return its number."""
    number = _add_tensor(model, name, values.shape, schema.TensorType.INT32)
    _set_data(model, model.subgraphs[0].tensors[number], values.astype(np.int32))
    return number


def _set_data(model: Any, tensor: Any, values: NDArray[Any]) -> None:
    """Give a tensor content of its own, and its shape."""
    tensor.buffer = len(model.buffers)
    tensor.shape = list(values.shape)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)


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


def _drop_orphans(model: Any) -> None:
    """Empty the buffers that nothing reads any more."""
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None


def _shorten_names(model: Any) -> None:
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            fused = tensor.name.decode().split(";")[0]
            tensor.name = fused.split("/", 1)[-1].encode()
