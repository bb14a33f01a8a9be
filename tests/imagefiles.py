"""Image files as streams of bytes, and the pixels that medkit makes of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medkit.errors import ImageError
from medkit.images.reading import open_image
from medkit.tasks import PNEUMONIA, SKIN

GREY, RGB = PNEUMONIA.contract, SKIN.contract

Pixels = NDArray[np.uint8]


def encode(image: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> io.BytesIO:
    """Return the bytes of an image file as a stream."""
    stream = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(stream, kind, **options)
    stream.seek(0)
    return stream


def decode(image: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> Pixels:
    """Return the pixels that rules 1 to 4 make of an image file."""
    return np.asarray(open_image(encode(image, kind, **options)))


def flat(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (8, 8), colour)


def reason(source: Path | io.BytesIO) -> str:
    """Return why an image is refused."""
    with pytest.raises(ImageError) as caught:
        open_image(source)
    return str(caught.value)
