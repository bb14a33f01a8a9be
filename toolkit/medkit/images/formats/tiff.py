"""TIFF: what Pillow decodes rightly by Pillow, everything else by tifffile."""

from __future__ import annotations

import logging
import math
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.depth import Declared
from medkit.images.formats import tiff_directory as tiff
from medkit.images.formats import tiff_layout as kinds
from medkit.images.formats.extra import need
from medkit.images.formats.jpeg2000_header import read_size
from medkit.images.formats.jpeg_complete import brings_all_pixels
from medkit.images.formats.jpeg_header import read_frame
from medkit.images.formats.pillow_globals import as_pillow_comes
from medkit.images.formats.pillow_limits import check_expansion, check_size
from medkit.images.formats.registry import Decoded, register_image_format
from medkit.images.formats.spliced import SplicedFile
from medkit.images.formats.tiff_directory import Tag, TiffDirectory
from medkit.images.formats.tiff_layout import TiffLayout
from medkit.images.limits import Limits
from medkit.images.notes import SEVERAL_FRAMES
from medkit.images.pixels import EightBits, to_eight_bits, turned
from medkit.images.samples import Samples
from medkit.system.quiet import silence_libtiff

silence_libtiff()
# A row says what is wrong with a file; the terminal need not say it too.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_FILLED_UP = 16
"""Zeros at the end of a strip, from which on its checksum is looked at."""

_SIXTEEN_BITS = 2.0**16 - 1

_FORMATS = {kinds.UNSIGNED: "unsigned", kinds.SIGNED: "signed", kinds.FLOAT: "float"}


@dataclass(frozen=True)
class TiffFormat:
    """TIFF and BigTIFF, the first page."""

    name: str = "TIFF"
    extensions: tuple[str, ...] = (".tif", ".tiff")
    rule: str = "tiff:pillow-where-right-else-tifffile"
    facts: tuple[str, ...] = ()

    def accepts(self, head: bytes) -> bool:
        """Whether Pillow's plug-in takes a file with these first bytes."""
        return head.startswith(tuple(TiffImagePlugin.PREFIXES))

    def decode(self, file: BoundedFile, least_side: int | None, limits: Limits) -> Decoded:
        """Decode the first page, upright and with 8 bits; see the input contract's rules."""
        directory = tiff.read_directory(file)
        layout = kinds.layout_of(directory)
        _check(layout, directory, file, limits)
        stream = tiff.with_tags(
            file, directory.order, _tags_for_decoders(directory, layout, file.size)
        )
        if layout.pillow_is_right:
            with as_pillow_comes():
                found = _by_pillow(stream, layout, directory)
        else:
            layout.check_for_tifffile()
            need(f"read a TIFF of {_described(layout)}", "tifffile", "imagecodecs")
            samples = _colours_of_palette(
                _by_tifffile(stream, file.size, layout), layout, directory
            )
            found = samples.to_eight_bits()
        upright = turned(found.pixels, directory.values(tiff.ORIENTATION, (1,))[0])
        upright.info = {}
        notes = (*found.notes, *(SEVERAL_FRAMES,) * directory.several)
        return Decoded(upright, layout.size, notes=notes)


def _check(layout: TiffLayout, directory: TiffDirectory, file: BoundedFile, limits: Limits) -> None:
    """Check what decoding costs, before anything is decoded."""
    stored = layout.samples * math.ceil(layout.bits / 8)
    stored = 3 if layout.photometric == kinds.PALETTE and stored < 3 else stored
    memory = stored if stored == 1 else stored + 3 if stored < 4 else stored + 5
    if not layout.pillow_is_right:
        memory = 3 * stored + 4  # tifffile holds the file's bytes and a strip beside the picture
    check_size(layout.size, limits, memory)
    layout.check_parts(file)
    whole = layout.whole_pixels
    check_expansion(stored * whole, memory * whole, file, limits)
    if layout.compression == kinds.JPEG:
        _check_jpegs(layout, directory, file)
    elif layout.compression == kinds.OLD_JPEG:
        _check_old_jpeg(layout, directory, file)
    elif layout.compression in kinds.DEFLATE:
        _check_deflated(layout, file)


