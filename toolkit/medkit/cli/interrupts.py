"""Ctrl-C while the program starts, when nothing is begun that could be ended well."""

from __future__ import annotations

import os
import signal
from typing import Any

from medkit.cli.status import INTERRUPTED


def exit_at_interrupt() -> None:
    """Let Ctrl-C end the process at once, with one line, until :func:`interrupt_as_usual`.

    A ``KeyboardInterrupt`` in an import can pass through foreign code that
    swallows it or shows a traceback. A process that ignores Ctrl-C still does.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


def interrupt_as_usual() -> None:
    """Let Ctrl-C raise ``KeyboardInterrupt`` again."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit(signum: int, frame: Any) -> None:
    os.write(2, b"medkit: interrupted\n")
    os._exit(INTERRUPTED)
