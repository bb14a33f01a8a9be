"""JPEG of more than 8 bits, and of the lossless process, decoded by imagecodecs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.depth import NOTHING_DECLARED, Declared
from medkit.images.formats.extra import need
from medkit.images.formats.jpeg_header import JpegFrame
from medkit.images.formats.pillow_limits import check_expansion, check_size
from medkit.images.limits import Limits
from medkit.images.pixels import EightBits
from medkit.images.samples import Samples

_COEFFICIENTS = 4
"""Bytes that libjpeg keeps for each sample beside the decoded one."""


def is_deep(frame: JpegFrame) -> bool:
    """Whether a frame is none of the kind that Pillow decodes."""
    return frame.precision != 8 or frame.lossless


def decode_deep(content: bytes, frame: JpegFrame, file: BoundedFile, limits: Limits) -> EightBits:
    """Decode a JPEG to 8 bits, by the input contract's rules; see :func:`read_deep`."""
    return Samples(
        read_deep(content, frame, file, limits),
        frame.components,
        declared=declared_by(frame.precision),
    ).to_eight_bits()


def read_deep(
    content: bytes, frame: JpegFrame, file: BoundedFile, limits: Limits
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode a JPEG to its samples, shape (rows, columns, samples).

    Parameters
    ----------
    content
        The JPEG, with its end marker.
    frame
        What its header says.
    file, limits
        The file that it is in, and limits of one image.

    Raises
    ------
    ImageError
        If it cannot be decoded, costs too much, or the extra is not installed.
    """
    kind = f"{frame.precision}-bit{' lossless' * frame.lossless} JPEG"
    if frame.components not in (1, 3):
        raise ImageError(f"a {kind} of {frame.components} colours; accepted: grey and RGB")
    stored = frame.components * (1 if frame.precision <= 8 else 2)
    memory = 2 * stored + _COEFFICIENTS * frame.components
    size = frame.width, frame.height
    check_size(size, limits, memory)
    pixels = frame.width * frame.height
    check_expansion(stored * pixels, memory * pixels, file, limits)
    need(f"read a {kind}", "imagecodecs")
    import imagecodecs

    values = imagecodecs.jpeg8_decode(content)
    if values.shape[:2] != (frame.height, frame.width):
        raise ImageError(f"a {kind} of another size than its header says")
    return values.reshape(*values.shape[:2], -1)


def declared_by(precision: int) -> Declared:
    """Return what it says of samples that a file gives them so many bits."""
    # 16 bits are what any depth is stored in.
    return Declared((2.0**precision - 1,)) if precision < 16 else NOTHING_DECLARED
