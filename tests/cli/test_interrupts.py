"""Ctrl-C while the program starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commandruns import run
from medkit.cli.interrupts import exit_at_interrupt, interrupt_as_usual

# Ctrl-C at the moment at which a module is first looked for.
PRESSED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.{before})

class Pressing:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Pressing())
sys.argv = ["medkit", *{arguments!r}]
from medkit.__main__ import main
main()
"""


def pressed(
    module: str, *arguments: str, before: str = "default_int_handler"
) -> subprocess.CompletedProcess[str]:
    script = PRESSED.format(module=module, arguments=arguments, before=before)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("medkit.cli.app", ""),
        ("typer", ""),
        ("medkit.batch.run", "; no row was written"),
        ("numpy", "; no row was written"),
        ("PIL.Image", "; no row was written"),
        ("rich.progress", "; no row was written"),
    ],
)
def test_ctrl_c_in_an_import_is_one_line(module: str, told: str, tmp_path: Path) -> None:
    ended = pressed(module, "classify", str(tmp_path), "--out", str(tmp_path / "o.csv"))
    assert ended.returncode == 130
    assert (ended.stdout, ended.stderr) == ("", f"medkit: interrupted{told}\n")


def test_a_process_that_ignores_ctrl_c_goes_on(tmp_path: Path) -> None:
    ended = pressed("typer", "--version", before="SIG_IGN")
    assert ended.returncode == 0
    assert ended.stdout.startswith("medkit ")


def test_almost_nothing_is_imported_before_ctrl_c_is_heard() -> None:
    script = (
        "import sys; before = set(sys.modules); import medkit.__main__\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    names = ended.stdout.split()
    assert "medkit.cli.interrupts" in names
    assert [name for name in names if name.partition(".")[0] not in ("medkit", "__future__")] == []


def test_ctrl_c_raises_as_usual_once_the_work_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for arguments in (
            ["classify", str(tmp_path), "--out", "-"],
            ["train", "skin", "--data", str(tmp_path)],
            ["audit", str(tmp_path)],
            ["evaluate", "--data", str(tmp_path)],
            ["export", "--fp16", "--trained", str(tmp_path)],
            ["parity", "--samples", str(tmp_path)],
            ["benchmark", str(tmp_path)],
            ["report", "skin", "--trained", str(tmp_path), "--out", "-"],
        ):
            exit_at_interrupt()
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
            assert run(*arguments).exit_code in (1, 2)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_handler_stays() -> None:
    def own(signum: int, frame: object) -> None:
        pass

    before = signal.signal(signal.SIGINT, own)
    try:
        exit_at_interrupt()
        interrupt_as_usual()
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
