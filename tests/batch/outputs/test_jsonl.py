"""What JSON Lines hold."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from medkit.batch.columns import columns_for
from medkit.batch.outputs.registry import output_for
from medkit.batch.rows import Row
from medkit.errors import UsageError
from rowfiles import HOSTILE, LABELS, NAMES, row, write, written_names


def test_json_lines_have_the_same_keys_and_null_where_empty(tmp_path: Path) -> None:
    content = write(tmp_path / "o.jsonl", [row(), Row("b.png", "error", error="file not found")])
    first, second = map(json.loads, content.decode().splitlines())
    names = [column.name for column in columns_for(LABELS)]
    assert list(first) == list(second) == names
    assert first["p_basal_cell_carcinoma"] == 0.123457
    assert first["error"] is None
    assert second == dict.fromkeys(names) | {
        "path": "b.png",
        "status": "error",
        "error": "file not found",
    }


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(NAMES)
def test_any_name_goes_into_json_lines_and_the_same_name_comes_out(raw: list[bytes]) -> None:
    names = [os.fsdecode(each) for each in raw]
    with tempfile.TemporaryDirectory() as folder:
        lines = written_names(Path(folder) / "o.jsonl", names).read_bytes().splitlines()
    assert [os.fsencode(json.loads(line)["path"]) for line in lines] == raw


def test_hostile_names_come_out_of_json_lines(tmp_path: Path) -> None:
    lines = write(tmp_path / "o.jsonl", map(row, HOSTILE)).decode().splitlines()
    assert [json.loads(line)["path"] for line in lines] == list(HOSTILE)


def test_a_row_without_its_fields_is_no_row_of_ours(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    write(out, [row()])
    with out.open("ab") as stream:
        stream.write(b'{"path": "b.png"}\n')
    with pytest.raises(UsageError, match="holds a row that medkit did not write"):
        output_for(out).recover(out, columns_for(LABELS))
