"""What the output files hold, byte by byte where it matters."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medkit.errors import MedkitError, UsageError
from medkit.rows import Row, check_output, columns, open_writer

LABELS = ("NORMAL", "basal cell carcinoma")

HOSTILE = (
    "line\nfeed.png",
    "carriage\rreturn.png",
    'a "quoted", name.png',
    "=1+2.png",
    "+1.png",
    "-cmd.png",
    "@sum.png",
    "\ttab.png",
    "'marked.png",
    "''=twice.png",
    " spaces ,\t.png ",
    "\u2028\x85.png",
    "naïve-日本.png",
)


def row(path: str = "a.png") -> Row:
    probabilities = {"NORMAL": 0.25, "basal cell carcinoma": 0.123456789}
    return Row(path, "ok", "skin", "NORMAL", 0.25, probabilities)


def write(out: Path, rows: Iterable[Row]) -> bytes:
    with open_writer(out, LABELS) as writer:
        for each in rows:
            writer.write(each)
    return out.read_bytes()


def read_csv(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


class Pipe:
    """Standard output whose reader has gone."""

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        raise BrokenPipeError(32, "Broken pipe")


def test_columns_name_each_label_with_underscores() -> None:
    assert columns(LABELS) == [
        "path",
        "status",
        "task",
        "label",
        "confidence",
        "p_NORMAL",
        "p_basal_cell_carcinoma",
        "error",
    ]


def test_csv_bytes(tmp_path: Path) -> None:
    failed = Row("b.png", "error", error="file not found")
    assert write(tmp_path / "o.csv", [row(), failed]) == (
        b"path,status,task,label,confidence,p_NORMAL,p_basal_cell_carcinoma,error\n"
        b"a.png,ok,skin,NORMAL,0.25,0.25,0.123457,\n"
        b"b.png,error,,,,,,file not found\n"
    )


def test_json_lines_have_the_same_keys_and_null_where_empty(tmp_path: Path) -> None:
    content = write(tmp_path / "o.jsonl", [row(), Row("b.png", "error", error="file not found")])
    first, second = map(json.loads, content.decode().splitlines())
    assert list(first) == list(second) == columns(LABELS)
    assert first["p_basal_cell_carcinoma"] == 0.123457
    assert first["error"] is None
    assert second == dict.fromkeys(columns(LABELS)) | {
        "path": "b.png",
        "status": "error",
        "error": "file not found",
    }


def test_hostile_names_survive_csv(tmp_path: Path) -> None:
    content = write(tmp_path / "o.csv", map(row, HOSTILE))
    assert [each["path"].removeprefix("'") for each in read_csv(content)] == list(HOSTILE)


def test_no_cell_of_a_csv_is_a_spreadsheet_s_formula(tmp_path: Path) -> None:
    failed = [Row(name, "error", error=f"={name}") for name in HOSTILE]
    for cells in read_csv(write(tmp_path / "o.csv", [*map(row, HOSTILE), *failed])):
        assert not [cell for cell in cells.values() if cell.startswith(tuple("=+-@\t\r"))]


def test_hostile_names_survive_json_lines(tmp_path: Path) -> None:
    lines = write(tmp_path / "o.jsonl", map(row, HOSTILE)).decode().splitlines()
    assert [json.loads(line)["path"] for line in lines] == list(HOSTILE)


def test_names_that_are_not_utf8_leave_valid_files(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    (in_csv,) = read_csv(write(tmp_path / "o.csv", [row(name)]))
    assert in_csv["path"] == r"\udcff.png"
    in_json = json.loads(write(tmp_path / "o.jsonl", [row(name)]))
    assert os.fsencode(in_json["path"]) == b"\xff.png"


def test_each_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    out = tmp_path / "o.csv"
    with open_writer(out, LABELS) as writer:
        assert out.read_bytes().count(b"\n") == 1
        writer.write(row())
        assert out.read_bytes().count(b"\n") == 2


def test_rows_before_an_exception_stay(tmp_path: Path) -> None:
    out = tmp_path / "o.csv"

    def interrupted() -> Iterator[Row]:
        yield row()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(out, interrupted())
    assert out.read_bytes().count(b"\n") == 2


def test_dash_is_csv_on_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_writer("-", LABELS) as writer:
        writer.write(row(os.fsdecode(b"\xff.png")))
    written = capfdbinary.readouterr().out
    assert written.startswith(b"path,status,")
    assert written.endswith(b"\\udcff.png,ok,skin,NORMAL,0.25,0.25,0.123457,\n")


def test_a_reader_that_has_gone_is_a_broken_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=Pipe(), flush=lambda: None))
    with pytest.raises(BrokenPipeError), open_writer("-", LABELS):
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


@pytest.mark.parametrize("name", ["o.txt", "o", "o.csv.gz", ".csv"])
def test_unknown_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"accepted: \.csv, \.jsonl, or -"):
        check_output(tmp_path / name)


def test_output_folder_must_exist_and_output_must_be_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        check_output(tmp_path / "missing" / "o.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_output(tmp_path / "d.csv")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", ["o.csv", "O.CSV", "o.jsonl"])
def test_good_outputs_pass_and_are_not_made(tmp_path: Path, name: str) -> None:
    check_output(tmp_path / name)
    check_output(str(tmp_path / name))
    check_output("-")
    assert list(tmp_path.iterdir()) == []
