"""One case of fuzzing the way from a file to a tensor, and what cases begin with."""

from __future__ import annotations

import io
import struct
import zlib

import hostile
from medkit.batch.routing import ByColour, Route
from medkit.errors import ImageError
from medkit.images.limits import Limits
from medkit.images.reading import open_image
from medkit.tasks import PNEUMONIA, SKIN, TASKS

LIMITS = Limits(megapixels=0.1, seconds=3, megabytes=1)
"""Smaller than for users, so that more cases are tried; the rules are the same."""

BY_COLOUR = ByColour(*(Route(task.name, task.contract) for task in (PNEUMONIA, SKIN)))

LONGEST = 1 << 14  # bytes of a case


def check(content: bytes) -> bool:
    """Check that a file gives a tensor, or an error of one short line; return which."""
    try:
        routed = BY_COLOUR.choose(open_image(io.BytesIO(content), LIMITS))
    except ImageError as error:
        text = str(error)
        assert text.isprintable(), repr(text)
        assert 0 < len(text) < 300, repr(text)
        return False
    assert routed.tensor.shape == (128, 128, TASKS[routed.task].channels)
    assert routed.tensor.dtype == "uint8"
    return True


def seeds() -> dict[str, bytes]:
    """Return the short files of the hostile corpus, by a name for each."""
    short = [file for file in hostile.corpus() if len(file.content) < LONGEST]
    return {file.name.replace("/", "-"): file.content for file in short}


def with_checksums(content: bytes) -> bytes:
    """Return a PNG whose chunks have the checksums of what they hold."""
    parts, place = [content[:8]], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        length = min(length, len(content) - place - 12)
        body = content[place + 4 : place + 8 + length]
        parts.append(struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body)))
        place += 12 + length
    return b"".join(parts)
