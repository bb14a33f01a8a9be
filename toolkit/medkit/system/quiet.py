"""Keeps native libraries' own lines from a person's terminal."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

import PIL

_lock = Lock()
_inside, _kept = 0, -1  # how many threads are in the block, and the descriptor of the terminal


@contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Send file descriptor 2 nowhere for a while.

    LiteRT and TensorFlow print lines such as "Created TensorFlow Lite XNNPACK
    delegate for CPU" from native code and have no switch for them. What goes
    wrong still arrives as a Python exception. Several threads may be in the
    block; the last to leave opens the descriptor again.
    """
    with _lock:
        _enter()
    try:
        yield
    finally:
        with _lock:
            _leave()


def _enter() -> None:
    """Close the descriptor for the first of the threads that load a model at the same time."""
    global _inside, _kept  # noqa: PLW0603 - a descriptor is the process's own
    if _inside == 0:
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            _kept = os.dup(2)
        except OSError:  # the caller runs without a standard error: nothing to keep quiet
            _kept = -1
        else:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
    _inside += 1


def _leave() -> None:
    global _inside, _kept  # noqa: PLW0603
    _inside -= 1
    if _inside == 0 and _kept >= 0:
        os.dup2(_kept, 2)
        os.close(_kept)
        _kept = -1


def silence_libtiff() -> None:
    """Stop libtiff from printing what it finds wrong with a file.

    It has a switch for that, which Pillow does not pass on. Wheels of Pillow
    bring libtiff as a file of its own; where it is elsewhere, it goes on.
    """
    folder = Path(PIL.__file__).parent
    for path in (*folder.glob("../pillow.libs/libtiff*"), *folder.glob(".dylibs/libtiff*")):
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(path))
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                switch = getattr(library, name)
                switch.argtypes, switch.restype = [ctypes.c_void_p], ctypes.c_void_p
                switch(None)
