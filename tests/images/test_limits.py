"""What a file may cost, and that it is refused before it has cost more."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hostile
from medkit.errors import ImageError, UsageError
from medkit.images.bounded_file import BoundedFile, bounded
from medkit.images.limits import DEFAULT_LIMITS, Clock, Limits
from medkit.images.reading import load_tensor, open_image
from medkit.tasks import SKIN


def reason(content: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(io.BytesIO(content), limits)
    return str(caught.value)


def opened(content: bytes, limits: Limits = DEFAULT_LIMITS, size: int | None = None) -> BoundedFile:
    stream = io.BytesIO(content)
    return BoundedFile(stream, len(content) if size is None else size, limits, Clock(limits))


# The limits


@pytest.mark.parametrize("name", ["megapixels", "seconds", "megabytes", "expansion"])
@pytest.mark.parametrize("value", [0, -1, 1e10, float("nan"), float("inf")])
def test_a_limit_is_a_number_above_zero(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"a limit of .* for {name}; accepted: above 0, up to 1,"):
        Limits(**{name: value})


def test_by_default_an_image_may_have_200_megapixels_and_no_more() -> None:
    assert DEFAULT_LIMITS.megapixels == 200
    large = hostile.encoded(Image.new("L", (16_000, 12_500), 90), "JPEG", optimize=False)
    assert open_image(io.BytesIO(large)).size == (2000, 1563)
    larger = hostile.resized_jpeg(16_001, 12_500)
    assert reason(larger) == (
        "has 16,001 x 12,500 pixels; accepted: up to 200 million, and 100,000 on a side"
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_the_pixels_of_every_format_are_limited(kind: str) -> None:
    content = hostile.encoded(hostile.picture((100, 80)), kind)
    most = 0.016 if kind == "WEBP" else 0.008  # for the memory that its decoder takes
    assert open_image(io.BytesIO(content), Limits(megapixels=most)).size == (100, 80)
    assert reason(content, Limits(megapixels=most * 0.99)) == (
        "has 100 x 80 pixels; accepted: up to 0.00792 million, and 100,000 on a side"
    )


def test_the_bytes_of_a_file_are_limited(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as stream:
        stream.truncate(10**10)  # takes no room
    with pytest.raises(ImageError, match=r"^has 10,000.0 megabytes; accepted: up to 1,000$"):
        open_image(path)
    content = hostile.encoded(hostile.picture(), "PNG")
    assert reason(content, Limits(megabytes=0.001)).startswith("has 0.0 megabytes; accepted")


def test_the_time_of_reading_and_decoding_is_limited() -> None:
    content = hostile.encoded(hostile.picture(), "PNG")
    limits = Limits(seconds=0.01)
    clock = Clock(limits, started=time.monotonic() - 1)
    with pytest.raises(ImageError, match=r"^takes longer to read and decode than 0.01 s$"):
        open_image(io.BytesIO(content), limits, clock)


def test_a_tensor_is_read_within_limits() -> None:
    content = io.BytesIO(hostile.encoded(hostile.picture(), "PNG"))
    with pytest.raises(ImageError, match="accepted: up to"):
        load_tensor(content, SKIN.contract, Limits(megapixels=0.001))


# The file


def test_a_limited_file_reads_like_any_other() -> None:
    file = opened(b"0123456789")
    assert (file.read(3), file.tell()) == (b"012", 3)
    assert file.seek(2) == 2
    assert file.read() == b"23456789"
    assert file.read(1) == b""
    assert file.seek(-4, io.SEEK_END) == 6
    assert file.seek(1, io.SEEK_CUR) == 7
    assert file.read(100) == b"789"
    assert (file.readable(), file.seekable()) == (True, True)


def test_bytes_beyond_the_length_at_the_beginning_are_not_read() -> None:
    assert opened(b"0123456789", size=4).read() == b"0123"


def test_the_same_bytes_are_not_read_forever() -> None:
    content = bytes(1 << 20)
    file = opened(content)

    def read_again() -> None:
        for _ in range(6):
            file.seek(0)
            file.read()

    with pytest.raises(ImageError, match="refers to the same bytes too often"):
        read_again()


def test_endless_small_reads_are_refused() -> None:
    file = opened(bytes(10), Limits(seconds=1000))

    def read_on() -> None:
        while True:
            file.read(0)

    with pytest.raises(ImageError, match="is made of too many pieces"):
        read_on()


def test_only_regular_files_are_opened() -> None:
    with (
        pytest.raises(ImageError, match="is no regular file"),
        bounded(Path("/dev/null"), Limits()),
    ):
        pass


# Bombs


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_large_pictures_that_are_not_empty_are_accepted(kind: str) -> None:
    rng = np.random.default_rng(0)
    tile = rng.integers(90, 110, (50, 50), dtype=np.uint8)
    large = Image.fromarray(np.tile(tile, (100, 100)))  # 25 megapixels that deflate 40 times
    options = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
    content = hostile.encoded(large, kind, **options)
    assert open_image(io.BytesIO(content)).size == (5000, 5000)


def test_small_pictures_may_be_empty() -> None:
    for kind in ("PNG", "JPEG", "BMP", "TIFF"):
        content = hostile.encoded(Image.new("RGB", (2480, 3508)), kind)  # A4 at 300 dpi
        assert open_image(io.BytesIO(content)).size in ((2480, 3508), (310, 439))


def test_large_empty_pictures_can_be_asked_for() -> None:
    content = hostile.encoded(Image.new("RGB", (4960, 7016)), "PNG")  # A4 at 600 dpi
    assert reason(content).startswith("is empty or a decompression bomb: 104 megabytes of pixels")
    assert open_image(io.BytesIO(content), Limits(expansion=2000)).size == (4960, 7016)


def test_a_jpeg_that_ends_before_its_pixels_do_is_refused_and_not_filled_up() -> None:
    assert reason(hostile.resized_jpeg(9000, 9000)) == "has too few bytes for 9,000 x 9,000 pixels"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("size", [(8, 8), (2000, 1000)])
def test_the_smallest_jpeg_of_its_size_is_not_taken_for_one_that_ends_early(
    progressive: bool, mode: str, size: tuple[int, int]
) -> None:
    content = hostile.encoded(
        Image.new(mode, size), "JPEG", quality=1, progressive=progressive, optimize=True
    )
    assert open_image(io.BytesIO(content)).size in (size, (1000, 500))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [20, 50])
def test_smooth_pictures_that_are_compressed_hard_are_no_bombs(
    progressive: bool, quality: int
) -> None:
    rows, columns = np.mgrid[:900, :1200]
    rng = np.random.default_rng(0)
    waves = 120 + 60 * np.sin(rows / 60) * np.cos(columns / 90) + rng.normal(0, 9, rows.shape)
    small = Image.fromarray(waves.clip(0, 255).astype(np.uint8))
    large = small.resize((4800, 3600), Image.Resampling.BICUBIC).convert("RGB")
    for kind, options in (("JPEG", {"progressive": progressive}), ("WEBP", {"method": 2})):
        content = hostile.encoded(large, kind, quality=quality, **options)
        open_image(io.BytesIO(content))


# Memory

MEASURED = """
import sys
from pathlib import Path
from medkit.batch.routing import ByColour, Route
from medkit.images.reading import open_image
from medkit.tasks import PNEUMONIA, SKIN

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

