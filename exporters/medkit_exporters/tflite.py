"""Conversion to TFLite. Importing this module imports TensorFlow."""

from __future__ import annotations

import csv
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from medkit.bundles import FORMATS
from medkit.census import PRODUCTS, census_of_tflite, check_promise
from medkit.errors import ExportError
from medkit.quiet import native_stderr_closed
from medkit.runtimes import one_line
from medkit_exporters.branches import branch_ranges
from medkit_exporters.equalise import CAP, cap_activations
from medkit_exporters.flatbuffer import (
    append_activation,
    attach_card,
    clip_branches,
    count_in_steps,
    refine_logits,
    take_raw_pixels,
)
from medkit_exporters.settings import LEAST_ERROR, Settings
from medkit_exporters.source import Source

__all__ = ["RUNTIME", "SUFFIX", "attach_card", "convert"]

RUNTIME, SUFFIX = "LiteRT", FORMATS["tflite"]

_DEBUG_IMAGES = 8
"""Images that tell which layers 8 bits distort most."""


def convert(source: Source, settings: Settings, calibration: NDArray[np.uint8] | None) -> bytes:
    """Convert a Keras original to a TFLite file.

    Parameters
    ----------
    source
        The original.
    settings
        ``int8``: integer kernels, weights quantised per channel, the last
        activation in float. ``int16``: the same with 16-bit activations.
        ``mixed``: ``int8`` but for some products. ``fp16``: weights stored
        in half precision. ``fp32``: as trained.
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
        # The converter's own classes share no other base.
        raise ExportError(f"TFLite's converter refused the network: {one_line(error)}") from error
    check_promise(census_of_tflite(content), settings.precision)
    return content


def _convert(source: Source, settings: Settings, calibration: NDArray[np.uint8] | None) -> bytes:
    precision = settings.precision
    if not settings.calibrated:
        converter = _converter(source.function(float_pixels=False, logits=False))
        if precision == "fp16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        return _run(converter.convert)
    if calibration is None:
        raise ExportError(f"{precision} needs calibration images and got none")
    if settings.ranges == LEAST_ERROR:
        # The converter takes the extremes for ranges.
        capped = cap_activations(source.model, calibration, settings.levels)
        source = replace(source, model=capped)
    converter = _converter(source.function(float_pixels=True, logits=True))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _one_by_one(calibration)
    operators = tf.lite.OpsSet
    if precision == "int16":
        converter.target_spec.supported_ops = [
            operators.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
        content = take_raw_pixels(_run(converter.convert))
    elif precision == "mixed":
        converter.target_spec.supported_ops = [operators.TFLITE_BUILTINS_INT8]
        content = take_raw_pixels(_run(lambda: _mixed(converter, settings, calibration)))
    else:
        converter.target_spec.supported_ops = [operators.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.float32
        content = _run(converter.convert)
        # Scales of weights that are all zero could not be divided by.
        check_promise(census_of_tflite(content), precision)
        content = clip_branches(content, branch_ranges(source.model, calibration))
        if settings.ranges == LEAST_ERROR:
            content = count_in_steps(content, CAP)
        content = refine_logits(content)
    return append_activation(content, source.activation)


def _converter(function: Any) -> Any:
    # Keras' variables are not in the graph that the calibrator runs; constants are.
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    # It would recommend an argument that is of no use for a frozen graph.
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen])


def _run(convert: Callable[[], Any]) -> bytes:
    with warnings.catch_warnings(), native_stderr_closed():
        # The converter warns of missing statistics before it calibrates, and the
        # debugger of an interpreter that will be replaced one day.
        warnings.simplefilter("ignore")
        return bytes(convert())


def _one_by_one(images: NDArray[np.uint8]) -> Iterator[list[Any]]:
    for image in images:
        yield [image[np.newaxis].astype(np.float32)]


def _mixed(converter: Any, settings: Settings, calibration: NDArray[np.uint8]) -> bytes:
    """Quantise but for the last product, or those that distort most."""
    debug = tf.lite.experimental.QuantizationDebugOptions
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=lambda: _one_by_one(calibration[:_DEBUG_IMAGES]),
        debug_options=debug(fully_quantize=False),
    )
    debugger.run()
    statistics = io.StringIO()
    debugger.layer_statistics_dump(statistics)
    rows = list(csv.DictReader(io.StringIO(statistics.getvalue())))
    products = [row for row in rows if row["op_name"] in PRODUCTS]
    left = _most_distorted(products, settings)
    debugger.options = debug(denylisted_nodes=left, fully_quantize=False)
    return bytes(debugger.get_nondebug_quantized_model())


def _most_distorted(products: Sequence[dict[str, str]], settings: Settings) -> list[str]:
    """Name the products that stay in float: the last, and those of the largest error.

    The error is counted in steps of the tensor: rounding alone gives 0.29 of one.
    """

    def error(row: dict[str, str]) -> float:
        return float(np.sqrt(float(row["mean_squared_error"]))) / float(row["scale"])

    kept = [products[-1]["tensor_name"]] if settings.float_head else []
    count = round(settings.float_share * len(products))
    worst = sorted(products, key=error, reverse=True)[:count]
    return list(dict.fromkeys([*kept, *(row["tensor_name"] for row in worst)]))
