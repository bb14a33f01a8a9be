"""CSV files that people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkit.datasets.csvfiles import read_csv_table
from medkit.errors import UsageError


@pytest.mark.parametrize("divider", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_spreadsheets_of_all_countries_are_read(tmp_path: Path, divider: str, newline: str) -> None:
    lines = [["image", "labels"], ['"a b.png"', "x|y"], [], ["c.png ", ""]]
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + newline.join(map(divider.join, lines)).encode())
    table = read_csv_table(path)
    assert table.columns == ("image", "labels")
    assert table.rows == ((2, ("a b.png", "x|y")), (4, ("c.png", "")))
    assert (table.column(["LABELS"]), table.column(["group"])) == (1, None)


def test_what_medkit_wrote_keeps_its_spaces(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image,label\na .png , x\n")
    assert read_csv_table(path, verbatim=True).rows == ((2, ("a .png ", " x")),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected a header and a row for each image"),
        (b"image,Label,label\n", "has the column 'Label' twice; leave one of them"),
        (b"image,label\na.png\n", "line 2 has 1 cells, and the header 2; correct it"),
        (b'image,label\n"a.png,x\n', "line 2: unexpected end of data; correct it"),
        (b"image,label\n\xff,x\n", "is no UTF-8 text; save it as CSV in UTF-8"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_csv_table(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
