"""The input contract: which pixels a model sees of which file."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

import hostile
import make_golden as golden
from imagefiles import RGB, decode, encode, flat, reason
from medkit.errors import ImageError
from medkit.images import reading
from medkit.images.bounded_file import BoundedFile
from medkit.images.contract import FULL_SCALE, InputContract
from medkit.images.formats.registry import Decoded
from medkit.images.limits import Limits
from medkit.images.pixels import image_to_tensor
from medkit.images.reading import load_tensor, open_image

NO_FORMAT = (
    "not an image of an accepted format "
    "(JPEG, PNG, BMP, WEBP, TIFF, GIF, JPEG 2000, AVIF, HEIC, JPEG XL)"
)

# Golden tensors


def test_no_pixel_of_the_golden_files_has_moved() -> None:
    with np.load(golden.FOLDER / golden.TENSORS) as stored:
        expected = dict(stored)
    found = golden.tensors(golden.FOLDER)
    assert found.keys() == expected.keys(), (
        "the golden files and their tensors do not belong together; "
        "run: python tests/make_golden.py"
    )
    moved = []
    for name, tensor in found.items():
        difference = np.abs(tensor.astype(int) - expected[name])
        if difference.any():
            moved.append(
                f"{name}: {np.count_nonzero(difference)} of {difference.size} samples, "
                f"by up to {difference.max()} grey levels"
            )
    assert not moved, (
        "the input contract moved a pixel, so models see other images than they were trained on. "
        "If that is meant, give the changed rule a new name in InputContract, export every model "
        "again, and run: python tests/make_golden.py. If not, look for a new version of Pillow.\n"
        + "\n".join(moved)
    )


def test_the_golden_files_cover_every_format_and_scaled_decoding() -> None:
    kinds = set()
    for path in golden.files(golden.FOLDER):
        with Image.open(path) as image:
            kinds.add(image.format)
    assert kinds == {"JPEG", "PNG", "BMP", "TIFF", "WEBP"}, "what the shipped models were made on"
    assert open_image(golden.FOLDER / "scaled.jpg").size == (350, 300)


# Rule 1: decoding


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
     ("WEBP", {"lossless": True})],
)  # fmt: skip
def test_lossless_formats_give_the_pixels_that_were_stored(
    kind: str, options: dict[str, Any]
) -> None:
    assert np.array_equal(decode(golden.pattern(), kind, **options), golden.pattern())


def test_content_decides_the_format_and_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(encode(golden.pattern()).getvalue())
    assert np.array_equal(load_tensor(path, RGB), load_tensor(encode(golden.pattern()), RGB))


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "PNG"])
def test_the_first_of_several_frames_counts(kind: str) -> None:
    frames = [flat((20 * index, 0, 200)) for index in range(1, 4)]
    stream = encode(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(stream) as image:
        assert image.n_frames == 3
    assert np.asarray(open_image(stream))[0, 0].tolist() == [20, 0, 200]


def test_the_picture_counts_and_not_a_thumbnail_that_differs() -> None:
    picture, black = hostile.picture(), Image.new("RGB", (40, 30))
    plain = np.asarray(open_image(encode(picture, "JPEG", quality=90)))
    exif = Image.Exif()
    exif[256], exif[257] = black.size
    thumbnail = hostile.encoded(black, "JPEG")
    segments = (
        hostile.segment(0xE0, b"JFIF\0\x01\x02\0\0\x01\0\x01\x08\x08" + bytes(192)),
        hostile.segment(0xE0, b"JFXX\0\x10" + thumbnail),
        hostile.segment(0xE1, exif.tobytes() + thumbnail),
    )
    for segment in segments:
        stream = io.BytesIO(hostile.with_segments(segment))
        assert np.array_equal(np.asarray(open_image(stream)), plain)


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((255, 255), (255, 255)),
        ((511, 3000), (511, 3000)),
        ((512, 512), (256, 256)),
        ((700, 600), (350, 300)),
        ((1024, 1100), (256, 275)),
        ((2048, 4000), (256, 500)),
        ((5000, 6000), (625, 750)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_keeps_twice_the_target(
    size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    assert open_image(encode(Image.new("L", size, 90), "JPEG")).size == decoded


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("seed", range(5))
def test_scaled_decoding_never_goes_below_twice_the_target(mode: str, seed: int) -> None:
    rng = random.Random(seed)
    size = (rng.randrange(100, 2500), rng.randrange(100, 2500))
    decoded = open_image(encode(Image.new(mode, size), "JPEG")).size
    assert decoded == size or min(decoded) >= 256


def test_a_contract_can_ask_for_every_pixel_of_a_jpeg() -> None:
    """What Keras' generator reads: the nearest pixels, and none that was averaged before."""
    rng = np.random.default_rng(0)
    stream = encode(rng.integers(0, 256, (700, 900), np.uint8), "JPEG", quality=95)
    contract = InputContract(64, 32, 1, decoder=FULL_SCALE, resize="squash:pillow-nearest")
    with Image.open(stream) as image:
        expected = np.asarray(image.resize((64, 32), Image.Resampling.NEAREST))
    assert np.array_equal(load_tensor(stream, contract)[..., 0], expected)


def test_a_jpeg_is_scaled_only_where_it_may_be() -> None:
    stream = encode(Image.new("L", (2048, 1024), 90), "JPEG")
    sizes = {side: open_image(stream, least_side=side).size for side in (256, 1024, None)}
    assert sizes == {256: (512, 256), 1024: (2048, 1024), None: (2048, 1024)}


