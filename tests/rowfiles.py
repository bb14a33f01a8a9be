"""Rows, and names that are hard on files of rows, shared by the tests of the outputs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from hypothesis import strategies as st

from medkit.batch.columns import columns_for
from medkit.batch.outputs.registry import RowSink, output_for
from medkit.batch.rows import Row

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


def row(path: str = "a.png") -> Row:
    probabilities = {"NORMAL": 0.25, "basal cell carcinoma": 0.123456789}
    return Row(path, "ok", "skin", "NORMAL", 0.25, probabilities)


def open_output(out: Path, *, append: bool = False) -> AbstractContextManager[RowSink]:
    """Open an output as a run does; ``-`` is standard output."""
    return output_for(out).open(out, columns_for(LABELS), append=append)


def write(out: Path, rows: Iterable[Row]) -> bytes:
    """Write rows to a new output, and return its bytes."""
    with open_output(out) as sink:
        for each in rows:
            sink.write(each)
    return out.read_bytes()


def written_names(out: Path, names: Iterable[str]) -> Path:
    """Write a row for each name, and return the output."""
    write(out, map(row, names))
    return out
