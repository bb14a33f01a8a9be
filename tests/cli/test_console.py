"""The consoles: which stream a text goes to, and that nothing is cut off or coloured in a file."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import medkit.cli.views
from commandruns import PROGRAM, captured, captured_parity, run
from medkit.cli.console import result_console, show_table, stderr_console, table

VIEWS = sorted(Path(medkit.cli.views.__file__).parent.glob("[a-z]*.py"))

WIDE = "a value that is wider than a narrow terminal"
INTERVAL = "0.1234 to 0.5678"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    """Show a table of three columns on standard output; return what came."""
    monkeypatch.setattr(sys, "stdout", stream)
    rows = table("class", right=("figure", "95 % interval"))
    rows.add_row("melanoma", WIDE, INTERVAL)
    rows.add_row("[red]nevus", WIDE, INTERVAL)
    show_table(result_console(), rows)
    return re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())


# Width


@pytest.mark.parametrize("columns", ["1", "20", "40", "80"])
def test_a_file_gets_whole_rows_whatever_the_width(
    monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = shown(monkeypatch, io.StringIO()).splitlines()
    assert [line.split()[0] for line in lines if INTERVAL in line] == ["melanoma", "nevus"]
    assert all(WIDE in line for line in lines if INTERVAL in line)


def test_a_terminal_that_is_wide_enough_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(monkeypatch, Terminal()).splitlines()
    assert lines[0].split() == ["class", "figure", "95", "%", "interval"]
    assert [line.split()[0] for line in lines if INTERVAL in line] == ["melanoma", "nevus"]


def test_a_narrow_terminal_gets_each_cell_on_a_line_with_its_column(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert shown(monkeypatch, Terminal()).splitlines() == [
        line
        for name in ("melanoma", "nevus")
        for line in (name, f"  figure         {WIDE}", f"  95 % interval  {INTERVAL}")
    ]


@pytest.mark.parametrize("view", VIEWS, ids=lambda path: path.stem)
def test_every_view_shows_its_tables_whole(view: Path) -> None:
    source = view.read_text()
    assert source.count("show_table(console, ") == source.count(" = table(") > 0


# Which stream, and what is on it


@pytest.mark.parametrize(
    "variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "CLICOLOR_FORCE"]
)
def test_no_variable_takes_a_file_for_a_terminal(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for console in (result_console(), stderr_console()):
        assert not console.is_terminal
        assert not console.is_interactive
        console.print("[bold red]text[/]")
    assert (sys.stdout.getvalue(), sys.stderr.getvalue()) == ("text\n", "text\n")


def test_a_dumb_terminal_is_not_animated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert not stderr_console().is_interactive
    monkeypatch.setenv("TERM", "xterm")
    assert stderr_console().is_interactive


def test_no_color_takes_the_colours_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stderr_console().print("[red]text[/]")
    assert sys.stderr.getvalue() == "text\n"


def test_results_go_to_standard_error_if_a_report_goes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captured_parity(monkeypatch)
    result = run("parity", "--json", "-")
    assert result.exit_code == 0
    assert result.stdout.startswith("[\n")
    assert result.stdout.endswith("]\n")
    assert "accuracy" in result.stderr


def test_a_character_that_the_stream_lacks_is_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    result_console().print("日本")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\u65e5\\u672c\n"  # type: ignore[attr-defined]


# In a process of its own


def test_a_terminal_of_40_columns_shows_whole_cells(tiny_exported: Path) -> None:
    model = tiny_exported / "pneumonia/model-int8.tflite"
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 40, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [*PROGRAM, "inspect", str(model)],
        stdin=theirs,
        stdout=theirs,
        env={**environment, "TERM": "xterm"},
    ) as process:
        os.close(theirs)
        told = b""
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not read:
                break
            told += read
    os.close(ours)
    assert process.returncode == 0
    lines = [line.split() for line in told.decode().splitlines()]
    assert ["computes", "in", "int8"] in lines
    assert "…" not in told.decode()


def test_a_full_disk_is_one_line(tiny_exported: Path) -> None:
    command = [*PROGRAM, "inspect", str(tiny_exported / "pneumonia/model-int8.tflite")]
    for options in ((), ("--json", "-")):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*command, *options], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 1
        told = done.stderr.splitlines()[-1]
        assert told.startswith("medkit: error: standard output cannot be written: No space left")
        assert "Traceback" not in done.stderr


def test_a_reader_that_is_gone_ends_the_command_with_141(tiny_exported: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [*PROGRAM, "inspect", str(tiny_exported / "pneumonia/model-int8.tflite")]
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


def test_closed_standard_output_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        f"{sys.executable} -m medkit inspect missing.tflite >&-",
        shell=True,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "standard output is closed" in done.stderr


def test_force_color_does_not_animate_a_log(tiny_exported: Path, xrays: Path) -> None:
    logs = []
    for colour in ({}, {"FORCE_COLOR": "1"}):
        done = subprocess.run(
            [
                *(*PROGRAM, "classify", str(xrays), "--out", str(xrays / "o.csv"), "--overwrite"),
                *("--task", "pneumonia", "--trained", str(tiny_exported)),
            ],
            stderr=subprocess.PIPE,
            env={**os.environ, **colour},
            check=True,
        )
        logs.append(re.sub(rb"[\d,.]+( s|/s| images/s)", b"", done.stderr))
    assert logs[0] == logs[1]
    assert b"\x1b" not in logs[1]
    assert b"\r" not in logs[1]


def test_a_table_in_a_file_holds_what_a_terminal_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    captured(monkeypatch, sys.modules["medkit.evaluation.parity"], "check_parity", None)
    captured_parity(monkeypatch)
    wide = run("parity", env={"COLUMNS": "200"}).stdout
    assert run("parity", env={"COLUMNS": "20"}).stdout == wide
