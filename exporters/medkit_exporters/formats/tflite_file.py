"""TFLite files as tables that can be changed, and as small as they can be.

Importing this module imports the schema of TFLite files, and no TensorFlow.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

from medkit.models.card import ModelCard
from medkit.models.formats import CARD_NAME, export_formats
from medkit.models.seal import sealed

_RECORDS = (b"CONVERSION_METADATA", b"min_runtime_version")


def compact(content: bytes) -> bytes:
    """Return a converted file without what no runtime needs: a hundredth of a small int8 file."""
    model = read(content)
    _shorten_names(model)
    _drop_records(model)
    _drop_orphans(model)
    return write(model)


def attach_card(content: bytes, card: ModelCard) -> bytes:
    """Return the file, sealed, with ``card`` as its only metadata buffer named ``medkit``."""
    model = read(content)
    model.metadata = [entry for entry in model.metadata or [] if entry.name != CARD_NAME.encode()]
    _drop_orphans(model)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(card.to_json().encode(), dtype=np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = CARD_NAME
    entry.buffer = len(model.buffers) - 1
    model.metadata.append(entry)
    return sealed(write(model), export_formats()["tflite"].seal)


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


def read(content: bytes) -> Any:
    """Return the tables of a TFLite file, which can be changed."""
    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


def write(model: Any) -> bytes:
    """Return the file that holds tables; equal ones are written once."""
    tables: dict[tuple[Any, ...], _WrittenOnce] = {}
    for graph in model.subgraphs:
        for owner, fields in (
            *((tensor, ("shape", "shapeSignature")) for tensor in graph.tensors),
            *((operator, ("inputs", "outputs")) for operator in (graph, *graph.operators)),
        ):
            for field in fields:  # only arrays are written once
                if getattr(owner, field) is not None:
                    setattr(owner, field, np.asarray(getattr(owner, field), np.int32))
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


def kind_of(model: Any, operator: Any) -> int:
    """Return which of ``schema.BuiltinOperator`` an operator is."""
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def add_operator(model: Any, code: int, inputs: list[int], output: int) -> Any:
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


def add_tensor(model: Any, name: str, shape: Any, kind: int = schema.TensorType.FLOAT32) -> int:
    """Append a tensor without content and return its number."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name.encode(), np.array(shape, np.int32), kind
    tensor.buffer = len(model.buffers)
    model.buffers.append(schema.BufferT())
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def add_constant(model: Any, name: str, values: NDArray[Any]) -> int:
    """Append a tensor of 32-bit integers and return its number."""
    number = add_tensor(model, name, values.shape, schema.TensorType.INT32)
    set_data(model, model.subgraphs[0].tensors[number], values.astype(np.int32))
    return number


def set_data(model: Any, tensor: Any, values: NDArray[Any]) -> None:
    """Give a tensor content of its own, and its shape."""
    tensor.buffer = len(model.buffers)
    tensor.shape = np.array(values.shape, np.int32)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)


def _drop_records(model: Any) -> None:
    """Leave out what the converter tells of itself, and names and free sizes that nothing reads."""
    model.description = None
    model.metadata = [entry for entry in model.metadata or [] if entry.name not in _RECORDS]
    for graph in model.subgraphs:
        graph.name = None
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
    filled = [n for n in used if n == 0 or is_filled(model.buffers[n])]
    places = {number: place for place, number in enumerate(filled)}
    model.buffers = [model.buffers[number] for number in filled]
    for reader in readers:
        reader.buffer = places.get(reader.buffer, 0)


def is_filled(buffer: Any) -> bool:
    """Whether a buffer holds constants."""
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
                if number >= 0 and is_filled(model.buffers[graph.tensors[number].buffer]):
                    graph.tensors[number].name = graph.tensors[operator.outputs[0]].name
