"""Progress that is no bar: steps with a spinner, and plain lines where no terminal is.

A log, a pipe and a dumb terminal get a line at each step, and one every
:data:`EVERY` seconds, so that a long run under ``nohup`` or in CI does not look dead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from medkit.cli.console import duration, stderr_console, visible
from medkit.cli.interrupts import interrupt_as_usual
from medkit.wording import Remark

EVERY = 30.0
"""Seconds between two lines about the same step."""


class Heartbeat:
    """Calls a function every :data:`EVERY` seconds, in a thread of its own, while it is entered.

    Parameters
    ----------
    tell
        The function.
    ended
        The event that it waits for; a test gives one that does not take time.
    """

    def __init__(self, tell: Callable[[], None], ended: Event | None = None) -> None:
        self._tell, self._ended = tell, ended or Event()
        self._thread = Thread(target=self._beat, name="progress lines", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(EVERY):
            self._tell()


class Steps:
    """Shows the steps of a command: in a spinner on a terminal, else as lines.

    Parameters
    ----------
    console
        The console; by default that of standard error.
    clock
        Seconds since any moment.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._clock = console or stderr_console(), clock
        self._step, self._begun = "starting", clock()
        self._shown: Status | Heartbeat = (
            self._console.status(self._step)
            if self._console.is_interactive
            else Heartbeat(self.tell)
        )

    def __enter__(self) -> Callable[[str], None]:
        interrupt_as_usual()
        self._shown.__enter__()
        return self.note

    def __exit__(self, *exception: object) -> None:
        self._shown.__exit__(None, None, None)

    def note(self, text: str) -> None:
        """Show the step that begins; or a remark, which stays on the terminal."""
        if isinstance(text, Remark):
            self._console.print(visible(text), soft_wrap=True)
            return
        self._step, self._begun = text, self._clock()
        if isinstance(self._shown, Status):
            self._shown.update(escape(text))
        else:
            self._console.print(escape(text))

    def tell(self) -> None:
        """Show how long the step has taken until now."""
        self._console.print(
            f"{escape(self._step)}: {duration(self._clock() - self._begun)} until now"
        )
