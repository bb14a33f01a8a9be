"""The file ``task.toml``, in which a person can read and change what a task is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from medkit.errors import ContractMismatchError, ModelFileError
from medkit.files import read_json, write_text
from medkit.images.contract import LARGEST_SIDE, RULES, SMALLEST_SIDE, InputContract
from medkit.records import read_record
from medkit.tasks.builtin import TASKS
from medkit.tasks.task import TASK_NAME, TOML_NAME, DatasetLayout, Task, TaskNotes
from medkit.wording import unknown

COLOURS = {"grey": 1, "rgb": 3}
"""Channels of the input, by the word for them."""

_INPUT, _COLOURS, _HASH = "input", "colours", "hash"

_OPTIONAL = {
    field.name: field.default
    for field in fields(InputContract)
    if field.name != "channels" and field.default is not MISSING
}
"""The fields of the contract that can be left out, and what they are then."""

_SIZE = tuple(
    field.name
    for field in fields(InputContract)
    if field.name != "channels" and field.default is MISSING
)

_TABLES: dict[str, Any] = {"layout": DatasetLayout, "notes": TaskNotes}


def task_file(folder: Path) -> Path | None:
    """Return the file that describes the task of a folder of models; ``None`` if there is none.

    Raises
    ------
    ModelFileError
        If there are two.
    """
    found = [path for name in (TOML_NAME, TASK_NAME) if (path := folder / name).is_file()]
    if len(found) > 1:
        raise ModelFileError(
            f"{folder} holds {TOML_NAME} and {TASK_NAME}, which is the older form of the same; "
            "remove one of them"
        )
    return found[0] if found else None


def check_own_name(name: str) -> None:
    """Raise :class:`ValueError` for a name that is taken by a built-in task."""
    if name.casefold() in TASKS:
        raise ValueError(
            f"name is {name!r}, and the task {name.casefold()} is built in; choose another"
        )


def read_task(path: Path) -> Task:
    """Read the ``task.toml`` of a folder of models, or its older form ``task.json``.

    Raises
    ------
    ModelFileError
        If it cannot be read, if a field is missing, unknown or wrong, or if it
        names another task than its folder. The message names the file and the field.
    ContractMismatchError
        If this version does not perform the task's input contract.
    """
    task = _read_toml(path) if path.suffix == ".toml" else _read_json(path)
    # A link may have another name than the folder that it leads to.
    names = {path.absolute().parent.name, path.resolve().parent.name}
    if task.name not in names:
        raise ModelFileError(
            f"{path}: name is {task.name!r}; accepted: {' or '.join(map(repr, sorted(names)))}, "
            "the name of its folder; correct it, or rename the folder"
        )
    try:
        check_own_name(task.name)
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from error
    return task


def write_task(folder: Path, task: Task) -> Path:
    """Write ``task.toml`` atomically; what has its default is left out.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    MissingExtraError
        If tomli-w is not installed.
    MedkitError
        If the file cannot be written.
    """
    from medkit.extras import require

    require("write a task", "tomli_w")
    import tomli_w

    path = folder / TOML_NAME
    write_text(path, tomli_w.dumps(_stored(task)))
    return path


def _stored(task: Task) -> dict[str, Any]:
    """Return a task as TOML holds it, in the order in which a person reads it."""
    words = {channels: word for word, channels in COLOURS.items()}
    described = _changed(task.contract)
    del described["channels"]
    size = {name: described.pop(name) for name in _SIZE}
    stored = _changed(task)
    del stored["contract"]
    if task.positive is None:
        del stored["positive"]  # TOML has no word for nothing
    tables = {name: _changed(stored.pop(name)) for name in _TABLES if name in stored}
    colours = words[task.contract.channels]
    return {**stored, _INPUT: {**size, _COLOURS: colours, **described}, **tables}


def _changed(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that have no default, or another value."""
    standard = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(record)
    }
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(record).items()
        if name in standard and value != standard[name]
    }


def _read_json(path: Path) -> Task:
    try:
        stored = read_json(path)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); restore it") from error
    return Task.from_dict(stored, str(path))


def _read_toml(path: Path) -> Task:
    import tomllib

    try:
        # Windows' editors put a mark before the first letter.
        stored = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}; restore it") from error
    except UnicodeError as error:
        raise ModelFileError(f"{path} is no UTF-8 text; save it as one") from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is no TOML ({error}); correct it") from error
    try:
        return _task_of(stored)
    except (ValueError, ContractMismatchError) as error:
        raise ModelFileError(f"{path}: {error}") from error


def _task_of(stored: dict[str, Any]) -> Task:
    """Return the task that a parsed ``task.toml`` describes.

    Raises
    ------
    ValueError
        If a field is missing, unknown or wrong. The message names it.
    """
    known = [field.name for field in fields(Task) if field.name != "contract"]
    _check_keys(stored, [*known, _INPUT])
    for name, kind in _TABLES.items():
        if isinstance(stored.get(name), dict):
            _check_keys(stored[name], [field.name for field in fields(kind)], name)
    required = ["name", "title", "labels"]
    if stored.get("multi_label") is not True:
        required.append("alert")
    for name in required:
        if name not in stored:
            raise ValueError(f"has no field {name}; add it")
    table = stored.get(_INPUT)
    if not isinstance(table, dict):
        raise ValueError(f"has no table [{_INPUT}]; add it, with {', '.join(_SIZE)} and {_COLOURS}")
    values = {"positive": None, **stored, "contract": _contract_of(table)}
    del values[_INPUT]
    return read_record(Task, values)


def _contract_of(table: Mapping[str, Any]) -> InputContract:
    """Return the contract that the table ``[input]`` describes."""
    _check_keys(table, [*_SIZE, _COLOURS, *_OPTIONAL, _HASH], _INPUT)
    sides = f"whole numbers from {SMALLEST_SIDE} to {LARGEST_SIDE:,}"
    accepted: dict[str, str] = {
        **dict.fromkeys(_SIZE, sides),
        _COLOURS: " or ".join(map(repr, COLOURS)),
        **{name: " or ".join(map(repr, RULES[name])) for name in _OPTIONAL if name in RULES},
    }
    for name, words in accepted.items():
        if name not in table:
            if name in _OPTIONAL:
                continue
            raise ValueError(f"has no field {_INPUT}.{name}; accepted: {words}")
        value = table[name]
        if name in _SIZE:
            right = type(value) is int and SMALLEST_SIDE <= value <= LARGEST_SIDE
        else:
            right = value in (tuple(COLOURS) if name == _COLOURS else RULES[name])
        if not right:
            raise ValueError(f"{_INPUT}.{name} is {value!r}; accepted: {words}")
    given = {name: value for name, value in table.items() if name not in (_COLOURS, _HASH)}
    contract = read_record(InputContract, {**given, "channels": COLOURS[table[_COLOURS]]}, _INPUT)
    # Whatever else a contract may have to hold is checked where it is known.
    contract = InputContract.from_dict(contract.to_dict(), f"[{_INPUT}]")
    if table.get(_HASH, contract.hash) != contract.hash:
        raise ValueError(
            f"{_INPUT}.{_HASH} is {table[_HASH]!r}, and that of these fields is {contract.hash!r}; "
            "leave it out if the change is meant"
        )
    return contract


def _check_keys(table: Mapping[str, Any], known: list[str], inside: str = "") -> None:
    """Raise :class:`ValueError` if a table has a key that is no field."""
    for key in table:
        if key not in known:
            raise ValueError(unknown("field", key, known, f"[{inside}]" if inside else ""))
