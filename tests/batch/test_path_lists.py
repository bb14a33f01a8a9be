"""Lists of paths, as editors, shells and ``find`` write them."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from medkit.batch.path_lists import check_list, read_list
from medkit.errors import UsageError


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        (b"a.png\nb c.png\n", ["a.png", "b c.png"]),
        (b"a.png\n\n  \n b.png", ["a.png", " b.png"]),
        (b"a.png\r\nb.png\r\n\r\n", ["a.png", "b.png"]),
        (b"\xef\xbb\xbfa.png\nb.png\n", ["a.png", "b.png"]),
        (b"a\nb.png\0c.png\0", ["a\nb.png", "c.png"]),
        (b"a.png\r\0", ["a.png\r"]),
        (b"\xff.png\n\xc3\xa9.png\n", ["\udcff.png", "é.png"]),
        (b"", []),
        (b"\n\n", []),
        (b"x" * 4000 + b"\n" + b"y" * 4000, ["x" * 4000, "y" * 4000]),
    ],
)
def test_a_list_gives_its_paths(tmp_path: Path, content: bytes, paths: list[str]) -> None:
    (tmp_path / "list").write_bytes(content)
    check_list(tmp_path / "list")
    assert list(read_list(tmp_path / "list")) == paths


def test_a_long_list_is_read_as_it_comes(tmp_path: Path) -> None:
    names = [f"folder/{number:06}.png" for number in range(30_000)]
    for separator in ("\n", "\0"):
        (tmp_path / "list").write_text(separator.join(names))
        assert list(read_list(tmp_path / "list")) == names


def test_a_path_on_standard_input_is_given_before_the_next_one_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream, os.fdopen(writer, "wb", buffering=0) as feed:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
        check_list(Path("-"))
        paths = read_list(Path("-"))
        feed.write(b"a.png\nb")
        assert next(paths) == "a.png"
        feed.write(b".png\n")
        assert next(paths) == "b.png"
        feed.close()
        assert list(paths) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a.png\nb.png\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"a.png\n" + b"x" * 200_000, "is no list of paths; accepted: a path a line"),
        (b"a.png\n" * 20_000 + b"b\0", "is no list of paths"),
    ],
)
def test_what_is_no_list_is_refused_in_one_line(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        list(read_list(tmp_path / "list"))


def test_a_list_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="missing cannot be read: No such file.*; check the path"):
        check_list(tmp_path / "missing")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        check_list(tmp_path)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        check_list(Path("-"))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a.png")))
    assert list(read_list(Path("-"))) == ["a.png"]
