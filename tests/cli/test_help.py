"""The help: panels, an example for each command, and no word broken in two."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command

from commandruns import run
from medkit.cli.app import app

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


def help_of(command: str, columns: int = 80) -> str:
    result = run(*command.split(), "--help", env={"COLUMNS": str(columns)})
    assert result.exit_code == 0
    return str(result.stdout)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_short_option_shows_the_same_help(command: str) -> None:
    result = run(*command.split(), "-h")
    assert (result.exit_code, result.stdout) == (0, run(*command.split(), "--help").stdout)


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_no_line_is_too_long_and_no_word_is_broken(command: str, columns: int) -> None:
    whole = set(help_of(command, 200).split())
    shown = help_of(command, columns)
    assert set(shown.split()) == whole
    for line in shown.splitlines():
        # Alone on its line, an example or a path may be longer than a very narrow terminal.
        assert len(line) <= min(columns, 80) or columns < 60
        assert line == line.rstrip()
    assert "..." not in re.sub(r"(PATH|TASK|COMMAND) \.\.\.", "", shown)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_each_command_shows_an_example_that_parses(command: str) -> None:
    (example,) = re.findall(r"^Example:\n  medkit (.*)$", help_of(command), re.MULTILINE)
    name, *words = shlex.split(example)
    assert name == command
    COMMANDS[command].make_context(command, words)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_option_stands_in_a_panel_that_says_what_it_is_about(command: str) -> None:
    panels = re.split(r"^(\w[\w ]*):\n", help_of(command), flags=re.MULTILINE)[1:]
    by_title = dict(zip(panels[::2], panels[1::2], strict=True))
    assert list(by_title)[-1] == "Options"
    assert by_title["Options"].split()[:2] == ["-h,", "--help"]
    assert len(by_title["Options"].splitlines()) == 1
    assert len(by_title) >= 4


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_option_that_takes_a_value_says_what(command: str) -> None:
    shown = help_of(command)
    assert "None" not in shown
    assert "<" not in shown
    for option in COMMANDS[command].params:
        if option.param_type_name == "option" and not option.is_flag:
            assert re.search(rf"{option.opts[0]}.* [A-Z]+\b", shown)


def test_the_word_for_the_contrary_is_shown() -> None:
    """Nobody would find ``--one-label`` otherwise."""
    assert "  --multi-label / --one-label\n" in run("adopt", "--help").stdout
    assert "  --grey / --colour " in run("train", "--help").stdout


def test_the_command_list_tells_whole_sentences() -> None:
    shown = " ".join(help_of("").split())
    for name, command in COMMANDS.items():
        first = " ".join(command.help.partition("\n\n")[0].split())
        assert f"{name} {first}" in shown


def test_a_short_remark_stays_on_one_line() -> None:
    for columns in range(50, 81):
        assert "[default: 200]" in help_of("classify", columns)


def test_help_of_every_command_loads_no_rich() -> None:
    script = (
        "import sys; from medkit.cli.app import app\n"
        f"for command in {list(COMMANDS)!r}:\n"
        "    try: app([command, '-h'])\n"
        "    except SystemExit: pass\n"
        "print(*{'numpy', 'rich', 'PIL'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == ""
