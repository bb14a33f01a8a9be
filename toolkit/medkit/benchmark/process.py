"""A process that is run and timed from outside, with its most resident memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from medkit.errors import MedkitError

PYTHON = (sys.executable, "-P", "-m")  # not from the folder that one happens to be in

_WATCHED_EVERY = 0.02  # seconds


@dataclass(frozen=True)
class Timed:
    """A process that has ended.

    Attributes
    ----------
    seconds
        Duration from the start to the end of the process.
    peak_bytes
        Most resident memory; ``None`` where the system does not tell.
    said
        The last line that it wrote.
    """

    seconds: float
    peak_bytes: int | None
    said: str


def run_process(command: Sequence[str]) -> Timed:
    """Run a process to its end.

    Raises
    ------
    MedkitError
        If it fails; the message is its last line.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        try:
            with _watching(process.pid) as peak:
                process.wait()
        except BaseException:  # an interruption that the process did not get
            process.kill()
            process.wait()
            raise
        seconds = time.perf_counter() - started
        if process.returncode not in (0, 3):  # 3: some images could not be classified
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise MedkitError(f"{' '.join(command[3:5])} failed: {lines[-1]}")
        output.seek(max(0, output.seek(0, os.SEEK_END) - 1000))
        said = output.read().decode(errors="replace").splitlines() or [""]
    return Timed(seconds, max(peak, default=None), said[-1])


@contextmanager
def _watching(process: int) -> Iterator[list[int]]:
    """Collect what a process has had resident at most, as Linux tells it while the process lives.

    What it tells afterwards (``ru_maxrss``) counts in the process that started it.
    """
    status, stop = Path(f"/proc/{process}/status"), Event()
    peak: list[int] = []

    def watch() -> None:
        while not stop.wait(_WATCHED_EVERY):
            with suppress(OSError):  # it has just ended, or this is no Linux
                lines = status.read_text().splitlines()
                peak.extend(int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM:"))

    thread = Thread(target=watch, name="medkit-watch")
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
