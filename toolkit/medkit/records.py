"""Reading of dataclasses from JSON: manifests, model cards and run records.

A missing field is a :class:`ValueError`, and so is a field of another type
than its annotation. The error is one line that names the field. Unknown keys
are left out, so that a file of a later version can be read.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read_record(kind: type[T], stored: Any, where: str = "", *, strict: bool = False) -> T:
    """Make a dataclass of what a JSON file holds.

    Parameters
    ----------
    kind
        A dataclass. Its annotations may be other dataclasses, ``str``,
        ``bool``, ``int``, ``float``, ``Any``, ``tuple[X, ...]``,
        ``dict[str, X]``, and unions of these with ``None``.
    stored
        The parsed JSON.
    where
        Names of the fields that lead to it, for the message.
    strict
        Refuse keys that are no fields, where one could change what the
        others mean.

    Raises
    ------
    ValueError
        If a field is missing or has the wrong type, or if the dataclass
        itself refuses a value.
    """
    if not isinstance(stored, Mapping):
        raise ValueError(f"{where or 'it'} is {_shown(stored)}, not an object")
    values = {}
    known: dict[str, tuple[Any, bool]] = _fields_of(kind)  # type: ignore[arg-type]
    unknown = sorted(set(map(str, stored)) - known.keys())
    if strict and unknown:
        raise ValueError(f"{where + ' ' if where else ''}has an unknown field {unknown[0]!r}")
    for name, (hint, required) in known.items():
        if name in stored:
            values[name] = _value(hint, stored[name], f"{where}.{name}".lstrip("."))
        elif required:
            raise ValueError(f"{where + ' ' if where else ''}has no field {name!r}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


@cache
def _fields_of(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Return the annotation of each field, and whether it must be there."""
    hints = get_type_hints(kind)
    return {
        field.name: (
            hints[field.name],
            field.default is MISSING and field.default_factory is MISSING,
        )
        for field in fields(kind)
        if field.init
    }


def _value(hint: Any, stored: Any, where: str) -> Any:
    """Return a stored value as its annotation wants it."""
    origin, inner = get_origin(hint), get_args(hint)
    value = stored
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in inner if kind is not type(None)]
        value = (
            None if stored is None and len(kinds) < len(inner) else _value(kinds[0], stored, where)
        )
    elif origin is tuple and isinstance(stored, list | tuple):
        value = tuple(_value(inner[0], item, f"{where}[{n}]") for n, item in enumerate(stored))
    elif origin is dict and isinstance(stored, Mapping):
        value = {str(key): _value(inner[1], item, f"{where}.{key}") for key, item in stored.items()}
    elif is_dataclass(hint) and isinstance(hint, type):
        value = stored if isinstance(stored, hint) else read_record(hint, stored, where)
    elif hint is float and type(stored) is int:
        try:
            value = float(stored)
        except OverflowError:
            raise ValueError(f"{where} is {_shown(stored)}, which is too large") from None
    # In Python, True is a whole number; in a record it is not.
    elif hint is not Any and type(stored) is not hint:
        raise ValueError(f"{where} is {_shown(stored)}, not {_NAMES.get(origin or hint, hint)}")
    return value


_NAMES = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: "a list",
    dict: "an object",
}


def _shown(stored: Any) -> str:
    text = repr(stored)
    return text if len(text) <= 60 else f"{text[:57]}..."
