"""Store what the libraries themselves make of drawn images, for every rule of ``resize``.

``tests/golden/resizes.npz`` holds the tensors of each rule and each case: by
Pillow, by Keras' ``load_img`` and ``ops.image.resize``, by ``tf.image``, and by
OpenCV. medkit computes the same without these libraries. TensorFlow's tensors
are floats; they are rounded to the nearest byte.

Usage: ``python tests/make_golden_resizes.py`` needs TensorFlow, Keras and
OpenCV (``cv2``), which nothing else here needs. ``--check N`` compares medkit with
the libraries on N random images instead, and prints how far they are apart.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.images.resize import RESIZE_RULES

FILE = Path(__file__).parent / "golden" / "resizes.npz"

Pixels = NDArray[np.uint8]
Size = tuple[int, int]

CASES: dict[str, tuple[Size, int, Size]] = {
    "landscape": ((95, 61), 3, (32, 32)),
    "portrait": ((53, 131), 1, (32, 32)),
    "enlarged": ((19, 23), 1, (40, 40)),
    "wide-tensor": ((66, 90), 1, (40, 32)),
    "tall-tensor": ((151, 70), 1, (32, 45)),
    "whole-blocks": ((96, 128), 1, (32, 32)),
    "halved": ((80, 64), 1, (40, 32)),
}
"""Size and channels of each image, and size of its tensor; sizes are width and height."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Store what the libraries make of drawn images.")
    parser.add_argument("--check", type=int, metavar="N", help="compare N random images instead")
    count = parser.parse_args().check
    if count is not None:
        check(count)
        return
    tensors = {
        case: np.stack(
            [as_bytes(made_by_library(rule, drawn(*of), tensor)) for rule in RESIZE_RULES]
        )
        for case, (*of, tensor) in CASES.items()
    }
    np.savez_compressed(FILE, rules=np.array(RESIZE_RULES), **tensors)


def stored() -> dict[tuple[str, str], Pixels]:
    """Return the stored tensors by rule and case."""
    with np.load(FILE) as file:
        return {
            (str(rule), case): tensor
            for case in CASES
            for rule, tensor in zip(file["rules"], file[case], strict=True)
        }


