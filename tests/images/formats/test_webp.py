"""WebP: damage beside the pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import hostile
from imagefiles import reason
from medkit.images.reading import read_image


def webp(lossless: bool, alpha: bool, **options: bytes) -> bytes:
    picture = hostile.picture()
    if alpha:
        picture.putalpha(Image.new("L", picture.size, 200))
    return hostile.encoded(picture, "WEBP", lossless=lossless, **options)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_damaged_side_data_cost_nothing_and_missing_pixels_are_an_error(
    lossless: bool, alpha: bool
) -> None:
    expected = np.asarray(read_image(io.BytesIO(webp(lossless, alpha))).pixels)
    plain = webp(lossless, alpha, exif=b"Exif\0\0" + b"x" * 50, xmp=b"<x/>" * 20,
                 icc_profile=b"p" * 99)  # fmt: skip
    for name in (b"EXIF", b"XMP ", b"ICCP"):
        place = plain.index(name)
        for damaged in (
            plain[:place] + b"JUNK" + plain[place + 4 :],
            plain[: place + 12] + b"\xff" * 8 + plain[place + 20 :],
        ):
            found = np.asarray(read_image(io.BytesIO(damaged)).pixels)
            assert np.array_equal(found, expected), name
    end = max(plain.index(b"EXIF"), plain.index(b"XMP "))
    found = np.asarray(read_image(io.BytesIO(plain[: end + 3])).pixels)
    assert np.array_equal(found, expected), "cut behind the pixels"
    assert reason(io.BytesIO(plain[: len(plain) // 2]))


def test_lossy_pixels_that_end_in_zeros_were_not_written_in_full() -> None:
    content = webp(lossless=False, alpha=False)
    for share in (0.5, 0.9):
        half = content[: int(len(content) * share)]
        assert reason(io.BytesIO(half + bytes(len(content) - len(half))))
