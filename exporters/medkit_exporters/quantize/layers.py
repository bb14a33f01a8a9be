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


def can_be_plain(operation: Any) -> bool:
    """Whether a layer can be a :class:`PlainLayerNormalization`, and is none yet."""
    if type(operation) is not keras.layers.LayerNormalization:
        return False
    axes = operation.axis if isinstance(operation.axis, list | tuple) else [operation.axis]
    return list(axes) == [-1] and not getattr(operation, "rms_scaling", False)


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


def normalisation_as_rescaling(layer: Any, name: str) -> Any:
    """Return a Rescaling layer that does what a Normalization layer does.

    tf2onnx takes the constants of the latter for inputs of the file.
    """
    mean = np.asarray(layer.mean, np.float64)[0]
    deviation = np.sqrt(np.asarray(layer.variance, np.float64))[0]
    deviation = np.maximum(deviation, keras.config.epsilon())
    scale, offset = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
    return keras.layers.Rescaling(scale.tolist(), offset.tolist(), name=name)
