"""What CSV and JSON Lines share: rows reach the system at once, and errors are one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medkit.batch.columns import columns_for
from medkit.batch.outputs.registry import output_for
from medkit.batch.rows import Row
from medkit.errors import MedkitError
from rowfiles import LABELS, open_output, row, write


class Pipe:
    """Standard output whose reader has gone."""

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        raise BrokenPipeError(32, "Broken pipe")


def test_each_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    out = tmp_path / "o.csv"
    with open_output(out) as sink:
        assert out.read_bytes().count(b"\n") == 1
        sink.write(row())
        assert out.read_bytes().count(b"\n") == 2


def test_rows_before_an_exception_stay(tmp_path: Path) -> None:
    out = tmp_path / "o.csv"

    def interrupted() -> Iterator[Row]:
        yield row()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(out, interrupted())
    assert out.read_bytes().count(b"\n") == 2


def test_a_reader_that_has_gone_is_a_broken_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=Pipe(), flush=lambda: None))
    with pytest.raises(BrokenPipeError), open_output(Path("-")):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "o.csv"
    out.symlink_to("/dev/full")
    with pytest.raises(MedkitError, match=r"o\.csv cannot be written: No space"):
        write(out, [row()])


def test_an_output_that_cannot_be_opened_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MedkitError, match=r"o\.csv cannot be written: Permission denied"):
        write(tmp_path / "o.csv", [row()])


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl"])
def test_a_torn_end_is_cut_off_and_the_rest_is_told(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    failed = Row("b.png", "error", error="file not found")
    whole = write(out, [row(), failed, row("c.png")])
    out.write_bytes(whole[:-3])
    found = output_for(out).recover(out, columns_for(LABELS))
    assert (found.rows, found.errors) == (2, 1)
    assert found.counts == {("skin", "NORMAL"): 1}
    assert list(found.names()) == ["a.png", "b.png"]
    with open_output(out, append=True) as sink:
        sink.write(row("c.png"))
    assert out.read_bytes() == whole
