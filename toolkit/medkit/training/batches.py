"""Augmented batches, the same for the same seed, epoch and image.

The changes of each image are drawn from a random generator of its own, whose
key is seed, epoch and the image's position. They do not depend on the batch,
nor on whether the run was interrupted. Importing this module imports Keras
and TensorFlow.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from medkit.models.recipe import Augmentation

_MIXUP_ALPHA = 0.4  # of the beta distribution: in most blends, one of both images dominates

_GREY_LEVELS = np.arange(256, dtype=np.float32) / 255


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """One epoch of shuffled, augmented, weighted training batches.

    Parameters
    ----------
    images
        uint8, shape (n, height, width, channels).
    targets
        Targets of the loss, shape (n, ...).
    weights
        Weight of each image in the loss, shape (n,).
    batch_size
        Images a batch; the last may have fewer.
    augmentation
        ``None`` leaves the images as they are.
    seed, epoch
        Decide the order of the images, and their changes.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        targets: NDArray[np.float32],
        weights: NDArray[np.float32],
        batch_size: int,
        augmentation: Augmentation | None,
        seed: int,
        epoch: int,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._images, self._targets, self._weights = images, targets, weights
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._key = (seed, epoch)
        self._order = np.random.default_rng(self._key).permutation(len(images))

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        images = self._images[chosen]
        if self._augmentation is not None:
            images = augment(images, self._augmentation, [(*self._key, int(i)) for i in chosen])
            if self._augmentation.mix:
                return self._mixed(chosen, images, self._augmentation)
        return images, self._targets[chosen], self._weights[chosen]

    def _mixed(
        self, chosen: NDArray[np.int64], images: NDArray[np.uint8], ranges: Augmentation
    ) -> tuple[Any, Any, Any]:
        """Mix a share of the images with another image of the epoch, and targets and weights alike.

        Half of these images are blended as a whole (Zhang et al. 2018, mixup),
        half get a patch (Yun et al. 2019, CutMix). More than half of an image
        is always its own.
        """
        generators = [np.random.default_rng((*self._key, int(i), 1)) for i in chosen]
        others = np.array([rng.integers(len(self._images)) for rng in generators])
        keys: list[tuple[int, ...]] = [(*self._key, int(i), 2) for i in chosen]
        partners = augment(self._images[others], ranges, keys)
        mixed = images.astype(np.float32)
        kept = np.ones(len(chosen), dtype=np.float32)
        for index, rng in enumerate(generators):
            if rng.random() < ranges.mix:
                mix = _blend if rng.random() < 0.5 else _paste
                kept[index] = mix(mixed[index], partners[index], rng)
        own, theirs = kept * self._weights[chosen], (1 - kept) * self._weights[others]
        weights = own + theirs
        shape = (-1, *[1] * (self._targets.ndim - 1))
        shares = (own / weights).reshape(shape), (theirs / weights).reshape(shape)
        targets = shares[0] * self._targets[chosen] + shares[1] * self._targets[others]
        return np.rint(mixed).astype(np.uint8), targets.astype(np.float32), weights


def augment(
    images: NDArray[np.uint8], ranges: Augmentation, keys: list[tuple[int, ...]]
) -> NDArray[np.uint8]:
    """Return a changed copy of each image.

    Parameters
    ----------
    images
        uint8, shape (n, height, width, channels).
    ranges
        Ranges of the changes.
    keys
        One key for each image; the same key gives the same changes.

    Returns
    -------
    numpy.ndarray
        uint8, the shape of ``images``.
    """
    generators = [np.random.default_rng(key) for key in keys]
    height, width = images.shape[1:3]
    toned = np.stack(
        [
            _tone(_soften(image, ranges.resolution, rng), ranges, rng)
            for image, rng in zip(images, generators, strict=True)
        ]
    )
    transforms = np.stack([_projection(ranges, height, width, rng) for rng in generators])
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.constant(toned),
        transforms=tf.constant(transforms),
        output_shape=tf.constant([height, width]),
        fill_value=tf.constant(0.0),
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    ).numpy()
    for image, rng in zip(moved, generators, strict=True):
        _darken_rim(image, ranges.vignette, rng)
        _erase(image, ranges.erase, rng)
        if ranges.noise:
            sigma = rng.uniform(0, ranges.noise)
            grain = rng.standard_normal(image.shape, dtype=np.float32)
            np.add(image, grain * np.float32(sigma), out=image)
    changed: NDArray[np.uint8] = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
    return changed


