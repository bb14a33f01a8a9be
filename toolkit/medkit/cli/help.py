"""The help of the commands: options in panels, an example, and no word broken in two.

typer lays help out with rich, which takes as long to import as all the rest
of ``medkit --help``. This does with plain text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand

_WIDEST, _NARROWEST = 80, 30
"""Columns of the help, at most and at least."""

_NAMES = 26
"""Columns for the name of an option, at most. A longer one has its explanation below it."""


class Command(TyperCommand):
    """A command whose help is laid out here; its epilog is an example."""

    def get_help(self, ctx: Any) -> str:
        """Return the help of the command."""
        return help_of(self, ctx)

    def get_usage(self, ctx: Any) -> str:
        """Return the line that shows how the command is called."""
        return usage_of(self, ctx)


def usage_of(command: Any, ctx: Any) -> str:
    """Return the line that shows how a command is called."""
    arguments = [one.metavar for one in command.get_params(ctx) if _is_argument(one)]
    if hasattr(command, "commands"):
        arguments = ["COMMAND", "..."]
    return " ".join(["Usage:", ctx.command_path, "[OPTIONS]", *arguments])


def help_of(command: Any, ctx: Any) -> str:
    """Return the help of a command or a group: usage, what it does, an example, the options."""
    width = _width()
    sections = [usage_of(command, ctx)]
    sections += [_wrapped(part, width, "  ") for part in (command.help or "").split("\n\n")]
    if command.epilog:
        sections.append(f"Example:\n  {command.epilog}")
    panels: dict[str, list[tuple[str, str]]] = {}
    for name, entry in _entries(command, ctx):
        panels.setdefault(name, []).append(entry)
    panels["Options"] = panels.pop("Options")  # what belongs to no panel is last
    if hasattr(command, "commands"):
        panels["Commands"] = [
            (name, (one.help or "").partition("\n\n")[0]) for name, one in command.commands.items()
        ]
    names = [name for panel in panels.values() for name, _ in panel]
    column = min(max(map(len, names)), _NAMES, width // 2)
    sections += [
        "\n".join([f"{title}:", *(_entry(name, text, column, width) for name, text in panel)])
        for title, panel in panels.items()
    ]
    return "\n\n".join(sections)


def _entries(command: Any, ctx: Any) -> Iterator[tuple[str, tuple[str, str]]]:
    """Give panel, name and explanation of each argument and option."""
    for one in command.get_params(ctx):
        record = one.get_help_record(ctx)
        if record is None:
            continue
        if _is_argument(one):
            panel, name = "Arguments", one.metavar
        else:
            panel = getattr(one, "rich_help_panel", None) or "Options"
            names = ", ".join(sorted(one.opts, key=len))
            names = " / ".join([names, *one.secondary_opts])  # what says the contrary
            name = names if one.is_flag else f"{names} {one.metavar}"
        yield panel, (name, record[1])


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _entry(name: str, text: str, column: int, width: int) -> str:
    """Return a name with its explanation beside it, or below it if the name is too long."""
    indent = " " * (column + 4)
    lines = _wrapped(text, width, indent)
    if len(name) <= column:
        return f"  {name:{column}}  {lines.lstrip()}"
    return f"  {name}\n{lines}"


def _wrapped(text: str, width: int, indent: str) -> str:
    """Return a paragraph in lines; a word, an option or a path is never broken."""
    import re
    from textwrap import fill

    # A short remark such as [default: 200] stays on one line; textwrap breaks no such space.
    text = re.sub(
        r"\[[^]]{,24}\]",
        lambda remark: remark[0].replace(" ", "\N{NO-BREAK SPACE}"),
        " ".join(text.split()),
    )
    return fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ).replace("\N{NO-BREAK SPACE}", " ")


def _width() -> int:
    from shutil import get_terminal_size

    return max(min(get_terminal_size().columns, _WIDEST), _NARROWEST)
