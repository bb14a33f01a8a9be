"""Edits of a TFLite file that the converter does not offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

from medkit.bundles import CARD_NAME, FORMATS, ModelCard
from medkit.census import LOGIT_COPIES_NAME, LOGITS_NAME
from medkit.seal import sealed
from medkit_exporters.branches import check_count
from medkit_exporters.settings import Range

LOGIT_COPIES = 4
"""How often the last product is computed, so that its steps are as many times finer."""

_RECORDS = (b"CONVERSION_METADATA", b"min_runtime_version")

_LAST_PRODUCT = schema.BuiltinOperator.FULLY_CONNECTED
_PRODUCTS = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    _LAST_PRODUCT,
)

_ACTIVATIONS = {
    "sigmoid": (schema.BuiltinOperator.LOGISTIC, schema.BuiltinOptions.NONE, None),
    "softmax": (
        schema.BuiltinOperator.SOFTMAX,
        schema.BuiltinOptions.SoftmaxOptions,
        schema.SoftmaxOptionsT,
    ),
}


def attach_card(content: bytes, card: ModelCard) -> bytes:
    """Return the file, sealed, with ``card`` as its metadata buffer named ``medkit``.

    What no runtime needs is left out: a hundredth of a small int8 file.
    """
    model = _read(content)
    _shorten_names(model)
    _drop_records(model)
    _drop_orphans(model)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(card.to_json().encode(), dtype=np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = CARD_NAME
    entry.buffer = len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return sealed(_write(model), FORMATS["tflite"])


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
    """Return an int8 file whose logits have steps of a quarter.

    The last product's outputs are 8-bit: of a two-class network, 256
    different scores. The product is therefore computed :data:`LOGIT_COPIES`
    times with biases that lie fractions of a step apart, each time in
    integers, and the roundings' mean is taken in floating point: as dither
    does in audio (Vanderkooy and Lipshitz 1984), it carries what lies between
    the steps.
    """
    model = _read(content)
    graph = model.subgraphs[0]
    product = [op for op in graph.operators if _kind(model, op) == _LAST_PRODUCT][-1]
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

    apart = output if units == 1 else _set_apart(model, output, units)
    mean = _add_tensor(model, LOGITS_NAME, [1, units])
    tensors[mean].shapeSignature = [-1, units]
    axis = _add_constant(model, f"{LOGITS_NAME}/axis", np.array([1]))
    reduction = _add_operator(model, schema.BuiltinOperator.MEAN, [apart, axis], mean)
    reduction.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    reduction.builtinOptions = schema.ReducerOptionsT()
    reduction.builtinOptions.keepDims = units == 1
    _replace_output(model, mean)
    return _write(model)


def _set_apart(model: Any, output: int, units: int) -> int:
    """Give the copies of several logits a dimension of their own, and return the tensor."""
    tensors = model.subgraphs[0].tensors
    apart = _add_tensor(model, LOGIT_COPIES_NAME, [1, LOGIT_COPIES, units])
    tensors[apart].shapeSignature = [-1, LOGIT_COPIES, units]
    shape = _add_constant(model, f"{LOGIT_COPIES_NAME}/shape", np.array([-1, LOGIT_COPIES, units]))
    reshape = _add_operator(model, schema.BuiltinOperator.RESHAPE, [output, shape], apart)
    reshape.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    reshape.builtinOptions = schema.ReshapeOptionsT()
    return apart


def clip_branches(content: bytes, ranges: Sequence[tuple[Range | None, ...]]) -> bytes:
    """Return an int8 file whose rectified additions read their branches in given ranges.

    Parameters
    ----------
    content
        The file.
    ranges
        As :func:`medkit_exporters.branches.branch_ranges` returns them.

    Raises
    ------
    ExportError
        If the file has not as many rectified additions.
    """
    model = _read(content)
    graph = model.subgraphs[0]
    rectified = (
        schema.ActivationFunctionType.RELU,
        schema.ActivationFunctionType.RELU6,
    )
    additions = [
        operator
        for operator in graph.operators
        if _kind(model, operator) == schema.BuiltinOperator.ADD
        and operator.builtinOptions.fusedActivationFunction in rectified
    ]
    check_count(len(additions), len(ranges))
    for addition, pair in zip(additions, ranges, strict=True):
        for number, wanted in zip(addition.inputs, pair, strict=True):
            if wanted is None:
                continue
            quantization = graph.tensors[number].quantization
            step = (wanted[1] - wanted[0]) / 255
            quantization.scale = np.array([step], np.float32)
            quantization.zeroPoint = np.array([round(-128 - wanted[0] / step)], np.int64)
    return _write(model)


def count_in_steps(content: bytes, cap: float) -> bytes:
    """Return an int8 file whose rectified tensors have steps of 1.

    Multiplying all activations by one number changes nothing but the scales
    of the first and the last product. With steps of 1, the scales of biases are those
    of their weights and need not be stored again; and as a tensor's largest
    integer is where its ReLU6 ends, ReLU does the same.

    Parameters
    ----------
    content
        The file.
    cap
        Where the rectified tensors end.
    """
    model = _read(content)
    graph = model.subgraphs[0]
    factor = 255 / cap
    products = [op for op in graph.operators if _kind(model, op) in _PRODUCTS]
    first, last = products[0], products[-1]
    started = False
    for operator in graph.operators:
        if operator is last:
            break
        started = started or operator is first
        if started:
            for number in operator.outputs:
                _rescale(graph.tensors[number], factor)
        options = operator.builtinOptions
        if getattr(options, "fusedActivationFunction", None) == schema.ActivationFunctionType.RELU6:
            options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    _rescale(graph.tensors[first.inputs[1]], factor)
    _rescale(graph.tensors[last.inputs[1]], 1 / factor)
    for operator in products:
        pixels, weights, *biases = (graph.tensors[n] for n in operator.inputs if n >= 0)
        for bias in biases:
            step = np.float32(pixels.quantization.scale[0])
            bias.quantization.scale = step * weights.quantization.scale
    return _write(model)


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
    """Writes equal vectors and names once: the zero points of hundreds of channels are all zero."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802
        key = x.dtype.str, x.tobytes()
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]

    def CreateString(self, s: Any, *args: Any) -> int:  # noqa: N802
        key = "text", s if isinstance(s, bytes) else s.encode()
        if key not in self._written:
            self._written[key] = super().CreateString(s, *args)
        return self._written[key]


