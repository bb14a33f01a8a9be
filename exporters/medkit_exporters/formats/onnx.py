"""Conversion to ONNX through tf2onnx. Importing this module imports TensorFlow."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tf2onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.qdq_loss_debug import (
    collect_activations,
    create_activation_matching,
    modify_model_output_intermediate_tensors,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from medkit.models.card import ModelCard
from medkit.models.operators.onnx import summarise
from medkit.models.operators.summary import OperatorSummary
from medkit_exporters.formats.base import NetworkExporter, Tell, most_distorted
from medkit_exporters.formats.onnx_edits import (
    cast_pixels,
    clip_branches,
    compact,
    divide,
    free_batch,
    keep_logits,
    take_raw_pixels,
)
from medkit_exporters.formats.onnx_final import attach_card, with_final_ends
from medkit_exporters.quantize.branches import branch_ranges
from medkit_exporters.quantize.source import Source
from medkit_exporters.settings import Settings

OPSET = 17
"""ONNX operator set; ONNX Runtime has had all of it since 1.12 (2022)."""

_DEBUG_IMAGES = 4
"""Images that tell which layers 8 bits distort most."""

_IDENTITY = {"scale": np.array(1.0, np.float32), "zero_point": np.array(0, np.uint8)}

_PRODUCTS = ("Conv", "MatMul", "Gemm")


class OnnxExporter(NetworkExporter):
    """Converts by tf2onnx, and quantises by ONNX Runtime.

    ``int8`` has uint8 activations and int8 weights per channel, written as
    pairs of QuantizeLinear and DequantizeLinear (QDQ); the last product's
    output and the activation after it are in float. ``int16`` is the same
    with uint16 activations, ``mixed`` is ``int8`` but for some products.
    ``fp16`` has weights and arithmetic in half precision.
    """

    name, title = "onnx", "ONNX"

    def attach_card(self, content: bytes, card: ModelCard) -> bytes:
        """Return a file, sealed, with a card as its metadata property named ``medkit``."""
        return attach_card(content, card)

    def summarise(self, content: bytes) -> OperatorSummary:
        """List what a file computes."""
        return summarise(content)

    def _with_final_ends(self, content: bytes, card: ModelCard) -> bytes:
        return with_final_ends(content, card)

    def _convert_floats(self, source: Source, settings: Settings) -> bytes:
        model = _from_tensorflow(source.function(float_pixels=False, logits=False))
        if settings.precision == "fp16":
            model = convert_float_to_float16(model, keep_io_types=True)
        return _finished(model)

    def _convert_integers(
        self, source: Source, settings: Settings, calibration: NDArray[np.uint8], tell: Tell
    ) -> bytes:
        model = _from_tensorflow(source.function(float_pixels=True, logits=False))
        divide(model.graph)
        model = _quantize(model, settings, calibration)
        keep_logits(model.graph)
        if settings.precision == "int8":
            take_raw_pixels(model.graph)
            additions, skipped = branch_ranges(source.model, calibration)
            for line in (*skipped, *clip_branches(model.graph, additions)):
                tell(line)
        else:
            cast_pixels(model.graph)
        return _finished(model)


def _from_tensorflow(function: Any) -> Any:
    # It logs operators that it does not know, and goes on; the checker then refuses them.
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of third parties' deprecations
        model, _ = tf2onnx.convert.from_function(
            function,
            input_signature=function.input_signature,
            opset=OPSET,
            custom_op_handlers={"Erfc": (_as_erf, [])},
        )
    onnx.checker.check_model(model)
    return model


def _as_erf(context: Any, node: Any, name: str, args: Any) -> None:
    """Write a complementary error function, of which GELU is made, as 1 - erf(x): ONNX has none."""
    graph, (output,) = context, node.output
    shape, dtype = graph.get_shape(output), graph.get_dtype(output)
    one = graph.make_const(f"{name}_one", np.array(1, np.float32))
    graph.remove_node(name)
    erf = graph.make_node("Erf", node.input, shapes=[shape], dtypes=[dtype], name=f"{name}_erf")
    graph.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=[output], name=name, dtypes=[dtype]
    )


def _finished(model: Any) -> bytes:
    free_batch(model.graph)
    model = compact(model)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Feeds calibration images one by one, as the quantiser asks for them."""

    def __init__(self, name: str, images: NDArray[np.uint8]) -> None:
        self._feeds = ({name: image[np.newaxis].astype(np.float32)} for image in images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


def _quantize(model: Any, settings: Settings, calibration: NDArray[np.uint8]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared = Path(folder) / "plain.onnx", Path(folder) / "prepared.onnx"
        onnx.save(model, plain)
        # Folds batch normalisation into the convolutions, which the quantiser does not.
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        left: list[str] = []
        if settings.precision == "mixed":
            left = _left_in_float(prepared, settings, calibration)
        return onnx.load(_quantized(prepared, settings, calibration, left))


def _quantized(
    prepared: Path, settings: Settings, calibration: NDArray[np.uint8], left: Sequence[str]
) -> Path:
    """Write a quantised copy of a file, but for the nodes ``left``, and return where it is."""
    path = prepared.with_name("quantized.onnx")
    graph = onnx.load(prepared).graph
    pixels = graph.input[0].name
    activations = [node for node in graph.node if node.op_type == "Softmax"]
    last = [node.name for node in activations if node.output[0] == graph.output[0].name]
    # Those of attention; without any, nothing is said of Softmax at all.
    inner = ["Softmax"] if len(activations) > len(last) else []
    wide = settings.precision == "int16"
    options: dict[str, Any] = {}
    if settings.precision == "int8":
        # Pixels go in as they are, whatever the images' range.
        options["TensorQuantOverrides"] = {pixels: [_IDENTITY]}
    # The calibrator prints its progress, and logs that 16 bits need an operator set of its own.
    with contextlib.redirect_stdout(io.StringIO()), _warnings_not_logged():
        quantize_static(
            prepared,
            path,
            _Images(pixels, calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt16 if wide else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=[*left, *(last if inner else [])],
            extra_options=options,
            op_types_to_quantize=[
                "Add", "AveragePool", "Clip", "Concat", "Conv", "Div", "Gemm", "GlobalAveragePool",
                "GlobalMaxPool", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "ReduceMax",
                "ReduceMean", "Relu", "Reshape", "Resize", "Slice", "Squeeze", "Sub", "Transpose",
                "Unsqueeze", *inner,
            ],
        )  # fmt: skip
    return path


@contextlib.contextmanager
def _warnings_not_logged() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _left_in_float(prepared: Path, settings: Settings, calibration: NDArray[np.uint8]) -> list[str]:
    """Name the products that stay in float: the last, or those that 8 bits distort most."""
    nodes = [node for node in onnx.load(prepared).graph.node if node.op_type in _PRODUCTS]

    def errors() -> list[float]:
        """Return the error of each product's output against its size, on some images.

        It lies between the file as it is and quantised throughout.
        """
        quantized = _quantized(prepared, replace(settings, precision="int8"), calibration, ())
        outputs = []
        for path in (prepared, quantized):
            watched = path.with_name(f"watched-{path.name}")
            modify_model_output_intermediate_tensors(path, watched)
            pixels = onnx.load(prepared).graph.input[0].name
            images = _Images(pixels, calibration[:_DEBUG_IMAGES])
            outputs.append(collect_activations(watched, images))
        pairs = create_activation_matching(outputs[1], outputs[0])
        return [_relative_error(pairs.get(node.output[0])) for node in nodes]

    return most_distorted([node.name for node in nodes], errors, settings)


def _relative_error(pair: dict[str, Any] | None) -> float:
    if pair is None:
        return 0.0
    before, after = (np.stack(pair[key]) for key in ("float", "pre_qdq"))
    return float(np.square(before - after).mean() / max(np.square(before).mean(), 1e-12))
