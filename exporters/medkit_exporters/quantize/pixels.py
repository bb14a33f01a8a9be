"""Arithmetic on pixels written as a Rescaling layer, whatever a network's author wrote it as.

``keras.applications`` prepares pixels by functions: a network that calls
``preprocess_input`` begins with divisions, additions and, for the weights that
came from Caffe, with its channels in another order. All of these multiply and
add by channel. Written as one Rescaling layer, and with the weights of the
first convolution in the order of the pixels, they can be folded into that
convolution as any normalisation can.

Importing this module imports Keras.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from medkit_exporters.quantize.network import Wiring, inputs_of, is_plain_convolution, outputs_of

_FUNCTIONS = (
    *("Add", "Cast", "Concatenate", "Divide", "ExpandDims", "Flip", "GetItem", "Multiply"),
    *("Negative", "Split", "Squeeze", "Stack", "Subtract", "TrueDivide"),
)
_LAYERS = (keras.layers.Concatenate, keras.layers.Identity, keras.layers.Rescaling)


def as_rescaling(model: Any) -> Any:
    """Return a flat network whose arithmetic on pixels is a Rescaling layer.

    Parameters
    ----------
    model
        A flat network. One whose pixels are not changed by functions, or by
        other ones than multiply and add by channel, is returned as it is. So
        is one in which something else than a plain convolution, perhaps after
        padding with zeros, reads the result.
    """
    wiring = Wiring(model)
    steps, result = _arithmetic(model, wiring)
    if result is None or all(isinstance(step, keras.layers.Layer) for step in steps):
        return model
    convolution = _first_convolution(wiring, result)
    found = None if convolution is None else _measured(model, result)
    if convolution is None or found is None:
        return model
    order, scale, offset = found
    pixels = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
    rescaled = keras.layers.Rescaling(scale.tolist(), offset.tolist(), name="rescaled_pixels")
    rest = keras.Model(result, model.outputs)
    copies: dict[str, Any] = {}

    def copied(operation: Any, *args: Any, **options: Any) -> Any:
        copy = operation.__class__.from_config(operation.get_config())
        copies[operation.name] = copy
        output = copy(*args, **options)
        if isinstance(operation, keras.layers.Layer):
            copy.set_weights(operation.get_weights())
        return output

    (output,) = keras.tree.flatten(rest._run_through_graph(rescaled(pixels), call_fn=copied))
    kernel, *others = convolution.get_weights()
    in_order = np.empty_like(kernel)
    in_order[:, :, order] = kernel
    copies[convolution.name].set_weights([in_order, *others])
    return keras.Model(pixels, output, name=model.name)


def _arithmetic(model: Any, wiring: Wiring) -> tuple[list[Any], Any]:
    """Return what is computed of pixels alone, and the one tensor of it that others read.

    The latter is ``None`` if they read several.
    """
    known = {id(model.inputs[0])}
    steps = []
    for operation in wiring.operations:
        arithmetic = isinstance(operation, _LAYERS) or (
            not isinstance(operation, keras.layers.Layer) and type(operation).__name__ in _FUNCTIONS
        )
        if arithmetic and all(id(tensor) in known for tensor in inputs_of(operation)):
            steps.append(operation)
            known |= {id(tensor) for tensor in outputs_of(operation)}
    read = {
        id(tensor): tensor
        for operation in wiring.operations
        if operation not in steps
        for tensor in inputs_of(operation)
        if id(tensor) in known
    }
    given = {id(tensor) for tensor in model.outputs}
    return steps, read.popitem()[1] if len(read) == 1 and not given & known else None


def _first_convolution(wiring: Wiring, tensor: Any) -> Any:
    """Return the plain convolution that alone reads a tensor, perhaps padded with zeros."""
    while len(readers := wiring.readers(tensor)) == 1:
        (layer,) = readers
        if is_plain_convolution(layer):
            return layer
        if type(layer) is not keras.layers.ZeroPadding2D:
            return None
        tensor = layer.output
    return None


def _measured(
    model: Any, result: Any
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Return how a tensor is computed from pixels; ``None`` if not by channel.

    Returns
    -------
    order, scale, offset
        Channel i of the result is channel ``order[i]`` of the pixels times
        ``scale[order[i]]`` plus ``offset[order[i]]``; each has shape
        (channels,).
    """
    pixels = model.inputs[0]
    if tuple(result.shape) != tuple(pixels.shape):
        return None
    channels = pixels.shape[-1]
    compute = keras.Model(pixels, result)

    def of(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = np.asarray(compute(image[np.newaxis]), np.float64)[0]
        return result

    black = np.zeros(pixels.shape[1:], np.uint8)
    base = of(black)[0, 0]
    factors = np.empty((channels, channels))
    for channel in range(channels):
        image = black.copy()
        image[..., channel] = 255
        factors[channel] = (of(image)[0, 0] - base) / 255
    order = np.abs(factors).argmax(axis=0)
    if sorted(order) != list(range(channels)):
        return None
    scale, offset = np.empty(channels), np.empty(channels)
    scale[order], offset[order] = factors[order, np.arange(channels)], base
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape[1:], dtype=np.uint8)
    expected = (noise * scale + offset)[..., order]
    alike = np.allclose(of(noise), expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))
    return (order, scale, offset) if alike else None