before = peak()
by_colour = ByColour(*(Route(task.name, task.contract) for task in (PNEUMONIA, SKIN)))
by_colour.choose(open_image(Path(sys.argv[1])))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="LOUDLY: only Linux tells")
@pytest.mark.parametrize(
    ("kind", "mode", "most"),
    [
        ("JPEG", "L", 1),
        ("JPEG", "RGB", 1),
        ("PNG", "RGB", 6),
        ("PNG", "RGBA", 10),
        ("TIFF", "F", 9),
        ("WEBP", "RGBA", 19),
    ],
)
def test_decoding_takes_a_bounded_number_of_bytes_a_pixel(
    kind: str, mode: str, most: float, tmp_path: Path
) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (400, 400, 4), dtype=np.uint8)
    pixels = np.tile(tile, (10, 10, 1))
    image = {
        "L": Image.fromarray(pixels[..., 0]),
        "RGB": Image.fromarray(pixels[..., :3].copy()),
        "RGBA": Image.fromarray(pixels),
        "F": Image.fromarray(pixels[..., 0].astype(np.float32) / 255),
    }[mode]
    path = tmp_path / f"large.{kind.lower()}"
    image.save(path, kind, **({"method": 0, "quality": 50} if kind == "WEBP" else {}))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < most * image.width * image.height


# Bands


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "I", "F"])
def test_large_images_are_brought_to_8_bits_in_bands_with_the_same_pixels(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = hostile.picture((60, 70)).convert("L")
    if mode in ("I;16", "I", "F"):
        samples = np.asarray(grey).astype({"I;16": "<u2", "I": "<i4", "F": "<f4"}[mode])
        content = hostile.encoded(Image.fromarray(samples * 11), "TIFF")
    else:
        options = {"transparency": 40} if mode == "P" else {}
        picture = hostile.picture((60, 70)).convert(mode)
        if mode in ("RGBA", "LA"):
            picture.putalpha(grey)
        content = hostile.encoded(picture, "PNG", **options)
    whole = np.asarray(open_image(io.BytesIO(content)))
    for pixels in (1, 60, 61, 1000):
        monkeypatch.setattr("medkit.images.pixels._BAND", pixels)
        assert np.array_equal(np.asarray(open_image(io.BytesIO(content))), whole)
