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
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

import hostile
import make_golden as golden
from medkit.errors import ImageError
from medkit.images.contract import InputContract
from medkit.images.formats.registry import image_formats
from medkit.images.pixels import image_to_tensor
from medkit.images.reading import load_tensor, open_image
from medkit.tasks import PNEUMONIA, SKIN

GREY, RGB = PNEUMONIA.contract, SKIN.contract

Pixels = NDArray[np.uint8]


def encode(image: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> io.BytesIO:
    """Return the bytes of an image file as a stream."""
    stream = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(stream, kind, **options)
    stream.seek(0)
    return stream


def decode(image: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> Pixels:
    """Return the pixels that rules 1 to 4 make of an image file."""
    return np.asarray(open_image(encode(image, kind, **options)))


def flat(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (8, 8), colour)


def reason(source: Path | io.BytesIO) -> str:
    """Return why an image is refused."""
    with pytest.raises(ImageError) as caught:
        open_image(source)
    return str(caught.value)


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
    assert kinds == {known.name for known in image_formats()}
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


# Rule 3: depth


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("depth", [8, 10, 12, 14, 16])
def test_a_deeper_copy_of_an_image_gives_the_same_tensor(kind: str, depth: int) -> None:
    grey = golden.grey_pattern()
    deep = encode(golden.deeper(grey, depth), kind)
    assert np.array_equal(load_tensor(deep, GREY), load_tensor(encode(grey), GREY))


@pytest.mark.parametrize(
    ("maximum", "scale"),
    [(1, 255), (255, 255), (256, 1023), (1023, 1023), (1024, 4095), (4095, 4095),
     (4096, 16383), (16383, 16383), (16384, 65535), (65535, 65535)],
)  # fmt: skip
def test_the_maximum_decides_the_depth(maximum: int, scale: int) -> None:
    found = decode(np.array([[0, maximum]], np.uint16))
    assert found.tolist() == [[0, round(maximum * 255 / scale)]]


def test_a_black_deep_image_is_black() -> None:
    assert not decode(np.zeros((4, 4), np.uint16)).any()


def test_deep_samples_are_read_in_either_byte_order() -> None:
    grey = golden.grey_pattern()
    little = encode(golden.deeper(grey, 16), "TIFF")
    big = encode(golden.deeper(grey, 16).astype(">u2"), "TIFF")
    assert little.getvalue()[:2] == b"II"
    assert np.array_equal(np.asarray(open_image(big)), np.asarray(open_image(little)))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_wide_samples_follow_the_same_rule(dtype: type[np.generic]) -> None:
    grey = golden.grey_pattern()
    for depth in (8, 12, 16):
        samples = golden.deeper(grey, depth).astype(dtype)
        assert np.array_equal(decode(samples, "TIFF"), grey)


def test_floating_point_samples_up_to_one_are_shares_of_white() -> None:
    grey = golden.grey_pattern()
    assert np.array_equal(decode(grey.astype(np.float32) / 255, "TIFF"), grey)
    faint = np.array([[0.0, 0.2, 0.4]], np.float32)
    assert decode(faint, "TIFF").tolist() == [[0, 51, 102]]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([[-0.5, 1]], np.float32), "negative or not-finite"),
        (np.array([[np.nan, 1]], np.float32), "negative or not-finite"),
        (np.array([[np.inf, 1]], np.float32), "negative or not-finite"),
        (np.array([[-1, 1]], np.int32), "negative or not-finite"),
        (np.array([[0, 65536]], np.int32), "samples up to 65536"),
    ],
)
def test_samples_that_are_no_brightness_are_refused(samples: NDArray[Any], message: str) -> None:
    assert message in reason(encode(samples, "TIFF"))
    assert "accepted: 0 to 65535, or 0.0 to 1.0" in reason(encode(samples, "TIFF"))


def test_a_two_level_image_is_black_and_white() -> None:
    two = Image.fromarray(golden.grey_pattern()).point(lambda level: level > 200, "1")
    assert np.unique(decode(two)).tolist() == [0, 255]


# Rule 4: transparency and colour models


