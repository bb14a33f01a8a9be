"""Decoding by one of Pillow's plug-ins, and the formats that need nothing else: BMP and WebP."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, cast

from PIL import BmpImagePlugin, Image, ImageFile, WebPImagePlugin

from medkit.images.bounded_file import BoundedFile
from medkit.images.depth import NOTHING_DECLARED, Declared
from medkit.images.formats.pillow_globals import as_pillow_comes
from medkit.images.formats.pillow_limits import check_content, check_pixels
from medkit.images.formats.registry import Decoded, register_image_format
from medkit.images.formats.webp_chunks import without_side_data
from medkit.images.limits import Limits
from medkit.images.notes import SEVERAL_FRAMES
from medkit.images.pixels import to_eight_bits, turned

# A row says what is wrong with a file; the terminal need not say it too.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_DAMAGE = (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error)
"""What Pillow raises for EXIF that it cannot make sense of."""

_ORIENTATION = 274


def decode_with(
    plugin: type[ImageFile.ImageFile],
    stream: IO[bytes],
    file: BoundedFile,
    limits: Limits,
    least_side: int | None = None,
    declared: Declared = NOTHING_DECLARED,
    watch: Callable[[ImageFile.ImageFile], None] | None = None,
) -> Decoded:
    """Decode the first frame by one of Pillow's plug-ins, upright and with 8 bits.

    Parameters
    ----------
    plugin
        Pillow's class.
    stream
        What matters of the file.
    file, limits
        The file, and limits of one image.
    least_side
        Pixels that a decoder which can scale must leave on each side; ``None``
        does not scale.
    declared
        What the file says of its samples, if they have more than 8 bits.
    watch
        Called with the image before it is decoded.
    """
    # Pillow's own function compares the size with a limit that is one for the whole
    # process. It would also open what follows a JPEG's first frame.
    with plugin(stream) as image:
        check_pixels(image, limits)
        full, several = image.size, bool(getattr(image, "is_animated", False))
        if least_side is not None:
            image.draft(image.mode, (least_side, least_side))
        check_content(image, stream, file, full, limits)
        if watch is not None:
            watch(image)
        image.load()
        found = to_eight_bits(image, declared)
        upright = turned(found.pixels, orientation_of(image))
        upright.info = {}  # or comment and profile would go into pictures made of it
        notes = (*found.notes, *(SEVERAL_FRAMES,) * several)
        return Decoded(upright, full, notes=notes)


def orientation_of(image: Image.Image) -> object:
    """Return the EXIF orientation; damaged EXIF has none, and the pixels are good without."""
    with suppress(*_DAMAGE):
        return image.getexif().get(_ORIENTATION)
    return None


def orientation_in(exif: bytes) -> object:
    """Return the orientation of EXIF as a file holds it."""
    with suppress(*_DAMAGE):
        found = Image.Exif()
        found.load(exif)
        return found.get(_ORIENTATION)
    return None


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
    prepared
        Returns what matters of a file.
    """

    plugin: type[ImageFile.ImageFile]
    known: Callable[[bytes], bool | str]
    extensions: tuple[str, ...]
    prepared: Callable[[BoundedFile], object] = lambda file: file
    rule: str = ""
    facts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Pillow's name of the format."""
        return str(self.plugin.format)

    def accepts(self, head: bytes) -> bool:
        """Whether Pillow's plug-in takes a file with these first bytes."""
        return self.known(head) is True

    def decode(self, file: BoundedFile, least_side: int | None, limits: Limits) -> Decoded:
        """Decode the first frame, upright and with 8 bits; see the input contract's rules."""
        with as_pillow_comes():
            stream = cast(IO[bytes], self.prepared(file))
            return decode_with(self.plugin, stream, file, limits)


def _accept_bmp(head: bytes) -> bool:
    """Whether a file begins as a BMP: ``BM`` begins many a text as well."""
    return BmpImagePlugin._accept(head) and BmpImagePlugin._dib_accept(head[14:18].ljust(4, b"\0"))


# The plug-ins are named here, because Pillow would import all its forty to look for them.
for _format in (
    PillowFormat(BmpImagePlugin.BmpImageFile, _accept_bmp, (".bmp",)),
    PillowFormat(
        WebPImagePlugin.WebPImageFile, WebPImagePlugin._accept, (".webp",), without_side_data
    ),
):
    register_image_format(_format)
