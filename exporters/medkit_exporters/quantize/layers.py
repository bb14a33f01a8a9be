"""Layers that :mod:`medkit_exporters.quantize.network` writes in another way.

Converters and integers suit the other way better. Importing this module imports Keras.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

AUGMENTATION = tuple(
    getattr(keras.layers, name)
    for name in (
        "AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration",
        "RandomColorJitter", "RandomContrast", "RandomElasticTransform", "RandomErasing",
        "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert",
        "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation",
        "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom",
    )
    if hasattr(keras.layers, name)  # older versions of Keras have fewer of them
)  # fmt: skip
"""Layers that change images in training only. RandomCrop is not one: in inference it resizes."""


class PlainLayerNormalization(keras.layers.LayerNormalization):  # type: ignore[misc]
    """Layer normalisation over the last axis, of operators that all have integer kernels.

    Keras' own negates the mean, which TFLite can only do in floating point.
    """

    def call(self, inputs: Any) -> Any:
        """Return the normalised inputs."""
        centred = inputs - keras.ops.mean(inputs, axis=-1, keepdims=True)
        variance = keras.ops.mean(centred * centred, axis=-1, keepdims=True)
        outputs = centred * keras.ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            outputs = outputs * self.gamma
        return outputs if self.beta is None else outputs + self.beta


def other_form(operation: Any, name: str) -> tuple[Any, list[Any]] | None:
    """Return a layer that does the same in a form that suits converters, and its weights.

    It has no activation. ``None`` if the operation stays in the form that it has.
    """
    if isinstance(operation, keras.layers.Normalization):
        return _as_rescaling(operation, name), []
    if type(operation) is keras.layers.LayerNormalization and _is_over_last_axis(operation):
        config = {**operation.get_config(), "name": name}
        return PlainLayerNormalization.from_config(config), operation.get_weights()
    if type(operation) is keras.layers.Conv2D and _is_depthwise(operation):
        return _as_depthwise(operation, name)
    return None


def _is_over_last_axis(layer: Any) -> bool:
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    return list(axes) == [-1] and not getattr(layer, "rms_scaling", False)


def _is_depthwise(convolution: Any) -> bool:
    """Whether each channel is a group of its own, as in ConvNeXt."""
    alone = convolution.groups > 1 and convolution.kernel.shape[2] == 1
    return bool(alone and len(set(convolution.strides)) == 1)


def _as_depthwise(convolution: Any, name: str) -> tuple[Any, list[Any]]:
    """Return a depthwise convolution: tf2onnx knows none in groups.

    Keras compiles the latter, see https://github.com/onnx/tensorflow-onnx/issues/2099.
    """
    kernel, *bias = convolution.get_weights()
    height, width, _, filters = kernel.shape
    multiplier = filters // convolution.groups
    layer = keras.layers.DepthwiseConv2D(
        convolution.kernel_size,
        strides=convolution.strides,
        padding=convolution.padding,
        depth_multiplier=multiplier,
        data_format=convolution.data_format,
        dilation_rate=convolution.dilation_rate,
        use_bias=convolution.use_bias,
        name=name,
    )
    return layer, [kernel.reshape(height, width, convolution.groups, multiplier), *bias]


def holds_tensors(operation: Any) -> bool:
    """Whether an operation, called once, is given constants as tensors of TensorFlow."""
    given = operation._inbound_nodes[0].arguments
    return any(map(_is_constant, keras.tree.flatten((given.args, given.kwargs))))


def with_arrays(arguments: Any) -> Any:
    """Return arguments with constants as arrays: tf2onnx takes tensors for inputs of the file."""
    return keras.tree.map_structure(
        lambda item: np.asarray(item) if _is_constant(item) else item, arguments
    )


def _is_constant(item: Any) -> bool:
    return bool(keras.ops.is_tensor(item)) and not isinstance(item, keras.KerasTensor)


def _as_rescaling(layer: Any, name: str) -> Any:
    """Return a Rescaling layer that does what a Normalization layer does.

    tf2onnx takes the constants of the latter for inputs of the file.
    """
    mean = np.asarray(layer.mean, np.float64)[0]
    deviation = np.sqrt(np.asarray(layer.variance, np.float64))[0]
    deviation = np.maximum(deviation, keras.config.epsilon())
    scale, offset = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
    return keras.layers.Rescaling(scale.tolist(), offset.tolist(), name=name)
