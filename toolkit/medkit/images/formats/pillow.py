"""JPEG, PNG, BMP and WebP, decoded by Pillow."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, cast

from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.depth import Declared
from medkit.images.formats.jpeg_end import PADDINGS, has_end, padded
from medkit.images.formats.pillow_globals import as_pillow_comes
from medkit.images.formats.pillow_limits import check_content, check_pixels
from medkit.images.formats.png_chunks import read_chunks
from medkit.images.formats.registry import Decoded, register_image_format
from medkit.images.limits import Limits
from medkit.images.notes import END_MISSING, SEVERAL_FRAMES
from medkit.images.pixels import to_eight_bits

# A row says what is wrong with a file; the terminal need not say it too.
logging.getLogger("PIL").addHandler(logging.NullHandler())
# Pillow warns of each damaged tag of EXIF, and there may be thousands.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")

_DAMAGE = (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error)
"""What Pillow raises for EXIF that it cannot make sense of."""

_SIXTEEN_BITS = 2.0**16 - 1


@dataclass(frozen=True)
class PillowFormat:
    """A format that one of Pillow's plug-ins decodes.

    Attributes
    ----------
    plugin
        Pillow's class.
    known
        Tells its files by their first bytes. It is Pillow's own function, and
        not what another package may have registered in its place.
    extensions
        Suffixes of such files.
    """

    plugin: type[ImageFile.ImageFile]
    known: Callable[[bytes], bool | str]
    extensions: tuple[str, ...]
    rule: str = ""
    facts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Pillow's name of the format."""
        return str(self.plugin.format)

    def accepts(self, head: bytes) -> bool:
        """Whether Pillow's plug-in takes a file with these first bytes."""
        return self.known(head) is True

    def decode(self, file: BoundedFile, least_side: int, limits: Limits) -> Decoded:
        """Decode the first frame, upright and with 8 bits; see the input contract's rules."""
        with as_pillow_comes():
            if self.name == "JPEG" and not has_end(file):
                return _without_end(file, lambda end: self._decode(file, end, least_side, limits))
            if self.name == "PNG":
                chunks = read_chunks(file)
                bits = chunks.significant_bits
                return self._decode(file, chunks.file, least_side, limits, bits)
            return self._decode(file, file, least_side, limits)

    def _decode(
        self,
        file: BoundedFile,
        stream: IO[bytes] | io.RawIOBase,
        least_side: int,
        limits: Limits,
        bits: int | None = None,
    ) -> Decoded:
        """Decode a stream of what matters in a file."""
        # Pillow's own function compares the size with a limit that is one for the whole
        # process. It would also open what follows a JPEG's first frame.
        with self.plugin(cast(IO[bytes], stream)) as image:
            check_pixels(image, limits)
            full, several = image.size, int(getattr(image, "n_frames", 1)) > 1
            image.draft(image.mode, (least_side, least_side))
            check_content(image, file, full, limits)
            image.load()
            _turn_upright(image)
            found = to_eight_bits(image, _declared(bits))
            found.pixels.info = {}  # or comment and profile would go into pictures made of it
            notes = (*found.notes, *((SEVERAL_FRAMES,) * several))
            return Decoded(found.pixels, full, notes=notes)


def _without_end(file: BoundedFile, decode: Callable[[IO[bytes]], Decoded]) -> Decoded:
    """Decode a JPEG without its end marker, if all its pixels are there.

    Raises
    ------
    ImageError
        If they are not.
    """
    first, second = (decode(padded(file, padding)) for padding in PADDINGS)
    if first.pixels.tobytes() != second.pixels.tobytes():
        raise ImageError("ends before its pixels do")
    return replace(first, notes=(*first.notes, END_MISSING))


def _declared(significant_bits: int | None) -> Declared:
    """Return what a PNG of more than 8 bits says of its samples."""
    if significant_bits is None or not 8 < significant_bits < 16:
        return Declared()
    # Samples of 12 significant bits fill 16, by the standard of PNG; not all writers obey.
    return Declared((2.0**significant_bits - 1, _SIXTEEN_BITS))


def _turn_upright(image: Image.Image) -> None:
    """Obey the EXIF orientation; damaged EXIF has none, and the pixels are good without."""
    with suppress(*_DAMAGE):
        ImageOps.exif_transpose(image, in_place=True)


def _accept_bmp(head: bytes) -> bool:
    """Whether a file begins as a BMP: ``BM`` begins many a text as well."""
    return BmpImagePlugin._accept(head) and BmpImagePlugin._dib_accept(head[14:18].ljust(4, b"\0"))


# The plug-ins are named here, because Pillow would import all its forty to look for them.
for _format in (
    PillowFormat(
        JpegImagePlugin.JpegImageFile, JpegImagePlugin._accept, (".jpg", ".jpeg", ".jfif")
    ),
    PillowFormat(PngImagePlugin.PngImageFile, PngImagePlugin._accept, (".png",)),
    PillowFormat(BmpImagePlugin.BmpImageFile, _accept_bmp, (".bmp",)),
    PillowFormat(WebPImagePlugin.WebPImageFile, WebPImagePlugin._accept, (".webp",)),
):
    register_image_format(_format)
