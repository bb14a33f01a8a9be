"""The documentation says what is so: tables, commands, links."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from medkit.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def shell_lines(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def medkit_lines() -> list[list[str]]:
    lines = [shlex.split(line, comments=True) for page in PAGES for line in shell_lines(page)]
    return [
        line[: line.index("|")] if "|" in line else line for line in lines if line[:1] == ["medkit"]
    ]


def test_the_readme_shows_every_command() -> None:
    shown = {line[1] for line in medkit_lines()}
    assert shown == set(COMMANDS)


@pytest.mark.parametrize("line", medkit_lines(), ids=" ".join)
def test_commands_in_the_documentation_parse(line: list[str]) -> None:
    command = COMMANDS[line[1]]
    command.make_context(line[1], line[2:])


def test_make_targets_in_the_documentation_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), flags=re.MULTILINE)
    }
    assert named
    assert named <= targets


def test_the_tests_that_hold_a_promise_exist() -> None:
    text = (ROOT / "docs/reliability.md").read_text()
    named = re.findall(r"`tests/(\w+)\.py::(\w+)`", text)
    assert len(named) > 30
    for module, name in named:
        functions = (ROOT / f"tests/{module}.py").read_text()
        assert f"def {name}(" in functions, f"{module} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text())
    local = [link.split("#")[0] for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_tables_are_up_to_date_with_the_models() -> None:
    script = ROOT / "docs" / "update_tables.py"
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
