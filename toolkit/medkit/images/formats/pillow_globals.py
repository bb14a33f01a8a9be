"""Pillow's settings that are one for the whole process, as medkit needs them.

Another package may have told Pillow to read half files, to refuse large ones,
to read by a decoder of its own, or to make errors of its warnings. While an
image is decoded, the settings are those that Pillow comes with; afterwards
they are what they were.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, cast

from PIL import BmpImagePlugin, _imaging

_MOST_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""Pillow's own limit, before anybody changes it."""

_PILLOW = r"PIL\..*Plugin"
"""Modules whose warnings are not shown: the row says what is wrong."""


def _decoders(found: dict[str, Any]) -> dict[str, Any]:
    """Return decoders in Python, without those that took the place of one in C or of BMP's."""
    kept = {name: one for name, one in found.items() if not hasattr(_imaging, f"{name}_decoder")}
    return {**kept, "bmp_rle": BmpImagePlugin.BmpRleDecoder}


_SETTINGS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("PIL.ImageFile", "LOAD_TRUNCATED_IMAGES", lambda _: False),
    ("PIL.ImageFile", "MAXBLOCK", lambda _: 1 << 16),
    ("PIL.Image", "MAX_IMAGE_PIXELS", lambda _: _MOST_PIXELS),
    ("PIL.Image", "DECODERS", _decoders),
    ("PIL.TiffImagePlugin", "READ_LIBTIFF", lambda _: False),
    ("PIL.GifImagePlugin", "LOADING_STRATEGY", lambda _: 0),
    ("PIL.AvifImagePlugin", "DECODE_CODEC_CHOICE", lambda _: "auto"),
)
"""Module, name, and what becomes of its value. A module that is not imported has its own values
when it is."""

_lock = Lock()
_inside = 0
_before: list[tuple[str, str, Any]] = []


@contextmanager
def as_pillow_comes() -> Iterator[None]:
    """Undo what others have set, for as long as any thread is in the block."""
    global _inside  # noqa: PLW0603 - the settings are the process's own
    with _lock:
        if _inside == 0:
            _enter()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _leave()


def _enter() -> None:
    for module, name, wanted in _SETTINGS:
        if module in sys.modules:
            value = getattr(sys.modules[module], name)
            _before.append((module, name, value))
            setattr(sys.modules[module], name, wanted(value))
    # Pillow warns of each damaged tag of EXIF, and there may be thousands.
    warnings.filterwarnings("ignore", module=_PILLOW)


def _leave() -> None:
    while _before:
        module, name, value = _before.pop()
        setattr(sys.modules[module], name, value)
    filters = cast(list[Any], warnings.filters)
    ours = next((one for one in filters if getattr(one[3], "pattern", one[3]) == _PILLOW), None)
    if ours is not None:
        filters.remove(ours)