class _WrittenOnce:
    """A table of which further tensors hold the place instead of a copy."""

    def __init__(self, table: Any) -> None:
        self._table, self._place = table, 0

    def Pack(self, builder: Any) -> int:  # noqa: N802
        """Write the table the first time, and return where it is."""
        self._place = self._place or int(self._table.Pack(builder))
        return self._place


def _read(content: bytes) -> Any:
    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


def _write(model: Any) -> bytes:
    tables: dict[tuple[Any, ...], _WrittenOnce] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:  # only arrays are written once
            if tensor.shape is not None:
                tensor.shape = np.asarray(tensor.shape, np.int32)
            if tensor.shapeSignature is not None:
                tensor.shapeSignature = np.asarray(tensor.shapeSignature, np.int32)
        for owner, field in (
            *((tensor, "quantization") for tensor in graph.tensors),
            *((operator, "builtinOptions") for operator in graph.operators),
        ):
            table = getattr(owner, field, None)
            if table is not None and not isinstance(table, _WrittenOnce):
                values = (
                    item.tobytes() if isinstance(item, np.ndarray) else item
                    for item in vars(table).values()
                )
                key = type(table), *values
                setattr(owner, field, tables.setdefault(key, _WrittenOnce(table)))
    builder = _SharingBuilder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _kind(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _add_operator(model: Any, code: int, inputs: list[int], output: int) -> Any:
    """Append an operator and return it."""
    codes = model.operatorCodes
    known = [max(entry.builtinCode, entry.deprecatedBuiltinCode) for entry in codes]
    if code not in known:
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        entry.version = 1
        codes.append(entry)
        known.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = known.index(code)
    operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
    model.subgraphs[0].operators.append(operator)
    return operator


def _add_tensor(model: Any, name: str, shape: Any, kind: int = schema.TensorType.FLOAT32) -> int:
    """Append a tensor without content and return its number."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name.encode(), np.array(shape, np.int32), kind
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
    tensor.shape = np.array(values.shape, np.int32)
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


def _drop_records(model: Any) -> None:
    """Leave out what the converter tells of itself, and free sizes inside of the graph."""
    model.description = None
    model.metadata = [entry for entry in model.metadata or [] if entry.name not in _RECORDS]
    for graph in model.subgraphs:
        outer = {*graph.inputs, *graph.outputs}
        for number, tensor in enumerate(graph.tensors):
            if tensor.shape is not None and len(tensor.shape):
                tensor.hasRank = False  # only a scalar's shape does not tell it
            if number not in outer:
                tensor.shapeSignature = None


def _drop_orphans(model: Any) -> None:
    """Leave out the buffers that nothing reads any more; the first is empty by convention."""
    readers = [
        *(tensor for graph in model.subgraphs for tensor in graph.tensors),
        *(model.metadata or []),
    ]
    used = sorted({0, *(reader.buffer for reader in readers)})
    filled = [n for n in used if n == 0 or _filled(model.buffers[n])]
    places = {number: place for place, number in enumerate(filled)}
    model.buffers = [model.buffers[number] for number in filled]
    for reader in readers:
        reader.buffer = places.get(reader.buffer, 0)


def _filled(buffer: Any) -> bool:
    return buffer.data is not None and len(buffer.data) > 0


def _shorten_names(model: Any) -> None:
    """Call tensors by their layer, and constants like what is computed from them."""
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            # The first of the layers that the converter fused.
            path = tensor.name.decode().split(";")[0].split("/")
            layer = path[0] if len(path) == 1 else path[1]
            stem, _, number = layer.rpartition("_")
            tensor.name = (stem if stem and number.isdigit() else layer).encode()
        for operator in graph.operators:
            for number in operator.inputs:
                if number >= 0 and _filled(model.buffers[graph.tensors[number].buffer]):
                    graph.tensors[number].name = graph.tensors[operator.outputs[0]].name
