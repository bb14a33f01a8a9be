"""The networks of ``keras.applications``, each with the normalisation that it expects.

Their weights are for pixels that ``preprocess_input`` of their module has changed.
Here, plain layers in the graph do the same, so that every network takes raw bytes.
Keras is imported inside functions: the names are known without it.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from medkit.errors import UsageError, WeightsUnavailableError

_CAFFE, _TENSORFLOW, _TORCH, _BUILT_IN = "caffe", "tf", "torch", "built in"
"""Modes of ``keras.applications.imagenet_utils.preprocess_input``; the last changes nothing."""

APPLICATIONS: dict[str, str] = {
    **dict.fromkeys(
        ["ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"],
        _BUILT_IN,
    ),
    **dict.fromkeys(["DenseNet121", "DenseNet169", "DenseNet201"], _TORCH),
    **dict.fromkeys([f"EfficientNetB{number}" for number in range(8)], _BUILT_IN),
    **dict.fromkeys(
        [f"EfficientNetV2{size}" for size in ["B0", "B1", "B2", "B3", "S", "M", "L"]], _BUILT_IN
    ),
    **dict.fromkeys(["InceptionResNetV2", "InceptionV3", "Xception"], _TENSORFLOW),
    **dict.fromkeys(["MobileNet", "MobileNetV2", "NASNetLarge", "NASNetMobile"], _TENSORFLOW),
    **dict.fromkeys(["MobileNetV3Large", "MobileNetV3Small"], _BUILT_IN),
    **dict.fromkeys(["ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19"], _CAFFE),
    **dict.fromkeys(["ResNet50V2", "ResNet101V2", "ResNet152V2"], _TENSORFLOW),
}
"""The mode of each network, by its name in ``keras.applications``."""

# ImageNet's channel means, red first (keras.applications.imagenet_utils, mode "caffe"),
# and mean and deviation of pixels in 0..1 (mode "torch").
IMAGENET_MEAN = (123.68, 116.779, 103.939)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_HEAD = ("pixels", "head_", "probabilities")
"""How the names of layers begin that are not of the network of ``keras.applications``."""

_ADDRESS = re.compile(r"https?://\S+?\.h5")


def is_application_layer(layer: Any) -> bool:
    """Whether a layer belongs to the network of ``keras.applications`` and not to the head."""
    return not str(layer.name).startswith(_HEAD)


def normalise(name: str, pixels: Any) -> Any:
    """Add the layers that change pixels as a network expects, but for the order of channels.

    Parameters
    ----------
    name
        A key of :data:`APPLICATIONS`.
    pixels
        Keras tensor of 0..255, shape (n, height, width, 3), red first.
    """
    import keras

    rescaling = keras.layers.Rescaling
    mode = APPLICATIONS[name]
    if mode == _TENSORFLOW:
        return rescaling(1 / 127.5, -1.0, name="to_minus_one_to_one")(pixels)
    if mode == _TORCH:
        scale = [1 / (255 * deviation) for deviation in _DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]
        return rescaling(scale, offset, name="normalise_as_imagenet")(pixels)
    if mode == _CAFFE:
        offset = [-mean for mean in IMAGENET_MEAN]
        return rescaling(1.0, offset, name="subtract_imagenet_mean")(pixels)
    return pixels


def expects_blue_first(name: str) -> bool:
    """Whether the weights of a network expect the channels in the order blue, green, red."""
    return APPLICATIONS[name] == _CAFFE


def add_application(name: str, pixels: Any, weights: Path | None, *, from_scratch: bool) -> Any:
    """Add a network of ``keras.applications`` and its normalisation.

    Parameters
    ----------
    name
        A key of :data:`APPLICATIONS`.
    pixels
        Keras input of raw bytes, shape (n, height, width, channels). Grey is repeated.
    weights
        File of ImageNet weights without top; ``None`` lets Keras download them.
    from_scratch
        Begin with random weights instead.

    Returns
    -------
    keras.KerasTensor
        Features, shape (n, number).

    Raises
    ------
    UsageError
        If the network does not take images of this size.
    WeightsUnavailableError
        If the weights cannot be read or downloaded.
    """
    import keras

    x = pixels
    if pixels.shape[-1] == 1:
        x = keras.layers.Concatenate(name="repeat_grey")([pixels, pixels, pixels])
    x = normalise(name, x)
    shape = tuple(x.shape[1:])

    def build(start: str | None) -> Any:
        with warnings.catch_warnings():
            # MobileNets warn that there are no weights for this size, and take those for 224.
            warnings.simplefilter("ignore", UserWarning)
            return getattr(keras.applications, name)(
                include_top=False, weights=start, input_tensor=x, input_shape=shape, pooling="avg"
            )

    try:
        backbone = build(None if from_scratch else str(weights or "imagenet"))
    except Exception as error:
        # Keras raises many types for a missing connection, a wrong file or a wrong shape.
        _check_size(name, shape, build)
        raise _unavailable(name, weights, error) from error
    if not from_scratch:
        _fit_to_pixels(name, backbone, from_file=weights is not None)
    return backbone.output


def _check_size(name: str, shape: tuple[int, ...], build: Any) -> None:
    """Raise :class:`UsageError` if a network cannot be built for a size, whatever its weights."""
    try:
        build(None)
    except Exception as error:
        height, width, _ = shape
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{name} does not take images of {width}x{height} pixels ({reason}); choose another "
            "--size"
        ) from error


def _unavailable(name: str, weights: Path | None, error: Exception) -> WeightsUnavailableError:
    if weights is not None:
        return WeightsUnavailableError(
            f"{weights} does not hold {name}'s weights without top; give the file that "
            "keras.applications downloads for it, or begin without: --weights none"
        )
    address = _ADDRESS.search(str(error))
    file = address[0] if address else f"{name}'s weights without top"
    return WeightsUnavailableError(
        f"the ImageNet weights of {name} cannot be downloaded; fetch {file} on a machine with a "
        "network and give it with --weights FILE, or begin without: --weights none"
    )


def _fit_to_pixels(name: str, backbone: Any, *, from_file: bool) -> None:
    """Change the first kernel so that it takes what :func:`normalise` and Keras' own layers give.

    That is exact, and no runtime has to do it for each image.
    """
    import keras

    stem = next(layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D))
    kernel, *others = stem.get_weights()
    if expects_blue_first(name):
        kernel = kernel[:, :, ::-1, :]
    elif re.fullmatch(r"EfficientNetB\d", name) and from_file:
        # These weights were made with pixels that were divided by the square root of the
        # deviation once more. Keras adds a layer for that if it downloads them, and none for
        # a file (https://github.com/tensorflow/tensorflow/issues/49930).
        kernel = kernel / np.sqrt(np.array(_DEVIATION, np.float32))[:, np.newaxis]
    else:
        return
    stem.set_weights([np.ascontiguousarray(kernel), *others])
