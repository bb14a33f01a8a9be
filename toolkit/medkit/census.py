"""The census of a model file: which operators it has, and in what numbers they compute.

A file called int8 may hold 8-bit weights and still multiply in floating
point; only its operators and the types of their tensors tell. Work is counted
in multiply-accumulates for one image, of convolutions and matrix products.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.errors import ExportError, MissingExtraError, ModelFileError, UsageError
from medkit.runtimes import SUFFIXES

INTEGERS = ("int8", "uint8", "int16", "uint16")
"""Types in which a quantised operator computes."""

PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "Conv", "MatMul", "Gemm")
"""Operators that multiply and add: all the work that counts."""

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear", "Cast", "CAST")
_PROBABILITIES = ("SOFTMAX", "LOGISTIC", "Softmax", "Sigmoid")

LOGIT_COPIES_NAME, LOGITS_NAME = "logit_copies", "logits"
"""Outputs of the operators that make logits finer than 8 bits, after the last product."""

_RAW = (1.0, 0)


@dataclass(frozen=True)
class Operator:
    """One operator of a graph.

    Attributes
    ----------
    name
        Of its output tensor, or of the layer.
    kind
        The format's own name of the operation.
    computes_in
        Type of the numbers that go in, such as ``int8`` or ``float32``.
    work
        Multiply-accumulates for one image; 0 for all but convolutions and
        matrix products.
    fault
        What is wrong with a product's weights; empty if nothing is.
    """

    name: str
    kind: str
    computes_in: str
    work: int
    fault: str = ""

    @property
    def reason(self) -> str:
        """Why the operator of an int8 file may compute in floating point, if it may."""
        if self.kind in _PROBABILITIES:
            return "256 probabilities would be too few to rank images by"
        if self.name in (LOGIT_COPIES_NAME, LOGITS_NAME) and self.kind not in PRODUCTS:
            return "the mean of the logits' copies lies between their 8-bit steps"
        return ""


@dataclass(frozen=True)
class Pixels:
    """What a file takes as input.

    Attributes
    ----------
    dtype
        Of the tensor that is given.
    scale, zero_point
        By which integers stand for other numbers; ``None`` where they stand
        for themselves.
    """

    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    @property
    def raw(self) -> bool:
        """Whether the bytes of an image go in as they are."""
        return self.dtype == "uint8" and (self.scale, self.zero_point) in ((None, None), _RAW)


@dataclass(frozen=True)
class Census:
    """What a model file is made of.

    Attributes
    ----------
    operators
        In the order of the file.
    tensors
        How many tensors there are of each type.
    pixels
        The input.
    """

    operators: tuple[Operator, ...]
    tensors: dict[str, int]
    pixels: Pixels

    @property
    def work(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(operator.work for operator in self.operators)

    @property
    def integer_share(self) -> float:
        """Share of the work that is done in integers, 0..1."""
        done = sum(item.work for item in self.operators if item.computes_in in INTEGERS)
        return done / self.work if self.work else 0.0

    @property
    def floating(self) -> tuple[Operator, ...]:
        """The operators that compute in floating point; conversions to and from it do not."""
        return tuple(
            item
            for item in self.operators
            if item.computes_in.startswith("float") and item.kind not in _CONVERSIONS
        )

    @property
    def by_kind(self) -> list[tuple[str, str, int, int]]:
        """Kind, type, number of operators and work, the most work first."""
        count: Counter[tuple[str, str]] = Counter()
        work: Counter[tuple[str, str]] = Counter()
        for item in self.operators:
            count[item.kind, item.computes_in] += 1
            work[item.kind, item.computes_in] += item.work
        return sorted(
            ((*key, count[key], work[key]) for key in count), key=lambda row: (-row[3], row[:2])
        )


def check_promise(census: Census, precision: str) -> None:
    """Check that a file computes in what its precision says, from raw pixels, with weights.

    ``int8``: every product in int8, and all else without a reason not to in
    integers. ``int16``: the same in 16 bits. ``mixed``: some product in
    integers. ``fp16`` and ``fp32``: none.

    Raises
    ------
    ExportError
        That names what is wrong, and the operator with the most such work.
    """
    pixels = census.pixels
    if not pixels.raw:
        raise ExportError(
            f"the input is {pixels.dtype} with scale {pixels.scale} and zero point "
            f"{pixels.zero_point}; it must be uint8 with scale 1.0 and zero point 0, or none, so "
            "that raw pixels fit"
        )
    products = [operator for operator in census.operators if operator.kind in PRODUCTS]
    faulty = [operator for operator in products if operator.fault]
    if faulty:
        raise ExportError(f"{faulty[0].kind} {faulty[0].name}: {faulty[0].fault}")
    in_integers = [operator for operator in products if operator.computes_in in INTEGERS]
    if precision == "mixed":
        if not in_integers:
            raise ExportError("no product computes in integers, though the file is called mixed")
        return
    if precision in ("int8", "int16"):
        accepted = (precision, f"u{precision}") if precision == "int16" else (precision,)
        wrong = [operator for operator in products if operator.computes_in not in accepted]
        wrong += [
            operator
            for operator in census.floating
            if operator.kind not in PRODUCTS and not operator.reason
        ]
    else:
        accepted, wrong = ("floating point",), in_integers
    if wrong:
        worst = max(wrong, key=lambda operator: operator.work)
        raise ExportError(
            f"{worst.kind} {worst.name} computes in {worst.computes_in}, not in {accepted[0]} "
            f"({len(wrong)} operators do; {census.integer_share:.0%} of the work is in integers)"
        )


def take_census(path: Path) -> Census:
    """Count the operators and tensors of a ``.tflite``, ``.onnx`` or ``.keras`` file.

    Raises
    ------
    UsageError
        If the file has another suffix.
    MissingExtraError
        If ``onnx`` or TensorFlow is needed and absent.
    ModelFileError
        If the file cannot be read as what its suffix says.
    """
    if path.suffix == ".keras":
        return _of_keras(path)
    readers = {".tflite": census_of_tflite, ".onnx": census_of_onnx}
    if path.suffix not in readers:
        raise UsageError(f"{path} has the suffix {path.suffix!r}; accepted: {', '.join(SUFFIXES)}")
    content = path.read_bytes()
    try:
        return readers[path.suffix](content)
    except MissingExtraError:
        raise
    except Exception as error:
        # Parsers of damaged bytes raise whatever they stumble over first.
        raise ModelFileError(f"{path} is no {path.suffix} file, or a damaged one") from error


def census_of_tflite(content: bytes) -> Census:
    """Count what the bytes of a TFLite file hold."""
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
                    computes_in=_joint_type(types[tensor.type] for tensor in operands),
                    work=_tflite_work(kind, output.shape, weights),
                    fault=_fault(kind, _tflite_weights(model, constants)),
                )
            )
    given = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
    scales = getattr(given.quantization, "scale", None)
    pixels = Pixels(types[given.type])
    if scales is not None and len(scales):
        zero_point = int(given.quantization.zeroPoint[0])
        pixels = Pixels(types[given.type], float(scales[0]), zero_point)
    return Census(tuple(operators), dict(sorted(tensors.items())), pixels)


def census_of_onnx(content: bytes) -> Census:
    """Count what the bytes of an ONNX file hold.

    An operator between DequantizeLinear and QuantizeLinear computes in the
    integers that the former takes: runtimes merge the three.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("onnx", "export", "inspect an .onnx file") from None

    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
    if not graph.node:
        raise ValueError("no operators")  # no bytes at all are a valid, empty message
    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    names[onnx.TensorProto.FLOAT] = "float32"
    shapes: dict[str, list[int]] = {item.name: list(item.dims) for item in graph.initializer}
    types = {item.name: names[item.data_type] for item in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        # A free batch size counts as one image.
        shapes[value.name] = [size.dim_value or 1 for size in tensor.shape.dim]
        types[value.name] = names[tensor.elem_type]
    producers = {name: node for node in graph.node for name in node.output}

    def taken(name: str) -> str:
        """Return the type that goes into an operator by this name."""
        producer = producers.get(name)
        if producer is not None and producer.op_type == "DequantizeLinear":
            name = producer.input[0]
        return str(types.get(name, "unknown"))

    constants = {item.name: item for item in graph.initializer}

    def weights_of(inputs: Sequence[str]) -> list[NDArray[Any]]:
        """Return an operator's second input, and its scales, where they are constants."""
        names = inputs[1:2]
        producer = producers.get(inputs[1]) if len(inputs) > 1 else None
        if producer is not None and producer.op_type == "DequantizeLinear":
            names = list(producer.input[:2])
        return [onnx.numpy_helper.to_array(constants[n]) for n in names if n in constants]

    operators = []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        operands = inputs[:2] if node.op_type in PRODUCTS else inputs[:1]
        own = node.op_type in _CONVERSIONS
        found = (types.get(name, "unknown") if own else taken(name) for name in operands)
        operators.append(
            Operator(
                name=node.name or node.output[0],
                kind=node.op_type,
                computes_in=_joint_type(found),
                work=_onnx_work(
                    node.op_type,
                    [shapes.get(name, []) for name in inputs],
                    shapes.get(node.output[0], []),
                ),
                fault=_fault(node.op_type, weights_of(inputs)),
            )
        )
    pixels = _onnx_pixels(graph, names[graph.input[0].type.tensor_type.elem_type])
    return Census(tuple(operators), dict(sorted(Counter(types.values()).items())), pixels)


def _onnx_pixels(graph: Any, dtype: str) -> Pixels:
    """Read by what scale and zero point the first DequantizeLinear takes the input."""
    from onnx import numpy_helper

    known = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == graph.input[0].name:
            values = [numpy_helper.to_array(known[name]).item() for name in node.input[1:]]
            return Pixels(dtype, float(values[0]), int(values[1]) if len(values) > 1 else 0)
    return Pixels(dtype)


def _of_keras(path: Path) -> Census:
    from medkit.runtimes.keras import load_keras

    network = load_keras(path)
    operators = []
    for layer in network.layers:
        output = layer.output.shape[1:]
        kernel = getattr(layer, "kernel", None)
        work = math.prod(output) * math.prod(kernel.shape[:-1]) if kernel is not None else 0
        operators.append(Operator(layer.name, type(layer).__name__, layer.compute_dtype, work))
    tensors = Counter(weight.dtype for weight in network.weights)
    pixels = Pixels(network.inputs[0].dtype)
    return Census(tuple(operators), dict(sorted(tensors.items())), pixels)


def _fault(kind: str, arrays: Iterable[NDArray[Any]]) -> str:
    """Say what is wrong with a product's weights, or their scales."""
    if kind not in PRODUCTS:
        return ""
    for array in arrays:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return "a weight is no finite number"
        if not array.any():
            return "all its weights are zero"
    return ""


def _tflite_weights(model: Any, inputs: Sequence[Any]) -> list[NDArray[Any]]:
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


def _joint_type(operands: Iterable[str]) -> str:
    """Return what an operator computes in: the widest operand decides, floating before all."""
    found = sorted(set(operands), key=lambda name: (name in INTEGERS, "16" not in name, name))
    return found[0] if found else "nothing"


def _tflite_work(kind: str, output: Sequence[int], weights: Sequence[int]) -> int:
    if kind in ("CONV_2D", "FULLY_CONNECTED"):
        return _product(output) * _product(weights[1:])
    if kind == "DEPTHWISE_CONV_2D":
        return _product(output) * _product(weights[1:3])
    return 0


def _onnx_work(kind: str, inputs: Sequence[Sequence[int]], output: Sequence[int]) -> int:
    if kind == "Conv":
        return _product(output) * _product(inputs[1][1:])
    if kind in ("MatMul", "Gemm"):
        return _product(output) * inputs[0][-1]
    return 0


def _product(sizes: Iterable[int]) -> int:
    return math.prod(int(size) for size in sizes)


def _names(enumeration: Any) -> dict[int, str]:
    """Turn a class of numbered constants around."""
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}
