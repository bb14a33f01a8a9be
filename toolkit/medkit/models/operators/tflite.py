"""The operators of a TFLite file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.models.operators.products import TFLITE, Node, Shape, size_of, work_of
from medkit.models.operators.summary import (
    BRANCH,
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

_NUMPY = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT8": np.int8, "INT32": np.int32}
_MOST_ROUNDS = 1 << 40  # no loop that ends is as long


def read_operators(path: Path) -> OperatorSummary:
    """List what a TFLite file computes; raise any error for one that is damaged."""
    return summarise(path.read_bytes())


def summarise(content: bytes) -> OperatorSummary:
    """List what the bytes of a TFLite file hold, in all its subgraphs.

    The body of a loop counts as often as the loop goes round, where constants
    of the file tell this.
    """
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != b"TFL3":
        raise ValueError("no TFLite file")
    file = _File(schema.ModelT.InitFromPackedBuf(content, 0), schema)
    tensors = Counter(
        file.type_of(tensor) for graph in file.graphs for tensor in _list(graph.tensors)
    )
    operators = [
        file.operator(graph, node, run)
        for graph, run in zip(file.graphs, file.runs(), strict=True)
        for node in _list(graph.operators)
    ]
    return OperatorSummary(tuple(operators), dict(sorted(tensors.items())), file.pixels())


@dataclass(frozen=True)
class _Run:
    """How often a subgraph is run for one input, and as a part of what."""

    rounds: int
    doubt: str = ""
    part: str = ""


class _File:
    """An unpacked file with its names."""

    def __init__(self, model: Any, schema: Any) -> None:
        self.model = model
        self.graphs = _list(model.subgraphs)
        if not self.graphs:
            raise ValueError("no subgraphs")
        self._types = _names(schema.TensorType)
        kinds = _names(schema.BuiltinOperator)
        # An older reader knows the first 127 operators only, and keeps them in a byte.
        numbers = [
            max(code.builtinCode, code.deprecatedBuiltinCode) for code in _list(model.operatorCodes)
        ]
        self._kinds = [kinds.get(number, f"operator {number}") for number in numbers]
        self._customs = [_text(code.customCode) for code in _list(model.operatorCodes)]
        # Weights of half precision are taken through an operator.
        self._stored = [
            {
                int(node.outputs[0]): graph.tensors[node.inputs[0]]
                for node in _list(graph.operators)
                if self.kind_of(node) == "DEQUANTIZE"
            }
            for graph in self.graphs
        ]
        self._rows = [self._free_sides(graph) for graph in self.graphs]

    def _free_sides(self, graph: Any) -> dict[int, int]:
        """Return the first side of the tensors in which it is free, for one image.

        It is the batch, until places of a feature map are folded into it. No
        reshaping changes the number of values, even where it is not known
        which sides they have.
        """
        sizes: dict[int, int] = {}
        rows: dict[int, int] = {}

        def size(index: int) -> int | None:
            shape = _shape(graph.tensors[index], rows.get(index, 1))
            return sizes.get(index) if shape is None else size_of(shape)

        for node in _list(graph.operators):
            kind = self.kind_of(node)
            taken = [int(index) for index in _list(node.inputs) if index >= 0]
            given = size(taken[0]) if taken else None
            for index in map(int, _list(node.outputs)):
                signature = _list(graph.tensors[index].shapeSignature)
                if given is not None and kind == "RESHAPE":
                    sizes[index] = given
                if not signature or signature[0] >= 0 or min(signature[1:], default=1) < 1:
                    continue
                rows[index] = max((rows.get(item, 1) for item in taken), default=1)
                made = given if kind == "RESHAPE" else None
                if given is not None and kind == "FULLY_CONNECTED":
                    features, each = graph.tensors[taken[1]].shape
                    made = given // int(each) * int(features)
                if made is not None:
                    rows[index] = max(made // size_of(signature[1:]), 1)
        return rows

    def kind_of(self, node: Any) -> str:
        return str(self._kinds[node.opcodeIndex])

    def type_of(self, tensor: Any) -> str:
        return str(self._types[tensor.type]).lower()

    def operator(self, graph: Any, node: Any, run: _Run) -> Operator:
        """Describe a node of a subgraph."""
        kind = self.kind_of(node)
        places = [int(index) for index in _list(node.inputs)]
        inputs = [graph.tensors[index] if index >= 0 else None for index in places]
        outputs = [graph.tensors[index] for index in _list(node.outputs)]
        name = _text(outputs[0].name) if outputs else kind
        product = TFLITE.get(kind)
        if product is None:
            computes_in = joint_type(self._values([*inputs, *outputs]))
            if kind != "CUSTOM":
                return Operator(name, kind, computes_in, 0, part=run.part)
            custom = self._customs[node.opcodeIndex]
            return Operator(name, f"{kind} {custom}", computes_in, 0, doubt=FOREIGN, part=run.part)
        stored = self._stored[self.graphs.index(graph)]
        sources = [stored.get(place, taken) for place, taken in zip(places, inputs, strict=True)]
        held = frozenset(i for i, source in enumerate(sources) if self._constant(source))
        rows = self._rows[self.graphs.index(graph)]
        shapes = [
            _shape(tensor, rows.get(places[i], 1), whole=i in held)
            for i, tensor in enumerate(inputs)
        ]
        made = [_shape(graph.tensors[index], rows.get(index, 1)) for index in _list(node.outputs)]
        options = {**_options(node.builtinOptions), **_options(node.builtinOptions2)}
        work = work_of(product, Node(kind, shapes, made, options, held))
        *_, weights = product.operands
        operands = [inputs[i] for i in product.operands if i < len(inputs)]
        computes_in = joint_type(self.type_of(tensor) for tensor in operands if tensor is not None)
        return Operator(
            name=name,
            kind=kind,
            computes_in=computes_in,
            work=(work or 0) * run.rounds,
            fault=fault_of(kind, self._weights(sources[weights : weights + 1])),
            weights=self._held_in(sources[weights], computes_in) if weights in held else "",
            doubt=UNKNOWN_SHAPE if work is None else run.doubt,
            part=run.part,
        )

    def _values(self, tensors: Iterable[Any]) -> list[str]:
        """Return the type of the first tensor that holds values, and no state."""
        types = [self.type_of(tensor) for tensor in tensors if tensor is not None]
        return [name for name in types if name not in ("resource", "variant")][:1]

    def _held_in(self, weights: Any, computes_in: str) -> str:
        held = self.type_of(weights)
        widened = held in INTEGERS or is_floating(held)
        return held if widened and held not in (computes_in, f"u{computes_in}") else ""

    def _data(self, tensor: Any) -> Any:
        """Return the bytes of a constant, or ``None``."""
        buffer = self.model.buffers[tensor.buffer]
        return buffer.data if buffer.data is not None and len(buffer.data) else None

    def _constant(self, tensor: Any) -> bool:
        if tensor is None:
            return False
        # A file of more than 2 GiB keeps its weights behind the tables.
        return self._data(tensor) is not None or self.model.buffers[tensor.buffer].size > 0

    def _array(self, tensor: Any) -> NDArray[Any] | None:
        """Return the values of a constant of a common type, flat."""
        known = _NUMPY.get(self._types[tensor.type])
        data = self._data(tensor)
        return None if known is None or data is None else np.frombuffer(bytes(data), known)

    def _weights(self, tensors: Sequence[Any]) -> list[NDArray[Any]]:
        """Return weights, and their scales, where they are constants."""
        arrays = []
        for tensor in tensors:
            if tensor is None:
                continue
            values = self._array(tensor)
            if values is not None and values.dtype != np.int32:
                arrays.append(values)
            scales = getattr(tensor.quantization, "scale", None)
            if scales is not None and len(scales):
                arrays.append(np.asarray(scales))
        return arrays

    def runs(self) -> list[_Run]:
        """Tell of each subgraph how often it is run, as far as the file tells."""
        called = [self._calls(graph) for graph in self.graphs]
        inner = {index for calls in called for index, _, _ in calls}
        entries = [index for index in range(len(self.graphs)) if index not in inner]
        signatures = {
            sign.subgraphIndex: _text(sign.signatureKey) for sign in _list(self.model.signatureDefs)
        }
        runs: list[_Run] = [_Run(0)] * len(self.graphs)
        for entry in entries:
            name = signatures.get(entry) or _text(self.graphs[entry].name)
            waiting = [(entry, _Run(1, part=name if len(entries) > 1 else ""))]
            while waiting:
                index, run = waiting.pop()
                runs[index] = _Run(runs[index].rounds + run.rounds, run.doubt, run.part)
                if runs[index].rounds > _MOST_ROUNDS:
                    raise ValueError("subgraphs that call themselves")
                for body, rounds, doubt in called[index]:
                    inside = _Run(run.rounds * rounds, run.doubt or doubt, run.part)
                    waiting.append((body, inside))
        return runs

    def _calls(self, graph: Any) -> list[tuple[int, int, str]]:
        """Return subgraph, rounds and doubt of what the operators of a subgraph call."""
        found = []
        for node in _list(graph.operators):
            options = {**_options(node.builtinOptions), **_options(node.builtinOptions2)}
            for name, body in options.items():
                if not name.lower().endswith("subgraphindex") or not 0 < body < len(self.graphs):
                    continue
                if name == "bodySubgraphIndex":
                    condition = self.graphs[options["condSubgraphIndex"]]
                    rounds = self._times(graph, node, condition, self.graphs[body])
                    found.append((body, rounds or 1, LOOP if rounds is None else ""))
                else:
                    choice = name in ("thenSubgraphIndex", "elseSubgraphIndex")
                    found.append((body, 1, BRANCH if choice else ""))
        return found

    def _times(self, graph: Any, node: Any, condition: Any, body: Any) -> int | None:
        """Return the rounds of a loop that counts up to a constant."""
        limits = []
        for test in _list(condition.operators):
            if self.kind_of(test) == "LOGICAL_AND":
                continue
            places = [int(index) for index in condition.inputs]
            if self.kind_of(test) != "LESS" or int(test.inputs[0]) not in places:
                return None
            place = places.index(int(test.inputs[0]))
            start = self._number(graph.tensors[node.inputs[place]])
            end = self._number(condition.tensors[test.inputs[1]])
            if start is None or end is None or self._step(body, place) != 1:
                return None
            limits.append(max(end - start, 0))
        return min(limits, default=None)

    def _step(self, body: Any, place: int) -> int | None:
        """Return the constant that a round of a loop adds to one of its numbers."""
        for node in _list(body.operators):
            if int(body.outputs[place]) in _list(node.outputs) and self.kind_of(node) == "ADD":
                first, second = (int(index) for index in node.inputs)
                if first == int(body.inputs[place]):
                    return self._number(body.tensors[second])
        return None

    def _number(self, tensor: Any) -> int | None:
        values = self._array(tensor)
        return int(values[0]) if values is not None and values.size == 1 else None

    def pixels(self) -> Pixels:
        """Describe the first input of the first subgraph."""
        graph = self.graphs[0]
        places = _list(graph.inputs)
        if not places:
            return Pixels("none")
        given = graph.tensors[places[0]]
        scales = getattr(given.quantization, "scale", None)
        if scales is None or not len(scales):
            return Pixels(self.type_of(given))
        return Pixels(self.type_of(given), float(scales[0]), int(given.quantization.zeroPoint[0]))


def _shape(tensor: Any, rows: int = 1, *, whole: bool = False) -> Shape | None:
    """Return a tensor's shape for one image, or ``None`` if a side may change.

    Parameters
    ----------
    tensor
        The tensor, or ``None``.
    rows
        Its first side, if that is free.
    whole
        Whether the file holds it, so that no side is free.
    """
    if tensor is None or tensor.shape is None:
        return None
    free = [] if whole or tensor.shapeSignature is None else list(tensor.shapeSignature)
    if any(side < 0 for side in free[1:]):
        return None
    if free and free[0] < 0:
        return (rows, *(int(side) for side in tensor.shape[1:]))
    return tuple(int(side) for side in tensor.shape)


def _options(table: Any) -> dict[str, Any]:
    return dict(vars(table)) if table is not None else {}


def _list(vector: Any) -> list[Any]:
    """Return a vector that may be left out."""
    return [] if vector is None else list(vector)


def _text(name: Any) -> str:
    return "" if name is None else bytes(name).decode(errors="replace")


def _names(enumeration: Any) -> dict[int, str]:
    """Turn a class of numbered constants around."""
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}
