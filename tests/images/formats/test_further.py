"""GIF, JPEG 2000, AVIF, HEIC and JPEG XL: read, or refused with what is missing."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image

import hostile
from imagefiles import reason
from medkit.images.notes import DEPTH_GUESSED, SEVERAL_FRAMES
from medkit.images.reading import read_image
from medkit.images.recognition import may_be_image


def optional(name: str) -> Any:
    return pytest.importorskip(name, reason=f"LOUDLY: {name} is not installed here")


def levels(samples: int) -> NDArray[np.uint8]:
    rows, columns = np.indices((72, 96))
    planes = [(rows + 2 * columns + 60 * number) % 256 for number in range(samples)]
    picture = np.stack(planes, axis=-1).astype(np.uint8)
    if samples in (2, 4):
        picture[..., -1] = 255
    return picture[..., 0] if samples == 1 else picture


def smooth(shift: int = 0) -> Image.Image:
    """Return a picture that lossy formats keep."""
    rows, columns = np.indices((80, 96))
    planes = [40 + shift + rows, 200 - columns, 60 + columns // 2 + rows // 2]
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


def made(kind: str) -> bytes:
    """Return a picture of each kind."""
    picture = smooth()
    if kind == "HEIC":
        stream = io.BytesIO()
        heif = optional("pillow_heif").from_pillow(picture)
        heif.save(stream, quality=95)
        return stream.getvalue()
    if kind == "JPEG XL":
        return bytes(optional("imagecodecs").jpegxl_encode(np.asarray(picture), lossless=True))
    options = {"AVIF": {"quality": 95}}.get(kind, {})
    return hostile.encoded(picture, kind.replace(" ", ""), **options)


KINDS = ("GIF", "JPEG 2000", "AVIF", "HEIC", "JPEG XL")


def decoded(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(read_image(io.BytesIO(content)).pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_each_further_format_gives_the_picture_and_is_taken_by_its_content(
    kind: str, tmp_path: Path
) -> None:
    content = made(kind)
    (tmp_path / "scan").write_bytes(content)
    difference = np.abs(decoded(content).astype(int) - np.asarray(smooth()))
    assert difference.mean() < 3, "a palette of 256 colours is the worst"
    assert may_be_image(str(tmp_path / "scan"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_further_format_that_is_cut_is_an_error(kind: str) -> None:
    content = made(kind)
    for share in (0.2, 0.5, 0.8, 0.95):
        assert reason(io.BytesIO(content[: int(len(content) * share)]))


@pytest.mark.parametrize(
    ("kind", "package"),
    [("HEIC", "pillow_heif"), ("JPEG XL", "imagecodecs"), ("JPEG 2000", "imagecodecs")],
)
def test_what_needs_an_extra_names_it(
    kind: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = made(kind)
    if kind == "JPEG 2000":  # Pillow decodes those of 8 bits
        values = levels(3).astype(np.uint16) * 257
        content = optional("imagecodecs").jpeg2k_encode(values, level=0)
    monkeypatch.setitem(sys.modules, package, None)
    said = reason(io.BytesIO(content))
    assert kind in said
    assert said.endswith('pip install "medkit-edge[formats]"')


def test_avif_without_pillows_decoder_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    content = made("AVIF")
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    assert "does not decode" in reason(io.BytesIO(content))


def test_only_the_first_frame_of_an_animation_is_read_and_the_note_says_so() -> None:
    first, second = smooth(), smooth(90)
    for kind in ("GIF", "AVIF"):
        content = hostile.encoded(first, kind, save_all=True, append_images=[second])
        found = read_image(io.BytesIO(content))
        assert found.notes == (SEVERAL_FRAMES,)
        assert np.abs(np.asarray(found.pixels).astype(int) - np.asarray(first)).mean() < 3


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [1, 4, 7, 8, 9, 12, 16])
def test_jpeg_2000_of_any_depth_is_as_bright_as_it_was_stored(samples: int, bits: int) -> None:
    picture = levels(samples)
    values = np.rint(picture / 255 * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)
    content = optional("imagecodecs").jpeg2k_encode(values, level=0, bitspersample=bits)
    picture = np.rint(values * 255.0 / (2**bits - 1))
    found = read_image(io.BytesIO(content))
    colours = picture if samples == 1 else picture[..., : 1 if samples == 2 else 3]
    assert np.abs(np.asarray(found.pixels).astype(int) - np.squeeze(colours)).max() <= 1
    assert found.notes == ((DEPTH_GUESSED,) if bits == 16 else ())


@pytest.mark.parametrize("samples", [1, 3])
def test_deep_jpeg_xl_gives_the_pixels_of_the_8_bit_image(samples: int) -> None:
    picture = levels(samples)
    for values in (picture.astype(np.uint16) * 257, picture.astype(np.float32) / 255):
        content = optional("imagecodecs").jpegxl_encode(values, lossless=True)
        assert np.abs(decoded(content).astype(int) - picture).max() <= 1


def test_an_orientation_is_obeyed_in_each_format_that_has_one() -> None:
    exif = Image.Exif()
    exif[274] = 6
    picture = smooth()
    content = hostile.encoded(picture, "AVIF", quality=95, exif=exif.tobytes())
    upright = np.rot90(np.asarray(picture), -1)
    assert np.abs(decoded(content).astype(int) - upright).mean() < 3
    stream = io.BytesIO()
    heif = optional("pillow_heif").from_pillow(picture)
    heif.save(stream, quality=95, exif=exif.tobytes())
    found = decoded(stream.getvalue())
    assert np.abs(found.astype(int) - upright).mean() < 3


def test_a_jpeg_xl_says_how_many_bits_it_has_and_that_it_is_animated() -> None:
    codecs, picture = optional("imagecodecs"), levels(1) // 3
    for bits in (10, 12, 14):
        values = np.rint(picture / 255 * (2**bits - 1)).astype(np.uint16)
        content = codecs.jpegxl_encode(values, lossless=True, bitspersample=bits)
        found = read_image(io.BytesIO(content))
        assert np.abs(np.asarray(found.pixels).astype(int) - picture).max() <= 1, bits
        assert found.notes == ()
    content = codecs.jpegxl_encode(np.stack([levels(3), 255 - levels(3)]), lossless=True)
    assert SEVERAL_FRAMES in read_image(io.BytesIO(content)).notes


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_pixels_that_end_in_zeros_were_not_written_in_full(kind: str) -> None:
    content = made(kind)
    for share in (0.5, 0.9):
        half = content[: int(len(content) * share)]
        assert reason(io.BytesIO(half + bytes(len(content) - len(half))))


def test_a_gif_whose_first_frame_does_not_fill_it_is_refused() -> None:
    content = bytearray(hostile.encoded(smooth().quantize(16), "GIF"))
    content[6:10] = (200).to_bytes(2, "little") + (160).to_bytes(2, "little")
    assert reason(io.BytesIO(bytes(content))).startswith("a GIF whose first frame does not fill it")
