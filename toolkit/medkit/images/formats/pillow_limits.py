"""Limits for Pillow: it must not decode bombs, floods and files that end too early.

These rules have no option. Only hostile or broken files reach them. Files
that a camera, a scanner or an editor writes stay far below.
"""

from __future__ import annotations

import re

from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.limits import Limits

_SMALL_MEMORY = 64 << 20
"""Bytes of memory that any file may unpack to. A file with enough pixels may unpack to more."""

_MOST_PASSES = 1e9
"""Scans of a JPEG times its pixels, above some twenty scans: a few seconds' worth."""

_TILE_WIDTH, _TILE_LENGTH = TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH
_WHOLE_NUMBERS = (3, 4, 16)  # TIFF's types SHORT, LONG and LONG8
_USUAL_TILE = 1024
"""Side of a TIFF's tile that may be larger than the picture; a larger tile may not."""

_LONGEST_SIDE = 100_000
"""Pixels: what Pillow keeps to shrink a side grows with it, and takes more than the picture."""

_RUN_LENGTH_PIXELS = 1 << 22
"""Pixels of a run-length encoded BMP, which Pillow decodes in Python: a second's worth."""

_MOST_SCANS = 100
"""Scans of a JPEG, as many as libtiff allows by default; usual encoders write up to ten. Each one
costs a pass over all the pixels, and may take a dozen bytes."""

_FEWEST_BITS = 2
"""Bits of a block of 8 x 8 pixels in a JPEG: one for its mean and one for there being no more; half
of that in a progressive one. libjpeg fills up with grey where a file ends too early."""

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
"""What ends the data of a JPEG's scan: any marker but the ones without a segment."""

_MOST_STRIPS = 1 << 18
"""Strips or tiles of a TIFF: Pillow makes some objects for each before anything is decoded."""

