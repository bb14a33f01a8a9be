"""What the output files hold, byte by byte where it matters."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medkit.errors import MedkitError, UsageError
from medkit.rows import Row, as_written, check_output, columns, open_writer, path_from_csv

NAMESPACE = "{urn:oasis:names:tc:opendocument:xmlns:%s:1.0}"
TABLE, TEXT, OFFICE = NAMESPACE % "table", NAMESPACE % "text", NAMESPACE % "office"

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
    "  two  spaces.png",
    "bell\x07.png",
    "\x01.png",
    "delete\x7f.png",
    "\ufeffmark.png",
    "\u202egnp.png",
    "\udcff.png",
    r"\udcff.png",
    r"\\udcff.png",
    "007",
    "1e5",
    "12:30",
    "1/2",
    "50%",
    "TRUE",
    "May-20",
    "2024-01-02",
    "#N/A",
    "NA",
    "null",
    "x;=1+1;.png",
    "t\t=2+2\t.png",
    "y;=HYPERLINK(A1);z.png",
    "q;=cmd|' /C calc'!A0;.png",
    "bar|=1+1|.png",
    "space =1+1 .png",
    "\n=3+3.png",
    "\uff1d4+4.png",
    "=cmd|' C'!A0.png",
    "<b>&amp;.png",
    "e\u0301.png",
    "n" * 251 + ".png",
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


def written_names(out: Path, names: Iterable[str]) -> Path:
    write(out, map(row, names))
    return out


def through_csv(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as stream:
        return [cells["path"] for cells in csv.DictReader(stream)]


def through_pandas(path: Path) -> list[str]:
    import pandas

    return list(pandas.read_csv(path, dtype=str, keep_default_na=False)["path"])


def through_a_spreadsheet(path: Path, separators: str = "44") -> list[str]:
    """Import a CSV into LibreOffice, and read what its first cells show.

    ``separators`` are those that lines are split at, as codes of characters.
    """
    arguments = ["--headless", f"--infilter=CSV:{separators},34,76,1", "--convert-to", "fods"]
    profile = f"-env:UserInstallation={(path.parent / 'profile').as_uri()}"
    subprocess.run(
        ["soffice", profile, *arguments, "--outdir", path.parent, path],
        check=True,
        capture_output=True,
    )
    cells = []
    for line in ElementTree.parse(path.with_suffix(".fods")).iter(f"{TABLE}table-row"):
        assert not [each for each in line if each.get(f"{TABLE}formula")], "a formula runs"
        cell = line.find(f"{TABLE}table-cell")
        if cell is not None:
            assert separators != "44" or cell.get(f"{OFFICE}value-type") == "string"
            cells.append("\n".join(shown(each) for each in cell.iterfind(f"{TEXT}p")))
    return cells[1:]


def shown(element: ElementTree.Element) -> str:
    """Return the text of a paragraph, in which runs of spaces and tabs are elements."""
    text = element.text or ""
    for child in element:
        plain = {f"{TEXT}tab": "\t", f"{TEXT}s": " " * int(child.get(f"{TEXT}c", "1"))}
        text += plain.get(child.tag, "") or shown(child)
        text += child.tail or ""
    return text


@pytest.mark.parametrize("through", [through_csv, through_pandas])
def test_hostile_names_come_out_of_a_csv_as_they_went_in(
    tmp_path: Path, through: Callable[[Path], list[str]]
) -> None:
    cells = through(written_names(tmp_path / "o.csv", HOSTILE))
    assert [path_from_csv(cell) for cell in cells] == list(HOSTILE)


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LOUDLY: no spreadsheet is installed")
def test_hostile_names_come_out_of_a_spreadsheet_as_they_went_in(tmp_path: Path) -> None:
    cells = through_a_spreadsheet(written_names(tmp_path / "o.csv", HOSTILE))
    assert [path_from_csv(cell) for cell in cells] == list(HOSTILE)


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LOUDLY: no spreadsheet is installed")
@pytest.mark.parametrize("separators", ["59", "9", "32", "124", "44/59/9"])
def test_no_name_is_a_formula_whatever_a_spreadsheet_splits_lines_at(
    tmp_path: Path, separators: str
) -> None:
    assert through_a_spreadsheet(written_names(tmp_path / "o.csv", HOSTILE), separators)


def test_every_row_of_a_csv_is_one_line(tmp_path: Path) -> None:
    content = write(tmp_path / "o.csv", map(row, HOSTILE)).decode()
    assert len(content.splitlines()) >= len(HOSTILE) + 1
    assert content.count("\n") == len(HOSTILE) + 1


# What a name may hold: any byte but a slash and a zero; more often those that mean something.
NAMES = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=30).map(lambda raw: raw.translate(None, b"/\0")),
        st.text("'\"=,;\n\r\t\\u0d \udcff\x07", min_size=1, max_size=12).map(
            lambda text: text.encode("utf-8", "surrogateescape")
        ),
        st.from_regex(rb"\\{0,4}u[0-9a-d]{4}", fullmatch=True),
    ).filter(bool),
    min_size=1,
    max_size=20,
)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(NAMES)
def test_any_name_goes_into_a_csv_and_the_same_name_comes_out(raw: list[bytes]) -> None:
    names = [os.fsdecode(each) for each in raw]
    with tempfile.TemporaryDirectory() as folder:
        out = written_names(Path(folder) / "o.csv", names)
        for through in (through_csv, through_pandas):
            cells = through(out)
            assert [path_from_csv(cell) for cell in cells] == names
            assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
            assert not set(";|\t\r\n") & set("".join(cells))
        assert [as_written(out, name) for name in names] == through_csv(out)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(NAMES)
def test_any_name_goes_into_json_lines_and_the_same_name_comes_out(raw: list[bytes]) -> None:
    names = [os.fsdecode(each) for each in raw]
    with tempfile.TemporaryDirectory() as folder:
        lines = written_names(Path(folder) / "o.jsonl", names).read_bytes().splitlines()
    assert [os.fsencode(json.loads(line)["path"]) for line in lines] == raw


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(NAMES)
def test_two_names_are_never_written_alike(raw: list[bytes]) -> None:
    names = {os.fsdecode(each) for each in raw}
    assert len({as_written(Path("o.csv"), name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("a.png", "a.png"),
        ("007.png", "007.png"),
        ("scan", "'scan"),
        ("007", "'007"),
        ("1e5", "'1e5"),
        ("May-20", "'May-20"),
        ("true", "'true"),
        ("=1", "'=1"),
        ("'a.png", "''a.png"),
        ("\udcff.png", r"\udcff.png"),
        (r"\udcff.png", r"\\udcff.png"),
        ("\a.png", r"\u0007.png"),
        (r"a\b.png", r"a\b.png"),
    ],
)
def test_cells_of_names(name: str, cell: str) -> None:
    assert as_written(Path("o.csv"), name) == cell
    assert path_from_csv(cell) == name


def test_no_cell_of_a_csv_is_a_spreadsheet_s_formula(tmp_path: Path) -> None:
    failed = [Row(name, "error", error=f"={name}") for name in HOSTILE]
    for cells in read_csv(write(tmp_path / "o.csv", [*map(row, HOSTILE), *failed])):
        assert not [cell for cell in cells.values() if cell.startswith(tuple("=+-@\t\r"))]


def test_hostile_names_come_out_of_json_lines(tmp_path: Path) -> None:
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
