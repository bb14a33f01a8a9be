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

from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky

from medkit_exporters.quantize.network import (
    Rewritten,
    Wiring,
    copy_network,
    is_plain_convolution,
)

_LARGEST = 127  # of a signed byte, symmetric
_BATCH = 16
# Positions of feature maps that tell how inputs go together; the widest layer has 4,608 inputs.
_MOST_ROWS = 24_000
# Share of the mean square that is added to every input's: calibration images do not tell all.
_DAMPING = 0.01
# Of one layer; the products of more with one another would fill gigabytes.
_MOST_INPUTS = 6_000
# Of all layers at once; those of a ResNet50 are 0.9 GiB.
_MOST_BYTES = 4 << 30
_BLOCK = 128


def round_together(model: Any, images: NDArray[np.uint8]) -> Rewritten:
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
    Rewritten
        The network. Its kernels do not change when they are rounded.
    """
    copy = copy_network(model)
    reasons = {layer.name: _obstacle(layer) for layer in copy.layers if _has_kernel(layer)}
    reasons |= _move_normalisation(copy)
    layers = [layer for layer in copy.layers if reasons.get(layer.name) == ""]
    rounded = []  # all inputs are those of the network before its weights are rounded
    for group in _groups(layers):
        for layer, products in zip(group, _input_moments(copy, group, images), strict=True):
            kernel = layer.get_weights()[0]
            flat = kernel.reshape(-1, kernel.shape[-1])
            rounded.append(round_columns(flat, products).reshape(kernel.shape))
    for layer, kernel in zip(layers, rounded, strict=True):
        layer.set_weights([kernel, *layer.get_weights()[1:]])
    left = Counter(reason for reason in reasons.values() if reason)
    if not left:
        return Rewritten(copy)
    text = ", ".join(f"{reason} ({count})" for reason, count in left.most_common())
    return Rewritten(
        copy,
        (
            f"rounding: {left.total()} of {len(reasons)} layers with weights rounded one by one: "
            f"{text}",
        ),
    )


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


def _has_kernel(layer: Any) -> bool:
    return any(len(weights.shape) > 1 for weights in layer.weights)


def _obstacle(layer: Any) -> str:
    """Say why a layer's weights are not rounded together; nothing if they are."""
    if type(layer) is not keras.layers.Dense:
        if not is_plain_convolution(layer):
            grouped = type(layer) is keras.layers.Conv2D and layer.groups != 1
            return "Conv2D in groups" if grouped else type(layer).__name__
        if tuple(layer.dilation_rate) != (1, 1):
            return "Conv2D with dilation"
    inputs = _inputs(layer)
    return f"{inputs} inputs" if inputs > _MOST_INPUTS else ""


def _inputs(layer: Any) -> int:
    return int(np.prod(layer.kernel.shape[:-1]))


def _groups(layers: list[Any]) -> Iterator[list[Any]]:
    """Divide layers, in order, so that the products of a group's inputs fit into memory."""
    group: list[Any] = []
    held = 0
    for layer in layers:
        needed = 8 * _inputs(layer) ** 2
        if group and held + needed > _MOST_BYTES:
            yield group
            group, held = [], 0
        group.append(layer)
        held += needed
    if group:
        yield group


def _move_normalisation(model: Any) -> dict[str, str]:
    """Move the factors of normalisations, in place, into the convolutions that they follow.

    Returns
    -------
    dict
        Reason why the normalisation after a convolution stays, by the name of
        the convolution. A converter merges it later, and the rounded kernel
        would be another.
    """
    wiring, left = Wiring(model), {}
    for layer in wiring.operations:
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        before = wiring.producer(layer.input)
        if not wiring.can_merge(layer) or _obstacle(before):
            continue
        if not (layer.scale and layer.center and layer.axis in (-1, len(layer.output.shape) - 1)):
            left[before.name] = "BatchNormalization without scale or offset after it"
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
    return left


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
            rows = _rows(layer, values, most, rng)
            sums[number] = sums[number] + (rows.T @ rows).astype(np.float64)
            counts[number] += len(rows)
    return [total / count for total, count in zip(sums, counts, strict=True)]


def _rows(layer: Any, values: Any, most: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return what a layer's kernel is multiplied with at positions drawn from all, one row each."""
    if not isinstance(layer, keras.layers.Conv2D):
        array = np.asarray(values)
        rows = array.reshape(-1, array.shape[-1])
        return rows[rng.choice(len(rows), most, replace=False)] if len(rows) > most else rows
    places = int(np.prod(layer.compute_output_shape(values.shape)[1:3]))
    total = len(values) * places
    drawn = rng.choice(total, most, replace=False) if total > most else np.arange(total)
    rows = np.empty((len(drawn), _inputs(layer)), np.float32)
    for number in range(len(values)):  # the patches of a batch of large maps would fill gigabytes
        patches = tf.image.extract_patches(
            values[number : number + 1],
            sizes=[1, *layer.kernel_size, 1],
            strides=[1, *layer.strides, 1],
            rates=[1, 1, 1, 1],
            padding=layer.padding.upper(),
        )
        own = np.flatnonzero(drawn // places == number)
        rows[own] = np.asarray(patches).reshape(places, -1)[drawn[own] - number * places]
    return rows