def _blend(
    image: NDArray[np.float32], partner: NDArray[np.uint8], rng: np.random.Generator
) -> float:
    """Blend another image into an image, in place; return the share of the image that is left."""
    drawn = rng.beta(_MIXUP_ALPHA, _MIXUP_ALPHA)
    kept = float(max(drawn, 1 - drawn))
    image *= kept
    image += (1 - kept) * partner
    return kept


def _paste(
    image: NDArray[np.float32], partner: NDArray[np.uint8], rng: np.random.Generator
) -> float:
    """Paste a patch of another image on an image, in place; return the share that is left."""
    height, width = image.shape[:2]
    side = math.sqrt(float(rng.uniform(0, 0.5)))
    tall, wide = round(height * side), round(width * side)
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    place = slice(top, top + tall), slice(left, left + wide)
    image[place] = partner[place]
    kept: float = 1 - tall * wide / (height * width)
    return kept


def _soften(
    image: NDArray[np.uint8], smallest: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Reduce half of the images to a share of their side, and enlarge them again.

    The share is at least ``smallest``. The image then has the detail of a
    smaller original.
    """
    if smallest >= 1 or rng.random() < 0.5:
        return image
    height, width, channels = image.shape
    share = rng.uniform(smallest, 1)
    picture = Image.fromarray(image if channels > 1 else image[..., 0])
    small = picture.resize((round(width * share), round(height * share)), Image.Resampling.BILINEAR)
    enlarged = small.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(enlarged).reshape(image.shape)


def _tone(
    image: NDArray[np.uint8], ranges: Augmentation, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Change gamma, contrast, brightness and channel gains by a table of 256 grey levels."""
    gamma = math.exp(rng.uniform(-ranges.gamma, ranges.gamma))
    contrast = 1 + rng.uniform(-ranges.contrast, ranges.contrast)
    brightness = rng.uniform(-ranges.brightness, ranges.brightness)
    table = 255 * np.clip((_GREY_LEVELS**gamma - 0.5) * contrast + 0.5 + brightness / 2, 0, 1)
    gains = 1 + rng.uniform(-ranges.colour, ranges.colour, size=image.shape[-1])
    return np.asarray(table[image] * gains, dtype=np.float32)


def _projection(
    ranges: Augmentation, height: int, width: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw an affine map about the centre, from output to input pixels, in TensorFlow's form."""
    angle = math.radians(rng.uniform(-ranges.rotation, ranges.rotation))
    scale = math.exp(rng.uniform(-ranges.zoom, ranges.zoom))
    stretch = math.exp(rng.uniform(-ranges.stretch, ranges.stretch) / 2)
    mirror_x = -1.0 if ranges.flip_horizontal and rng.random() < 0.5 else 1.0
    mirror_y = -1.0 if ranges.flip_vertical and rng.random() < 0.5 else 1.0
    turn = np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=np.float64
    )
    matrix = turn @ np.diag([mirror_x * scale * stretch, mirror_y * scale / stretch])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = rng.uniform(-ranges.shift, ranges.shift, size=2) * (width, height)
    offset = centre + shift - matrix @ centre
    return np.array([*matrix[0], offset[0], *matrix[1], offset[1], 0, 0], dtype=np.float32)


def _darken_rim(image: NDArray[np.float32], share: float, rng: np.random.Generator) -> None:
    """Darken the rim outside a soft-edged ellipse, in place, on a share of the images."""
    if rng.random() >= share:
        return
    height, width = image.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    centre = rng.uniform(0.46, 0.54, size=2) * (height, width)
    radii = rng.uniform(0.42, 0.66) * rng.uniform(0.93, 1.07, size=2) * (height, width)
    distance = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1])
    softness = rng.uniform(0.01, 0.06)
    inside = 1 / (1 + np.exp(np.clip((distance - 1) / softness, -30, 30)))[..., None]
    image *= inside
    image += rng.uniform(0, 25) * (1 - inside)


def _erase(image: NDArray[np.float32], share: float, rng: np.random.Generator) -> None:
    """Paint one rectangle of one random grey, in place, on a share of the images."""
    if rng.random() >= share:
        return
    height, width = image.shape[:2]
    tall, wide = (max(1, int(side * rng.uniform(0.1, 0.4))) for side in (height, width))
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    image[top : top + tall, left : left + wide] = rng.uniform(0, 255)
