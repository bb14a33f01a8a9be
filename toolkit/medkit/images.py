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
import logging
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from medkit.errors import ContractMismatchError, ImageError
from medkit.limits import (
    DEFAULT_LIMITS,
    Clock,
    LimitedFile,
    LimitedTiff,
    Limits,
    check_content,
    check_pixels,
    limited,
)
from medkit.quiet import silence_libtiff
from medkit.tasks import PNEUMONIA, SKIN, Task

# What is wrong with a file is in its row, and need not be on the terminal too.
logging.getLogger("PIL").addHandler(logging.NullHandler())
silence_libtiff()
# One for each damaged tag of a file, of which there may be thousands.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")

_PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    BmpImagePlugin.BmpImageFile,
    LimitedTiff,
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

_BAND = 1 << 20
"""Pixels that are changed at a time, so that what comes between takes little memory."""

_DAMAGE = (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error)
"""What Pillow raises for EXIF that it cannot make sense of."""

_QUOTATION = re.compile(r"(?:\s*\(\w+ )?\s*\bb?['\"]|\s*['\"]")
"""Where a decoder's message begins to quote what stands in a file."""

_LONGEST_REASON = 200


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


def open_image(
    source: Path | IO[bytes], limits: Limits = DEFAULT_LIMITS, clock: Clock | None = None
) -> Image.Image:
    """Decode an image to upright 8-bit ``L`` or ``RGB`` by rules 1 to 4.

    Parameters
    ----------
    source
        A path or a binary stream.
    limits
        What it may cost.
    clock
        When that began; now, if ``None``.

    Returns
    -------
    PIL.Image.Image
        Mode ``L`` if the file is grey, else ``RGB``, at the decoded size.

    Raises
    ------
    ImageError
        If the file cannot be read or decoded, or costs too much; the message
        holds no path, and nothing of the file's metadata.
    """
    try:
        with limited(source, limits, clock) as file, _identified(file) as image:
            check_pixels(image, limits)
            full = image.size
            image.draft(image.mode, (2 * IMAGE_SIZE, 2 * IMAGE_SIZE))
            check_content(image, file, full, limits)
            image.load()
            if image.mode.startswith(("I", "F")) and _zero_is_white(image):
                raise ImageError("a TIFF of more than 8 bits whose zero means white; invert it")
            _turn_upright(image)
            decoded = _to_eight_bits(image)
            decoded.info = {}  # or its comment and profile would go into pictures made of it
            return decoded
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("file not found") from None
    except PermissionError:
        raise ImageError("no permission to read the file") from None
    except IsADirectoryError:
        raise ImageError("is a folder, not a file") from None
    except Image.DecompressionBombError:
        raise ImageError("more pixels than the decoder accepts") from None
    except MemoryError:
        raise ImageError("not enough memory to decode") from None
    except Exception as error:
        # Pillow's plug-ins let a damaged file surface as almost any exception.
        raise ImageError(f"cannot be decoded: {_reason(error)}") from error


def _identified(file: LimitedFile) -> ImageFile.ImageFile:
    """Return an image whose header has been read by the decoder that accepts its first bytes.

    Pillow's own function compares the size with a limit that is one for the
    whole process; it would also open what follows a JPEG's first frame.
    """
    start = file.read(16)
    file.seek(0)
    for plugin in _PLUGINS:
        accepts = Image.OPEN[plugin.format][1]
        if accepts is not None and accepts(start) is True:
            return plugin(cast(IO[bytes], file))
    raise ImageError(f"not an image of an accepted format ({', '.join(FORMATS)})")


def _reason(error: Exception) -> str:
    """Return what a decoder said, in one line, without what it quotes of the file."""
    if isinstance(error, LookupError):
        return type(error).__name__  # its text is what was looked up
    # An operating system's error names the file; its strerror does not.
    text = getattr(error, "strerror", None) or str(error)
    reason = " ".join(_QUOTATION.split(text)[0].split())
    return reason[:_LONGEST_REASON] or type(error).__name__


def image_to_tensor(image: Image.Image, contract: InputContract) -> NDArray[np.uint8]:
    """Turn an image from :func:`open_image` into a tensor by rules 5 and 6.

    Returns
    -------
    numpy.ndarray
        uint8, shape ``contract.shape``, values 0..255.
    """
    mode = "L" if contract.channels == 1 else "RGB"
    size = contract.width, contract.height
    if mode == "L":
        image = _in_mode(image, mode)
    # A grey image becomes three channels when it is small: every channel is the same.
    resized = _in_mode(image.resize(size, Image.Resampling.BILINEAR), mode)
    return np.asarray(resized, dtype=np.uint8).reshape(contract.shape)


def load_tensor(
    source: Path | IO[bytes], contract: InputContract, limits: Limits = DEFAULT_LIMITS
) -> NDArray[np.uint8]:
    """Read one image file as a model sees it.

    Parameters
    ----------
    source, limits
        As for :func:`open_image`.
    contract
        The model's.

    Returns
    -------
    numpy.ndarray
        uint8, shape ``contract.shape``.

    Raises
    ------
    ImageError
        As :func:`open_image`.
    """
    return image_to_tensor(open_image(source, limits), contract)


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


def _turn_upright(image: Image.Image) -> None:
    """Obey the EXIF orientation; damaged EXIF has none, and the pixels are good without."""
    with suppress(*_DAMAGE):
        ImageOps.exif_transpose(image, in_place=True)


def _zero_is_white(image: Image.Image) -> bool:
    """Whether a TIFF counts darkness; Pillow turns 8-bit samples around, but not deeper ones."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return an image converted, without a copy if it need not be."""
    return image if image.mode == mode else image.convert(mode)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        scale = _scale(image)
        return _by_bands(image, "L", lambda band: _scaled(band, scale))
    target = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _by_bands(image, target, lambda band: _on_black(band, target))
    return _in_mode(image, target)


def _by_bands(
    image: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Change an image pixel by pixel, some rows at a time."""
    if image.width * image.height <= _BAND:
        return change(image)
    changed = Image.new(mode, image.size)
    for top, band in _bands(image):
        changed.paste(change(band), (0, top))
    return changed


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Give rows of an image from the top, with the first one's number."""
    rows = max(_BAND // image.width, 1)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_black(image: Image.Image, target: str) -> Image.Image:
    rgba = image.convert("RGBA")
    flat = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
    flat.alpha_composite(rgba)
    return flat.convert(target)


def _scale(image: Image.Image) -> float:
    """Return what the deeper samples of an image are divided by."""
    accepted = "accepted: 0 to 65535, or 0.0 to 1.0"
    peak, is_float = 0.0, False
    for _, band in _bands(image):
        samples = np.asarray(band)
        is_float = samples.dtype.kind == "f"
        if not np.isfinite(samples).all() or samples.min() < 0:
            raise ImageError(f"has negative or not-finite samples; {accepted}")
        peak = max(peak, float(samples.max()))
    if is_float and peak <= 1.0:
        return 1.0
    scale = next((2.0**depth - 1 for depth in _DEPTHS if peak < 2**depth), None)
    if scale is None:
        raise ImageError(f"has samples up to {peak:g}; {accepted}")
    return scale


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.rint(values * (255.0 / scale)).astype(np.uint8))
