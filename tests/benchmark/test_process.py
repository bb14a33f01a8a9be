"""A process that is timed from outside."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from medkit.benchmark import process
from medkit.benchmark.process import run_process
from medkit.errors import MedkitError


def test_a_process_that_fails_is_an_error_with_its_last_line() -> None:
    code = "import sys; sys.exit('first\\nthe reason')"
    with pytest.raises(MedkitError, match="^x y failed: the reason$"):
        run_process([sys.executable, "-c", code, "x", "y"])


def test_a_process_does_not_outlive_an_interruption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []
    popen = process.subprocess.Popen

    class Interrupted(popen):  # type: ignore[misc,valid-type]
        def wait(self, timeout: float | None = None) -> int:
            if not started:
                started.append(self)
                raise KeyboardInterrupt
            return int(super().wait(timeout))

    monkeypatch.setattr(process.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_process([sys.executable, "-c", "import time; time.sleep(600)"])
    assert started[0].returncode is not None