_BYTES_PER_PIXEL = {"1": 1, "L": 1, "P": 3, "RGB": 3, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Of an image's samples, by Pillow's modes, those of a palette as colours; 4 for every other."""

_MEMORY_PER_PIXEL = {"1": 1, "L": 1, "P": 6, "I;16": 5, "I;16B": 5, "I;16L": 5, "RGB": 6}
"""Bytes that decoding takes at its peak, by the same modes; 9 for every other. Measured: see
docs/reliability.md."""

_WEBP_MEMORY = 18
"""The same for WebP of any mode: its decoder keeps two pictures beside Pillow's."""


class BoundedTiff(TiffImagePlugin.TiffImageFile):
    """Pillow's reader of TIFF files, within limits of what it does before it knows a size."""

    def _setup(self) -> None:
        for tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS):
            # The type is not known, so a number may have 2, 4 or 8 bytes.
            if len(self.tag_v2._tagdata.get(tag, b"")) > 4 * _MOST_STRIPS:
                raise ImageError("has too many strips or tiles")
        super()._setup()

    def check_parts(self, file: BoundedFile) -> int:
        """Refuse parts that share their bytes, and return the pixels of all parts together.

        libtiff, which reads them, cannot be interrupted.
        """
        tags, is_tiled = self.tag_v2, TiffImagePlugin.TILEOFFSETS in self.tag_v2
        counts = TiffImagePlugin.TILEBYTECOUNTS if is_tiled else TiffImagePlugin.STRIPBYTECOUNTS
        offsets = TiffImagePlugin.TILEOFFSETS if is_tiled else TiffImagePlugin.STRIPOFFSETS
        parts = len(tags.get(offsets, ()))
        # Pillow itself reads what is not compressed, from a file that counts.
        if parts > 1 and self.use_load_libtiff:
            if tags.tagtype.get(counts) not in _WHOLE_NUMBERS or len(tags[counts]) != parts:
                raise ImageError("does not tell how long its strips or tiles are")
            if sum(tags[counts]) > 2 * file.size:
                raise ImageError("refers to the same bytes too often")
        if not is_tiled:
            return self.width * self.height
        pixels = 1
        for side, tag in ((self.width, _TILE_WIDTH), (self.height, _TILE_LENGTH)):
            tile = tags.get(tag)
            if not isinstance(tile, int) or not 0 < tile <= max(side + 15, _USUAL_TILE):
                raise ImageError(f"has tiles of {tile} pixels for a side of {side:,}")
            pixels *= -(-side // tile) * tile
        return pixels


def check_pixels(image: Image.Image, limits: Limits) -> None:
    """Raise :class:`ImageError` if the header of an image promises too many pixels."""
    # Its decoder takes more than twice the memory of any other.
    weight = 2 if image.format == "WEBP" else 1
    pixels = image.width * image.height * weight
    if pixels > limits.megapixels * 1e6 or max(image.size) > _LONGEST_SIDE:
        raise ImageError(
            f"has {image.width:,} x {image.height:,} pixels; accepted: up to "
            f"{limits.megapixels / weight:,g} million, and {_LONGEST_SIDE:,} on a side"
        )


def check_content(
    image: ImageFile.ImageFile, file: BoundedFile, full: tuple[int, int], limits: Limits
) -> None:
    """Refuse a small file of many pixels, or of many passes over them.

    Parameters
    ----------
    image
        Not decoded yet, at the scale that it will be.
    file
        File of the image; its position is kept.
    full
        Width and height of a JPEG before scaling.
    limits
        Limits of one image.

    Raises
    ------
    ImageError
        If it is one: a bomb, or a JPEG that ends before its pixels do.
    """
    pixels = image.width * image.height
    stored = pixels * _BYTES_PER_PIXEL.get(image.mode, 4)
    is_webp = image.format == "WEBP"
    memory = pixels * (_WEBP_MEMORY if is_webp else _MEMORY_PER_PIXEL.get(image.mode, 9))
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        coefficients = _check_jpeg(image, file, full)
        stored, memory = stored + coefficients, memory + coefficients
    elif isinstance(image, BoundedTiff):
        whole = image.check_parts(file)
        stored, memory = stored * whole // pixels, memory * whole // pixels
    elif pixels > _RUN_LENGTH_PIXELS and any(tile.codec_name == "bmp_rle" for tile in image.tile):
        raise ImageError(f"has {pixels:,} run-length encoded pixels; accepted: BMP without")
    if memory > _SMALL_MEMORY and stored > limits.expansion * file.size:
        raise ImageError(
            f"is empty or a decompression bomb: {stored / 1e6:,.0f} megabytes of pixels in a file "
            f"of {file.size / 1e6:,.3f}; accepted: up to {limits.expansion:g} times its size"
        )


def _check_jpeg(
    image: JpegImagePlugin.JpegImageFile, file: BoundedFile, full: tuple[int, int]
) -> int:
    """Check that a JPEG is complete and in few scans; return the bytes kept between scans."""
    pixels, several_scans = full[0] * full[1], _has_several_scans(image, file)
    if pixels / 64 * _FEWEST_BITS / (2 if several_scans else 1) > 8 * file.size:
        raise ImageError(f"has too few bytes for {full[0]:,} x {full[1]:,} pixels")
    if not several_scans:
        return 0
    scans = _count_scans(file)
    if scans > _MOST_SCANS or (scans > 20 and scans * pixels > _MOST_PASSES):
        raise ImageError(f"has too many scans; accepted: up to 20, or {_MOST_SCANS} if it is small")
    # Coefficients of 16 bits, as many for each component as its sampling says.
    samplings = [horizontal * vertical for _, horizontal, vertical, _ in image.layer]
    return 2 * pixels * sum(samplings) // max(*samplings, 1)


def _has_several_scans(image: JpegImagePlugin.JpegImageFile, file: BoundedFile) -> bool:
    """Whether more than one scan follows; Pillow has read up to the first one's data."""
    header = bytes([0xFF, 0xDA, 0, 6 + 2 * image.layers, image.layers])
    position = file.tell()
    file.seek(max(position - len(header) - 2 * image.layers - 3, 0))
    complete = file.read(len(header)) == header
    file.seek(position)
    return "progressive" in image.info or not complete


def _count_scans(file: BoundedFile) -> int:
    """Count scans as libjpeg finds them, up to one more than are accepted."""
    position = file.tell()
    content = file.read()
    file.seek(position)
    scans, end = 1, 0
    while scans <= _MOST_SCANS and (found := _MARKER.search(content, end)):
        marker, end = found.group()[1], found.end()
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        end += int.from_bytes(content[end : end + 2])
    return scans
