"""PNG of 16 bits with several samples for each pixel, or with a colour that is transparent.

Pillow undoes compression, filters and interlacing of such a PNG, and then
keeps the high byte of each sample. Read by other names of the same samples,
it gives the low bytes as well.
"""

from __future__ import annotations

from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import PngImagePlugin

from medkit.images.bounded_file import BoundedFile
from medkit.images.depth import Declared
from medkit.images.formats.pillow import orientation_of
from medkit.images.formats.pillow_limits import check_expansion, check_size
from medkit.images.formats.png_chunks import PngChunks
from medkit.images.formats.registry import Decoded
from medkit.images.limits import Limits
from medkit.images.pixels import turned
from medkit.images.samples import Samples

_READ_AS = {
    (1, True): (("RGBA", "RGBA"),),
    (3, False): (("RGB", "RGB;16B"), ("RGB", "RGB;16L")),
    (3, True): (("RGBA", "RGBA;16B"), ("RGBA", "RGBA;16L")),
}
"""Modes and raw modes by which the bytes of such samples are read, by colours and alpha: all four
at once, or the high bytes and then the low ones."""

_OPAQUE = 2**16 - 1


def is_deep(chunks: PngChunks) -> bool:
    """Whether a PNG has samples that Pillow's own modes do not hold."""
    return chunks.deep and (chunks.colours > 1 or chunks.alpha or bool(chunks.colour_key))


def decode_deep(
    stream: IO[bytes], chunks: PngChunks, declared: Declared, file: BoundedFile, limits: Limits
) -> Decoded:
    """Decode such a PNG; see the input contract's rules.

    Parameters
    ----------
    stream, chunks
        What matters of the file, and what it says.
    declared
        What the file says of its samples.
    file, limits
        The file, and limits of one image.
    """
    with PngImagePlugin.PngImageFile(stream) as image:
        stored = 2 * (chunks.colours + max(chunks.alpha, bool(chunks.colour_key)))
        size, memory = image.size, 3 * stored + 4
        check_size(size, limits, memory)
        check_expansion(stored * size[0] * size[1], memory * size[0] * size[1], file, limits)
        orientation = orientation_of(image)
    kind = chunks.colours, chunks.alpha
    if kind in _READ_AS:
        values = _joined([_bytes(stream, *names) for names in _READ_AS[kind]])
    else:  # grey, which Pillow does hold
        stream.seek(0)
        with PngImagePlugin.PngImageFile(stream) as image:
            values = np.asarray(image)[..., None].astype(np.uint16)
    if chunks.colour_key:
        opaque = (values != np.array(chunks.colour_key, np.uint16)).any(axis=2, keepdims=True)
        values = np.concatenate([values, opaque * np.uint16(_OPAQUE)], axis=2, dtype=np.uint16)
    found = Samples(
        values,
        chunks.colours,
        alpha=chunks.alpha or bool(chunks.colour_key),
        declared=declared,
    ).to_eight_bits()
    return Decoded(turned(found.pixels, orientation), size, notes=found.notes)


def _bytes(stream: IO[bytes], mode: str, raw_mode: str) -> NDArray[np.uint8]:
    """Decode a PNG whose samples are read as another kind of as many bits."""
    stream.seek(0)
    with PngImagePlugin.PngImageFile(stream) as image:
        image._mode = mode
        image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        image.load()
        return np.asarray(image)


def _joined(passes: list[NDArray[np.uint8]]) -> NDArray[np.uint16]:
    """Return samples of high and low bytes."""
    if len(passes) == 1:
        return np.ascontiguousarray(passes[0]).view(">u2").astype(np.uint16)
    return passes[0].astype(np.uint16) * np.uint16(256) + passes[1]
