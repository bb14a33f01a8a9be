"""The architectures, from uint8 pixels to probabilities. Each holds its own normalisation.

Importing this module imports Keras.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from medkit.errors import WeightsUnavailableError
from medkit.models.recipe import Recipe
from medkit.models.runtimes.base import both_classes
from medkit.tasks import Task
from medkit.training.applications import (
    APPLICATIONS,
    IMAGENET_MEAN,
    add_application,
    is_application_layer,
)

_PREDICTION_BATCH = 64

# Mean and standard deviation of the X-ray training split under the input
# contract, 122.8 and 59.9, rounded: a whole mean survives 8-bit quantisation exactly.
_XRAY_MEAN, _XRAY_STD = 123.0, 60.0

IMAGENET_WEIGHTS_FILE = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"


def build_network(task: Task, recipe: Recipe, weights: Path | None) -> Any:
    """Build the network that ``recipe`` names, uncompiled.

    Parameters
    ----------
    task
        Decides input shape and number of outputs.
    recipe
        Names the architecture and its dropout rate.
    weights
        File of Keras' ImageNet weights without top; ``None`` lets Keras
        download them. Not used for an architecture without pretraining.

    Returns
    -------
    keras.Model
        Input uint8 (n, height, width, channels); output float32
        probabilities, (n, 1) for a two-class task and else (n, classes).

    Raises
    ------
    WeightsUnavailableError
        If the ImageNet weights cannot be read or downloaded.
    UsageError
        If a network of ``keras.applications`` does not take images of this size.
    """
    pixels = keras.Input(task.contract.shape, dtype="uint8", name="pixels")
    if recipe.network in APPLICATIONS:
        features = add_application(
            recipe.network, pixels, weights, from_scratch=recipe.from_scratch
        )
    else:
        features = _BACKBONES[recipe.network](pixels, weights)
    if recipe.dropout:
        features = keras.layers.Dropout(recipe.dropout, name="head_dropout")(features)
    head: dict[str, Any] = {"name": "probabilities", "dtype": "float32"}
    if task.binary:
        output = keras.layers.Dense(1, activation="sigmoid", **head)(features)
    else:
        output = keras.layers.Dense(len(task.labels), activation="softmax", **head)(features)
    return keras.Model(pixels, output, name=f"{task.name}_{recipe.network}".replace("-", "_"))


def predict_probabilities(model: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a network's probabilities for uint8 images.

    Parameters
    ----------
    model
        Built by :func:`build_network`.
    images
        uint8, shape (n, height, width, channels).

    Returns
    -------
    numpy.ndarray
        float32, shape (n, classes), also for a network with one output.
    """
    return both_classes(np.asarray(model.predict(images, batch_size=_PREDICTION_BATCH, verbose=0)))


def needs_imagenet(recipe: Recipe) -> bool:
    """Whether the recipe's network starts from ImageNet weights."""
    if recipe.network in APPLICATIONS:
        return not recipe.from_scratch
    return recipe.network in ("seed-resnet50", "resnet50")


def is_backbone(layer: Any, network: str = "resnet50") -> bool:
    """Whether a layer belongs to the pretrained backbone of a network and not to the head."""
    if network in APPLICATIONS:
        return is_application_layer(layer)
    return str(layer.name).startswith("conv")


def _seed_cnn(pixels: Any, weights: Path | None) -> Any:
    layers = keras.layers
    x = layers.Rescaling(1 / 255, name="to_unit_range")(pixels)
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    return layers.Dense(128, activation="relu")(x)


def _compact_cnn(pixels: Any, weights: Path | None) -> Any:
    """Add plain convolutions with batch normalisation, 209 thousand parameters.

    There are no branches, and few channels where the maps are large: a
    microcontroller needs memory for all activations that are alive at once.
    """
    layers = keras.layers
    x = layers.Rescaling(1.0, -_XRAY_MEAN, name="subtract_mean")(pixels)
    x = layers.Rescaling(1 / _XRAY_STD, name="divide_by_deviation")(x)
    blocks = ((16, 2), (32, 1), (32, 2), (64, 1), (64, 2), (96, 1), (96, 2))
    for number, (filters, stride) in enumerate(blocks, start=1):
        x = layers.Conv2D(
            filters, 3, strides=stride, padding="same", use_bias=False, name=f"conv{number}"
        )(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _seed_resnet50(pixels: Any, weights: Path | None) -> Any:
    # These weights were trained with other pixels than 0..1. The seed project
    # used them like this, which is one reason for its accuracy below 0.5.
    x = keras.layers.Rescaling(1 / 255, name="to_unit_range")(pixels)
    backbone = _imagenet_resnet50(x, weights)
    return keras.layers.Dense(256, activation="relu", name="head_dense")(backbone.output)


def _resnet50(pixels: Any, weights: Path | None) -> Any:
    x = keras.layers.Rescaling(
        1.0, [-mean for mean in IMAGENET_MEAN], name="subtract_imagenet_mean"
    )(pixels)
    backbone = _imagenet_resnet50(x, weights)
    # The weights expect blue first. Reversing the input axis of the first
    # kernel is exact, and no runtime has to reverse the channels of an image.
    stem = backbone.get_layer("conv1_conv")
    kernel, bias = stem.get_weights()
    stem.set_weights([np.ascontiguousarray(kernel[:, :, ::-1, :]), bias])
    return backbone.output


def _imagenet_resnet50(x: Any, weights: Path | None) -> Any:
    try:
        return keras.applications.ResNet50(
            include_top=False,
            weights=str(weights) if weights else "imagenet",
            input_tensor=x,
            pooling="avg",
        )
    except Exception as error:
        # Keras raises many types for a missing connection, a wrong file or a wrong shape.
        problem = (
            f"{weights} does not hold ResNet50's weights without top"
            if weights
            else "the ImageNet weights of ResNet50 cannot be downloaded"
        )
        raise WeightsUnavailableError(
            f"{problem}; fetch {IMAGENET_WEIGHTS_FILE} from Keras' storage (it is named in "
            "keras.applications.resnet) on a machine with a network and give it with --weights PATH"
        ) from error


_BACKBONES = {
    "seed-cnn": _seed_cnn,
    "seed-resnet50": _seed_resnet50,
    "compact-cnn": _compact_cnn,
    "resnet50": _resnet50,
}
