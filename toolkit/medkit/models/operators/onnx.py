"""The operators of an ONNX file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medkit.extras import require
from medkit.models.operators import products
from medkit.models.operators.onnx_shapes import with_shapes
from medkit.models.operators.products import Node, Product, Shape, work_of
from medkit.models.operators.summary import (
    BRANCH,
    CONVERSIONS,
    FOREIGN,
    INTEGERS,
    LOOP,
    UNKNOWN_SHAPE,
    Operator,
    OperatorSummary,
    Pixels,
    fault_of,
    is_floating,
    joint_type,
)

_STANDARD = ("", "ai.onnx", "ai.onnx.ml")

_INNER = {"Loop": LOOP, "Scan": LOOP, "If": BRANCH}
"""Operators that run graphs of their own, and what that leaves open."""

_DATA = {"QLinearConcat": 2, "QLinearWhere": 1}
"""Place of the first operand, where it is not the first input."""


def read_operators(path: Path) -> OperatorSummary:
    """List what an ONNX file computes; raise any error for one that is damaged."""
    return summarise(path.read_bytes())


def summarise(content: bytes) -> OperatorSummary:
    """List what the bytes of an ONNX file hold.

    An operator between DequantizeLinear and QuantizeLinear computes in the
    integers that the former takes: runtimes merge the three.
    """
    require("inspect an .onnx file", "onnx")
    import onnx

    model = onnx.load_from_string(content)
    if not model.graph.node:
        raise ValueError("no operators")  # no bytes at all are a valid, empty message
    model = with_shapes(model)
    scope = _Scope(model.graph)
    operators = tuple(scope.operators())
    return OperatorSummary(operators, dict(sorted(scope.tensors.items())), _pixels(model.graph))


class _Scope:
    """The names of a graph, and of those around it."""

    def __init__(self, graph: Any, outer: _Scope | None = None, doubt: str = "") -> None:
        self._graph, self._doubt = graph, doubt
        self._shapes: dict[str, Shape | None] = dict(outer._shapes) if outer else {}
        self._types: dict[str, str] = dict(outer._types) if outer else {}
        self._constants: dict[str, Any] = dict(outer._constants) if outer else {}
        self._producers: dict[str, Any] = dict(outer._producers) if outer else {}
        own: dict[str, str] = {}
        for value in (*graph.input, *graph.output, *graph.value_info):
            tensor = value.type.tensor_type
            own[value.name] = _type_name(tensor.elem_type)
            self._shapes[value.name] = _shape(tensor)
        for item in graph.initializer:  # an old file lists them among its inputs as well
            own[item.name] = _type_name(item.data_type)
            self._shapes[item.name] = tuple(item.dims)
            self._constants[item.name] = item
        for node in graph.node:
            self._producers.update(dict.fromkeys(node.output, node))
            value = _value_of(node)
            if value is not None:
                own[node.output[0]] = _type_name(value.data_type)
                self._shapes[node.output[0]] = tuple(value.dims)
                self._constants[node.output[0]] = value
        self._types |= own
        self.tensors = Counter(own.values())

    def operators(self) -> Iterator[Operator]:
        """Describe the nodes of the graph, and of those inside."""
        for node in self._graph.node:
            yield self._operator(node)
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    if graph.node:
                        doubt = self._doubt or _INNER.get(node.op_type, LOOP)
                        inner = _Scope(graph, self, doubt)
                        yield from inner.operators()
                        self.tensors.update(inner.tensors)

    def _operator(self, node: Any) -> Operator:
        kind, inputs = node.op_type, list(node.input)
        name = node.name or (node.output[0] if node.output else kind)
        product = _product(node)
        if product is None:
            place = _DATA.get(kind, 0)
            data = inputs[place : place + 1]
            own = kind in CONVERSIONS
            found = (self._type(item) if own else self._taken(item) for item in data if item)
            foreign = node.domain not in _STANDARD and not _is_free(kind)
            doubt = FOREIGN if foreign else ""
            return Operator(name, kind, joint_type(found), 0, doubt=doubt)
        options = {item.name: _attribute(item) for item in node.attribute}
        shapes = [self._shapes.get(item) for item in inputs]
        outputs = [self._shapes.get(item) for item in node.output]
        work = work_of(product, Node(kind, shapes, outputs, options))
        operands = [inputs[i] for i in product.operands if i < len(inputs) and inputs[i]]
        computes_in = joint_type(map(self._taken, operands))
        place = product.operands[-1]
        weights = inputs[place] if place < len(inputs) else ""
        held = f"int{options['bits']}" if "bits" in options else self._held_in(weights)
        same = held in (computes_in, f"u{computes_in}") or computes_in in INTEGERS
        return Operator(
            name=name,
            kind=kind,
            computes_in=computes_in,
            work=work or 0,
            fault=fault_of(kind, self._weights(weights)),
            weights="" if same else held,
            doubt=UNKNOWN_SHAPE if work is None else self._doubt,
        )

    def _type(self, name: str) -> str:
        return self._types.get(name, "unknown")

    def _taken(self, name: str) -> str:
        """Return the type that goes into an operator by this name."""
        producer = self._producers.get(name)
        if producer is not None and producer.op_type == "DequantizeLinear":
            name = producer.input[0]
            if name not in self._constants:
                return self._type(name)
            # Weights of integers alone make no product of integers.
        return self._type(name)

    def _source(self, name: str) -> list[str]:
        """Return the constants behind weights: values, and their scales if they have any."""
        producer = self._producers.get(name)
        if producer is not None and producer.op_type in ("DequantizeLinear", "Cast"):
            return list(producer.input[:2])
        return [name]

    def _held_in(self, name: str) -> str:
        source = self._source(name)[0]
        held = self._type(source) if source in self._constants else ""
        return held if held in INTEGERS or is_floating(held) else ""

    def _weights(self, name: str) -> list[NDArray[Any]]:
        """Return weights, and their scales, where the file holds them."""
        from onnx import TensorProto, numpy_helper

        found = [self._constants[item] for item in self._source(name) if item in self._constants]
        return [
            numpy_helper.to_array(item)
            for item in found
            if item.data_location != TensorProto.EXTERNAL
        ]


def _product(node: Any) -> Product | None:
    own = products.ONNX.get(f"{node.domain}.{node.op_type}")
    return own or products.ONNX.get(node.op_type)


def _is_free(kind: str) -> bool:
    """Whether an operator of ONNX Runtime's own is known to multiply no matrices."""
    from medkit.models.operators.onnx_shapes import STAND_INS

    return kind in STAND_INS


