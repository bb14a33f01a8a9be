"""Pixels of any depth and colour: what becomes of them on the way to a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import make_golden as golden
from imagefiles import GREY, RGB, decode, encode, flat, reason
from medkit.images.contract import InputContract
from medkit.images.pixels import to_eight_bits
from medkit.images.reading import load_tensor, open_image, read_image

# Rule 3: depth


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("depth", [8, 10, 12, 14, 16])
def test_a_deeper_copy_of_an_image_gives_the_same_tensor(kind: str, depth: int) -> None:
    grey = golden.grey_pattern()
    deep = encode(golden.deeper(grey, depth), kind)
    assert np.array_equal(load_tensor(deep, GREY), load_tensor(encode(grey), GREY))


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
        (np.array([[-0.5, 1]], np.float32), "negative samples"),
        (np.array([[np.nan, 1]], np.float32), "samples that are not finite"),
        (np.array([[np.inf, 1]], np.float32), "samples that are not finite"),
        (np.array([[-1, 1]], np.int32), "negative samples"),
        (np.full((2, 2), 65536, np.int32), "samples up to 65536"),
    ],
)
def test_samples_that_are_no_brightness_are_refused(samples: NDArray[Any], message: str) -> None:
    assert message in reason(encode(samples, "TIFF"))
    assert "accepted: 0 to 65535, or 0.0 to 1.0" in reason(encode(samples, "TIFF"))


def test_a_two_level_image_is_black_and_white() -> None:
    two = Image.fromarray(golden.grey_pattern()).point(lambda level: level > 200, "1")
    assert np.unique(decode(two)).tolist() == [0, 255]


# Rule 4: transparency and colour models


@pytest.mark.parametrize(("alpha", "seen"), [(255, [200, 100, 50]), (51, [40, 20, 10])])
def test_transparency_is_composited_onto_black(alpha: int, seen: list[int]) -> None:
    assert decode(flat((200, 100, 50, alpha), "RGBA"))[0, 0].tolist() == seen


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_that_is_zero_everywhere_is_not_meant(kind: str) -> None:
    colours = np.dstack([golden.pattern(), np.zeros(golden.pattern().shape[:2], np.uint8)])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    read = read_image(encode(colours, kind, **options))
    assert np.array_equal(np.asarray(read.pixels), golden.pattern())
    assert read.notes == ("alpha ignored",)


def test_a_few_visible_pixels_or_a_trace_of_alpha_are_not_meant_either() -> None:
    for few in (0, 7):
        alpha = np.full(golden.pattern().shape[:2], few, np.uint8)
        alpha[3, 4] = 255
        read = read_image(encode(np.dstack([golden.pattern(), alpha])))
        assert np.array_equal(np.asarray(read.pixels), golden.pattern())
        assert read.notes == ("alpha ignored",)


def test_a_visible_part_makes_the_others_transparent() -> None:
    alpha = np.zeros(golden.pattern().shape[:2], np.uint8)
    alpha[: len(alpha) // 4] = 255
    read = read_image(encode(np.dstack([golden.pattern(), alpha])))
    assert np.array_equal(np.asarray(read.pixels), golden.pattern() * (alpha[..., None] > 0))
    assert read.notes == ()


def test_a_palette_without_a_visible_colour_is_taken_as_it_is() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 100, 50, 10, 220, 30])
    image.putpixel((1, 0), 1)
    read = read_image(encode(image, transparency=b"\0\0"))
    assert np.asarray(read.pixels).tolist() == [[[200, 100, 50], [10, 220, 30]]]
    assert read.notes == ("alpha ignored",)


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


# Images that are changed some rows at a time


def test_a_large_transparent_image_is_composited_like_its_parts() -> None:
    samples = np.random.default_rng(0).integers(0, 256, (1500, 1000, 4), np.uint8)
    whole = np.asarray(to_eight_bits(Image.fromarray(samples)).pixels)
    parts = [
        np.asarray(to_eight_bits(Image.fromarray(part)).pixels) for part in np.split(samples, 30)
    ]
    assert np.array_equal(whole, np.concatenate(parts))