def test_a_jpeg_without_its_end_is_decoded_at_full_scale_too() -> None:
    content = encode(golden.pattern(900, 700), "JPEG").getvalue()
    stream = io.BytesIO(content.removesuffix(b"\xff\xd9"))
    assert open_image(stream, least_side=None).size == (900, 700)


# Rule 2: orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_exif_orientation_gives_the_upright_pixels(kind: str, orientation: int) -> None:
    stored = golden.with_orientation(golden.pattern(), orientation)
    found = decode(stored, kind, exif=golden.exif(orientation))
    assert np.array_equal(found, golden.pattern())


def test_a_turned_jpeg_is_as_good_as_a_turned_picture() -> None:
    stored = golden.with_orientation(golden.pattern(64, 48), 6)
    turned = decode(stored, "JPEG", exif=golden.exif(6))
    assert np.array_equal(np.rot90(turned), decode(stored, "JPEG"))


def test_deep_samples_are_turned_upright_too() -> None:
    stored = golden.with_orientation(golden.grey_pattern(), 8).astype(np.uint16) * 257
    assert np.array_equal(decode(stored, exif=golden.exif(8)), golden.grey_pattern())


def test_path_stream_and_opened_image_give_the_same(tmp_path: Path) -> None:
    path = golden.FOLDER / "colour.jpg"
    from_path = load_tensor(path, RGB)
    assert np.array_equal(from_path, load_tensor(io.BytesIO(path.read_bytes()), RGB))
    assert np.array_equal(from_path, image_to_tensor(open_image(path), RGB))


# Files that are no images


def test_what_cannot_be_opened_is_refused_with_a_reason_and_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "locked.png").touch()

    real_open = open

    def guarded(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file).endswith("locked.png"):
            raise PermissionError(13, "Permission denied", str(file))
        return real_open(file, *arguments, **options)

    monkeypatch.setattr("builtins.open", guarded)
    no_format = NO_FORMAT
    expected = {
        "missing.png": "file not found",
        "folder.png": "is a folder, not a file",
        "locked.png": "no permission to read the file",
        "text.jpg": no_format,
        "empty.png": no_format,
        "loop.png": "cannot be decoded: Too many levels of symbolic links",
        "text.jpg/a.png": "cannot be decoded: Not a directory",
        "n" * 300: "cannot be decoded: File name too long",
    }
    assert {name: reason(tmp_path / name) for name in expected} == expected


@pytest.mark.parametrize("name", [path.name for path in golden.files(golden.FOLDER)])
def test_a_truncated_file_is_refused_and_never_half_a_picture(tmp_path: Path, name: str) -> None:
    content = (golden.FOLDER / name).read_bytes()
    for length in (1, 10, 40, len(content) // 2, len(content) * 9 // 10):
        (tmp_path / name).write_bytes(content[:length])
        message = reason(tmp_path / name)
        assert message
        assert str(tmp_path) not in message
        assert name not in message
        assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("TGA", encode(golden.pattern(), "TGA").getvalue()),
        ("EPS", encode(golden.pattern(), "EPS").getvalue()),
        ("PPM", encode(golden.pattern(), "PPM").getvalue()),
        (None, b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>'),
    ],
)
def test_other_formats_are_never_opened_even_under_a_known_suffix(
    tmp_path: Path, kind: str | None, content: bytes
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    if kind:
        with Image.open(path) as image:
            assert image.format == kind, "the decoder is there, and only the contract forbids it"
    assert reason(path) == NO_FORMAT


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")):
        bomb += struct.pack(">I", len(content)) + name + content
        bomb += struct.pack(">I", zlib.crc32(name + content))
    assert reason(io.BytesIO(bomb)) == (
        "has 30,000 x 30,000 pixels; accepted: up to 200 million, and 100,000 on a side"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory to decode"),
        (KeyError("tag"), "cannot be decoded: KeyError"),
        (SyntaxError("broken\n chunk"), "cannot be decoded: broken chunk"),
        (AssertionError(), "cannot be decoded: AssertionError"),
    ],
)
def test_whatever_a_decoder_raises_is_an_image_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def load(*_: Any) -> None:
        raise error

    stream = encode(golden.pattern(), "TIFF")
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", load)
    assert reason(stream) == message


class Careless:
    """A format that tells more than it lists, and gives whatever pixels it is told to."""

    name, extensions, rule, facts = "careless", (".careless",), "", ("dose",)

    def __init__(self, pixels: Image.Image) -> None:
        self.pixels = pixels

    def accepts(self, head: bytes) -> bool:
        return head.startswith(b"careless")

    def decode(self, file: BoundedFile, least_side: int | None, limits: Limits) -> Decoded:
        told: Any = {"dose": "3", "patient": "Doe^John"}
        return Decoded(self.pixels, self.pixels.size, told)


def careless(monkeypatch: pytest.MonkeyPatch, mode: str, size: tuple[int, int]) -> Decoded:
    kind = Careless(Image.new(mode, size))
    monkeypatch.setattr(reading, "image_formats", lambda: (kind,))
    return reading.read_image(io.BytesIO(b"careless"))


def test_facts_that_a_format_does_not_list_go_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    assert careless(monkeypatch, "L", (2, 2)).facts == {"dose": "3"}


@pytest.mark.parametrize(("mode", "size"), [("RGBA", (2, 2)), ("I;16", (2, 2)), ("L", (0, 2))])
def test_pixels_that_no_model_can_take_are_refused(
    monkeypatch: pytest.MonkeyPatch, mode: str, size: tuple[int, int]
) -> None:
    with pytest.raises(ImageError, match="the format careless gave an image of mode"):
        careless(monkeypatch, mode, size)
