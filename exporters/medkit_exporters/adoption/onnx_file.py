"""Lone ONNX files that were made elsewhere.

Importing this module imports the package ``onnx``, and no converter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from medkit.errors import ModelFileError
from medkit.models.card import ModelCard
from medkit.models.operators.onnx import summarise
from medkit.models.operators.summary import OperatorSummary
from medkit.models.runtimes.base import one_line
from medkit.models.runtimes.onnx import check_self_contained, open_session
from medkit_exporters.adoption import onnx_ends
from medkit_exporters.adoption.exported_file import ExportedFile, Run, loaded
from medkit_exporters.adoption.metadata import Told, read_onnx_metadata
from medkit_exporters.adoption.normalisation import taken_by
from medkit_exporters.adoption.opening import Asked
from medkit_exporters.adoption.pixels import PixelRule
from medkit_exporters.adoption.taken import Taken, read_shape, rule_of_range
from medkit_exporters.formats.onnx_final import attach_card, with_final_ends

_TYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
}

_OLDEST = 7
"""Operator set that ONNX Runtime runs without restrictions."""

_LEAST_IR = 4
"""Form of the file in which constants are no inputs."""


class OnnxFile(ExportedFile):
    """A lone ONNX file; see :class:`~medkit_exporters.adoption.base.OpenedModel`."""

    format = "onnx"

    def _read(self, content: bytes) -> tuple[Taken, Told, list[str]]:
        path = self.path
        check_self_contained(path)
        model = onnx.load_from_string(content)
        version = next((item.version for item in model.opset_import if not item.domain), _OLDEST)
        if version < _OLDEST:
            raise ModelFileError(
                f"{path} is of ONNX operator set {version}; accepted: {_OLDEST} and newer; export "
                "it again"
            )
        graph = model.graph
        held = {item.name for item in graph.initializer}
        inputs = [value for value in graph.input if value.name not in held]
        for what, values in (("input", inputs), ("output", list(graph.output))):
            if len(values) != 1:
                raise ModelFileError(
                    f"{path} has {len(values)} {what}s; accepted: classifiers of one image, with "
                    "one input and one output"
                )
        del graph.input[:]
        graph.input.extend(inputs)
        model.ir_version = max(model.ir_version, _LEAST_IR)
        taken, result = (value.type.tensor_type for value in (inputs[0], graph.output[0]))
        floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
        if taken.elem_type not in _TYPES or result.elem_type not in floats:
            names = TensorProto.DataType.Name
            raise ModelFileError(
                f"{path} takes {names(taken.elem_type)} and gives {names(result.elem_type)}; "
                "accepted: it takes FLOAT, FLOAT16, UINT8 or INT8, and gives FLOAT or FLOAT16"
            )
        faulty = onnx_ends.faulty_constant(graph)
        if faulty is not None:
            raise ModelFileError(
                f"{path} holds a NaN in {faulty!r}; train the network again, or export it again"
            )
        dtype = _TYPES[taken.elem_type]
        scale = onnx_ends.quantisation_of(graph) if "float" not in dtype else None
        if dtype == "int8" and scale is None:
            raise ModelFileError(
                f"{path} takes int8 numbers without a scale, so that it does not tell what they "
                "stand for; export it again with an input of uint8 or float32"
            )
        found = Taken(
            *read_shape(path, _sides(taken)),
            dtype=dtype,
            scale=scale[0] if scale else None,
            zero_point=scale[1] if scale else 0,
        )
        told = read_onnx_metadata({item.key: item.value for item in model.metadata_props})
        self._content = _serialised(model)
        return found, told, []

    @property
    def _neutral(self) -> bytes:
        return self._content

    def _start(self, content: bytes) -> Run:
        return loaded(self.path, "ONNX Runtime", lambda: _Session(content))

    def _told_ending(self) -> tuple[str, str]:
        return onnx_ends.ending_of(onnx.load_from_string(self._content).graph)

    @property
    def _needs_one_by_one(self) -> bool:
        return onnx_ends.has_joint_ranges(onnx.load_from_string(self._content).graph)

    def _ended(self, outputs: int, ending: str) -> bytes:
        model = onnx.load_from_string(self._content)
        onnx_ends.set_names_apart(model.graph)
        onnx_ends.end_in_floats(model.graph, outputs, ending=ending)
        return _serialised(model)

    def _with_front(
        self, content: bytes, shape: tuple[int, int, int], pixels: PixelRule | None
    ) -> bytes:
        model = onnx.load_from_string(content)
        onnx_ends.begin_with(model.graph, self._taken, shape, pixels)
        onnx_ends.set_batch(model.graph, free=not self._fixed)
        return _serialised(model)

    def _activated(self, content: bytes, outputs: int, ending: str) -> bytes:
        model = onnx.load_from_string(content)
        logits = model.graph.output[0].name
        onnx_ends.activate(model.graph, logits, ending, outputs)
        onnx_ends.set_batch(model.graph, free=not self._fixed)
        return _serialised(model)

    def _with_ends(self, content: bytes, card: ModelCard) -> bytes:
        return with_final_ends(content, card)

    def _with_card(self, content: bytes, card: ModelCard) -> bytes:
        return attach_card(content, card)

    def _summary(self, content: bytes) -> OperatorSummary:
        return summarise(content)

    def _pixels_in_graph(self) -> PixelRule | None:
        if "float" not in self._taken.dtype:
            return rule_of_range(self._taken)
        graph = onnx.load_from_string(self._content).graph
        return taken_by(onnx_ends.first_steps(graph), self._taken.channels)


class _Session:
    """A file in a session of ONNX Runtime."""

    def __init__(self, content: bytes) -> None:
        self._session = open_session(content, quiet=True)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        try:
            (raw,) = self._session.run(None, {self._input: values})
        except Exception as error:
            # The binding raises classes of its own that share no base but Exception.
            raise ValueError(one_line(error)) from error
        found: NDArray[np.float32] = np.asarray(raw).astype(np.float32)
        return found


def open_onnx(path: Path, asked: Asked) -> OnnxFile:
    """Open a lone ONNX file.

    Raises
    ------
    ModelFileError
        If it is damaged, or is no classifier of images.
    UsageError
        If it takes another size.
    """
    return OnnxFile(path, asked.size)


def _sides(tensor: Any) -> list[int | None]:
    """Return a shape, with ``None`` for a side that is free."""
    return [side.dim_value or None for side in tensor.shape.dim]


def _serialised(model: Any) -> bytes:
    content: bytes = model.SerializeToString()
    return content
