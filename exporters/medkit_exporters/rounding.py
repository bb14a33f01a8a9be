"""Weights rounded to 8 bits together, so that their errors cancel in the outputs.

Rounded one by one, weights lie as near as they can, and their products do
not: errors of inputs that go together add up. Here the weights of a layer are
rounded one input after the other, and what each rounding does to the output
is made good by the weights that are still free, as far as the inputs of
calibration images allow (Frantar et al. 2023, GPTQ: Accurate Post-Training
Quantization for Generative Pre-trained Transformers).

The result is a float network whose kernels lie on the grid that converters
round to, so that they change nothing more. Importing this module imports Keras.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from medkit.errors import MissingExtraError
from medkit_exporters.source import copy_network, inputs_of

_LARGEST = 127  # of a signed byte, symmetric
_BATCH = 16
# Positions of feature maps that tell how inputs go together; the widest layer has 4,608 inputs.
_MOST_ROWS = 24_000
# Share of the mean square that is added to every input's: calibration images do not tell all.
_DAMPING = 0.01
_BLOCK = 128


def round_together(model: Any, images: NDArray[np.uint8]) -> Any:
    """Return a copy of a network whose kernels hold 255 values for each output channel.

    Normalisation that follows a convolution is first moved into its kernel.
    Layers other than plain convolutions and dense ones are left alone.

    Parameters
    ----------
    model
        A Keras model.
    images
        uint8, shape (n, height, width, channels), of which inputs are taken.

    Returns
    -------
    keras.Model
        Its kernels round to themselves.
    """
    copy = copy_network(model)
    _move_normalisation(copy)
    layers = [layer for layer in copy.layers if _is_product(layer)]
    if not layers:
        return copy
    for layer, moments in zip(layers, _input_moments(copy, layers, images), strict=True):
        kernel, *others = layer.get_weights()
        flat = kernel.reshape(-1, kernel.shape[-1])
        layer.set_weights([round_columns(flat, moments).reshape(kernel.shape), *others])
    return copy


def round_columns(kernel: NDArray[np.float32], moments: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round a matrix to a grid of 255 steps a column, so that its outputs change least.

    The largest weight of a column decides its step, and stays as it is.

    Parameters
    ----------
    kernel
        Shape (inputs, outputs).
    moments
        Mean products of the inputs with one another, shape (inputs, inputs).

    Returns
    -------
    numpy.ndarray
        float32, the shape of ``kernel``.
    """
    try:
        from scipy.linalg import cho_factor, cho_solve, cholesky
    except ImportError:
        raise MissingExtraError("scipy", "export", "round weights") from None

    inputs, outputs = kernel.shape
    free = kernel.astype(np.float64)
    steps = np.abs(free).max(axis=0) / _LARGEST
    steps[steps == 0] = 1.0
    largest = np.abs(free).argmax(axis=0)
    signs = np.sign(free[largest, np.arange(outputs)])
    damped = moments + np.eye(inputs) * (_DAMPING * np.trace(moments) / inputs + 1e-12)
    inverse = cho_solve(cho_factor(damped, lower=True), np.eye(inputs))
    # Row i tells how the inputs after i make good an error of i, once those before are fixed.
    remedy = cholesky(inverse, lower=False)
    rounded = np.empty_like(free)
    for start in range(0, inputs, _BLOCK):
        end = min(start + _BLOCK, inputs)
        errors = np.empty((end - start, outputs))
        for i in range(start, end):
            levels = np.clip(np.rint(free[i] / steps), -_LARGEST, _LARGEST)
            levels = np.where(largest == i, _LARGEST * signs, levels)
            rounded[i] = levels * steps
            errors[i - start] = (free[i] - rounded[i]) / remedy[i, i]
            free[i + 1 : end] -= np.outer(remedy[i, i + 1 : end], errors[i - start])
        free[end:] -= remedy[start:end, end:].T @ errors
    return rounded.astype(np.float32)


def _is_product(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Dense):
        return True
    # Not its subclasses, such as depthwise ones, whose kernels mean something else.
    plain = type(layer) is keras.layers.Conv2D
    return plain and layer.groups == 1 and tuple(layer.dilation_rate) == (1, 1)


def _move_normalisation(model: Any) -> None:
    """Move the factors of normalisations, in place, into the convolutions that they follow."""
    producers = {id(layer.output): layer for layer in model.layers}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        before = producers.get(id(layer.input))
        if before is None or not _is_product(before) or not _only_feeds(model, before, layer):
            continue
        if before.activation.__name__ != "linear":
            continue
        gamma, beta, mean, variance = layer.get_weights()
        factors = gamma / np.sqrt(variance + layer.epsilon)
        kernel, *biases = before.get_weights()
        bias = biases[0] if biases else np.zeros_like(mean)
        before.set_weights([kernel * factors, *(np.zeros_like(item) for item in biases)])
        layer.set_weights(
            [
                np.ones_like(gamma),
                beta + (bias - mean) * factors,
                np.zeros_like(mean),
                np.full_like(variance, 1 - layer.epsilon),
            ]
        )


def _only_feeds(model: Any, before: Any, layer: Any) -> bool:
    others = (other for other in model.layers if other is not layer)
    return not any(tensor is before.output for other in others for tensor in inputs_of(other))


def _input_moments(
    model: Any, layers: list[Any], images: NDArray[np.uint8]
) -> list[NDArray[np.float64]]:
    """Return, for each layer, the mean products of its kernel's inputs, shape (inputs, inputs)."""
    probe = keras.Model(model.input, [layer.input for layer in layers])
    batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    most = max(1, _MOST_ROWS // len(batches))
    rng = np.random.default_rng(0)
    sums: list[Any] = [0.0] * len(layers)
    counts = [0] * len(layers)
    for batch in batches:
        outputs = probe(batch, training=False)
        outputs = outputs if len(layers) > 1 else [outputs]
        for number, (layer, values) in enumerate(zip(layers, outputs, strict=True)):
            rows = _rows(layer, values)
            if len(rows) > most:
                rows = rows[rng.choice(len(rows), most, replace=False)]
            sums[number] = sums[number] + (rows.T @ rows).astype(np.float64)
            counts[number] += len(rows)
    return [total / count for total, count in zip(sums, counts, strict=True)]


def _rows(layer: Any, values: Any) -> NDArray[np.float32]:
    """Return what a layer's kernel is multiplied with, one row a position."""
    if isinstance(layer, keras.layers.Conv2D):
        values = tf.image.extract_patches(
            values,
            sizes=[1, *layer.kernel_size, 1],
            strides=[1, *layer.strides, 1],
            rates=[1, 1, 1, 1],
            padding=layer.padding.upper(),
        )
    array = np.asarray(values)
    return array.reshape(-1, array.shape[-1])