def _check_jpegs(layout: TiffLayout, directory: TiffDirectory, file: BoundedFile) -> None:
    """Check that each strip or tile brings its pixels; libjpeg fills up what is missing."""
    tables = bytes(directory.values(tiff.JPEG_TABLES, ()))
    for number, offset in enumerate(layout.offsets):
        file.seek(offset)
        content = file.read(layout.length_of(number, file.size))
        whole = tables[:-2] + content[2:] if tables else content
        if not brings_all_pixels(whole, layout.part):
            raise ImageError("ends before its pixels do")


def _check_old_jpeg(layout: TiffLayout, directory: TiffDirectory, file: BoundedFile) -> None:
    """Check the same of an old JPEG, if it is a whole one as its tags say."""
    offset, length = directory.number(tiff.JPEG_OFFSET, 0), directory.number(tiff.JPEG_LENGTH, 0)
    if not offset or not length:
        return
    file.seek(offset)
    if not brings_all_pixels(file.read(length), layout.size):
        raise ImageError("ends before its pixels do")


def _check_deflated(layout: TiffLayout, file: BoundedFile) -> None:
    """Check the checksum of each strip or tile that seems to be filled up with zeros."""
    for number, offset in enumerate(layout.offsets):
        length = layout.length_of(number, file.size)
        file.seek(offset + max(length - _FILLED_UP, 0))
        if any(file.read(min(length, _FILLED_UP))):
            continue
        file.seek(offset)
        inflate = zlib.decompressobj()
        with suppress(zlib.error):
            # In pieces, so that what it unpacks to takes no memory.
            rest = file.read(length)
            while rest and not inflate.eof:
                inflate.decompress(rest, 1 << 20)
                rest = inflate.unconsumed_tail
        if not inflate.eof:
            raise ImageError("ends before its pixels do")


def _tags_for_decoders(directory: TiffDirectory, layout: TiffLayout, size: int) -> dict[int, Tag]:
    """Return the tags for a decoder that is to give samples as they are stored."""
    tags = dict(directory.tags)
    tags.pop(tiff.ORIENTATION, None)
    if len(layout.counts) == 1 == len(layout.offsets) and layout.compression != kinds.NONE:
        # Behind the file's own end, a decoder would read the directory for pixels.
        counts = tiff.TILE_COUNTS if layout.tiled else tiff.STRIP_COUNTS
        tags[counts] = Tag(4, (layout.length_of(0, size),))
    if layout.alpha == kinds.PREMULTIPLIED:
        # Pillow would divide the colours by alpha, and lose those of an alpha of zero.
        tags[tiff.EXTRA_SAMPLES] = Tag(3, (kinds.STRAIGHT, *layout.extra[1:]))
    colours = tags.get(tiff.COLOUR_MAP)
    if colours and colours.kind == 3 and max(colours.values) < 256:
        # Some writers store bytes, where 16 bits are meant.
        tags[tiff.COLOUR_MAP] = Tag(3, tuple(257 * value for value in colours.values))
    return tags


def _by_pillow(stream: SplicedFile, layout: TiffLayout, directory: TiffDirectory) -> EightBits:
    with TiffImagePlugin.TiffImageFile(cast(IO[bytes], stream)) as image:
        image.load()
        values = None
        if layout.alpha == kinds.PREMULTIPLIED and image.mode in ("LA", "RGBA"):
            values = np.asarray(image)
        elif (layout.sample_format, layout.bits) == (kinds.UNSIGNED, 32):
            values = np.asarray(image).view(np.uint32)[..., None]  # Pillow has no unsigned ones
        if values is None:
            return to_eight_bits(image, _declared(layout, directory))
        return _samples(values, layout, directory).to_eight_bits()


