"""Pillow's global settings: whatever other packages have set, an image is the same."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    PngImagePlugin,
    TiffImagePlugin,
)

import hostile
from medkit.errors import ImageError
from medkit.images.reading import read_image

KINDS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG2000", "AVIF")


class Foreign(ImageFile.ImageFile):
    """A plug-in of somebody else, who takes every file for an image of one black pixel."""

    format = "FOREIGN"

    def _open(self) -> None:
        self._mode, self._size = "L", (1, 1)


class ForeignDecoder(ImageFile.PyDecoder):
    """A decoder of somebody else, which leaves all pixels black."""

    def decode(self, buffer: Any) -> tuple[int, int]:
        return -1, 0


def files() -> dict[str, bytes]:
    """Return an image of each kind; BMP is run-length encoded, which Pillow decodes in Python."""
    made = {kind: hostile.encoded(hostile.picture(), kind) for kind in KINDS}
    runs = b"".join(bytes([8, row * 3]) + b"\0\0" for row in range(8)) + b"\0\1"
    made["run lengths"] = hostile.run_lengths(8, 8, runs)
    made["deflated"] = hostile.encoded(hostile.picture(), "TIFF", compression="tiff_deflate")
    damaged_exif = b"Exif\0\0" + hostile.tiff([(274, 3, 1, 6), (282, 5, 2**31, 8)])
    made["damaged EXIF"] = hostile.with_segments(hostile.segment(0xE1, damaged_exif))
    made["many texts"] = hostile.with_chunks(hostile.chunk(b"tEXt", b"Comment\0" + b"x" * 9000))
    return made


def decoded(content: bytes) -> tuple[bytes, tuple[str, ...]]:
    found = read_image(io.BytesIO(content))
    return found.pixels.tobytes(), found.notes


def meddle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set every global of Pillow that has to do with reading."""
    for module, name, value in (
        (ImageFile, "LOAD_TRUNCATED_IMAGES", True),
        (ImageFile, "MAXBLOCK", 7),
        (Image, "MAX_IMAGE_PIXELS", 5),
        (Image, "ID", ["FOREIGN"]),
        (Image, "OPEN", {"FOREIGN": (Foreign, None)}),
        (Image, "_initialized", 2),
        (TiffImagePlugin, "READ_LIBTIFF", True),
        (PngImagePlugin, "MAX_TEXT_CHUNK", 1),
        (PngImagePlugin, "MAX_TEXT_MEMORY", 1),
        (GifImagePlugin, "LOADING_STRATEGY", GifImagePlugin.LoadingStrategy.RGB_ALWAYS),
        (AvifImagePlugin, "DECODE_CODEC_CHOICE", "none"),
    ):
        monkeypatch.setattr(module, name, value)
    names = ("zip", "jpeg", "raw", "gif", "libtiff", "jpeg2k", "bmp_rle", "packbits")
    monkeypatch.setattr(Image, "DECODERS", dict.fromkeys(names, ForeignDecoder))


def settings() -> list[object]:
    return [
        ImageFile.LOAD_TRUNCATED_IMAGES,
        ImageFile.MAXBLOCK,
        Image.MAX_IMAGE_PIXELS,
        Image.DECODERS,
        TiffImagePlugin.READ_LIBTIFF,
        GifImagePlugin.LOADING_STRATEGY,
        AvifImagePlugin.DECODE_CODEC_CHOICE,
        list(warnings.filters),
    ]


def test_pixels_are_the_same_whatever_others_have_set(monkeypatch: pytest.MonkeyPatch) -> None:
    made = files()
    expected = {name: decoded(content) for name, content in made.items()}
    meddle(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = settings()
        found = {name: decoded(content) for name, content in made.items()}
        assert settings() == before, "others find what they have set"
    assert found == expected


def test_half_an_image_is_an_error_whatever_others_have_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = files()
    meddle(monkeypatch)
    for name, content in made.items():
        if name not in ("run lengths", "many texts"):
            with pytest.raises(ImageError):
                decoded(content[: len(content) // 2])


def test_threads_that_decode_at_once_leave_the_settings_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = files()
    expected = {name: decoded(content) for name, content in made.items()}
    meddle(monkeypatch)
    before = settings()
    names = [*made] * 12
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: decoded(made[name]), names))
    assert found == [expected[name] for name in names]
    assert settings() == before


def test_python_decoders_of_others_are_there_while_an_image_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    monkeypatch.setitem(Image.DECODERS, "somebody's", ForeignDecoder)
    monkeypatch.setitem(Image.DECODERS, "bmp_rle", ForeignDecoder)
    load = BmpImagePlugin.BmpImageFile.load

    def watched(image: BmpImagePlugin.BmpImageFile) -> object:
        seen.append(dict(Image.DECODERS))
        return load(image)

    monkeypatch.setattr(BmpImagePlugin.BmpImageFile, "load", watched)
    decoded(hostile.encoded(hostile.picture(), "BMP"))
    assert seen[0]["somebody's"] is ForeignDecoder
    assert seen[0]["bmp_rle"] is BmpImagePlugin.BmpRleDecoder


def test_a_process_that_has_meddled_before_medkit_is_imported_reads_the_same() -> None:
    program = """
        import io, sys, warnings
        warnings.simplefilter("error")
        from PIL import Image, ImageFile
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        Image.MAX_IMAGE_PIXELS = 5
        Image.OPEN.clear()
        Image.ID.clear()
        from medkit.errors import ImageError
        from medkit.images.reading import read_image
        content = sys.stdin.buffer.read()
        print(read_image(io.BytesIO(content)).pixels.size)
        try:
            read_image(io.BytesIO(content[: len(content) // 2]))
        except ImageError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        input=hostile.encoded(hostile.picture(), "JPEG"),
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode().splitlines() == ["(96, 80)", "ends before its pixels do"], (
        done.stderr.decode()
    )
