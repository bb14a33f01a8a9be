"""The full scale of deep samples: what a file says counts, and a few pixels do not."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import make_golden as golden
import medkit
from imagefiles import decode, encode, reason
from medkit.images.depth import full_scale
from medkit.images.pixels import image_to_tensor, to_eight_bits
from medkit.images.reading import read_image
from medkit.models.decisions import decide

Samples = NDArray[Any]

DEPTHS = range(9, 17)
WHITE = {"12 bits": 4095.0, "16 bits": 65535.0, "0..1": 1.0}
HEADROOM = (300, 700, 1500, 2500, 3000, 5000, 6000, 10000, 20000, 25000, 40000, 50000)
XRAYS, STEP = 240, {"NORMAL": 1, "PNEUMONIA": 3}


def deep(grey: NDArray[np.uint8], white: float, kind: type[Any] = np.uint16) -> Samples:
    """Bring 8-bit samples to another full scale."""
    samples = grey.astype(np.float64) * (white / 255)
    return (samples if kind is np.float32 else samples.round()).astype(kind)


def marked(samples: Samples, value: float, share: float, seed: int = 0) -> Samples:
    """Burn a square of one value into a share of the area, at least one pixel."""
    rng = np.random.default_rng(seed)
    height, width = samples.shape
    side = max(1, int((share * height * width) ** 0.5))
    top, left = rng.integers(0, height - side), rng.integers(0, width - side)
    changed = samples.copy()
    changed[top : top + side, left : left + side] = value
    return changed


def enlarged(samples: Samples) -> Samples:
    """Enlarge with a kernel that overshoots at edges, by a third."""
    image = Image.fromarray(samples.astype(np.float32))
    size = (image.width * 4 // 3, image.height * 4 // 3)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def white_of(samples: Samples) -> float:
    return full_scale([samples], samples.size).value


def notes_of(samples: Samples, kind: str = "PNG", **options: Any) -> tuple[str, ...]:
    return read_image(encode(samples, kind, **options)).notes


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_depth_from_9_to_16_bits_gives_the_pixels_of_the_8_bit_image(depth: int) -> None:
    grey = golden.grey_pattern()
    samples = deep(grey, 2**depth - 1)
    assert np.array_equal(decode(samples), grey)
    assert notes_of(samples) == ("depth guessed",)


@pytest.mark.parametrize("name", list(WHITE))
@pytest.mark.parametrize("share", [0, 0.001, 0.02])
def test_a_hot_pixel_or_a_marker_changes_no_other_pixel(name: str, share: float) -> None:
    white, grey = WHITE[name], golden.grey_pattern()
    samples = deep(grey, white, np.float32)
    for value in (white * (1 + 2**-20), 2 * white, 65535.0):
        hot = marked(samples, value, share)
        untouched = hot == samples
        found = decode(hot, "TIFF")
        assert np.array_equal(found[untouched], grey[untouched])
        assert found[~untouched].min() == 255


def test_all_samples_within_0_and_1_leave_no_doubt() -> None:
    samples = golden.grey_pattern().astype(np.float32) / 255
    assert notes_of(samples, "TIFF") == ()
    above = marked(samples, 1 + 2**-23, 0)
    assert notes_of(above, "TIFF") == ("depth guessed", "samples clipped")


def test_samples_that_end_between_two_depths_are_told_from_the_bright_ones() -> None:
    grey = golden.grey_pattern()
    found = decode(deep(grey, 20_000)).astype(int)
    assert np.abs(found - grey).max() <= 60
    assert np.corrcoef(found.ravel(), grey.ravel())[0, 1] > 0.99


def test_what_a_tiff_says_of_its_depth_counts() -> None:
    grey = golden.grey_pattern()
    for tag in (281, 341):
        read = read_image(encode(deep(grey, 3000), "TIFF", tiffinfo={tag: 3000}))
        assert np.array_equal(np.asarray(read.pixels), grey)
        assert read.notes == ()
        read = read_image(encode(deep(grey // 2, 3000), "TIFF", tiffinfo={tag: 3000}))
        assert np.abs(np.asarray(read.pixels).astype(int) - grey // 2).max() <= 1
        assert read.notes == ("depth guessed",), "a hot pixel may have set it"


def test_the_largest_sample_that_a_hot_pixel_set_is_not_the_full_scale() -> None:
    grey = golden.grey_pattern()
    samples = deep(grey, 4095)
    samples[5, 5] = 60_000
    expected = grey.copy()
    expected[5, 5] = 255
    read = read_image(encode(samples, "TIFF", tiffinfo={281: 60_000}))
    assert np.array_equal(np.asarray(read.pixels), expected)
    assert read.notes == ("depth guessed", "samples clipped")
    floats = (grey / 255).astype(np.float32)
    floats[5, 5] = 1000
    read = read_image(encode(floats, "TIFF", tiffinfo={341: 1000.0}))
    assert np.array_equal(np.asarray(read.pixels), expected)
    dark = (grey / 510).astype(np.float32)
    read = read_image(encode(dark, "TIFF", tiffinfo={341: 0.5}))
    assert np.abs(np.asarray(read.pixels).astype(int) - grey // 2).max() <= 1


def test_a_signed_tiff_may_say_that_all_16_bits_are_its_range() -> None:
    grey = golden.grey_pattern()
    for picture in (grey, grey // 3):
        samples = (deep(picture, 65535).astype(np.int32) - 32768).astype(np.int32)
        read = read_image(encode(samples, "TIFF", tiffinfo={340: -32768, 341: 32767}))
        assert np.abs(np.asarray(read.pixels).astype(int) - picture).max() <= 1
        assert read.notes == ()


def test_a_tiff_that_says_what_any_16_bit_file_holds_says_nothing() -> None:
    grey = golden.grey_pattern()
    read = read_image(encode(deep(grey, 4095), "TIFF", tiffinfo={281: 65535}))
    assert np.array_equal(np.asarray(read.pixels), grey)
    assert read.notes == ("depth guessed",)


def test_a_tiff_may_say_that_black_lies_below_zero() -> None:
    grey = golden.grey_pattern()
    samples = (deep(grey, 4095).astype(np.int32) - 1024).astype(np.int32)
    said = encode(samples, "TIFF", tiffinfo={340: -1024, 341: 3071})
    read = read_image(said)
    assert np.array_equal(np.asarray(read.pixels), grey)
    assert read.notes == ()
    assert "has negative samples" in reason(encode(samples, "TIFF"))


def test_a_declared_depth_that_most_samples_exceed_is_not_believed() -> None:
    grey = golden.grey_pattern()
    read = read_image(encode(deep(grey, 4095), "TIFF", tiffinfo={281: 255}))
    assert np.array_equal(np.asarray(read.pixels), grey)
    assert read.notes == ("depth guessed",)


@pytest.mark.parametrize("shift", [0, 4], ids=["low bits", "high bits"])
def test_the_significant_bits_of_a_png_count_wherever_they_lie(shift: int) -> None:
    grey = golden.grey_pattern() // 2  # half of the scale: the samples alone would mislead
    samples = (deep(grey, 4095) << shift).astype(np.uint16)
    stream = encode(samples)
    plain = stream.getvalue()
    head = 8 + 25  # signature and IHDR
    chunk = b"sBIT\x0c"
    said = plain[:head] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
    stream.seek(0)
    stream.write(said + plain[head:])
    stream.seek(0)
    read = read_image(stream)
    assert np.abs(np.asarray(read.pixels).astype(int) - grey).max() <= 1
    assert read.notes == ()


def test_an_image_whose_brightest_part_tells_nothing_is_refused() -> None:
    samples = deep(golden.grey_pattern(), 4095)
    samples[:3] = 65535  # more than markers cover
    assert "nothing tells which of them is white" in reason(encode(samples))
    assert not reason(encode(samples)).count("\n")


def test_a_black_image_is_black_at_any_depth() -> None:
    assert white_of(np.zeros((4, 4), np.uint16)) == 255
    assert not decode(np.zeros((4, 4), np.uint16)).any()


def test_overshoot_of_a_resize_is_cut_off() -> None:
    samples = enlarged(deep(golden.grey_pattern(), 1, np.float32))
    assert samples.min() < 0
    assert samples.max() > 1
    found = decode(samples, "TIFF")
    assert (found[samples <= 0] == 0).all()
    assert (found[samples >= 1] == 255).all()


@pytest.mark.parametrize("white", [4095, 65535])
@pytest.mark.parametrize("row", [0, 1499])
def test_samples_of_all_rows_of_a_large_image_count(white: int, row: int) -> None:
    samples = np.full((1500, 1000), white // 2, np.uint16)
    samples[: 750 if row else 1500] = white
    samples[row] = 0
    found = np.asarray(to_eight_bits(Image.fromarray(samples)).pixels)
    assert set(np.unique(found)) == ({0, 127, 255} if row else {0, 255})


def _variants(grey: NDArray[np.uint8], number: int) -> dict[str, Samples]:
    """Make the deep twins of an X-ray that are to be decided like it."""
    made: dict[str, Samples] = {f"{depth} bits": deep(grey, 2**depth - 1) for depth in DEPTHS}
    made |= {f"ends at {end}": deep(grey, end) for end in HEADROOM}
    made["12 bits, shifted"] = deep(grey, 4095) * 16
    for name, white in WHITE.items():
        kind = np.float32 if white == 1 else np.uint16
        samples = deep(grey, white, kind)
        made[f"{name}, enlarged"] = enlarged(samples)
        for share in (0, 0.001, 0.005, 0.02):
            for value in {white, min(white * 1.001, 65535), 65535.0}:
                bright = marked(samples.astype(np.float32), value, share, number)
                made[f"{name}, {share:.1%} of {value:g}"] = bright
    return made


@pytest.mark.data
def test_deep_x_rays_are_decided_as_their_8_bit_originals(real_data: Path) -> None:
    bundle = medkit.load_bundle("pneumonia")
    model = medkit.load_model(bundle.export_path())
    point = model.card.operating_points["balanced"]
    folder = real_data / "chest_xray" / "test"
    paths = [
        path
        for label in bundle.task.labels
        for path in sorted((folder / label).iterdir())[:: STEP[label]][: XRAYS // 2]
    ]
    assert len(paths) == XRAYS
    same: dict[str, list[bool]] = {}
    for number, path in enumerate(paths):
        grey = np.asarray(Image.open(path).convert("L"))
        made = _variants(grey, number)
        images = [Image.fromarray(grey)]
        images += [to_eight_bits(Image.fromarray(samples)).pixels for samples in made.values()]
        tensors = [image_to_tensor(image, bundle.contract) for image in images]
        first, *others = decide(bundle.task, model.predict(np.stack(tensors)), point)
        for name, decision in zip(made, others, strict=True):
            same.setdefault(name, []).append(bool(decision == first))
    shares = {name: float(np.mean(equal)) for name, equal in same.items()}
    assert len(shares) > 50
    assert min(shares.values()) >= 0.98, sorted(shares.items(), key=lambda item: item[1])[:5]
