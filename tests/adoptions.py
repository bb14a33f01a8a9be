"""Models that were trained elsewhere, and labelled images that tell how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LABELS = ("disc", "healthy", "vessel")

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

SIDE = 224


def make_images(folder: Path, each: int = 60) -> Path:
    """Make class folders: two colours, two kinds of noise, and a bright left border.

    The noise tells resizes apart, and the border crops.
    """
    rng = np.random.default_rng(0)
    for label, colour, noise in zip(
        LABELS, ((110, 80, 70), (80, 80, 70), (80, 80, 110)), (10, 10, 18), strict=True
    ):
        (folder / label).mkdir(parents=True)
        for number in range(each):
            height, width = int(rng.integers(180, 220)), int(rng.integers(300, 360))
            shade = rng.normal(0, 5, 3) + np.array(colour)
            image = np.tile(shade, (height, width, 1))
            image[:, : width // 8] += 90
            image += rng.normal(0, noise * rng.uniform(0.8, 1.2), image.shape)
            content = np.clip(image, 0, 255).astype(np.uint8)
            Image.fromarray(content).save(folder / label / f"{number:03}.png")
    return folder


def as_trained(path: Path, side: int = SIDE) -> NDArray[np.float32]:
    """Return an image as Keras' generator with ImageNet's mean and deviation gives it."""
    with Image.open(path) as opened:
        image = opened.convert("RGB").resize((side, side), Image.Resampling.NEAREST)
    return ((np.asarray(image) / 255 - MEAN) / DEVIATION).astype(np.float32)


def network(channels: int = 3, side: int = SIDE) -> Any:
    """Return a network that looks at colours and at how rough an image is; not trained yet."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    taken = keras.Input((side, side, channels))
    rough = layers.Conv2D(2, 3, strides=2, activation="relu", name="rough")(taken)
    seen = layers.Concatenate()(
        [layers.GlobalAveragePooling2D()(taken), layers.GlobalAveragePooling2D()(rough)]
    )
    return keras.Model(taken, layers.Dense(3, activation="softmax", name="head")(seen))


def trained(data: Path) -> Any:
    """Return the network, fitted to images by the means and deviations of what it sees."""
    import keras

    model = network()
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[1, 1, :, 0], kernel[1, 2, :, 0] = 1, -1
    kernel[1, 1, :, 1], kernel[2, 1, :, 1] = 1, -1
    model.get_layer("rough").set_weights([kernel, np.zeros(2, np.float32)])
    features = keras.Model(model.input, model.get_layer("head").input)
    means, spreads = [], []
    for label in LABELS:
        images = np.stack([as_trained(path) for path in sorted((data / label).iterdir())[:30]])
        seen = np.asarray(features(images))
        means.append(seen.mean(axis=0))
        spreads.append(seen.var(axis=0))
    # Linear discriminants of features that do not depend on one another.
    variance = np.mean(spreads, axis=0)
    weights = np.stack([mean / variance for mean in means], axis=1)
    biases = np.array([-(mean**2 / variance).sum() / 2 for mean in means])
    model.get_layer("head").set_weights([weights, biases])
    return model


def small(**ending: Any) -> Any:
    """Return a small network of 32x32 pixels; the ending is that of its last Dense layer."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    units = ending.pop("units", 3)
    channels = ending.pop("channels", 3)
    return keras.Sequential(
        [
            keras.Input((32, 32, channels)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(units, **ending),
        ]
    )


def labels_file(folder: Path, labels: tuple[str, ...] = LABELS) -> Path:
    """Write a file of labels, a label a line."""
    path = folder / "the-labels.txt"
    path.write_text("".join(f"{label}\n" for label in labels))
    return path
