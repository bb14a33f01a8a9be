"""Conversion to TFLite. Importing this module imports TensorFlow."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from medkit.census import census_of_tflite
from medkit.errors import ExportError
from medkit.quiet import native_stderr_closed
from medkit_exporters.checks import check_integers
from medkit_exporters.equalise import cap_activations
from medkit_exporters.flatbuffer import append_activation, attach_card
from medkit_exporters.source import Source

__all__ = ["CALIBRATION", "attach_card", "convert"]

CALIBRATION = "minimum and maximum over all images, activations capped at percentile 99.999"
"""How int8 ranges are chosen, for the manifest."""


def convert(source: Source, precision: str, calibration: NDArray[np.uint8] | None) -> bytes:
    """Convert a Keras original to a TFLite file.

    Parameters
    ----------
    source
        The original.
    precision
        ``int8``: integer kernels, weights quantised per channel, the last
        activation in float. ``fp16``: weights stored in half precision.
        ``fp32``: as trained.
    calibration
        uint8 images (n, height, width, channels) that fix the ranges of
        ``int8``; ``None`` for the others.

    Returns
    -------
    bytes
        Input uint8 (n, height, width, channels) with a free n, taken as raw
        pixels; output float32 probabilities.

    Raises
    ------
    ExportError
        If an int8 file computes in float, or does not take raw pixels.
    """
    int8 = precision == "int8"
    if int8:
        if calibration is None:
            raise ExportError("int8 needs calibration images and got none")
        images = calibration
        # The converter takes the extremes for ranges.
        source = replace(source, model=cap_activations(source.model, images))
    function = source.function(float_pixels=int8, logits=int8)
    # Keras' variables are not in the graph that the calibrator runs; constants are.
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    # It would recommend an argument that is of no use for a frozen graph.
    logging.getLogger("absl").setLevel(logging.ERROR)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if int8:

        def representative() -> Iterator[list[Any]]:
            for image in images:
                yield [image[np.newaxis].astype(np.float32)]

        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.float32
    with warnings.catch_warnings(), native_stderr_closed():
        # The converter warns of missing statistics before it calibrates.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        content: bytes = converter.convert()
    if not int8:
        return content
    _check_int8(content)
    return append_activation(content, source.activation)


def _check_int8(content: bytes) -> None:
    """Raise :class:`ExportError` unless the input is raw pixels and the work in integers."""
    interpreter = Interpreter(model_content=content)
    (pixels,) = interpreter.get_input_details()
    if pixels["dtype"] != np.uint8 or pixels["quantization"] != (1.0, 0):
        raise ExportError(
            f"the int8 input is {np.dtype(pixels['dtype'])} with scale and zero point "
            f"{pixels['quantization']}; it must be uint8 with (1.0, 0) so that raw pixels fit"
        )
    check_integers(census_of_tflite(content))
