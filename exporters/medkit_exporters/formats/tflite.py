"""Conversion to TFLite. Importing this module imports TensorFlow."""

from __future__ import annotations

import csv
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from medkit.models.card import ModelCard
from medkit.models.operators.products import PRODUCTS
from medkit.models.operators.summary import OperatorSummary, check_promise
from medkit.models.operators.tflite import summarise
from medkit.system.quiet import native_stderr_closed
from medkit_exporters.formats import tflite_edits, tflite_file
from medkit_exporters.formats.base import NetworkExporter, Tell, most_distorted
from medkit_exporters.formats.tflite_final import with_final_ends
from medkit_exporters.quantize.branches import branch_ranges
from medkit_exporters.quantize.caps import CAP
from medkit_exporters.quantize.source import Source
from medkit_exporters.settings import LEAST_ERROR, Settings

_DEBUG_IMAGES = 8
"""Images that tell which layers 8 bits distort most."""


class TFLiteExporter(NetworkExporter):
    """Converts by TensorFlow's converter.

    ``int8`` has integer kernels, weights quantised per channel, and the last
    activation in float. ``int16`` is the same with 16-bit activations,
    ``mixed`` is ``int8`` but for some products. ``fp16`` stores weights in
    half precision.
    """

    name, title = "tflite", "TFLite"

    def attach_card(self, content: bytes, card: ModelCard) -> bytes:
        """Return a file, sealed, with a card as its metadata buffer named ``medkit``."""
        return tflite_file.attach_card(content, card)

    def summarise(self, content: bytes) -> OperatorSummary:
        """List what a file computes."""
        return summarise(content)

    def _with_final_ends(self, content: bytes, card: ModelCard) -> bytes:
        return with_final_ends(content, card)

    def _convert_floats(self, source: Source, settings: Settings) -> bytes:
        function = source.function(float_pixels=False, logits=False)
        return convert_function(function, half=settings.precision == "fp16")

    def _convert_integers(
        self, source: Source, settings: Settings, calibration: NDArray[np.uint8], tell: Tell
    ) -> bytes:
        converter = _converter(source.function(float_pixels=True, logits=True))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _one_by_one(calibration)
        operators = tf.lite.OpsSet
        if settings.precision == "int16":
            converter.target_spec.supported_ops = [
                operators.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            ]
            content = tflite_edits.take_raw_pixels(_run(converter.convert))
        elif settings.precision == "mixed":
            converter.target_spec.supported_ops = [operators.TFLITE_BUILTINS_INT8]
            content = _run(lambda: _mixed(converter, settings, calibration))
            content = tflite_edits.take_raw_pixels(content)
        else:
            converter.target_spec.supported_ops = [operators.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
            converter.inference_output_type = tf.float32
            content = _refined(_run(converter.convert), source, settings, calibration, tell)
        return tflite_file.compact(tflite_edits.append_activation(content, source.activation))


def convert_function(function: Any, *, half: bool = False) -> bytes:
    """Convert a TensorFlow function with one input and one output, without integers.

    Parameters
    ----------
    function
        Takes pixels, and gives probabilities.
    half
        Store weights in half precision.
    """
    converter = _converter(function)
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return tflite_file.compact(_run(converter.convert))


def _refined(
    content: bytes, source: Source, settings: Settings, calibration: NDArray[np.uint8], tell: Tell
) -> bytes:
    """Return an int8 file that computes more finely than the converter's."""
    # Scales of weights that are all zero could not be divided by.
    check_promise(summarise(content), settings.precision)
    additions, skipped = branch_ranges(source.model, calibration)
    clipped = tflite_edits.clip_branches(content, additions)
    lines = [*skipped, *clipped.skipped]
    content = clipped.content
    if settings.ranges == LEAST_ERROR:
        counted = tflite_edits.count_in_steps(content, CAP)
        content = counted.content
        lines += counted.skipped
    refined = tflite_edits.refine_logits(content)
    for line in (*lines, *refined.skipped):
        tell(line)
    return refined.content


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
    """Quantise but for the last product, or those that 8 bits distort most."""
    debug = tf.lite.experimental.QuantizationDebugOptions
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=lambda: _one_by_one(calibration[:_DEBUG_IMAGES]),
        debug_options=debug(fully_quantize=False),
    )
    debugger.run()
    statistics = io.StringIO()
    debugger.layer_statistics_dump(statistics)
    rows = csv.DictReader(io.StringIO(statistics.getvalue()))
    products = [row for row in rows if row["op_name"] in PRODUCTS]
    left = most_distorted(
        [row["tensor_name"] for row in products],
        # Counted in steps of the tensor: rounding alone gives 0.29 of one.
        lambda: [
            float(np.sqrt(float(row["mean_squared_error"]))) / float(row["scale"])
            for row in products
        ],
        settings,
    )
    debugger.options = debug(denylisted_nodes=left, fully_quantize=False)
    return bytes(debugger.get_nondebug_quantized_model())