def _type_name(number: int) -> str:
    """Return an element type as NumPy calls it."""
    from onnx import TensorProto

    name = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}.get(number)
    return name or str(TensorProto.DataType.Name(number)).lower()


def _shape(tensor: Any) -> Shape | None:
    sides = tensor.shape.dim
    if not tensor.HasField("shape") or not all(side.HasField("dim_value") for side in sides):
        return None
    return tuple(side.dim_value for side in sides)


def _value_of(node: Any) -> Any:
    """Return the tensor that a Constant holds, or ``None``."""
    if node.op_type != "Constant":
        return None
    return next((item.t for item in node.attribute if item.name == "value"), None)


def _attribute(item: Any) -> Any:
    from onnx import helper

    return helper.get_attribute_value(item)


def _pixels(graph: Any) -> Pixels:
    """Describe the first input, and by what scale and zero point it is dequantised."""
    from onnx import numpy_helper

    known: Mapping[str, Any] = {item.name: item for item in graph.initializer}
    given = [value for value in graph.input if value.name not in known]
    if not given:
        return Pixels("none")
    dtype = _type_name(given[0].type.tensor_type.elem_type)
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == given[0].name:
            constants = [known.get(name) for name in node.input[1:]]
            if any(item is None for item in constants):
                return Pixels(dtype)
            values = [numpy_helper.to_array(item).reshape(-1)[0] for item in constants]
            return Pixels(dtype, float(values[0]), int(values[1]) if len(values) > 1 else 0)
    return Pixels(dtype)
