"""Lone TFLite files that were made elsewhere.

Importing this module imports LiteRT and the schema of TFLite files, and no TensorFlow.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from medkit.errors import ModelFileError
from medkit.models.card import ModelCard
from medkit.models.operators.summary import OperatorSummary
from medkit.models.operators.tflite import summarise
from medkit.system.quiet import native_stderr_closed
from medkit_exporters.adoption import tflite_ends
from medkit_exporters.adoption.exported_file import ExportedFile, Run, loaded
from medkit_exporters.adoption.metadata import METADATA_NAME, Told, read_tflite_metadata
from medkit_exporters.adoption.normalisation import taken_by
from medkit_exporters.adoption.opening import Asked
from medkit_exporters.adoption.pixels import PixelRule
from medkit_exporters.adoption.taken import Taken, read_shape, rule_of_range
from medkit_exporters.formats.tflite_file import attach_card, read, write
from medkit_exporters.formats.tflite_final import with_final_ends

_TYPES = {
    schema.TensorType.FLOAT32: "float32",
    schema.TensorType.UINT8: "uint8",
    schema.TensorType.INT8: "int8",
}


class TFLiteFile(ExportedFile):
    """A lone TFLite file; see :class:`~medkit_exporters.adoption.base.OpenedModel`."""

    format = "tflite"

    def _read(self, content: bytes) -> tuple[Taken, Told, list[str]]:
        path = self.path
        model = read(content)
        custom = tflite_ends.custom_operators(model)
        if custom:
            raise ModelFileError(
                f"{path} needs the operator {custom[0]}, which LiteRT does not have; accepted: "
                "operators of TFLite's own; convert the model again without SELECT_TF_OPS and "
                "custom operators"
            )
        if len(model.signatureDefs or ()) > 1:
            raise ModelFileError(
                f"{path} has {len(model.signatureDefs)} signatures; accepted: one; convert the "
                "model again with the signature of the classifier alone"
            )
        graph = model.subgraphs[0]
        for what, places in (("input", graph.inputs), ("output", graph.outputs)):
            if len(places) != 1:
                raise ModelFileError(
                    f"{path} has {len(places)} {what}s; accepted: classifiers of one image, with "
                    "one input and one output"
                )
        given, result = graph.tensors[int(graph.inputs[0])], graph.tensors[int(graph.outputs[0])]
        names = {number: name.lower() for name, number in vars(schema.TensorType).items()}
        if given.type not in _TYPES or result.type not in (*_TYPES, schema.TensorType.INT16):
            raise ModelFileError(
                f"{path} takes {names[given.type]} and gives {names[result.type]}; accepted: "
                "float32, uint8 or int8"
            )
        faulty = tflite_ends.faulty_constant(model)
        if faulty is not None:
            raise ModelFileError(
                f"{path} holds a NaN in {faulty!r}; train the network again, or convert it again"
            )
        scale, zero_point = _quantisation(given) or (None, 0)
        if given.type == schema.TensorType.INT8 and scale is None:
            raise ModelFileError(
                f"{path} takes int8 numbers without a scale, so that it does not tell what they "
                "stand for; convert the model again with an input of uint8 or float32"
            )
        taken = Taken(
            *read_shape(path, _sides(given)),
            dtype=_TYPES[given.type],
            scale=scale,
            zero_point=zero_point,
        )
        table = next(
            (
                bytes(model.buffers[item.buffer].data)
                for item in model.metadata or ()
                if item.name == METADATA_NAME.encode()
            ),
            None,
        )
        try:
            told = read_tflite_metadata(content, table)
        except ValueError as error:
            raise ModelFileError(f"{path}: {error}; convert the model again") from error
        self._content = write(model)
        return taken, told, []

    @property
    def _neutral(self) -> bytes:
        return self._content

    def _start(self, content: bytes) -> Run:
        return loaded(self.path, "LiteRT", lambda: _Interpreted(content))

    def _told_ending(self) -> tuple[str, str]:
        return tflite_ends.ending_of(read(self._content))

    def _ended(self, outputs: int, ending: str) -> bytes:
        model = read(self._content)
        tflite_ends.end_in_floats(model, outputs, ending=ending)
        return write(model)

    def _with_front(
        self, content: bytes, shape: tuple[int, int, int], pixels: PixelRule | None
    ) -> bytes:
        model = read(content)
        tflite_ends.begin_with(model, self._taken, shape, pixels)
        tflite_ends.set_batch(model, free=not self._fixed)
        return write(model)

    def _activated(self, content: bytes, outputs: int, ending: str) -> bytes:
        model = read(content)
        tflite_ends.activate(model, int(model.subgraphs[0].outputs[0]), ending)
        tflite_ends.set_batch(model, free=not self._fixed)
        return write(model)

    def _with_ends(self, content: bytes, card: ModelCard) -> bytes:
        return with_final_ends(content, card)

    def _with_card(self, content: bytes, card: ModelCard) -> bytes:
        return attach_card(content, card)

    def _summary(self, content: bytes) -> OperatorSummary:
        return summarise(content)

    def _pixels_in_graph(self) -> PixelRule | None:
        model = read(self._content)
        taken = self._taken
        if taken.dtype == "float32":
            held = tflite_ends.quantised_input(model)
            if held is None:
                return taken_by(tflite_ends.first_steps(model), taken.channels)
            dtype, numbers = _TYPES.get(held.type), _quantisation(held)
            if dtype is None or numbers is None:
                return None
            taken = replace(taken, dtype=dtype, scale=numbers[0], zero_point=numbers[1])
        return rule_of_range(taken)


class _Interpreted:
    """A file in an interpreter of LiteRT; its output in real numbers."""

    def __init__(self, content: bytes) -> None:
        with native_stderr_closed():
            self._interpreter = Interpreter(model_content=content)
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        # A free size is written as 1, for which many a network cannot be laid out.
        self._shape: tuple[int, ...] = ()

    def __call__(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        if values.shape != self._shape:
            with native_stderr_closed():
                self._interpreter.resize_tensor_input(self._input["index"], values.shape)
                try:
                    self._interpreter.allocate_tensors()
                except RuntimeError as error:
                    raise ValueError(str(error)) from error
            self._shape = values.shape
        self._interpreter.set_tensor(self._input["index"], values)
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        raw = self._interpreter.get_tensor(self._output["index"])
        scale, zero = self._output["quantization"]
        floats: NDArray[np.float32] = raw.astype(np.float32)
        return floats if not scale else np.float32(scale) * (floats - np.float32(zero))


def open_tflite(path: Path, asked: Asked) -> TFLiteFile:
    """Open a lone TFLite file.

    Raises
    ------
    ModelFileError
        If it is damaged, or is no classifier of images.
    UsageError
        If it takes another size.
    """
    return TFLiteFile(path, asked.size)


def _sides(tensor: Any) -> list[int | None]:
    """Return a shape, with ``None`` for a side that is free."""
    sides = [] if tensor.shape is None else [int(side) for side in tensor.shape]
    if tensor.shapeSignature is None or len(tensor.shapeSignature) != len(sides):
        return list(sides)
    free = [int(side) for side in tensor.shapeSignature]
    return [None if side < 0 else own for side, own in zip(free, sides, strict=True)]


def _quantisation(tensor: Any) -> tuple[float, int] | None:
    scales = getattr(tensor.quantization, "scale", None)
    if scales is None or not len(scales):
        return None
    return float(scales[0]), int(tensor.quantization.zeroPoint[0])