def drawn(size: Size, channels: int) -> Pixels:
    """Draw noise, a slope and a block, by whole numbers that are the same everywhere."""
    y, x, c = np.mgrid[: size[1], : size[0], :channels]
    noise = (x * 7919 + y * 104729 + c * 1299709) ** 2 // 7 % 61
    image = noise + (x * 90 // size[0]) + (y * 68 // size[1])
    image[(x > size[0] // 3) & (x < size[0] // 2) & (y < size[1] // 4)] = 255
    image[(x < size[0] // 4) & (y > size[1] * 2 // 3)] = 0
    return image.astype(np.uint8)


def as_bytes(tensor: NDArray[Any]) -> Pixels:
    """Return a library's result, shape (height, width, channels), as the nearest bytes."""
    return np.clip(np.rint(tensor), 0, 255).astype(np.uint8)


def as_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def made_by_library(rule: str, pixels: Pixels, tensor: Size) -> NDArray[Any]:
    """Return what the library itself makes of an image, shape (height, width, channels)."""
    geometry, kernel = rule.split(":")
    library = kernel.partition("-")[0]
    if geometry in ("squash", "crop") and library == "pillow":
        found = by_load_img(pixels, tensor, kernel, keep_shape=geometry == "crop")
    elif geometry in ("squash", "crop", "pad") and library == "tf":
        found = by_keras(pixels, tensor, geometry, antialias=kernel.endswith("antialias"))
    elif geometry == "resize-then-pad" and library == "tf":
        found = by_resize_with_pad(pixels, tensor, antialias=kernel.endswith("antialias"))
    else:
        found = RECIPES[geometry](pixels, tensor, KERNELS[kernel])
    return found.reshape(tensor[1], tensor[0], -1)


# What Keras and TensorFlow do in one call


def by_load_img(pixels: Pixels, tensor: Size, kernel: str, keep_shape: bool) -> Pixels:
    """What ImageDataGenerator reads."""
    import keras

    stream = io.BytesIO()
    as_image(pixels).save(stream, "PNG")
    image = keras.utils.load_img(
        io.BytesIO(stream.getvalue()),
        color_mode="grayscale" if pixels.shape[2] == 1 else "rgb",
        target_size=tensor[::-1],
        interpolation=kernel.split("-")[1],
        keep_aspect_ratio=keep_shape,
    )
    return np.asarray(image)


def by_keras(pixels: Pixels, tensor: Size, geometry: str, antialias: bool) -> NDArray[Any]:
    import keras

    return np.asarray(
        keras.ops.image.resize(
            pixels.astype(np.float32),
            tensor[::-1],
            antialias=antialias,
            crop_to_aspect_ratio=geometry == "crop",
            pad_to_aspect_ratio=geometry == "pad",
        )
    )


def by_resize_with_pad(pixels: Pixels, tensor: Size, antialias: bool) -> NDArray[Any]:
    """What ``image_dataset_from_directory`` does with ``pad_to_aspect_ratio``."""
    import tensorflow as tf

    return np.asarray(tf.image.resize_with_pad(pixels, tensor[1], tensor[0], antialias=antialias))


# What people write around a library's plain resize


Resize = Callable[[Pixels, Size], NDArray[Any]]


def by_pillow(name: str) -> Resize:
    def resize(pixels: Pixels, size: Size) -> NDArray[Any]:
        return np.asarray(as_image(pixels).resize(size, Image.Resampling[name]))

    return resize


def by_tensorflow(antialias: bool) -> Resize:
    def resize(pixels: Pixels, size: Size) -> NDArray[Any]:
        import tensorflow as tf

        return np.asarray(tf.image.resize(pixels, size[::-1], antialias=antialias))

    return resize


def by_opencv(name: str) -> Resize:
    def resize(pixels: Pixels, size: Size) -> NDArray[Any]:
        import cv2

        return np.asarray(cv2.resize(pixels, size, interpolation=getattr(cv2, name)))

    return resize


KERNELS = {
    "pillow-bilinear-antialias": by_pillow("BILINEAR"),
    "pillow-bicubic-antialias": by_pillow("BICUBIC"),
    "pillow-nearest": by_pillow("NEAREST"),
    "tf-bilinear": by_tensorflow(antialias=False),
    "tf-bilinear-antialias": by_tensorflow(antialias=True),
    "opencv-linear": by_opencv("INTER_LINEAR"),
    "opencv-area": by_opencv("INTER_AREA"),
}


def squashed(pixels: Pixels, tensor: Size, resize: Resize) -> NDArray[Any]:
    return resize(pixels, tensor)


def cropped(pixels: Pixels, tensor: Size, resize: Resize) -> NDArray[Any]:
    """The lines of Keras' ``smart_resize``."""
    height, width = pixels.shape[:2]
    high = max(min(height, int(float(width * tensor[1]) / tensor[0])), 1)
    wide = max(min(width, int(float(height * tensor[0]) / tensor[1])), 1)
    top, left = int(float(height - high) / 2), int(float(width - wide) / 2)
    return resize(np.ascontiguousarray(pixels[top : top + high, left : left + wide]), tensor)


def padded(pixels: Pixels, tensor: Size, resize: Resize) -> NDArray[Any]:
    """The lines of Keras' layer ``Resizing`` with ``pad_to_aspect_ratio``."""
    height, width = pixels.shape[:2]
    high = max(height, int(float(width * tensor[1]) / tensor[0]))
    wide = max(width, int(float(height * tensor[0]) / tensor[1]))
    top, left = int(float(high - height) / 2), int(float(wide - width) / 2)
    return resize(np.pad(pixels, ((top, top), (left, left), (0, 0))), tensor)


def cropped_after(pixels: Pixels, tensor: Size, resize: Resize) -> NDArray[Any]:
    """``Resize(size / 0.875)`` and ``CenterCrop(size)``, as in torchvision.

    For a tensor that is not square, the resized image just covers both sides.
    """
    height, width = pixels.shape[:2]
    wide, high = int(tensor[0] / 0.875), int(tensor[1] / 0.875)
    if width * high <= height * wide:
        high = int(wide * height / width)
    else:
        wide = int(high * width / height)
    left, top = round((wide - tensor[0]) / 2.0), round((high - tensor[1]) / 2.0)
    found = resize(pixels, (wide, high)).reshape(high, wide, -1)
    return found[top : top + tensor[1], left : left + tensor[0]]


def padded_after(pixels: Pixels, tensor: Size, resize: Resize) -> NDArray[Any]:
    """The steps of ``tf.image.resize_with_pad``, with its float32 numbers."""
    height, width = map(np.float32, pixels.shape[:2])
    ratio = max(width / np.float32(tensor[0]), height / np.float32(tensor[1]))
    wide, high = width / ratio, height / ratio
    left, top = int((tensor[0] - wide) / 2), int((tensor[1] - high) / 2)
    size = max(int(wide), 1), max(int(high), 1)
    found = resize(pixels, size).reshape(size[1], size[0], -1)
    laid = np.zeros((tensor[1], tensor[0], found.shape[2]), found.dtype)
    laid[top : top + size[1], left : left + size[0]] = found
    return laid


RECIPES = {
    "squash": squashed,
    "crop": cropped,
    "pad": padded,
    "crop-to-0.875": cropped_after,
    "resize-then-pad": padded_after,
}


# Random images


def random_cases(count: int) -> Iterator[tuple[Pixels, Size]]:
    """Give random noise of 8 to 600 pixels a side, and sizes of tensors."""
    rng = np.random.default_rng(0)
    for number in range(count):
        tensor = tuple(map(int, rng.integers(32, 300, 2)))
        size = tuple(map(int, rng.integers(8, 600, 2)))
        if number % 3 == 0:
            tensor = (tensor[0], tensor[0])
        if number % 7 == 0:
            size = tensor[0] * int(rng.integers(1, 5)), tensor[1] * int(rng.integers(1, 5))
        yield rng.integers(0, 256, (size[1], size[0], 1 + number % 2 * 2), np.uint8), tensor


def check(count: int) -> None:
    """Print how far medkit is from the libraries, by rule."""
    from medkit.images.kernels import resized

    for rule in RESIZE_RULES:
        worst, wrong, means = 0, 0, []
        for pixels, tensor in random_cases(count):
            expected = as_bytes(made_by_library(rule, pixels, tensor))
            found = np.asarray(resized(as_image(pixels), rule, tensor)).reshape(expected.shape)
            difference = np.abs(found.astype(int) - expected)
            worst, wrong = max(worst, int(difference.max())), wrong + bool(difference.any())
            means.append(difference.mean())
        print(f"{rule:40} {wrong:5} of {count} differ, up to {worst}, mean {np.mean(means):.6f}")


if __name__ == "__main__":
    main()
