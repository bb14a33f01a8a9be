"""Progress where no terminal is: a plain line every 30 seconds."""

from __future__ import annotations

import io
import re
from threading import Event

import pytest
from rich.console import Console

from medkit.batch.rows import Row
from medkit.cli.progress import EVERY, Heartbeat, Steps
from medkit.cli.views.classify import ClassifyProgress
from medkit.cli.views.train import TrainingProgress
from medkit.wording import Remark


class Clock:
    """A clock that stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Beats(Event):
    """An event that answers at once that the time is over, some times, and then that it is set."""

    def __init__(self, beats: int) -> None:
        super().__init__()
        self.left, self.waited = beats, list[float | None]()

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        self.left -= 1
        return self.left < 0


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(log: io.StringIO) -> Console:
    """Make a console on a stream that is no terminal."""
    return Console(file=log, force_terminal=False, force_interactive=False, width=200)


def test_a_heartbeat_tells_every_30_seconds_until_it_ends() -> None:
    told: list[str] = []
    beats = Beats(3)
    with Heartbeat(lambda: told.append("line"), beats) as heart:
        heart._thread.join()
    assert told == ["line"] * 3
    assert beats.waited == [EVERY] * 4
    assert EVERY == 30
    assert beats.is_set()


def test_steps_are_lines_and_a_long_one_is_told_again(log: io.StringIO, console: Console) -> None:
    clock = Clock()
    steps = Steps(console, clock)
    with steps as note:
        note("reading 5 images [of all]")
        clock.now += 95
        steps.tell()
    assert log.getvalue().splitlines() == [
        "reading 5 images [of all]",
        "reading 5 images [of all]: 1 min 35 s until now",
    ]


def test_a_remark_stays_on_a_terminal_and_a_step_does_not(log: io.StringIO) -> None:
    terminal = Console(file=log, force_terminal=True, force_interactive=True, width=200)
    with Steps(terminal) as note:
        note(Remark("left out: 1 image [beside]"))
        note("reading 5 images")
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", log.getvalue())
    assert "left out: 1 image [beside]\n" in shown
    # The spinner's last line is taken away.
    assert log.getvalue().endswith("reading 5 images\n\x1b[?25h\r\x1b[1A\x1b[2K")


def row(status: str) -> Row:
    return Row("a.png", status)


def test_a_classification_is_told_in_numbers(log: io.StringIO, console: Console) -> None:
    clock = Clock()
    progress = ClassifyProgress(console, clock)
    with progress:
        progress.tell()
        for status in ("ok", "error"):
            progress.row(row(status))
        clock.now += 4
        progress.tell()
        progress.total(10)
        progress.tell()
        progress.row(row("error"))
        progress.tell()
    assert log.getvalue().splitlines() == [
        "classified 0 images, 0 images/s, 0 errors",
        "classified 2 images, 0 images/s, 1 error",
        "classified 2 of 10 images, 0 images/s, 1 error, 16 s left",
        "classified 3 of 10 images, 1 images/s, 2 errors, 9 s left",
    ]


def test_a_training_is_told_by_step(log: io.StringIO, console: Console) -> None:
    clock = Clock()
    progress = TrainingProgress(console, clock)
    with progress:
        progress.tell()
        progress.epoch_begins(1, 3, 40)
        progress.step(0.5)
        clock.now += 61
        progress.tell()
    assert log.getvalue().splitlines() == [
        "preparing  0 s until now",
        "epoch 1/3  step 1/40 · loss 0.5000  1 min 1 s until now",
    ]


def test_a_terminal_gets_no_lines(monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=log, force_terminal=True)
    with Steps(console) as note:
        note("reading")
    with ClassifyProgress(console), TrainingProgress(console):
        pass
    assert "until now" not in log.getvalue()
    assert "\x1b[2K" in log.getvalue()
