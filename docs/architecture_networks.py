"""The networks of docs/architectures.md, and the made images that they are trained on.

No image shows anything real: blobs, stripes and rings, drawn by NumPy. They
are drawn anew, and the same, wherever the command runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

WEIGHTS_VARIABLE = "MEDKIT_RESNET50_WEIGHTS"
"""Names a file of ImageNet weights of ResNet50 without its end; the others begin at random."""

LABELS = ("blobs", "rings", "stripes")
_NOISE = 12.0  # grey levels, standard deviation
_BATCH = 16

_SMOOTHING = 0.1
EPOCHS = 8
"""Passes over the training images."""

layers = keras.layers


@dataclass(frozen=True)
class Network:
    """One row of the matrix.

    Attributes
    ----------
    name
        Its name in the table and of its record.
    build
        Builds it for images of a size: raw pixels in, probabilities of three labels out.
    size
        Width and height of the images, as keras.applications says.
    rate
        Learning rate of the short training; networks without batch normalisation need a small one.
    """

    name: str
    build: Callable[[int], Any]
    size: int = 224
    rate: float = 1e-3


def draw_image(label: int, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw blobs, rings or stripes in colours of their own, some of them faint, under noise.

    Returns
    -------
    numpy.ndarray
        uint8, shape (size, size, 3).
    """
    y, x = np.mgrid[:size, :size] / size
    pattern = np.zeros((size, size))
    if LABELS[label] == "stripes":
        angle, period = rng.uniform(0, np.pi), rng.uniform(0.06, 0.2)
        phase = (x * np.cos(angle) + y * np.sin(angle)) / period
        pattern = np.sin(2 * np.pi * (phase + rng.uniform())) > 0
    else:
        for _ in range(rng.integers(3, 7)):
            radius, (left, top) = rng.uniform(0.06, 0.16), rng.uniform(0.1, 0.9, 2)
            distance = np.hypot(x - left, y - top)
            inside = distance < radius
            hole = distance < 0.6 * radius
            pattern = np.maximum(pattern, inside & ~hole if LABELS[label] == "rings" else inside)
    ground, colour = rng.uniform(80, 140), rng.uniform(-15, 15, 3)
    colour[label] += rng.uniform(40, 110)  # each label has a colour that it has most of
    image = ground + np.asarray(pattern, np.float64)[..., np.newaxis] * colour
    image += rng.normal(0, _NOISE, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def draw_images(count: int, size: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw images, the labels in turn.

    Returns
    -------
    images, labels
        uint8, shape (count, size, size, 3), and label indices, shape (count,).
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(LABELS)
    return np.stack([draw_image(int(label), size, rng) for label in labels]), labels


def train(network: Network, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Any:
    """Build a network and train it briefly, so that it tells the three labels apart.

    Labels are smoothed: a network that learns few images by heart is so sure
    of itself that the least rounding turns its decisions.

    The statistics of the batch normalisations are measured anew at the end,
    with the weights as they are: so few steps would not let them settle.
    """
    keras.utils.set_random_seed(0)
    model = network.build(network.size)
    trainer = keras.Model(model.inputs, model.outputs)  # the model itself stays uncompiled
    steps = EPOCHS * -(-len(images) // _BATCH)
    rate = keras.optimizers.schedules.CosineDecay(network.rate, steps)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=_SMOOTHING)
    trainer.compile(keras.optimizers.Adam(rate), loss)
    wanted = np.eye(len(LABELS), dtype=np.float32)[labels]
    trainer.fit(images, wanted, batch_size=_BATCH, epochs=EPOCHS, verbose=0)
    normalisations = [
        layer for layer in single_layers(model) if isinstance(layer, layers.BatchNormalization)
    ]
    usual = [layer.momentum for layer in normalisations]
    for number, start in enumerate(range(0, len(images), _BATCH) if normalisations else ()):
        for layer in normalisations:
            layer.momentum = number / (number + 1)  # the mean of all batches
        model(images[start : start + _BATCH], training=True)
    for layer, momentum in zip(normalisations, usual, strict=True):
        layer.momentum = momentum
    return model


def single_layers(model: Any) -> list[Any]:
    """Return a network's layers, with those of the models inside."""
    found = []
    for layer in model.layers:
        found += single_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _as_it_comes(pixels: Any) -> Any:
    return pixels


def _to_one(pixels: Any) -> Any:
    return layers.Rescaling(1 / 127.5, -1)(pixels)


def _by(module: Any) -> Callable[[Any], Any]:
    """Return what prepares pixels by the ``preprocess_input`` of a module of keras.applications.

    It needs floats: of bytes it makes bytes, which wrap around.
    """

    def prepare(pixels: Any) -> Any:
        return module.preprocess_input(keras.ops.cast(pixels, "float32"))

    return prepare


def _application(name: str, prepare: Callable[[Any], Any]) -> Callable[[int], Any]:
    """Return a builder of a network of keras.applications, with a dense layer at its end."""

    def build(size: int) -> Any:
        pixels = keras.Input((size, size, 3), dtype="uint8")
        make = getattr(keras.applications, name)
        body = make(weights=None, include_top=False, pooling="avg", input_tensor=prepare(pixels))
        x = layers.Dropout(0.2)(body.output)
        return keras.Model(pixels, layers.Dense(len(LABELS), activation="softmax")(x), name=name)

    return build


def _resnet50(size: int) -> Any:
    model = _application("ResNet50", _by(keras.applications.resnet50))(size)
    weights = os.environ.get(WEIGHTS_VARIABLE)
    if weights:
        pixels = keras.Input((size, size, 3))
        body = keras.applications.ResNet50(weights=None, include_top=False, input_tensor=pixels)
        body.load_weights(weights)
        for layer in body.layers:
            if layer.weights:
                model.get_layer(layer.name).set_weights(layer.get_weights())
    return model


def functional_in_sequential(size: int) -> Any:
    """Build the usual form of transfer learning: a network as one layer of a Sequential model."""
    shape = (size, size, 3)
    return keras.Sequential(
        [
            keras.Input(shape, dtype="uint8"),
            layers.Rescaling(1 / 127.5, -1),
            keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=shape),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(len(LABELS), activation="softmax"),
        ]
    )


def sequential_in_functional(size: int) -> Any:
    """Build a network with augmentation, body and end each as a model inside."""
    pixels = keras.Input((size, size, 3), dtype="uint8")
    augmentation = keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.1)],
        name="augmentation",
    )
    body = keras.applications.EfficientNetB0(
        weights=None, include_top=False, input_shape=(size, size, 3)
    )
    end = keras.Sequential(
        [
            layers.GlobalAveragePooling2D(),
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(len(LABELS), activation="softmax"),
        ],
        name="end",
    )
    return keras.Model(pixels, end(body(augmentation(pixels))))


