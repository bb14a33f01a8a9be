"""Labels in the order of a model's outputs: from a file of the user's, or one beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medkit.errors import UsageError
from medkit.files import read_json

BESIDE = (
    "labels.txt",
    "class_names.txt",
    "classes.txt",
    "class_names.json",
    "labels.json",
    "class_indices.json",
)
"""Names of files beside a model that are taken for its labels, the first that is there."""

ACCEPTED = (
    "a text file with a label a line, or JSON: a list of labels, or numbers by label as "
    "class_indices of ImageDataGenerator has them"
)
"""The forms of a file of labels."""


def labels_beside(model: Path) -> Path | None:
    """Return the file of labels that lies beside a model, or in its folder."""
    places = (model, model.parent) if model.is_dir() else (model.parent,)
    found = (place / name for place in places for name in BESIDE)
    return next((path for path in found if path.is_file()), None)


def read_label_file(path: Path) -> tuple[str, ...]:
    """Read labels in the order of a model's outputs.

    Raises
    ------
    UsageError
        If the file cannot be read, or holds no list of labels.
    """
    try:
        if path.suffix.lower() == ".json":
            return _from_json(read_json(path))
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}; accepted: {ACCEPTED}"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path} holds no labels ({error}); accepted: {ACCEPTED}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(line.strip() for line in lines)


def _from_json(stored: Any) -> tuple[str, ...]:
    """Return the labels of parsed JSON. Raise :class:`ValueError` if it holds none."""
    if isinstance(stored, list) and all(isinstance(label, str) for label in stored):
        return tuple(stored)
    if not isinstance(stored, dict) or not stored:
        raise ValueError("it is neither a list of texts nor an object")
    if all(type(number) is int for number in stored.values()):
        by_number = {number: label for label, number in stored.items()}
    elif all(key.isdecimal() and isinstance(label, str) for key, label in stored.items()):
        by_number = {int(key): label for key, label in stored.items()}
    else:
        raise ValueError("its values are not the numbers of labels")
    if sorted(by_number) != list(range(len(stored))):
        raise ValueError(f"its numbers are not 0 to {len(stored) - 1}, each once")
    return tuple(by_number[number] for number in range(len(stored)))