@pytest.mark.parametrize(
    ("alpha", "seen"), [(255, [200, 100, 50]), (51, [40, 20, 10]), (0, [0, 0, 0])]
)
def test_transparency_is_composited_onto_black(alpha: int, seen: list[int]) -> None:
    assert decode(flat((200, 100, 50, alpha), "RGBA"))[0, 0].tolist() == seen


def test_a_grey_image_with_transparency_stays_grey() -> None:
    found = open_image(encode(flat((200, 51), "LA")))
    assert (found.mode, found.getpixel((0, 0))) == ("L", 40)


def test_a_transparent_palette_entry_is_black() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 100, 50, 10, 220, 30])
    image.putpixel((1, 0), 1)
    assert decode(image).tolist() == [[[200, 100, 50], [10, 220, 30]]]
    assert decode(image, transparency=1).tolist() == [[[200, 100, 50], [0, 0, 0]]]


def test_a_transparent_colour_is_black() -> None:
    image = Image.fromarray(np.array([[[9, 8, 7], [1, 2, 3]]], np.uint8))
    assert decode(image, transparency=(9, 8, 7)).tolist() == [[[0, 0, 0], [1, 2, 3]]]


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    found = decode(image, "TIFF")
    assert found.shape == (8, 8, 3)
    assert found[0, 0].tolist() == [255, 0, 0]


def test_colour_profiles_are_ignored() -> None:
    # A profile that cannot even be parsed: who applied profiles would notice.
    with_profile = decode(golden.pattern(), icc_profile=b"no profile at all")
    assert np.array_equal(with_profile, golden.pattern())


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_files_stay_grey(mode: str) -> None:
    assert open_image(encode(Image.new(mode, (4, 4)))).mode == "L"


# Rules 5 and 6: channels and size


@pytest.mark.parametrize(
    ("colour", "luma"),
    [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((200, 100, 50), 124)],
)
def test_one_channel_is_luma(colour: tuple[int, ...], luma: int) -> None:
    tensor = load_tensor(encode(flat(colour)), GREY)
    assert tensor.shape == (128, 128, 1)
    assert np.unique(tensor).tolist() == [luma]


def test_three_channels_repeat_grey() -> None:
    stream = encode(golden.grey_pattern())
    tensor = load_tensor(stream, RGB)
    assert tensor.shape == (128, 128, 3)
    for channel in range(3):
        assert np.array_equal(tensor[..., channel : channel + 1], load_tensor(stream, GREY))


def test_three_channels_are_red_green_and_blue() -> None:
    assert load_tensor(encode(flat((200, 100, 50))), RGB)[5, 7].tolist() == [200, 100, 50]


def test_tensors_are_bytes_of_the_shape_of_the_contract() -> None:
    wide = InputContract(width=20, height=10, channels=3)
    tensor = load_tensor(encode(golden.pattern()), wide)
    assert (tensor.dtype, tensor.shape) == (np.uint8, wide.shape) == (np.uint8, (10, 20, 3))


def test_sides_are_squashed_and_nothing_is_cut_off() -> None:
    wide = np.zeros((40, 400), np.uint8)
    wide[:, :100], wide[:, 300:] = 255, 90
    tensor = load_tensor(encode(wide), GREY)[..., 0]
    assert np.unique(tensor[:, :30]).tolist() == [255]
    assert np.unique(tensor[:, 34:94]).tolist() == [0]
    assert np.unique(tensor[:, 98:]).tolist() == [90]


def test_shrinking_averages_what_a_pixel_covers() -> None:
    checks = np.indices((1280, 1280)).sum(axis=0) % 2 * 255
    tensor = load_tensor(encode(checks.astype(np.uint8)), GREY)
    assert set(np.unique(tensor)) <= {127, 128}


def test_an_image_of_the_target_size_is_not_resampled() -> None:
    image = golden.pattern(128, 128)
    assert np.array_equal(load_tensor(encode(image), RGB), image)


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
    no_format = "not an image of an accepted format (JPEG, PNG, BMP, TIFF, WEBP)"
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
        ("GIF", encode(golden.pattern(), "GIF").getvalue()),
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
    assert reason(path) == "not an image of an accepted format (JPEG, PNG, BMP, TIFF, WEBP)"


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
