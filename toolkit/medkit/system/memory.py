"""Settings of the C library for freed memory."""

from __future__ import annotations

import ctypes
import os

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_KEPT = 32 << 20
"""Bytes that stay with the process: the pixels of a few images in each worker."""


def keep_freed_memory() -> None:
    """Let the process keep what an image's pixels took for the next image.

    By default, glibc gives large blocks back to the system at once, which
    then clears and maps the same pages again for every image: a tenth of the
    time of a run. Where there is another C library, nothing is done.
    """
    if os.name != "posix":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _KEPT)
    mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT)
