"""Pillow's settings that are one for the whole process, as medkit needs them.

Another package may have told Pillow to read half files, or to refuse large
ones. While an image is decoded, the settings are those that Pillow comes with;
afterwards they are what they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from PIL import Image, ImageFile

_MOST_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""Pillow's own limit, before anybody changes it."""

_lock = Lock()
_inside = 0
_before: tuple[bool, int | None] = (False, _MOST_PIXELS)


@contextmanager
def as_pillow_comes() -> Iterator[None]:
    """Undo what others have set, for as long as any thread is in the block."""
    global _inside, _before  # noqa: PLW0603 - the settings are the process's own
    with _lock:
        if _inside == 0:
            _before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, _MOST_PIXELS
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = _before
