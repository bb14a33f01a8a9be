"""The rules of ``resize``: which part of an image goes where, and by which kernel.

A rule is ``GEOMETRY:KERNEL``. The geometry says which region of the image
becomes which part of the tensor; see :data:`GEOMETRIES`. The kernel says how
pixels are computed; see :data:`KERNELS`. Every geometry goes with every kernel.

This module holds no arithmetic on pixels. That is in :mod:`medkit.images.kernels`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Size = tuple[int, int]
"""Width and height, in pixels."""


@dataclass(frozen=True)
class Side:
    """How one side of an image becomes one side of the tensor.

    The region from ``start`` to ``stop`` is resized to ``full`` pixels. From the
    pixel ``first`` of these on, the tensor's are taken. Whatever lies outside, of
    the image or of the resized pixels, is black.

    Attributes
    ----------
    length
        Pixels of the image.
    start, stop
        The region, in pixels of the image. It is larger than the image if black
        is put around that first.
    full
        Pixels that the region is resized to.
    first
        The resized pixel that becomes the tensor's first. It is negative if
        black comes before.
    tensor
        Pixels of the tensor.
    """

    length: int
    start: int
    stop: int
    full: int
    first: int
    tensor: int

    @property
    def region(self) -> int:
        """Pixels of the region."""
        return self.stop - self.start

    @property
    def kept(self) -> range:
        """The resized pixels that the tensor takes."""
        return range(max(self.first, 0), min(self.first + self.tensor, self.full))

    @property
    def offset(self) -> int:
        """Black pixels of the tensor before the first that is kept."""
        return max(-self.first, 0)

    @property
    def is_plain(self) -> bool:
        """Whether the region lies in the image, and all that it becomes is kept."""
        return self.start >= 0 and self.stop <= self.length and len(self.kept) == self.full


Sides = tuple[Side, Side]
"""Across and down."""


def _resized(length: int, tensor: int) -> Side:
    """Resize a side, whatever that does to shapes."""
    return Side(length, 0, length, tensor, 0, tensor)


def _squash(image: Size, tensor: Size) -> Sides:
    return _resized(image[0], tensor[0]), _resized(image[1], tensor[1])


def _crop(image: Size, tensor: Size) -> Sides:
    """Take the largest region; its size and its place are rounded down, as in Keras."""

    def cropped(length: int, fits: int, side: int) -> Side:
        taken = max(min(length, fits), 1)
        start = (length - taken) // 2
        return Side(length, start, start + taken, side, 0, side)

    across, down = _fitting(image, tensor)
    return cropped(image[0], across, tensor[0]), cropped(image[1], down, tensor[1])


def _pad(image: Size, tensor: Size) -> Sides:
    """Put as much black before as after, rounded down, as in Keras."""

    def padded(length: int, fits: int, side: int) -> Side:
        black = (max(fits, length) - length) // 2
        return Side(length, -black, length + black, side, 0, side)

    across, down = _fitting(image, tensor)
    return padded(image[0], across, tensor[0]), padded(image[1], down, tensor[1])


def _fitting(image: Size, tensor: Size) -> Size:
    """Return the width that goes with the image's height in the tensor's shape, and so on."""
    return image[1] * tensor[0] // tensor[1], image[0] * tensor[1] // tensor[0]


def _crop_after(image: Size, tensor: Size) -> Sides:
    """Resize to cover 1/0.875 of the tensor, as torchvision's and timm's recipes do, and crop."""
    # Of 224 that makes 256. 1 / 0.875 is 8 / 7.
    covered = tensor[0] * 8 // 7, tensor[1] * 8 // 7
    if image[0] * covered[1] <= image[1] * covered[0]:
        full = covered[0], covered[0] * image[1] // image[0]
    else:
        full = covered[1] * image[0] // image[1], covered[1]

    def cut(length: int, whole: int, side: int) -> Side:
        # Python's round, to even numbers, is torchvision's.
        return Side(length, 0, length, whole, round((whole - side) / 2), side)

    return cut(image[0], full[0], tensor[0]), cut(image[1], full[1], tensor[1])


def _pad_after(image: Size, tensor: Size) -> Sides:
    """Resize so that all of the image fits, and put black around: tf.image.resize_with_pad."""
    import numpy as np  # late: names of rules are asked for where nothing is computed

    # In TensorFlow's precision: a side of 223.99998 becomes 223 pixels.
    lengths, tensors = np.array(image, np.float32), np.array(tensor, np.float32)
    inside = lengths / (lengths / tensors).max()
    black = (tensors - inside) / 2

    def laid(axis: int) -> Side:
        full = max(int(inside[axis]), 1)
        return Side(image[axis], 0, image[axis], full, -int(black[axis]), tensor[axis])

    return laid(0), laid(1)


GEOMETRIES: dict[str, Callable[[Size, Size], Sides]] = {
    "squash": _squash,
    "crop": _crop,
    "crop-to-0.875": _crop_after,
    "pad": _pad,
    "resize-then-pad": _pad_after,
}
"""Geometries by name; each takes the sizes of the image and of the tensor."""


@dataclass(frozen=True)
class Kernel:
    """How pixels are computed from a region.

    Attributes
    ----------
    function
        Module and name of the function that does it. It takes an image and its
        :data:`Sides`, and returns the pixels that these keep.
    antialiased
        Whether every pixel of the region counts when it is made smaller. If
        not, the kernel sees single pixels, and a JPEG must not be decoded at a
        smaller scale.
    """

    function: str
    antialiased: bool


_HERE = "medkit.images.kernels"

KERNELS = {
    "pillow-bilinear-antialias": Kernel(f"{_HERE}:pillow_bilinear", True),
    "pillow-bicubic-antialias": Kernel(f"{_HERE}:pillow_bicubic", True),
    "pillow-nearest": Kernel(f"{_HERE}:pillow_nearest", False),
    "tf-bilinear": Kernel(f"{_HERE}:tf_bilinear", False),
    "tf-bilinear-antialias": Kernel(f"{_HERE}:tf_bilinear_antialias", True),
    "opencv-linear": Kernel(f"{_HERE}:opencv_linear", False),
    "opencv-area": Kernel(f"{_HERE}:opencv_area", True),
}
"""Kernels by name, each that of the library which is named first."""

RESIZE_RULES = tuple(f"{geometry}:{kernel}" for geometry in GEOMETRIES for kernel in KERNELS)
"""Every rule. New models get the first."""


def kernel_of(rule: str) -> Kernel:
    """Return the kernel of one of :data:`RESIZE_RULES`."""
    return KERNELS[rule.partition(":")[2]]


def sides_of(rule: str, image: Size, tensor: Size) -> Sides:
    """Return what one of :data:`RESIZE_RULES` makes of an image's two sides.

    Parameters
    ----------
    rule
        The rule.
    image, tensor
        Their sizes, in pixels.
    """
    return GEOMETRIES[rule.partition(":")[0]](image, tensor)
