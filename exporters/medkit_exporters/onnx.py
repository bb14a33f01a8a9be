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

from medkit.bundles import CARD_NAME, FORMATS, ModelCard
from medkit.census import census_of_onnx, check_promise
from medkit.errors import ExportError
from medkit.runtimes import one_line
from medkit.seal import sealed
from medkit_exporters.branches import branch_ranges
from medkit_exporters.equalise import cap_activations
from medkit_exporters.onnxgraph import (
    cast_pixels,
    clip_branches,
    compact,
    free_batch,
    take_raw_pixels,
)
from medkit_exporters.settings import LEAST_ERROR, Settings
from medkit_exporters.source import Source

RUNTIME, SUFFIX = "ONNX Runtime", FORMATS["onnx"]

OPSET = 17
"""ONNX operator set; ONNX Runtime has had all of it since 1.12 (2022)."""

_DEBUG_IMAGES = 4
"""Images that tell which layers 8 bits distort most."""

_IDENTITY = {"scale": np.array(1.0, np.float32), "zero_point": np.array(0, np.uint8)}

_PRODUCTS = ("Conv", "MatMul", "Gemm")


def convert(source: Source, settings: Settings, calibration: NDArray[np.uint8] | None) -> bytes:
    """Convert a Keras original to an ONNX file.

    Parameters
    ----------
    source
        The original.
    settings
        ``int8``: QDQ with uint8 activations and int8 weights per channel,
        the last product's output and the activation after it in float.
        ``int16``: the same with uint16 activations. ``mixed``: ``int8`` but
        for some products. ``fp16``: weights and arithmetic in half precision.
        ``fp32``: as trained.
    calibration
        uint8 images (n, height, width, channels) that fix the ranges of
        integers; ``None`` where there are none.

    Returns
    -------
    bytes
        Input uint8 (n, height, width, channels) with a free n, taken as raw
        pixels; output float32 probabilities.

    Raises
    ------
    ExportError
        If a file computes otherwise than its name says, or does not take raw pixels.
    """
    try:
        content = _convert(source, settings, calibration)
    except ExportError:
        raise
    except Exception as error:
        # tf2onnx, the quantiser and the checker raise classes that share no other base.
        raise ExportError(f"conversion to ONNX failed: {one_line(error)}") from error
    check_promise(census_of_onnx(content), settings.precision)
    return content


def _convert(source: Source, settings: Settings, calibration: NDArray[np.uint8] | None) -> bytes:
    precision = settings.precision
    if settings.calibrated:
        if calibration is None:
            raise ExportError(f"{precision} needs calibration images and got none")
        if settings.ranges == LEAST_ERROR:
            # The quantiser's own ways to leave out outliers are slower, and hold all in memory.
            capped = cap_activations(source.model, calibration, settings.levels)
            source = replace(source, model=capped)
    function = source.function(float_pixels=settings.calibrated, logits=False)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of third parties' deprecations
        model, _ = tf2onnx.convert.from_function(
            function, input_signature=function.input_signature, opset=OPSET
        )
    if precision == "fp16":
        model = convert_float_to_float16(model, keep_io_types=True)
    if calibration is not None and settings.calibrated:
        model = _quantize(model, settings, calibration)
        if precision == "int8":
            take_raw_pixels(model.graph)
            clip_branches(model.graph, branch_ranges(source.model, calibration))
        else:
            cast_pixels(model.graph)
    free_batch(model.graph)
    compact(model)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def attach_card(content: bytes, card: ModelCard) -> bytes:
    """Return the file, sealed, with ``card`` as its metadata property named ``medkit``."""
    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, {CARD_NAME: card.to_json()})
    return sealed(model.SerializeToString(), SUFFIX)


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
            left = _most_distorted(prepared, settings, calibration)
        return onnx.load(_quantized(prepared, settings, calibration, left))


def _quantized(
    prepared: Path, settings: Settings, calibration: NDArray[np.uint8], left: Sequence[str]
) -> Path:
    """Write a quantised copy of a file, but for the nodes ``left``, and return where it is."""
    path = prepared.with_name("quantized.onnx")
    pixels = onnx.load(prepared).graph.input[0].name
    wide = settings.precision == "int16"
    options: dict[str, Any] = {
        # The logits stay as fine as the integer product made them, so
        # that ranking, and with it the AUC, is not lost to ties.
        "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
    }
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
            nodes_to_exclude=list(left),
            extra_options=options,
            op_types_to_quantize=[
                "Conv", "MatMul", "Gemm", "Add", "Sub", "Mul", "Relu", "Clip", "Pad", "Transpose",
                "Reshape", "Squeeze", "MaxPool", "GlobalAveragePool", "ReduceMean",
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


def _most_distorted(
    prepared: Path, settings: Settings, calibration: NDArray[np.uint8]
) -> list[str]:
    """Name the products that stay in float: the last, and those of the largest error.

    The error is that of the product's output against its size, on some
    calibration images, between the file as it is and quantised throughout.
    """
    nodes = [node for node in onnx.load(prepared).graph.node if node.op_type in _PRODUCTS]
    kept = [nodes[-1].name] if settings.float_head else []
    count = round(settings.float_share * len(nodes))
    if not count:
        return kept
    quantized = _quantized(prepared, replace(settings, precision="int8"), calibration, ())
    outputs = []
    for path in (prepared, quantized):
        watched = path.with_name(f"watched-{path.name}")
        modify_model_output_intermediate_tensors(path, watched)
        pixels = onnx.load(prepared).graph.input[0].name
        outputs.append(collect_activations(watched, _Images(pixels, calibration[:_DEBUG_IMAGES])))
    pairs = create_activation_matching(outputs[1], outputs[0])

    def error(node: Any) -> float:
        found = pairs.get(node.output[0])
        if found is None:
            return 0.0
        before, after = (np.stack(found[key]) for key in ("float", "pre_qdq"))
        return float(np.square(before - after).mean() / max(np.square(before).mean(), 1e-12))

    worst = sorted(nodes, key=error, reverse=True)[:count]
    return list(dict.fromkeys([*kept, *(node.name for node in worst)]))
