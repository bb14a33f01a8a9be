"""JPEG, PNG, BMP, TIFF and WebP, decoded by Pillow."""

from __future__ import annotations

import logging
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, cast

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

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.formats.pillow_limits import BoundedTiff, check_content, check_pixels
from medkit.images.formats.registry import Decoded, register_image_format
from medkit.images.limits import Limits
from medkit.images.pixels import to_eight_bits
from medkit.system.quiet import silence_libtiff

# A row says what is wrong with a file; the terminal need not say it too.
logging.getLogger("PIL").addHandler(logging.NullHandler())
silence_libtiff()
# Pillow warns of each damaged tag of a file, and there may be thousands.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")

_DAMAGE = (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error)
"""What Pillow raises for EXIF that it cannot make sense of."""


@dataclass(frozen=True)
class PillowFormat:
    """A format that one of Pillow's plug-ins decodes.

    Attributes
    ----------
    plugin
        Pillow's class.
    extensions
        Suffixes of such files.
    """

    plugin: type[ImageFile.ImageFile]
    extensions: tuple[str, ...]
    rule: str = ""
    facts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Pillow's name of the format."""
        return str(self.plugin.format)

    def accepts(self, head: bytes) -> bool:
        """Whether Pillow's plug-in takes a file with these first bytes."""
        accepts = Image.OPEN[self.name][1]
        return accepts is not None and accepts(head) is True

    def decode(self, file: BoundedFile, least_side: int, limits: Limits) -> Decoded:
        """Decode the first frame, upright and with 8 bits; see the input contract's rules."""
        # Pillow's own function compares the size with a limit that is one for the whole
        # process. It would also open what follows a JPEG's first frame.
        with self.plugin(cast(IO[bytes], file)) as image:
            check_pixels(image, limits)
            full = image.size
            image.draft(image.mode, (least_side, least_side))
            check_content(image, file, full, limits)
            image.load()
            if image.mode.startswith(("I", "F")) and _zero_is_white(image):
                raise ImageError("a TIFF of more than 8 bits whose zero means white; invert it")
            _turn_upright(image)
            decoded = to_eight_bits(image)
            decoded.info = {}  # or its comment and profile would go into pictures made of it
            return Decoded(decoded, full)


def _turn_upright(image: Image.Image) -> None:
    """Obey the EXIF orientation; damaged EXIF has none, and the pixels are good without."""
    with suppress(*_DAMAGE):
        ImageOps.exif_transpose(image, in_place=True)


def _zero_is_white(image: Image.Image) -> bool:
    """Whether a TIFF counts darkness; Pillow turns 8-bit samples around, but not deeper ones."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0)


# The plug-ins are named here, because Pillow would import all its forty to look for them.
for _plugin, _extensions in (
    (JpegImagePlugin.JpegImageFile, (".jpg", ".jpeg", ".jfif")),
    (PngImagePlugin.PngImageFile, (".png",)),
    (BmpImagePlugin.BmpImageFile, (".bmp",)),
    (BoundedTiff, (".tif", ".tiff")),
    (WebPImagePlugin.WebPImageFile, (".webp",)),
):
    register_image_format(PillowFormat(_plugin, _extensions))
