"""PNG: deep samples of every colour type, significant bits, and damage beside the pixels."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hostile
from imagefiles import reason
from medkit.images.notes import END_MISSING
from medkit.images.reading import read_image

SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}
"""Samples of a pixel, by the header's colour type."""


def levels(samples: int, side: int = 32) -> NDArray[np.uint8]:
    """Return levels of all brightnesses; alpha is full."""
    rows, columns = np.indices((side, side))
    planes = [(11 * rows + 7 * columns + 60 * number) % 256 for number in range(samples)]
    picture = np.stack(planes, axis=-1).astype(np.uint8)
    if samples in (2, 4):
        picture[..., -1] = 255
    return picture


def deep(picture: NDArray[Any], bits: int) -> NDArray[np.uint16]:
    return np.rint(picture / 255 * (2**bits - 1)).astype(np.uint16)


def png(samples: NDArray[np.uint16], *chunks: bytes, interlaced: bool = False) -> bytes:
    """Return a PNG of 16-bit samples of shape (rows, columns, samples)."""
    rows, columns, count = samples.shape
    colour = next(kind for kind, number in SAMPLES.items() if number == count)
    steps = (
        ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2),
         (1, 2, 0, 1)) if interlaced else ((0, 1, 0, 1),)
    )  # fmt: skip
    lines = b"".join(
        b"\0" + line.astype(">u2").tobytes()
        for top, down, left, across in steps
        for line in samples[top::down, left::across]
    )
    header = struct.pack(">IIBBBBB", columns, rows, 16, colour, 0, 0, interlaced)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            hostile.chunk(b"IHDR", header),
            *chunks,
            hostile.chunk(b"IDAT", zlib.compress(lines)),
            hostile.chunk(b"IEND", b""),
        )
    )


def decoded(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(read_image(io.BytesIO(content)).pixels)


def colours_of(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture[..., 0] if picture.shape[2] < 3 else picture[..., :3]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("samples", SAMPLES.values())
def test_samples_of_each_depth_give_the_pixels_of_the_8_bit_image(
    samples: int, bits: int, interlaced: bool
) -> None:
    picture = levels(samples)
    values = deep(picture, bits)
    if samples in (2, 4):
        values[..., -1] = 2**16 - 1
    found = decoded(png(values, interlaced=interlaced))
    assert np.abs(found.astype(int) - colours_of(picture)).max() <= 1


@pytest.mark.parametrize("samples", [2, 4])
def test_deep_transparent_pixels_are_laid_on_black(samples: int) -> None:
    picture = levels(samples)
    picture[:8, :, -1] = 0
    found = decoded(png(deep(picture, 16)))
    assert not found[:8].any()
    assert np.abs(found[8:].astype(int) - colours_of(picture)[8:]).max() <= 1


@pytest.mark.parametrize("samples", [1, 3])
def test_the_deep_colour_that_is_transparent_is_black(samples: int) -> None:
    values = deep(levels(samples), 16)
    key = values[3, 4].copy()
    values[:8] = key
    content = png(values, hostile.chunk(b"tRNS", key.astype(">u2").tobytes()))
    is_key = (values == key).all(axis=2)
    found = decoded(content)
    assert not found[is_key].any()
    assert found[~is_key].any()


@pytest.mark.parametrize("samples", [1, 3])
def test_8_significant_bits_in_16_may_stand_low_or_high(samples: int) -> None:
    picture = levels(samples)
    picture[:4] = 255
    bits = hostile.chunk(b"sBIT", bytes([8] * samples))
    for values in (picture.astype(np.uint16), picture.astype(np.uint16) * 257):
        assert np.array_equal(decoded(png(values, bits)), colours_of(picture))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_the_grey_that_is_transparent_is_black_at_any_depth(depth: int) -> None:
    rows = np.arange(256).reshape(16, 16) % 2**depth
    key = 1
    bits = np.unpackbits(rows[..., None].astype(np.uint8), axis=2)[..., 8 - depth :]
    lines = np.packbits(bits.reshape(16, -1), axis=1)
    data = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    transparent = hostile.chunk(b"tRNS", struct.pack(">H", key))
    found = decoded(hostile.png(16, 16, data, depth, 0, transparent))
    expected = np.where(rows == key, 0, np.round(rows * 255 / (2**depth - 1)))
    assert np.array_equal(found, expected)


def test_alpha_below_half_of_16_bits_is_no_full_alpha() -> None:
    picture = levels(4)
    for share in (0.2, 0.45, 0.7):
        values = deep(picture, 16)
        values[..., 3] = round(share * 65535)
        found = decoded(png(values)).astype(float)
        assert np.abs(found - picture[..., :3] * share).max() <= 2


def test_significant_bits_that_lie_at_the_top_of_a_dark_image_stay_dark() -> None:
    picture = levels(1) // 3
    bits = hostile.chunk(b"sBIT", bytes([15]))
    values = deep(picture, 15) * np.uint16(2)
    assert np.abs(decoded(png(values, bits)).astype(int) - picture[..., 0]).max() <= 1
    found = read_image(io.BytesIO(png(deep(picture, 15), bits)))
    assert found.notes == ("depth guessed",), "it may lie at the bottom or at the top"


def test_pixels_with_a_wrong_checksum_are_an_error() -> None:
    content = bytearray(hostile.encoded(hostile.picture(), "PNG"))
    end = content.rindex(b"IEND") - 8
    content[end - 40 : end] = bytes(40)
    assert reason(io.BytesIO(bytes(content))) == "has damaged pixels: their checksum is wrong"


def test_damaged_or_oversized_side_data_cost_nothing() -> None:
    expected = decoded(hostile.with_chunks())
    names = (b"iCCP", b"iTXt", b"zTXt", b"tEXt", b"gAMA", b"cHRM", b"pHYs", b"eXIf", b"sBIT",
             b"sRGB", b"tIME", b"bKGD", b"hIST", b"sPLT", b"iDOT", b"acTL", b"fcTL")  # fmt: skip
    for name in names:
        for content in (b"", b"\0", b"\xff" * 7, b"x" * 3000, b"a\0\0" + zlib.compress(bytes(9))):
            whole = hostile.chunk(name, content)
            wrong = whole[:-1] + bytes([whole[-1] ^ 1])
            for added in (whole, wrong, whole * 3):
                assert np.array_equal(decoded(hostile.with_chunks(added)), expected), name


def test_only_a_missing_end_marker_is_noted_and_missing_pixels_are_an_error() -> None:
    content = hostile.encoded(hostile.picture(), "PNG")
    end = content.index(b"IEND") - 4
    whole = read_image(io.BytesIO(content))
    found = read_image(io.BytesIO(content[:end]))
    assert found.notes == (END_MISSING,)
    assert found.pixels.tobytes() == whole.pixels.tobytes()
    for cut in range(100, end - 16, 97):
        assert reason(io.BytesIO(content[:cut]))
