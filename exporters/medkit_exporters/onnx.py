"""Conversion to ONNX through tf2onnx. Importing this module imports TensorFlow."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tf2onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
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
from medkit_exporters.branches import Range, needed_range
from medkit_exporters.settings import EXTREMES, PERCENTILE, Settings
from medkit_exporters.source import Source

RUNTIME, SUFFIX = "ONNX Runtime", FORMATS["onnx"]

OPSET = 17
"""ONNX operator set; ONNX Runtime has had all of it since 1.12 (2022)."""

_PERCENTILE = 99.999

_MOST_IMAGES = 64
"""The calibrator keeps the histograms' inputs in memory, 25 MB an image of ResNet50."""

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


def describe_ranges(settings: Settings) -> str:
    """Say how the ranges of activations are chosen, for the manifest."""
    if settings.ranges == PERCENTILE:
        return f"percentile {_PERCENTILE} over the first {_MOST_IMAGES} images"
    return "minimum and maximum over all images"


def _convert(source: Source, settings: Settings, calibration: NDArray[np.uint8] | None) -> bytes:
    precision = settings.precision
    function = source.function(float_pixels=settings.calibrated, logits=False)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of third parties' deprecations
        model, _ = tf2onnx.convert.from_function(
            function, input_signature=function.input_signature, opset=OPSET
        )
    if precision == "fp16":
        model = convert_float_to_float16(model, keep_io_types=True)
    if settings.calibrated:
        if calibration is None:
            raise ExportError(f"{precision} needs calibration images and got none")
        model = _quantize(model, settings, calibration)
        if precision == "int8":
            _take_raw_pixels(model.graph)
            _clip_branches(model.graph)
        else:
            _cast_pixels(model.graph)
    _drop_unused_initializers(model.graph)
    _free_batch(model.graph)
    _shorten_names(model.graph)
    _drop_unused_domains(model)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def attach_card(content: bytes, card: ModelCard) -> bytes:
    """Return the file with ``card`` as its metadata property named ``medkit``."""
    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, {CARD_NAME: card.to_json()})
    stamped: bytes = model.SerializeToString()
    return stamped


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
    extremes = settings.ranges == EXTREMES
    options: dict[str, Any] = {
        "CalibPercentile": _PERCENTILE,
        # The logits stay as fine as the integer product made them, so
        # that ranking, and with it the AUC, is not lost to ties.
        "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
    }
    if not extremes:
        # Histograms are filled as activations come; all of them would fill the memory.
        options["CalibMaxIntermediateOutputs"] = 4
    if settings.precision == "int8":
        # Pixels go in as they are, whatever the images' range.
        options["TensorQuantOverrides"] = {pixels: [_IDENTITY]}
    # The calibrator prints its progress, and logs that 16 bits need an operator set of its own.
    with contextlib.redirect_stdout(io.StringIO()), _warnings_not_logged():
        quantize_static(
            prepared,
            path,
            _Images(pixels, calibration if extremes else calibration[:_MOST_IMAGES]),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt16 if wide else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Of ResNet50's decisions on validation images, ranges from the extremes of all
            # images turned one in 33, without the outermost 0.001 % one in 75.
            calibrate_method=(
                CalibrationMethod.MinMax if extremes else CalibrationMethod.Percentile
            ),
            nodes_to_exclude=list(left),
            extra_options=options,
            op_types_to_quantize=[
                "Conv", "MatMul", "Gemm", "Add", "Sub", "Mul", "Relu", "Pad", "Transpose",
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


def _take_raw_pixels(graph: Any) -> None:
    """Replace the float input and its quantisation by a uint8 input: the same numbers, unscaled."""
    (pixels,) = graph.input
    consumers = [node for node in graph.node if pixels.name in node.input]
    quantizers = [node for node in consumers if node.op_type == "QuantizeLinear"]
    if len(consumers) != 1 or len(quantizers) != 1:
        found = ", ".join(node.op_type for node in consumers)
        raise ExportError(f"the int8 input feeds {found}; expected one QuantizeLinear")
    (quantizer,) = quantizers
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    scale, zero_point = (constants[name].item() for name in quantizer.input[1:3])
    if (scale, zero_point) != (1.0, 0):
        raise ExportError(
            f"the int8 input has scale {scale} and zero point {zero_point}; "
            "it must have 1.0 and 0 so that raw pixels fit"
        )
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == quantizer.output[0]:
                node.input[position] = pixels.name
    graph.node.remove(quantizer)
    pixels.type.tensor_type.elem_type = TensorProto.UINT8


def _clip_branches(graph: Any) -> None:
    """Narrow the ranges of convolutions to what a rectified addition needs of them.

    As :func:`medkit_exporters.flatbuffer.clip_branches` does.
    """
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)

    def range_of(node: Any) -> Range:
        step, zero = (constants[name].item() for name in node.input[1:3])
        return -zero * step, (255 - zero) * step

    def only_reader(node: Any) -> Any:
        found = readers[node.output[0]]
        return found[0] if len(found) == 1 else None

    for addition in [node for node in graph.node if node.op_type == "Add"]:
        dequantizers: list[Any] = [producers.get(name) for name in addition.input]
        after = only_reader(addition)
        if after is not None and after.op_type == "Relu":
            after = only_reader(after)
        # Without Relu, a zero point of 0 rectifies.
        if after is None or after.op_type != "QuantizeLinear" or range_of(after)[0] < 0:
            continue
        if not all(node and node.op_type == "DequantizeLinear" for node in dequantizers):
            continue
        ranges = [range_of(node) for node in dequantizers]
        for node, own, other in zip(dequantizers, ranges, ranges[::-1], strict=True):
            quantizer = producers.get(node.input[0])
            if quantizer is None or quantizer.op_type != "QuantizeLinear":
                continue
            made = producers.get(quantizer.input[0])
            if made is None or made.op_type != "Conv":
                continue
            if only_reader(made) is None or only_reader(quantizer) is None:
                continue
            low, high = needed_range(own, other, range_of(after)[1])
            step = np.array((high - low) / 255, np.float32)
            zero = np.array(round(-low / float(step)), np.uint8)
            for name, array in (("scale", step), ("zero_point", zero)):
                label = f"{node.name}/needed_{name}"
                graph.initializer.append(numpy_helper.from_array(array, label))
                for place in (quantizer, node):
                    place.input[1 if name == "scale" else 2] = label


def _cast_pixels(graph: Any) -> None:
    """Make the float input take the same numbers as bytes."""
    (pixels,) = graph.input
    floats = f"{pixels.name}_as_float"
    for node in graph.node:
        node.input[:] = [floats if name == pixels.name else name for name in node.input]
    cast = onnx.helper.make_node("Cast", [pixels.name], [floats], to=TensorProto.FLOAT)
    graph.node.insert(0, cast)
    pixels.type.tensor_type.elem_type = TensorProto.UINT8


def _free_batch(graph: Any) -> None:
    """Name the first dimension of input and output, so that any batch size goes in."""
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    # Shapes recorded inside the graph may hold the converter's guesses of it.
    del graph.value_info[:]


def _shorten_names(graph: Any) -> None:
    """Rename values and nodes to their layer and a number.

    The converters' names repeat the path of the layer up to four times for
    each node: a sixth of a small int8 file.
    """
    names: dict[str, str] = {value.name: value.name for value in (*graph.input, *graph.output)}

    def short(name: str) -> str:
        if name and name not in names:
            layer = name.split("/")[1] if "/" in name else "value"
            names[name] = f"{layer}.{len(names)}"
        return names.get(name, name)

    for initializer in graph.initializer:
        initializer.name = short(initializer.name)
    for node in graph.node:
        node.name = short(node.name)
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]


def _drop_unused_initializers(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _drop_unused_domains(model: Any) -> None:
    """Require only the operator sets in use; the quantiser lists all that it knows."""
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
