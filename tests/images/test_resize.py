"""Rules of size: what each makes of an image, compared with the libraries that it names."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import make_golden_resizes as golden
from medkit.errors import ImageError
from medkit.images.contract import InputContract, decoder_for
from medkit.images.kernels import resized
from medkit.images.pixels import image_to_tensor
from medkit.images.resize import GEOMETRIES, KERNELS, RESIZE_RULES, sides_of

STORED = golden.stored()


def found(rule: str, case: str) -> golden.Pixels:
    size, channels, (width, height) = golden.CASES[case]
    contract = InputContract(width, height, channels, decoder=decoder_for(rule), resize=rule)
    return image_to_tensor(golden.as_image(golden.drawn(size, channels)), contract)


def is_thinner_than_a_pixel(size: tuple[int, int], tensor: tuple[int, int]) -> bool:
    """Whether all of an image, in its aspect, is less than a pixel of a tensor wide or high."""
    scale = min(side / length for side, length in zip(tensor, size, strict=True))
    return min(size) * scale < 1


def resized_to(rule: str, image: Image.Image, size: tuple[int, int]) -> golden.Pixels:
    return np.asarray(resized(image, rule, size))


# Against the libraries themselves


def test_the_golden_tensors_are_of_every_rule_and_case() -> None:
    expected = {(rule, case) for rule in RESIZE_RULES for case in golden.CASES}
    assert STORED.keys() == expected, "run: python tests/make_golden_resizes.py"


@pytest.mark.parametrize("case", golden.CASES)
@pytest.mark.parametrize("rule", [rule for rule in RESIZE_RULES if ":tf-" not in rule])
def test_tensors_are_those_of_pillow_and_opencv_to_the_bit(rule: str, case: str) -> None:
    assert np.array_equal(found(rule, case), STORED[rule, case])


@pytest.mark.parametrize("case", golden.CASES)
@pytest.mark.parametrize("rule", [rule for rule in RESIZE_RULES if ":tf-" in rule])
def test_tensors_are_those_of_tensorflow_to_the_nearest_byte(rule: str, case: str) -> None:
    """Seen: up to 1 grey level, where TensorFlow's float is half-way, and 0.0001 in the mean."""
    difference = np.abs(found(rule, case).astype(int) - STORED[rule, case])
    assert difference.max() <= 1
    assert difference.mean() < 0.002


def test_no_two_rules_make_the_same_tensor() -> None:
    """So the tensors above tell every kernel and every geometry from the others."""
    case = "portrait"
    assert len({found(rule, case).tobytes() for rule in RESIZE_RULES}) == len(RESIZE_RULES)


# The rules


def test_every_geometry_goes_with_every_kernel() -> None:
    assert len(RESIZE_RULES) == len(set(RESIZE_RULES)) == len(GEOMETRIES) * len(KERNELS)
    assert RESIZE_RULES[0] == "squash:pillow-bilinear-antialias"
    for kernel in KERNELS.values():
        module, _, name = kernel.function.partition(":")
        assert callable(getattr(import_module(module), name))


def test_the_documentation_lists_every_geometry_and_every_kernel() -> None:
    page = Path(__file__).parents[2] / "docs" / "input.md"
    text = page.read_text(encoding="utf-8").split("## Resize")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert listed == [*GEOMETRIES, *KERNELS]
    assert set(re.findall(r"`([a-z0-9.-]+:[a-z-]+)`", text)) <= {*RESIZE_RULES}


def test_antialiased_kernels_are_those_that_see_every_pixel() -> None:
    lit = Image.new("L", (1280, 1280))
    lit.paste(255, (638, 640, 640, 642))
    for name, kernel in KERNELS.items():
        # An average over 20x20 pixels sees these 2x2; samples 20 pixels apart miss them.
        seen = resized_to(f"squash:{name}", lit, (64, 64)).any()
        assert bool(seen) == kernel.antialiased, name


def test_a_crop_takes_the_largest_part_in_the_middle() -> None:
    across, down = sides_of("crop:pillow-nearest", (341, 500), (200, 200))
    assert (across.start, across.stop) == (0, 341)
    assert (down.start, down.stop) == (79, 420)


