"""Ctrl-C while the program starts, when nothing is begun that could be ended well.

This is imported before anything else. Importing :mod:`signal` would take three
milliseconds in which Ctrl-C shows a traceback; the module behind it is built in.
"""

from __future__ import annotations

import _signal as signal
import os

from medkit.cli.status import INTERRUPTED


def exit_at_interrupt() -> None:
    """Let Ctrl-C end the process at once, with one line, until :func:`interrupt_as_usual`.

    A ``KeyboardInterrupt`` in an import can pass through foreign code that
    swallows it or shows a traceback. A process that ignores Ctrl-C still does.
    A command calls :func:`interrupt_as_usual` when its libraries are there and
    its work begins.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


def interrupt_as_usual() -> None:
    """Let Ctrl-C raise ``KeyboardInterrupt`` again."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit(signum: int, frame: object) -> None:
    os.write(2, b"medkit: interrupted\n")
    os._exit(INTERRUPTED)
