"""Telling an image by its first bytes, where its name does not say that it is one."""

from __future__ import annotations

import os
import stat

from medkit.images.bounded_file import open_without_waiting
from medkit.images.formats.registry import HEAD, image_formats


def may_be_image(path: str) -> bool:
    """Whether a file's first bytes are those of an accepted image.

    Parameters
    ----------
    path
        A file. What has become a pipe or a device meanwhile is not waited for.

    Returns
    -------
    bool
        Also true where a file cannot be read, or a format fails: nobody
        knows that it is no image, and reading it will tell the reason.
    """
    try:
        descriptor = open_without_waiting(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return False
            head = os.read(descriptor, HEAD)
        finally:
            os.close(descriptor)
        return begins_as_image(head)
    except Exception:  # of a plug-in's format as well
        return True


def begins_as_image(head: bytes) -> bool:
    """Whether some bytes, of which the first :data:`HEAD` count, begin an accepted image."""
    return any(known.accepts(head[:HEAD]) for known in image_formats())