def ends_in_convolution(size: int) -> Any:
    """Build MobileNetV3Small with its own end: a convolution, Flatten and an activation."""
    pixels = keras.Input((size, size, 3), dtype="uint8")
    return keras.applications.MobileNetV3Small(
        weights=None, classes=len(LABELS), input_tensor=pixels
    )


def vision_transformer(size: int, patch: int = 16, width: int = 96, blocks: int = 4) -> Any:
    """Build a small vision transformer of plain Keras layers."""
    pixels = keras.Input((size, size, 3), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, -1)(pixels)
    x = layers.Conv2D(width, patch, patch)(x)
    tokens = (size // patch) ** 2
    x = layers.Reshape((tokens, width))(x)
    # The bias of each token is what it learns of its place.
    x = layers.EinsumDense("btd,de->bte", (tokens, width), bias_axes="te")(x)
    for _ in range(blocks):
        inner = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([x, layers.MultiHeadAttention(3, width // 3)(inner, inner)])
        inner = layers.LayerNormalization(epsilon=1e-6)(x)
        inner = layers.Dense(2 * width, activation="gelu")(inner)
        x = layers.Add()([x, layers.Dense(width)(layers.Dropout(0.1)(inner))])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))
    return keras.Model(pixels, layers.Dense(len(LABELS), activation="softmax")(x))


NETWORKS = {
    network.name: network
    for network in (
        Network("small ViT", vision_transformer, rate=3e-4),
        Network("MobileNetV3Small", _application("MobileNetV3Small", _as_it_comes)),
        Network("MobileNetV3Small, own end", ends_in_convolution),
        Network("MobileNet", _application("MobileNet", _to_one)),
        Network("MobileNetV2", _application("MobileNetV2", _to_one)),
        Network("MobileNetV2 in Sequential", functional_in_sequential),
        Network("MobileNetV3Large", _application("MobileNetV3Large", _as_it_comes)),
        Network("EfficientNetB0", _application("EfficientNetB0", _as_it_comes)),
        Network("Sequentials around EfficientNetB0", sequential_in_functional),
        Network("NASNetMobile", _application("NASNetMobile", _to_one)),
        Network("EfficientNetV2B0", _application("EfficientNetV2B0", _as_it_comes)),
        Network(
            "DenseNet121",
            _application("DenseNet121", _by(keras.applications.densenet)),
        ),
        Network("ResNet50", _resnet50, rate=1e-4),
        Network("ResNet50V2", _application("ResNet50V2", _to_one)),
        Network("InceptionV3", _application("InceptionV3", _to_one), size=299),
        Network("Xception", _application("Xception", _to_one), size=299),
        Network("ConvNeXtTiny", _application("ConvNeXtTiny", _as_it_comes), rate=3e-4),
        Network("VGG16", _application("VGG16", _by(keras.applications.vgg16)), rate=1e-4),
        Network("InceptionResNetV2", _application("InceptionResNetV2", _to_one), size=299),
    )
}
"""The rows, from small to large."""
