"""Limits for Pillow: it must not decode bombs, floods and files that end too early.

These rules have no option. Only hostile or broken files reach them. Files
that a camera, a scanner or an editor writes stay far below.
"""

from __future__ import annotations

from typing import IO

from PIL import Image, ImageFile, JpegImagePlugin

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.formats.jpeg_end import MARKER
from medkit.images.formats.jpeg_header import END_OF_IMAGE, START_OF_SCAN
from medkit.images.limits import Limits

_SMALL_MEMORY = 64 << 20
"""Bytes of memory that any file may unpack to. A file with enough pixels may unpack to more."""

_MOST_PASSES = 1e9
"""Scans of a JPEG times its pixels, above some twenty scans: a few seconds' worth."""

_LONGEST_SIDE = 100_000
"""Pixels: what Pillow keeps to shrink a side grows with it, and takes more than the picture."""

_RUN_LENGTH_PIXELS = 1 << 22
"""Pixels of a run-length encoded BMP, which Pillow decodes in Python: a second's worth."""

MOST_SCANS = 100
"""Scans of a JPEG, as many as libtiff allows by default; usual encoders write up to ten. Each one
costs a pass over all the pixels, and may take a dozen bytes."""

_FEWEST_BITS = 2
"""Bits of a block of 8 x 8 pixels in a JPEG: one for its mean and one for there being no more; half
of that in a progressive one. libjpeg fills up with grey where a file ends too early."""

_BYTES_PER_PIXEL = {"1": 1, "L": 1, "P": 3, "RGB": 3, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Of an image's samples, by Pillow's modes, those of a palette as colours; 4 for every other."""

_MEMORY_PER_PIXEL = {"1": 1, "L": 1, "P": 6, "I;16": 5, "I;16B": 5, "I;16L": 5, "RGB": 6}
"""Bytes that decoding takes at its peak, by the same modes; 9 for every other. Measured: see
docs/reliability.md."""

_USUAL_MEMORY = 9
"""The same, at most, for any mode."""

_FORMAT_MEMORY = {"WEBP": 18, "AVIF": 18, "HEIF": 18, "JPEG2000": 28}
"""The same for formats whose decoders keep two pictures beside Pillow's, or each sample in 4 bytes
beside them."""


def check_size(size: tuple[int, int], limits: Limits, memory: float = _USUAL_MEMORY) -> None:
    """Check the size that the header of an image promises.

    Parameters
    ----------
    size
        Width and height in pixels.
    limits
        Limits of one image.
    memory
        Bytes that decoding takes for each pixel. The more they are, the fewer
        pixels are accepted.

    Raises
    ------
    ImageError
        If there are too many.
    """
    (width, height), weight = size, max(memory / _USUAL_MEMORY, 1)
    if width * height * weight > limits.megapixels * 1e6 or max(size) > _LONGEST_SIDE:
        raise ImageError(
            f"has {width:,} x {height:,} pixels; accepted: up to "
            f"{limits.megapixels / weight:,.4g} million, and {_LONGEST_SIDE:,} on a side"
        )


def check_expansion(stored: float, memory: float, file: BoundedFile, limits: Limits) -> None:
    """Refuse a small file that unpacks to many bytes.

    Parameters
    ----------
    stored, memory
        Bytes of all samples, and bytes that decoding takes at its peak.
    file, limits
        The file, and limits of one image.
    """
    if memory > _SMALL_MEMORY and stored > limits.expansion * file.size:
        raise ImageError(
            f"is empty or a decompression bomb: {stored / 1e6:,.0f} megabytes of pixels in a file "
            f"of {file.size / 1e6:,.3f}; accepted: up to {limits.expansion:g} times its size"
        )


def check_pixels(image: Image.Image, limits: Limits) -> None:
    """Raise :class:`ImageError` if the header of an image promises too many pixels."""
    check_size(image.size, limits, _FORMAT_MEMORY.get(str(image.format), _USUAL_MEMORY))


def check_content(
    image: ImageFile.ImageFile,
    stream: IO[bytes],
    file: BoundedFile,
    full: tuple[int, int],
    limits: Limits,
) -> None:
    """Refuse a small file of many pixels, or of many passes over them.

    Parameters
    ----------
    image
        Not decoded yet, at the scale that it will be.
    stream
        What matters of the file; its position is kept.
    file
        File of the image.
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
    usual = _MEMORY_PER_PIXEL.get(image.mode, _USUAL_MEMORY)
    memory = pixels * _FORMAT_MEMORY.get(str(image.format), usual)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        coefficients = _check_jpeg(image, stream, file.size, full)
        stored, memory = stored + coefficients, memory + coefficients
    elif pixels > _RUN_LENGTH_PIXELS and any(tile.codec_name == "bmp_rle" for tile in image.tile):
        raise ImageError(f"has {pixels:,} run-length encoded pixels; accepted: BMP without")
    check_expansion(stored, memory, file, limits)


def _check_jpeg(
    image: JpegImagePlugin.JpegImageFile, stream: IO[bytes], size: int, full: tuple[int, int]
) -> int:
    """Check that a JPEG is complete and in few scans; return the bytes kept between scans."""
    pixels, several_scans = full[0] * full[1], _has_several_scans(image, stream)
    if pixels / 64 * _FEWEST_BITS / (2 if several_scans else 1) > 8 * size:
        raise ImageError(f"has too few bytes for {full[0]:,} x {full[1]:,} pixels")
    if not several_scans:
        return 0
    scans = _count_scans(stream)
    if scans > MOST_SCANS or (scans > 20 and scans * pixels > _MOST_PASSES):
        raise ImageError(f"has too many scans; accepted: up to 20, or {MOST_SCANS} if it is small")
    # Coefficients of 16 bits, as many for each component as its sampling says.
    samplings = [horizontal * vertical for _, horizontal, vertical, _ in image.layer]
    return 2 * pixels * sum(samplings) // max(*samplings, 1)


def _has_several_scans(image: JpegImagePlugin.JpegImageFile, stream: IO[bytes]) -> bool:
    """Whether more than one scan follows; Pillow has read up to the first one's data."""
    header = bytes([0xFF, 0xDA, 0, 6 + 2 * image.layers, image.layers])
    position = stream.tell()
    stream.seek(max(position - len(header) - 2 * image.layers - 3, 0))
    complete = stream.read(len(header)) == header
    stream.seek(position)
    return "progressive" in image.info or not complete


def _count_scans(stream: IO[bytes]) -> int:
    """Count scans as libjpeg finds them, up to one more than are accepted."""
    position = stream.tell()
    content = stream.read()
    stream.seek(position)
    scans, end = 1, 0
    while scans <= MOST_SCANS and (found := MARKER.search(content, end)):
        marker, end = found.group()[1], found.end()
        if marker == END_OF_IMAGE:
            break
        scans += marker == START_OF_SCAN
        end += int.from_bytes(content[end : end + 2])
    return scans
