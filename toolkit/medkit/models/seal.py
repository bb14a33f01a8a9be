"""The seal of a model file: the SHA-256 of all before it, at its very end.

A manifest knows the hash of every file in its bundle, but a file that was
copied to a device is alone. Its seal tells whether it is whole: runtimes
compute nonsense from a flipped bit, or crash. Readers of TFLite files do not
look behind the end; to readers of ONNX files it is one more metadata property.
A seal is no signature: it tells damage, and not who made a file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from medkit.models.formats import format_of

_DIGITS = 64

_BLOCK = 1 << 20


def sealed(content: bytes, start: bytes) -> bytes:
    """Return the bytes of a model file with its seal, which begins with ``start``."""
    return content + start + hashlib.sha256(content).hexdigest().encode()


def is_sealed(path: Path) -> bool:
    """Whether a file ends with a seal."""
    return _read_seal(path) is not None


def is_whole(path: Path) -> bool:
    """Whether a file has the seal of what stands before it."""
    stored = _read_seal(path)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        left = path.stat().st_size - len(format_of(path).seal) - _DIGITS
        while left > 0 and (block := stream.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
    return stored == digest.hexdigest().encode()


def _read_seal(path: Path) -> bytes | None:
    start = format_of(path).seal
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - len(start) - _DIGITS, 0))
        end = stream.read()
    return end.removeprefix(start) if end.startswith(start) else None
