"""Lists of paths, as editors, shells and ``find`` write them."""

from __future__ import annotations

import io
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from medkit.batch.path_lists import check_list, is_stream, read_list
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
        ("/data/a.png\n/data/b.png\n".encode("utf-16-le"), "looks like UTF-16; save it as"),
        ("/data/a.png\r\n".encode("utf-16-be"), "looks like UTF-16; save it as UTF-8"),
        ("患者/ü.png\n".encode("utf-16-le"), "looks like UTF-16; save it as UTF-8"),
        ("/data/a.png\n".encode("utf-32-le"), "is no list of paths"),
        (b"\x1f\x8b\x08" + random.Random(0).randbytes(2000), "is no list of paths"),
        (b"\x7fELF\2\1\1" + bytes(9), "is no list of paths"),
        (b"PK\3\4\x14\0\6\0\x08\0\0\0!\0", "is no list of paths"),
        (b"\x93\xff\x01\0a.png\0", "is no list of paths"),
        (b"\x1b[0m\x1b[01;35ma.png\x1b[0m\n", "holds control characters; accepted: a path a"),
        (b"a.png\rb.png\r", "holds control characters"),
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_an_image_is_no_list(tmp_path: Path, kind: str) -> None:
    Image.radial_gradient("L").save(tmp_path / "list", kind)
    with pytest.raises(UsageError, match="is an image; give it without --from-file"):
        check_list(tmp_path / "list")


@pytest.mark.parametrize(
    "content",
    [
        b"0\0001\0002\0003\0",
        b"a\0train/1.png\0b\0train/2.png\0",
        b"bell \a.png\0\xff.png\0",
        b"BM/1.png\nBMW.png\n",
        b"tab\there.png\n",
        b"a.png\n" * 20_000 + b"bell \a.png",
    ],
)
def test_a_list_that_only_looks_odd_is_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list").write_bytes(content)
    separator = "\0" if b"\0" in content else "\n"
    expected = [path for path in os.fsdecode(content).split(separator) if path]
    assert list(read_list(tmp_path / "list")) == expected


def test_what_can_be_read_only_once_is_only_looked_at(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "list").write_text("a.png")
    assert is_stream(Path("-"))
    assert is_stream(Path("/dev/stdin"))
    assert is_stream(tmp_path / "pipe")
    assert not is_stream(tmp_path / "list")
    assert not is_stream(tmp_path / "missing")
    check_list(tmp_path / "pipe")  # reading would wait for a writer
