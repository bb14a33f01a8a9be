"""From an image file to the tensor that a model takes: the one preprocessing contract.

Training, calibration, parity and classification all come through here, so
they all see the same pixels. Whatever decides a pixel's value is a field of
:class:`InputContract`, and the contract's hash travels inside every model
file: a model made for other pixels is refused when it is loaded.

The rules, in order:

1. Decode with Pillow: JPEG, PNG, BMP, TIFF or WebP, judged by content. The
   first frame counts. A JPEG is decoded at the smallest of the scales
   1, 1/2, 1/4, 1/8 that keeps both sides at least twice the target's.
2. Turn the image upright by its EXIF orientation.
3. Make samples 8-bit. Deeper integer samples are divided by the largest
   value of the smallest depth among 8, 10, 12, 14 and 16 bits that holds the
   image's maximum (scanners store 12 bits in 16). Floating-point samples in
   0..1 are multiplied by 255; larger ones follow the integer rule. Of deeper
   samples with colour or transparency Pillow keeps the high byte. A deep
   TIFF whose zero means white is refused: its pixels would be a negative.
4. Composite transparency onto black, and bring palettes and CMYK to RGB.
   Colour profiles are ignored.
5. For a one-channel model take luma (ITU-R 601); for three channels repeat grey.
6. Squash to the target size with Pillow's antialiased bilinear kernel.
   Normalisation is not done here: it is part of every model's graph.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from medkit.errors import ContractMismatchError, ImageError
from medkit.tasks import PNEUMONIA, SKIN, Task

_PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
)
# Named here so that Pillow, which else looks for them, does not import all its forty.

FORMATS = tuple(plugin.format for plugin in _PLUGINS)
"""Decoders that may open a file; every other one stays shut."""

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Suffixes, in lower case, that make a file in a folder an image."""

IMAGE_SIZE = 128
"""Side of the square model input, in pixels, for both tasks."""

COLOUR_THRESHOLD = 4.0
"""Mean chroma, in grey levels, from which an image counts as coloured.

Measured on both data sets with :func:`colourfulness`: all 5,840 X-rays have
0.0, the least colourful of 2,359 dermoscopy images 8.3. The threshold lies
between, at half of the latter, so that a faint tint or the chroma noise of a
re-encoded X-ray does not make it dermoscopy.
"""

