"""Reading of image files into the tensors that models take.

Training, calibration, parity and classification all read images here, so
that they see the same pixels. The input contract sets the rules; see
:mod:`medkit.images.contract`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile, bounded
from medkit.images.contract import InputContract
from medkit.images.formats.registry import HEAD, Decoded, ImageFormat, image_formats
from medkit.images.limits import DEFAULT_LIMITS, Clock, Limits
from medkit.images.pixels import image_to_tensor

LEAST_SIDE = 256
"""Pixels that a scaled decoder leaves on each side where no model is named: twice
the side of the tensors that the shipped models take."""

_QUOTATION = re.compile(r"(?:\s*\(\w+ )?\s*\bb?['\"]|\s*['\"]")
"""Where a decoder's message begins to quote what stands in a file."""

_LONGEST_REASON = 200


def read_image(
    source: Path | IO[bytes],
    limits: Limits = DEFAULT_LIMITS,
    clock: Clock | None = None,
    least_side: int | None = LEAST_SIDE,
) -> Decoded:
    """Decode an image to upright 8-bit ``L`` or ``RGB``.

    Parameters
    ----------
    source
        A path or a binary stream.
    limits
        Limits of one image.
    clock
        Clock of the work on the image; ``None`` starts one now.
    least_side
        Pixels that a decoder which can scale must leave on each side; ``None``
        does not scale. See :attr:`InputContract.least_side`.

    Raises
    ------
    ImageError
        If the file cannot be read or decoded, or costs too much. The message
        holds no path, and nothing of the file's metadata.
    """
    try:
        with bounded(source, limits, clock) as file:
            known = _format_for(file)
            return _checked(known, known.decode(file, least_side, limits))
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
        # Decoders let a damaged file surface as almost any exception.
        raise ImageError(f"cannot be decoded: {_reason(error)}") from error


def open_image(
    source: Path | IO[bytes],
    limits: Limits = DEFAULT_LIMITS,
    clock: Clock | None = None,
    least_side: int | None = LEAST_SIDE,
) -> Image.Image:
    """Return the pixels that :func:`read_image` decodes."""
    return read_image(source, limits, clock, least_side).pixels


def load_tensor(
    source: Path | IO[bytes], contract: InputContract, limits: Limits = DEFAULT_LIMITS
) -> NDArray[np.uint8]:
    """Read one image file as a model sees it.

    Parameters
    ----------
    source, limits
        As for :func:`read_image`.
    contract
        The model's.

    Returns
    -------
    numpy.ndarray
        uint8, shape ``contract.shape``.

    Raises
    ------
    ImageError
        In the same cases as :func:`read_image`.
    """
    image = open_image(source, limits, least_side=contract.least_side)
    return image_to_tensor(image, contract)


def _format_for(file: BoundedFile) -> ImageFormat:
    """Return the format that accepts a file's first bytes."""
    head = file.read(HEAD)
    file.seek(0)
    for known in image_formats():
        if known.accepts(head):
            return known
    names = ", ".join(known.name for known in image_formats())
    raise ImageError(f"not an image of an accepted format ({names})")


def _checked(known: ImageFormat, decoded: Decoded) -> Decoded:
    """Return what a format decoded, with no other facts than those that it lists."""
    pixels = decoded.pixels
    if pixels.mode not in ("L", "RGB") or not all(pixels.size):
        raise ImageError(
            f"the format {known.name} gave an image of mode {pixels.mode} and "
            f"{pixels.width}x{pixels.height} pixels"
        )
    facts = {
        name: text
        for name, text in decoded.facts.items()
        if name in known.facts and isinstance(text, str)
    }
    return replace(decoded, facts=facts)


def _reason(error: Exception) -> str:
    """Return what a decoder said, in one line, without what it quotes of the file."""
    if isinstance(error, LookupError):
        return type(error).__name__  # its text is what was looked up
    # An operating system's error names the file; its strerror does not.
    text = getattr(error, "strerror", None) or str(error)
    reason = " ".join(_QUOTATION.split(text)[0].split())
    return reason[:_LONGEST_REASON] or type(error).__name__