def test_padding_puts_the_same_black_on_both_sides() -> None:
    white = Image.new("L", (100, 51), 255)
    tensor = resized_to("pad:pillow-nearest", white, (100, 100))
    rows = np.flatnonzero(tensor[:, 0])
    # 24 before and after: Keras makes 99 rows of it where 100 would need an uneven part.
    assert (rows[0], rows[-1]) == (24, 75)
    assert not tensor[:24].any()
    assert not tensor[76:].any()


def test_cropping_after_a_resize_cuts_an_eighth() -> None:
    across, down = sides_of("crop-to-0.875:pillow-nearest", (500, 1000), (224, 224))
    assert (across.full, across.first, down.full, down.first) == (256, 16, 512, 144)


def test_cropping_after_a_resize_covers_a_tensor_of_any_shape() -> None:
    for image in ((500, 400), (90, 400)):
        for side in sides_of("crop-to-0.875:pillow-nearest", image, (224, 160)):
            assert len(side.kept) == side.tensor
            assert side.full >= side.tensor * 8 // 7


@pytest.mark.parametrize("rule", RESIZE_RULES)
@pytest.mark.parametrize("size", [(1, 1), (2, 900), (900, 2)])
@pytest.mark.parametrize("tensor", [(32, 32), (32, 1024), (1024, 32)])
def test_every_shape_of_image_gives_every_shape_of_tensor(
    rule: str, size: tuple[int, int], tensor: tuple[int, int]
) -> None:
    image = Image.new("RGB", size, (255, 128, 3))
    if rule.startswith("pad:") and is_thinner_than_a_pixel(size, tensor):
        with pytest.raises(ImageError, match="thinner than a pixel"):
            resized(image, rule, tensor)
        return
    whole = resized(image, rule, tensor)
    assert (whole.mode, whole.size) == ("RGB", tensor)
    if "pad" not in rule:
        levels = np.asarray(whole).reshape(-1, 3)
        assert (levels == [255, 128, 3]).all(), "what is one colour stays that colour"


@pytest.mark.parametrize("rule", RESIZE_RULES)
@pytest.mark.parametrize("size", [(60_000, 2), (2, 60_000)])
def test_a_strip_costs_no_more_than_its_pixels(rule: str, size: tuple[int, int]) -> None:
    """Padded or enlarged in its shape, it would have thousands of millions of pixels."""
    image = Image.new("L", size, 200)
    if rule.startswith("pad:"):  # nothing of the strip would be left
        with pytest.raises(ImageError, match=r"is a strip of \d+x\d+ pixels: padded to .* 64x64"):
            resized(image, rule, (64, 64))
        return
    levels = np.unique(resized_to(rule, image, (64, 64)))
    assert levels.tolist() == [200] or rule.startswith("resize-then-pad:")
    assert levels.max() <= 200


def test_the_strip_s_middle_is_what_the_whole_would_give() -> None:
    """Beyond 32,768 pixels, only what is kept is computed, within a grey level."""
    slope = np.tile(np.arange(40_000) // 160, (300, 1)).astype(np.uint8)
    expected = golden.made_by_library(
        "crop-to-0.875:pillow-bilinear-antialias", slope[..., None], (256, 256)
    )
    tensor = resized_to(
        "crop-to-0.875:pillow-bilinear-antialias", Image.fromarray(slope), (256, 256)
    )
    assert np.abs(tensor.astype(int) - expected[..., 0]).max() <= 1


def test_large_images_are_computed_in_parts_like_small_ones() -> None:
    pixels = golden.drawn((1500, 1800), 3)
    image = Image.fromarray(pixels)
    for kernel in ("pillow-bicubic-antialias", "tf-bilinear-antialias", "opencv-area"):
        whole = resized_to(f"pad:{kernel}", image, (1024, 768))
        channels = [
            resized_to(f"pad:{kernel}", Image.fromarray(pixels[..., c]), (1024, 768))
            for c in range(3)
        ]
        assert np.array_equal(whole, np.stack(channels, axis=2))
