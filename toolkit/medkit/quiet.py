"""Keeps native libraries' start-up lines from a person's terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Send file descriptor 2 nowhere for a while.

    LiteRT and TensorFlow print lines such as "Created TensorFlow Lite XNNPACK
    delegate for CPU" from native code and have no switch for them. What goes
    wrong still arrives as a Python exception.
    """
    try:
        kept = os.dup(2)
    except OSError:  # the caller runs without a standard error: nothing to keep quiet
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