def _by_tifffile(stream: SplicedFile, size: int, layout: TiffLayout) -> NDArray[Any]:
    """Return the samples as tifffile reads them: shape (rows, columns, samples)."""
    import tifffile

    (width, height), (across, down) = layout.size, layout.part
    planes = layout.samples if layout.separate else 1
    together = layout.samples // planes
    columns = -(-width // across)
    parts = columns * -(-height // down)
    with tifffile.TiffFile(cast(Any, stream)) as opened:
        page = cast(tifffile.TiffPage, opened.pages.first)
        if page.dtype is None:
            raise ImageError(
                f"a TIFF of {_described(layout)}, which tifffile does not read; save it with 8 or "
                "16 bits"
            )
        values = np.empty((height, width, layout.samples), page.dtype)
        for number in range(planes * parts):
            plane, place = divmod(number, parts)
            top, left = place // columns * down, place % columns * across
            rows, wide = min(down, height - top), min(across, width - left)
            content = _content(stream, size, layout, number)
            segment = page.decode(content, number, jpegtables=page.jpegtables)[0]
            if segment is None or segment.shape[1] < rows or segment.shape[2] < wide:
                raise ImageError("has a strip or tile that is smaller than its size says")
            target = values[top : top + rows, left : left + wide, plane : plane + together]
            target[...] = segment[0, :rows, :wide]
    return values.view(np.uint8) if values.dtype == np.bool_ else values


def _content(stream: SplicedFile, size: int, layout: TiffLayout, number: int) -> bytes:
    """Return the bytes of a strip or tile, which are all there and unpack to no more than it."""
    across, down = layout.part
    stream.seek(layout.offsets[number])
    content = stream.read(layout.length_of(number, size))
    frame: tuple[int, int] | None = None
    if layout.compression == kinds.JPEG:
        found = read_frame(content)
        frame = (found.width, found.height) if found else None
    elif layout.compression in kinds.JPEG_2000:
        codestream = read_size(content)
        frame = (codestream.width, codestream.height) if codestream else None
    else:
        return content
    if frame is None or not (0 < frame[0] <= across and 0 < frame[1] <= down):
        raise ImageError(f"has a strip or tile of another size than {across:,} x {down:,} pixels")
    return content


def _colours_of_palette(
    values: NDArray[Any], layout: TiffLayout, directory: TiffDirectory
) -> Samples:
    """Return samples whose colours are no numbers of a palette."""
    if layout.photometric != kinds.PALETTE:
        return _samples(values, layout, directory)
    table = np.array(directory.values(tiff.COLOUR_MAP), np.uint16)
    if values.dtype.kind != "u" or table.size < 3 << layout.bits:
        raise ImageError("a TIFF whose palette has fewer colours than its samples can name")
    if table.max() > 255:
        table >>= 8
    colours = table[: 3 << layout.bits].reshape(3, -1).T.astype(np.uint8)[values[..., 0]]
    return Samples(colours, 3, declared=Declared((255.0,)))


def _samples(values: NDArray[Any], layout: TiffLayout, directory: TiffDirectory) -> Samples:
    return Samples(
        values,
        layout.colours,
        alpha=layout.alpha is not None,
        premultiplied=layout.alpha == kinds.PREMULTIPLIED,
        declared=_declared(layout, directory),
        zero_is_white=layout.photometric == kinds.ZERO_IS_WHITE,
    )


def _declared(layout: TiffLayout, directory: TiffDirectory) -> Declared:
    """Return what the file says of its samples."""
    signed = layout.sample_format == kinds.SIGNED
    # Above zero, it is the least sample that occurs, and not black.
    black = min(0.0, *(_number(directory, tag) for tag in (tiff.MIN_SAMPLE, tiff.S_MIN_SAMPLE)))
    if layout.sample_format != kinds.FLOAT and layout.bits <= 8:
        return Declared((2.0 ** (layout.bits - signed) - 1,), black)
    whites = [_number(directory, tag) for tag in (tiff.MAX_SAMPLE, tiff.S_MAX_SAMPLE)]
    if 8 < layout.bits < 16:
        whites.append(2.0**layout.bits - 1)
    # 16 and 32 bits are what any depth is stored in, and so is the largest value of 16. Only
    # where black must be known does it say something.
    container = _SIXTEEN_BITS // 2 if signed else _SIXTEEN_BITS
    if black < 0 or layout.photometric == kinds.ZERO_IS_WHITE:
        said = [white for white in whites if 0 < white <= _SIXTEEN_BITS]
    else:
        said = [white for white in whites if 0 < white < _SIXTEEN_BITS and white != container]
    return Declared(tuple(said)[:1], black)


def _number(directory: TiffDirectory, tag: int) -> float:
    """Return the first value of a tag; 0 if it is no number."""
    value = directory.values(tag, (0,))[0]
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _described(layout: TiffLayout) -> str:
    """Return what is unusual about a TIFF, in words."""
    described = f"{layout.samples} x {layout.bits}-bit {_FORMATS[layout.sample_format]} samples"
    if layout.separate:
        described += " in separate planes"
    return described


register_image_format(TiffFormat())
