"""Pages and cards from templates (Jinja2). Pictures are inside, so that each file is complete."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.extras import require
from medkit.wording import counted

_THUMBNAIL = 160  # pixels, the longer side


def render(template: str, **values: Any) -> str:
    """Fill in a template of this package. HTML templates escape what they are given.

    Raises
    ------
    MissingExtraError
        If Jinja2 is not installed.
    """
    require("write a page", "jinja2")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medkit.reports"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,  # a misspelt name must fail, not vanish
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["counted"] = counted
    page: str = environment.get_template(template).render(**values)
    return page


def png_uri(content: bytes) -> str:
    """Return a PNG file as an address that holds the picture itself."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def picture_uri(pixels: NDArray[np.uint8]) -> str:
    """Return an address that holds an image.

    Parameters
    ----------
    pixels
        uint8, shape (height, width) or (height, width, channels).
    """
    return _jpeg_uri(Image.fromarray(pixels.squeeze()))


def thumbnail_uri(image: Image.Image) -> str:
    """Return an address that holds a small copy of an image."""
    small = image.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return _jpeg_uri(small)


def _jpeg_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