_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class InputContract:
    """Everything that decides the pixels a model sees.

    Attributes
    ----------
    width, height
        Size of the tensor in pixels.
    channels
        1 (luma) or 3 (RGB).
    decoder, orientation, colour, resize
        Names of the rules in this module's docstring; a rule that changes
        gets a new name.
    dtype, layout
        Of the tensor that goes into a model.
    """

    width: int = IMAGE_SIZE
    height: int = IMAGE_SIZE
    channels: int = 3
    decoder: str = "pillow:first-frame:jpeg-scale-to-2x"
    orientation: str = "exif"
    colour: str = "depth-by-maximum:alpha-on-black:luma-601"
    resize: str = "squash:pillow-bilinear-antialias"
    dtype: str = "uint8"
    layout: str = "NHWC"

    @cached_property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the fields."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image's tensor: height, width, channels."""
        return (self.height, self.width, self.channels)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the hash, as stored in manifests and model files."""
        return {**asdict(self), "hash": self.hash}

    def require(self, stored: dict[str, Any], where: str) -> None:
        """Raise :class:`ContractMismatchError` unless ``stored`` is this contract.

        Parameters
        ----------
        stored
            A dictionary as :meth:`to_dict` makes it, read from a model file.
        where
            The file, for the message.
        """
        if stored == self.to_dict():
            return
        differences = [
            f"{field.name} {stored.get(field.name)!r} instead of {getattr(self, field.name)!r}"
            for field in fields(self)
            if stored.get(field.name) != getattr(self, field.name)
        ]
        found = "; ".join(differences) or f"hash {stored.get('hash')!r} instead of {self.hash!r}"
        raise ContractMismatchError(
            f"{where} was made for other preprocessing ({found}); "
            "export it again with this version of medkit"
        )


def contract_for(task: Task) -> InputContract:
    """Return the input contract of ``task``."""
    return InputContract(channels=task.channels)


def open_image(source: Path | IO[bytes]) -> Image.Image:
    """Decode an image to upright 8-bit ``L`` or ``RGB`` by rules 1 to 4.

    Parameters
    ----------
    source
        A path or a binary stream.

    Returns
    -------
    PIL.Image.Image
        Mode ``L`` if the file is grey, else ``RGB``, at the decoded size.

    Raises
    ------
    ImageError
        If the file cannot be read or decoded; the message holds no path.
    """
    try:
        with Image.open(source, formats=FORMATS) as image:
            image.draft(image.mode, (2 * IMAGE_SIZE, 2 * IMAGE_SIZE))
            image.load()
            if image.mode.startswith(("I", "F")) and _zero_is_white(image):
                raise ImageError("a TIFF of more than 8 bits whose zero means white; invert it")
            upright = ImageOps.exif_transpose(image)
            return _to_eight_bits(upright)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("file not found") from None
    except PermissionError:
        raise ImageError("no permission to read the file") from None
    except IsADirectoryError:
        raise ImageError("is a folder, not a file") from None
    except UnidentifiedImageError:
        accepted = ", ".join(FORMATS)
        raise ImageError(f"not an image of an accepted format ({accepted})") from None
    except Image.DecompressionBombError:
        raise ImageError("more pixels than the decoder accepts") from None
    except MemoryError:
        raise ImageError("not enough memory to decode") from None
    except Exception as error:
        # Pillow's plug-ins let a damaged file surface as almost any exception.
        # An operating system's error names the file; its strerror does not.
        text = getattr(error, "strerror", None) or str(error)
        reason = " ".join(text.split()) or type(error).__name__
        raise ImageError(f"cannot be decoded: {reason}") from error


def image_to_tensor(image: Image.Image, contract: InputContract) -> NDArray[np.uint8]:
    """Turn an image from :func:`open_image` into a tensor by rules 5 and 6.

    Returns
    -------
    numpy.ndarray
        uint8, shape ``contract.shape``, values 0..255.
    """
    coloured = image.convert("L" if contract.channels == 1 else "RGB")
    resized = coloured.resize((contract.width, contract.height), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8).reshape(contract.shape)


def load_tensor(source: Path | IO[bytes], contract: InputContract) -> NDArray[np.uint8]:
    """Read one image file as a model sees it.

    Returns
    -------
    numpy.ndarray
        uint8, shape ``contract.shape``.

    Raises
    ------
    ImageError
        As :func:`open_image`.
    """
    return image_to_tensor(open_image(source), contract)


def route(image: Image.Image) -> tuple[Task, NDArray[np.uint8]]:
    """Take a grey image for a chest X-ray and a coloured one for dermoscopy, and make its tensor.

    Parameters
    ----------
    image
        From :func:`open_image`.

    Returns
    -------
    task, tensor
        The task, and what :func:`image_to_tensor` gives for its contract.
    """
    if image.mode == "L":
        return PNEUMONIA, image_to_tensor(image, contract_for(PNEUMONIA))
    tensor = image_to_tensor(image, contract_for(SKIN))
    if colourfulness(tensor) >= COLOUR_THRESHOLD:
        return SKIN, tensor
    return PNEUMONIA, image_to_tensor(image, contract_for(PNEUMONIA))


def colourfulness(tensor: NDArray[np.uint8]) -> float:
    """Return the mean chroma (largest minus smallest channel), in grey levels 0..255.

    Parameters
    ----------
    tensor
        uint8, shape (height, width, 3), both sides even. Averaged over 2x2
        pixels first, so that noise is not taken for colour.
    """
    rows = tensor[0::2].astype(np.uint16) + tensor[1::2]
    sums = rows[:, 0::2] + rows[:, 1::2]
    return float((sums.max(axis=2) - sums.min(axis=2)).mean()) / 4


def _zero_is_white(image: Image.Image) -> bool:
    """Whether a TIFF counts darkness; Pillow turns 8-bit samples around, but not deeper ones."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _reduce_depth(np.asarray(image))
    target = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        flat = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        flat.alpha_composite(rgba)
        return flat.convert(target)
    return image if image.mode == target else image.convert(target)


def _reduce_depth(samples: NDArray[Any]) -> Image.Image:
    values = samples.astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise ImageError("has negative or not-finite samples; accepted: 0 to 65535, or 0.0 to 1.0")
    peak = values.max()
    if samples.dtype.kind == "f" and peak <= 1.0:
        scale = 1.0
    else:
        scale = next((2.0**depth - 1 for depth in _DEPTHS if peak < 2**depth), 0.0)
    if not scale:
        raise ImageError(f"has samples up to {peak:g}; accepted: 0 to 65535, or 0.0 to 1.0")
    return Image.fromarray(np.rint(values * (255.0 / scale)).astype(np.uint8))
