"""What a CSV holds, byte by byte where it matters."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from medkit.batch.columns import columns_for
from medkit.batch.outputs.csv import CsvOutput, path_from_csv
from medkit.batch.outputs.registry import output_for
from medkit.batch.rows import Row
from medkit.errors import UsageError
from rowfiles import HOSTILE, LABELS, NAMES, open_output, row, write, written_names

NAMESPACE = "{urn:oasis:names:tc:opendocument:xmlns:%s:1.0}"


TABLE, TEXT, OFFICE = NAMESPACE % "table", NAMESPACE % "text", NAMESPACE % "office"


def read_csv(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_csv_bytes(tmp_path: Path) -> None:
    failed = Row("b.png", "error", error="file not found")
    assert write(tmp_path / "o.csv", [row(), failed]) == (
        b"path,status,task,label,confidence,p_NORMAL,p_basal_cell_carcinoma,error,notes\n"
        b"a.png,ok,skin,NORMAL,0.25,0.25,0.123457,,\n"
        b"b.png,error,,,,,,file not found,\n"
    )


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
        assert list(output_for(out).recover(out, columns_for(LABELS)).names()) == names


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(NAMES)
def test_two_names_are_never_written_alike(raw: list[bytes]) -> None:
    names = {os.fsdecode(each) for each in raw}
    with tempfile.TemporaryDirectory() as folder:
        cells = through_csv(written_names(Path(folder) / "o.csv", names))
    assert len(set(cells)) == len(names)


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
def test_cells_of_names(tmp_path: Path, name: str, cell: str) -> None:
    assert through_csv(written_names(tmp_path / "o.csv", [name])) == [cell]
    assert path_from_csv(cell) == name


def test_no_cell_of_a_csv_is_a_spreadsheet_s_formula(tmp_path: Path) -> None:
    failed = [Row(name, "error", error=f"={name}") for name in HOSTILE]
    for cells in read_csv(write(tmp_path / "o.csv", [*map(row, HOSTILE), *failed])):
        assert not [cell for cell in cells.values() if cell.startswith(tuple("=+-@\t\r"))]


@pytest.mark.parametrize(
    ("error", "cell"),
    [
        ("has negative samples; accepted: 0 to 255", "has negative samples; accepted: 0 to 255"),
        ("a;b", "a;b"),
        ("a;=1", r"a\u003b=1"),
        ("a; =1", r"a\u003b\u0020=1"),
        ('a;"=1', r'a\u003b"=1'),
        ("a;\uff1d1", "a\\u003b\uff1d1"),
        ("a;", r"a\u003b"),
        ("a\nb|=1", r"a\u000ab\u007c=1"),
        ("=1; b", "'=1; b"),
    ],
)
def test_an_error_reads_as_it_was_said_unless_a_formula_or_a_line_could_begin_in_it(
    tmp_path: Path, error: str, cell: str
) -> None:
    (cells,) = read_csv(write(tmp_path / "o.csv", [Row("a.png", "error", error=error)]))
    assert cells["error"] == cell


def test_names_that_are_not_utf8_leave_valid_files(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    (in_csv,) = read_csv(write(tmp_path / "o.csv", [row(name)]))
    assert in_csv["path"] == r"\udcff.png"
    in_json = json.loads(write(tmp_path / "o.jsonl", [row(name)]))
    assert os.fsencode(in_json["path"]) == b"\xff.png"


def test_dash_is_csv_on_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_output(Path("-")) as sink:
        sink.write(row(os.fsdecode(b"\xff.png")))
    written = capfdbinary.readouterr().out
    assert written.startswith(b"path,status,")
    assert written.endswith(b"\\udcff.png,ok,skin,NORMAL,0.25,0.25,0.123457,,\n")


def test_a_csv_for_excel_begins_with_the_mark_and_is_read_by_csv_and_pandas(
    tmp_path: Path,
) -> None:
    import pandas

    out = tmp_path / "o.csv"
    names = ["grün.png", "007", "=1.png"]
    with CsvOutput(excel=True).open(out, columns_for(LABELS), append=False) as sink:
        sink.write(row(names[0]))
    with CsvOutput(excel=True).open(out, columns_for(LABELS), append=True) as sink:
        for name in names[1:]:
            sink.write(row(name))
    content = out.read_bytes()
    assert content.startswith("\ufeffpath,status,".encode())
    assert content.count("\ufeff".encode()) == 1
    plain = written_names(tmp_path / "plain.csv", names).read_bytes()
    assert content.removeprefix("\ufeff".encode()) == plain
    with out.open(newline="", encoding="utf-8-sig") as stream:
        cells = [each["path"] for each in csv.DictReader(stream)]
    assert [path_from_csv(cell) for cell in cells] == names
    assert list(pandas.read_csv(out)["path"].map(path_from_csv)) == names
    recovered = CsvOutput(excel=True).recover(out, columns_for(LABELS))
    assert list(recovered.names()) == names
    with pytest.raises(UsageError, match="does not begin with the columns of this run"):
        CsvOutput().recover(out, columns_for(LABELS))
