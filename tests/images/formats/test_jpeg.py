"""JPEG: a missing end, damage beside the pixels, and more than 8 bits."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import hostile
from imagefiles import reason
from medkit.errors import ImageError
from medkit.images.notes import DEPTH_GUESSED, END_MISSING, SEVERAL_FRAMES
from medkit.images.reading import read_image

CUT = "ends before its pixels do"
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "grey": {"grey": True},
    "grey, progressive": {"grey": True, "progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "all colours": {"subsampling": "4:4:4"},
    "progressive restarts": {"progressive": True, "restart_marker_rows": 1},
}


def jpeg(grey: bool = False, quality: int = 90, **options: Any) -> bytes:
    picture = hostile.picture((200, 160))
    return hostile.encoded(picture.convert("L") if grey else picture, "JPEG", quality=quality,
                           **options)  # fmt: skip


def with_thumbnail(content: bytes) -> bytes:
    """Return a JPEG whose EXIF holds a whole one, with scans and an end of its own."""
    small = hostile.encoded(hostile.picture((40, 32), seed=9), "JPEG")
    return content[:2] + hostile.segment(0xE1, b"Exif\0\0II*\0" + small) + content[2:]


def cuts(content: bytes) -> Iterator[int]:
    """Give places to cut at: at each scan, and all over the file."""
    place = content.index(b"\xff\xda") + 40
    while (place := content.find(b"\xff\xda", place + 1)) > 0:
        yield from (place - 1, place, place + 2)
    yield from range(content.index(b"\xff\xda") + 40, len(content) - 24, 61)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_jpeg_that_lacks_only_its_end_marker_is_read_and_the_note_says_so(
    options: dict[str, Any],
) -> None:
    content = jpeg(**options)
    for whole in (content, with_thumbnail(content)):
        expected = read_image(io.BytesIO(whole))
        assert expected.notes == ()
        for ending in (b"", b"\xff", b"\0" * 700):
            found = read_image(io.BytesIO(whole[:-2] + ending))
            assert found.notes == (END_MISSING,)
            assert found.pixels.tobytes() == expected.pixels.tobytes()


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_jpeg_that_lacks_pixels_is_an_error_wherever_it_is_cut(options: dict[str, Any]) -> None:
    content = jpeg(**options)
    for cut in cuts(content):
        assert reason(io.BytesIO(content[:cut])) == CUT, cut


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_half_a_jpeg_is_an_error_whatever_was_put_behind_it(options: dict[str, Any]) -> None:
    content = jpeg(**options)
    start = content.index(b"\xff\xda") + 60
    for share in (0.1, 0.5, 0.9):
        half = content[: int(start + share * (len(content) - start))]
        for ending in (b"\xff\xd9", bytes(len(content) - len(half)), bytes(99) + b"\xff\xd9"):
            said = reason(io.BytesIO(half + ending))
            assert said == CUT, (share, ending[:2])


def test_a_last_row_that_is_black_or_any_other_is_no_missing_row() -> None:
    for size in ((1, 1), (2, 3), (8, 8), (40, 9)):
        for level in range(0, 256, 5):
            for mode in ("L", "RGB"):
                whole = hostile.encoded(Image.new(mode, size, (level,) * len(mode)), "JPEG")
                assert read_image(io.BytesIO(whole)).notes == ()


def test_fill_bytes_before_a_marker_are_passed_over() -> None:
    for bits, content, _ in deep_jpegs(1):
        place = content.index(b"\xff", 2)
        filled = content[:place] + b"\xff" * 40 + content[place:]
        found = read_image(io.BytesIO(filled)).pixels.tobytes()
        assert found == read_image(io.BytesIO(content)).pixels.tobytes(), bits


def test_further_pictures_of_one_file_are_told() -> None:
    content = hostile.encoded(
        hostile.picture(), "MPO", save_all=True, append_images=[hostile.picture(seed=3)]
    )
    found = read_image(io.BytesIO(content))
    assert found.notes == (SEVERAL_FRAMES,)


def test_a_jpeg_ls_is_named() -> None:
    content = imagecodecs().jpegls_encode(levels(1))
    assert reason(io.BytesIO(content)).startswith("a JPEG-LS")


def test_a_jpeg_cut_at_any_byte_near_its_end_is_whole_or_an_error() -> None:
    for options in KINDS.values():
        content = jpeg(**options)
        expected = read_image(io.BytesIO(content)).pixels.tobytes()
        for cut in range(len(content) - 24, len(content) - 2):
            with suppress(ImageError):
                found = read_image(io.BytesIO(content[:cut]))
                assert found.notes == (END_MISSING,)
                assert found.pixels.tobytes() == expected


def test_a_progressive_x_ray_cut_between_scans_is_an_error_at_any_scale() -> None:
    content = hostile.encoded(hostile.picture((1600, 1200)), "JPEG", progressive=True)
    for cut in cuts(content[: len(content) // 2]):
        assert reason(io.BytesIO(content[:cut])).startswith((CUT, "has too few bytes"))
    last = content.rindex(b"\xff\xda")
    assert reason(io.BytesIO(content[:last])) == CUT


def test_damaged_or_oversized_side_data_cost_nothing() -> None:
    expected = np.asarray(read_image(io.BytesIO(hostile.with_segments())).pixels)
    starts = (b"", b"JFIF\0", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"Adobe",
              b"ICC_PROFILE\0", b"MPF\0", b"Photoshop 3.0\0", b"8BIM")  # fmt: skip
    for marker in (*range(0xE0, 0xF0), 0xFE):
        for start in starts:
            for rest in (b"", b"\1", b"\xff" * 9, bytes(3000)):
                content = start + rest
                if marker in (0xE0, 0xEE) and content[:5] in (b"JFIF\0", b"Adobe"):
                    continue  # these decide the colours
                added = hostile.with_segments(hostile.segment(marker, content))
                found = np.asarray(read_image(io.BytesIO(added)).pixels)
                assert np.array_equal(found, expected), (hex(marker), content[:20])


def imagecodecs() -> Any:
    return pytest.importorskip("imagecodecs", reason="LOUDLY: imagecodecs is not installed here")


def levels(samples: int) -> NDArray[np.uint8]:
    rows, columns = np.indices((72, 96))
    planes = [10 + rows + columns + 35 * number for number in range(samples)]
    planes[0][:3] = 255
    picture = np.stack(planes, axis=-1).astype(np.uint8)
    return picture[..., 0] if samples == 1 else picture


def deep_jpegs(samples: int) -> Iterator[tuple[int, bytes, NDArray[np.uint8]]]:
    """Give JPEGs that Pillow cannot decode: bits, content, and their 8-bit pixels."""
    picture = levels(samples)
    for bits, options in (
        (8, {"lossless": True}),
        (12, {"lossless": True}),
        (16, {"lossless": True}),
        (12, {"level": 100}),
    ):
        values = np.rint(picture / 255 * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
        encode = imagecodecs().jpeg8_encode
        yield bits, encode(values, bitspersample=bits, **options), picture


@pytest.mark.parametrize("samples", [1, 3])
def test_lossless_and_12_bit_jpegs_give_the_pixels_of_the_8_bit_image(samples: int) -> None:
    for bits, content, picture in deep_jpegs(samples):
        found = read_image(io.BytesIO(content))
        error = np.abs(np.asarray(found.pixels).astype(int) - picture).mean()
        assert error <= (2 if samples == 3 else 1), bits
        assert found.notes == ((DEPTH_GUESSED,) if bits == 16 else ())
        assert reason(io.BytesIO(content[: len(content) // 2]))


@pytest.mark.parametrize("samples", [1, 3])
def test_without_the_extra_a_deep_jpeg_names_it(
    samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [*deep_jpegs(samples)]
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    for bits, content, _ in made:
        said = reason(io.BytesIO(content))
        assert f"read a {bits}-bit" in said
        assert said.endswith('pip install "medkit-edge[formats]"')


def test_a_deep_jpeg_without_its_end_marker_is_read_or_refused() -> None:
    for _, content, _ in deep_jpegs(1):
        expected = read_image(io.BytesIO(content)).pixels.tobytes()
        found = read_image(io.BytesIO(content[:-2]))
        assert END_MISSING in found.notes
        assert found.pixels.tobytes() == expected


def test_a_deep_jpeg_is_turned_upright() -> None:
    _, content, picture = next(deep_jpegs(1))
    exif = Image.Exif()
    exif[274] = 6
    turned = content[:2] + hostile.segment(0xE1, exif.tobytes()) + content[2:]
    found = np.asarray(read_image(io.BytesIO(turned)).pixels)
    assert np.array_equal(found, np.rot90(picture, -1))
