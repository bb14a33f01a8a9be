"""GIF, JPEG 2000 and AVIF, which Pillow may decode, and HEIC and JPEG XL, which extras do.

Their decoders are imported when the first such file is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import IO, cast

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.formats.extra import need
from medkit.images.formats.pillow import decode_with
from medkit.images.formats.pillow_globals import as_pillow_comes
from medkit.images.formats.registry import Decoded, register_image_format
from medkit.images.limits import Limits

_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_ANY_CODEC = (b"mif1", b"msf1")
"""Brands of files (ISO 14496-12, 4.3; ISO 23008-12, B.4). The last ones leave open what codec it
is; the brands behind them say so."""


def _has_brand(head: bytes, wanted: tuple[bytes, ...]) -> bool:
    """Whether a file's first box says that it is of one of some brands."""
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4]), len(head))
    brands = [head[8:12], *(head[place : place + 4] for place in range(16, end - 3, 4))]
    if brands[0] not in _ANY_CODEC:
        return brands[0] in wanted
    return next((brand for brand in brands if brand in (*_AVIF, *_HEIC)), None) in wanted


@dataclass(frozen=True)
class FurtherFormat:
    """A format whose decoder is imported when it is needed.

    Attributes
    ----------
    name, extensions, rule, facts
        As every format's.
    known
        Tells its files by their first bytes.
    decoder
        Module and name of a function that decodes: it takes the file, and the
        limits of one image.
    """

    name: str
    extensions: tuple[str, ...]
    known: Callable[[bytes], bool]
    decoder: tuple[str, str]
    rule: str = ""
    facts: tuple[str, ...] = ()

    def accepts(self, head: bytes) -> bool:
        """Whether a file with these first bytes is of the format."""
        return self.known(head)

    def decode(self, file: BoundedFile, least_side: int | None, limits: Limits) -> Decoded:
        """Decode the first frame, upright and with 8 bits; see the input contract's rules."""
        module, function = self.decoder
        decode: Callable[[BoundedFile, Limits], Decoded] = getattr(import_module(module), function)
        return decode(file, limits)


def decode_gif(file: BoundedFile, limits: Limits) -> Decoded:
    """Decode a GIF's first frame."""
    from PIL import GifImagePlugin

    with as_pillow_comes():
        with GifImagePlugin.GifImageFile(_stream(file)) as image:
            box, size = image.dispose_extent, image.size
        if box != (0, 0, *size) and "transparency" not in image.info:
            # Pillow would fill the rest with whatever colour comes first.
            raise ImageError("a GIF whose first frame does not fill it; save it as PNG")
        file.seek(0)
        return decode_with(GifImagePlugin.GifImageFile, _stream(file), file, limits)


def decode_avif(file: BoundedFile, limits: Limits) -> Decoded:
    """Decode an AVIF's first frame."""
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        raise ImageError("an AVIF, which this build of Pillow does not decode; save it as PNG")
    _check_filled(file)
    with as_pillow_comes():
        return decode_with(AvifImagePlugin.AvifImageFile, _stream(file), file, limits)


def decode_heic(file: BoundedFile, limits: Limits) -> Decoded:
    """Decode a HEIC's primary picture."""
    need("read HEIC", "pillow_heif")
    from pillow_heif import HeifImageFile

    _check_filled(file)
    with as_pillow_comes():
        return decode_with(HeifImageFile, _stream(file), file, limits)


def _check_filled(file: BoundedFile) -> None:
    """Refuse a file whose pixels end in zeros, as a copy that was interrupted has them.

    No encoder of AVIF or HEIC writes so many, and the decoders fill up the
    picture without a word.
    """
    place = 0
    for _ in range(_MOST_BOXES):
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[:4])
        length = int.from_bytes(head[8:]) if length == 1 else length
        end = place + length if length else file.size
        if head[4:8] == b"mdat" and place + 16 + _FILLED_UP <= end <= file.size:
            file.seek(end - _FILLED_UP)
            if not any(file.read(_FILLED_UP)):
                raise ImageError("ends before its pixels do")
        if len(head) < 16 or not place + 8 <= end < file.size:
            break
        place = end
    file.seek(0)


def _stream(file: BoundedFile) -> IO[bytes]:
    return cast(IO[bytes], file)


_MOST_BOXES, _FILLED_UP = 100, 64
_HERE = __name__
_JPEG_2000 = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")

for _format in (
    FurtherFormat(
        "GIF",
        (".gif",),
        lambda head: head.startswith((b"GIF87a", b"GIF89a")),
        (_HERE, decode_gif.__name__),
    ),
    FurtherFormat(
        "JPEG 2000",
        (".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
        lambda head: head.startswith(_JPEG_2000),
        ("medkit.images.formats.jpeg2000", "decode"),
        rule="jpeg2000:pillow-else-imagecodecs",
    ),
    FurtherFormat(
        "AVIF", (".avif",), lambda head: _has_brand(head, _AVIF), (_HERE, decode_avif.__name__)
    ),
    FurtherFormat(
        "HEIC",
        (".heic", ".heif"),
        lambda head: _has_brand(head, _HEIC),
        (_HERE, decode_heic.__name__),
        rule="heic:pillow-heif",
    ),
    FurtherFormat(
        "JPEG XL",
        (".jxl",),
        lambda head: head.startswith(_JPEG_XL),
        ("medkit.images.formats.jpegxl", "decode"),
        rule="jpegxl:imagecodecs",
    ),
):
    register_image_format(_format)
