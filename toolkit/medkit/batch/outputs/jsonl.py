r"""Rows as JSON Lines: an object a line, with the keys of the CSV and null for an empty field.

A byte of a file name that is not UTF-8 is the escape ``\udcXX``, which gives
back Python's name of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medkit.batch.columns import Column
from medkit.batch.outputs.lines import LineSink, open_lines, recover_lines
from medkit.batch.outputs.registry import Recovered, register_output
from medkit.batch.rows import Row


class JsonLinesOutput:
    """Rows as JSON Lines."""

    suffix = ".jsonl"

    @contextmanager
    def open(self, path: Path, columns: Sequence[Column], *, append: bool) -> Iterator[LineSink]:
        """Open a file for rows."""

        def to_line(row: Row) -> str:
            return json.dumps({column.name: column.of(row) for column in columns}) + "\n"

        with open_lines(path, to_line, append=append) as sink:
            yield sink

    def recover(self, path: Path, columns: Sequence[Column]) -> Recovered:
        """Cut off a torn end, and tell which rows are left."""

        def values_of(line: bytes) -> dict[str, Any]:
            values: dict[str, Any] = json.loads(line.decode("utf-8"))
            return values

        return recover_lines(path, b"", values_of)


register_output(JsonLinesOutput())
