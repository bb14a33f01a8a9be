"""Grad-CAM: which part of an image raised a label's score (Selvaraju et al. 2017).

Importing this module imports Keras and TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image


def heat_maps(
    model: Any, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """Return how much each place of each image raised the score of a label.

    Parameters
    ----------
    model
        A Keras original, from uint8 pixels to probabilities. Its last maps
        are averaged over the image before a dense layer.
    images
        uint8, shape (n, height, width, channels).
    labels
        Index of the label to explain, for each image, shape (n,).

    Returns
    -------
    numpy.ndarray or None
        float32, shape (n, height, width), 0..1 within each image; all zero
        if no place raised the score. ``None`` if no layer with weights gives maps.
    """
    observed = _with_last_maps(model)
    if observed is None:
        return None
    with tf.GradientTape() as tape:
        for weight in observed.weights:
            tape.watch(weight.value)  # layers that were not trained any more count as well
        activations, output = observed(images, training=False)
        score = _score(output, labels)
    gradients = tape.gradient(score, activations)
    if gradients is None:
        return None  # these maps are the pixels: nothing with weights has seen them yet
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * activations, axis=-1)).numpy()
    size = (images.shape[2], images.shape[1])
    enlarged = [
        np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BILINEAR)) for one in heat
    ]
    return np.stack([one / one.max() if one.max() > 0 else one for one in enlarged])


def _with_last_maps(model: Any) -> Any:
    """Return a network that gives the maps of the last layer that has some, and the output.

    ``None`` if there is no such layer.
    """
    pixels, output = model.inputs[0], model.outputs[0]
    backwards: Iterator[Any] = (layer.output for layer in reversed(model.layers))
    if isinstance(model, keras.Sequential):
        # Its layers may have been called several times, so they are called once more in a row.
        output = pixels = keras.Input(pixels.shape[1:], dtype=pixels.dtype)
        backwards = reversed([output := layer(output) for layer in model.layers])
    for maps in backwards:
        if len(maps.shape) == 4:
            return keras.Model(pixels, [maps, output])
    return None


def _score(output: Any, labels: NDArray[np.int64]) -> Any:
    """Return the log odds of one label for each image, which do not flatten as probabilities do."""
    if output.shape[-1] == 1:
        raised = tf.math.log(output[:, 0] + 1e-7) - tf.math.log(1 - output[:, 0] + 1e-7)
        return tf.where(tf.constant(labels == 1), raised, -raised)
    chosen = tf.gather(output, tf.constant(labels), batch_dims=1)
    return tf.math.log(chosen + 1e-7) - tf.math.log(1 - chosen + 1e-7)
