"""What tells whether two files are the same image: their bytes, and their decoded pixels.

The pixels are those that a model would be given before they are resized: upright,
8 bits, grey if all channels are the same. So a copy with another comment, or
one that was saved without loss in another format, is the same image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medkit.errors import ImageError
from medkit.images.reading import read_image


@dataclass(frozen=True)
class Fingerprint:
    """The identity of an image file.

    Attributes
    ----------
    sha256
        Hash of the file's bytes; empty if the file cannot be read.
    pixels
        Hash of its decoded pixels; empty if it cannot be decoded.
    size
        Width and height in the file, in pixels; ``None`` if it cannot be decoded.
    error
        Reason why it cannot be decoded; empty if it can.
    """

    sha256: str
    pixels: str
    size: tuple[int, int] | None
    error: str = ""

    @property
    def content(self) -> str:
        """What the same images have in common: the pixels if they are known, else the bytes."""
        return self.pixels or self.sha256


def take_fingerprints(
    paths: Iterable[Path], look: Callable[[Path, Image.Image], None] = lambda path, image: None
) -> dict[Path, Fingerprint]:
    """Read and decode files once each, on all cores.

    Parameters
    ----------
    paths
        The files.
    look
        Called with each path and its decoded image, from several threads at once.
    """

    def take(path: Path) -> Fingerprint:
        return take_fingerprint(path, look)

    given = list(paths)
    with ThreadPoolExecutor() as pool:
        return dict(zip(given, pool.map(take, given), strict=True))


def take_fingerprint(
    path: Path, look: Callable[[Path, Image.Image], None] = lambda path, image: None
) -> Fingerprint:
    """Read and decode a file; see :func:`take_fingerprints`."""
    sha256 = ""
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        # Scaled while it is decoded, a JPEG would not have the pixels of its copy as a PNG.
        image = read_image(path, least_side=None)
    except (OSError, ImageError) as error:
        reason = str(error.strerror if isinstance(error, OSError) else error)
        return Fingerprint(sha256, "", None, reason)
    look(path, image.pixels)
    return Fingerprint(sha256, hash_of_pixels(image.pixels), image.stored_size)


def hash_of_pixels(image: Image.Image) -> str:
    """Return the SHA-256 over an image's size and 8-bit pixels; grey and RGB of that grey agree."""
    pixels = np.asarray(image)
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()
