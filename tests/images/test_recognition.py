"""What begins as an accepted image does, whatever it is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from medkit.images import recognition
from medkit.images.recognition import begins_as_image, may_be_image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_every_accepted_format_is_told_by_its_content(tmp_path: Path, kind: str) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "IM_0001", kind)
    assert may_be_image(str(tmp_path / "IM_0001"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"%PDF-1.7",
        b"PK\3\4",
        bytes(128) + b"DICM",
        b"BM",
        b"BMW and other cars: a list of no use",
        b"BM" + bytes(100),
    ],
)
def test_other_files_are_not_taken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert not may_be_image(str(tmp_path / "a"))


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not may_be_image(str(tmp_path / "pipe"))
    assert not may_be_image("/dev/zero")


def test_what_cannot_be_read_is_taken_so_that_its_row_tells_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert may_be_image(str(tmp_path / "missing"))
    (tmp_path / "a").write_bytes(b"text")

    class Failing:
        def accepts(self, head: bytes) -> bool:
            raise ValueError("a plug-in's fault")

    monkeypatch.setattr(recognition, "image_formats", lambda: (Failing(),))
    assert may_be_image(str(tmp_path / "a"))


@pytest.mark.parametrize("header", [12, 40, 52, 56, 64, 108, 124])
def test_a_bmp_is_told_by_its_header_whatever_the_header_s_kind(header: int) -> None:
    assert begins_as_image(b"BM" + bytes(12) + header.to_bytes(4, "little"))
