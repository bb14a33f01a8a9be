"""TIFF: every way of storing samples gives the pixels that were stored, or a true reason."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medkit.errors import ImageError
from medkit.images.formats.registry import Decoded
from medkit.images.reading import read_image

tifffile = pytest.importorskip("tifffile", reason="LOUDLY: tifffile is not installed here")

Array = NDArray[Any]
SIZE = 23, 37  # rows and columns: no multiple of a tile's side
EXTRA = 'install it with: pip install "medkit-edge[formats]"'

KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "grey": (1, {"photometric": "minisblack"}),
    "grey and alpha": (2, {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
    "grey, premultiplied": (2, {"photometric": "minisblack", "extrasamples": ["assocalpha"]}),
    "zero is white": (1, {"photometric": "miniswhite"}),
    "rgb": (3, {"photometric": "rgb"}),
    "rgb and alpha": (4, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "rgb, premultiplied": (4, {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
    "rgb and something": (4, {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    "cmyk": (4, {"photometric": "separated"}),
    "palette": (1, {"photometric": "palette"}),
}
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")
COMPRESSIONS = (
    None, "lzw", "adobe_deflate", "packbits", "jpeg", "zstd", "lzma", "jpeg2000"
)  # fmt: skip


def levels(samples: int) -> NDArray[np.uint8]:
    """Return 8-bit levels of every brightness; what may be alpha is 0 or 255."""
    rows, columns = np.indices(SIZE)
    planes = [(7 * rows + 5 * columns + 60 * number) % 256 for number in range(samples)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def with_alpha(kind: str, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if "alpha" in kind or "premultiplied" in kind:
        picture[..., -1] = np.where(picture[..., -1] > 60, 255, 0)
    if "premultiplied" in kind:
        picture[picture[..., -1] == 0] = 0
    return picture


def largest(kind: str, dtype: str) -> int:
    """Return the sample of full scale, by the rules."""
    if kind == "cmyk" and dtype[0] != "f":
        return int(np.iinfo(dtype).max)
    return {"u1": 255, "i1": 127, "i2": 32767, "f": 1}.get(dtype if dtype[0] != "f" else "f", 65535)


def deepened(kind: str, picture: NDArray[np.uint8], dtype: str) -> Array:
    """Return levels as samples of another type that mean the same."""
    samples = picture / 255.0 * largest(kind, dtype)
    return (samples if dtype[0] == "f" else np.rint(samples)).astype(dtype)


def stored(kind: str, dtype: str) -> tuple[Array, NDArray[np.uint8]]:
    """Return samples to be stored, and what they are in 8 bits."""
    samples = deepened(kind, with_alpha(kind, levels(KINDS[kind][0])), dtype)
    eight = np.rint(samples.astype(np.float64) / largest(kind, dtype) * 255)
    return samples, eight.astype(np.uint8)


def seen(kind: str, picture: NDArray[np.uint8]) -> Array:
    """Return what is to be seen of levels, in 8 bits."""
    if kind == "zero is white":
        return 255 - picture[..., 0]
    if kind == "palette":
        return np.stack([picture[..., 0], picture[..., 0] // 2, 255 - picture[..., 0]], axis=-1)
    if kind == "cmyk":
        return np.asarray(Image.fromarray(picture, "CMYK").convert("RGB"))
    colours = picture[..., : {1: 1, 2: 1}.get(picture.shape[2], 3)]
    if "alpha" in kind:
        colours = np.where(picture[..., -1:] > 0, colours, 0)
    return colours[..., 0] if colours.shape[2] == 1 else colours


def palette(dtype: str) -> NDArray[np.uint16]:
    entries = np.arange(256 ** int(dtype[1])) >> (8 * (int(dtype[1]) - 1))
    return (np.stack([entries, entries // 2, 255 - entries]) * 257).astype(np.uint16)


def files(kind: str, dtype: str) -> Iterator[tuple[str, bytes]]:
    """Give a file for each way of storing the same samples that tifffile can write."""
    samples, options = KINDS[kind]
    picture, _ = stored(kind, dtype)
    if kind == "palette":
        options = {**options, "colormap": palette(dtype)}
    for compression, predictor, separate, tile, rows, order, big in itertools.product(
        COMPRESSIONS, (1, 2, 3), (False, True), (None, (16, 32)), (None, 6), "<>", (False, True)
    ):
        if (separate and samples == 1) or (tile and rows):
            continue
        values = picture[..., 0] if samples == 1 else picture
        chosen: dict[str, Any] = {
            **options, "compression": compression, "tile": tile, "rowsperstrip": rows,
            "byteorder": order, "bigtiff": big,
        }  # fmt: skip
        if compression == "jpeg":
            chosen["compressionargs"] = {"level": 100, "subsampling": (1, 1)}
        if predictor > 1:
            chosen["predictor"] = predictor
        if samples > 1:
            chosen["planarconfig"] = "separate" if separate else "contig"
            values = np.moveaxis(picture, -1, 0).copy() if separate else picture
        stream = io.BytesIO()
        try:
            tifffile.imwrite(stream, values, **chosen)
        except Exception:
            continue  # there is no such file
        if compression and compression.startswith("jpeg") and not read_back(stream, values):
            continue  # the codec did not keep such samples
        words = f"{compression} {predictor=} {separate=} {tile=} {rows=} {order} {big=}"
        yield words, stream.getvalue()


def read_back(stream: io.BytesIO, values: Array) -> bool:
    """Whether tifffile itself finds in a file what it has written."""
    stream.seek(0)
    found = tifffile.imread(stream).astype(np.float64)
    return bool(np.abs(found - values).max() <= 0.03 * max(values.max(), 1))


def outcome(content: bytes) -> Decoded | str:
    """Return what is decoded, or why not."""
    try:
        return read_image(io.BytesIO(content))
    except ImageError as error:
        return str(error)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_of_storing_the_same_samples_gives_the_same_pixels(
    kind: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "palette" and dtype not in ("u1", "u2"):
        pytest.skip("a palette has numbers of colours only")
    _, eight = stored(kind, dtype)
    expected = seen(kind, eight if kind != "palette" else levels(1)).astype(int)
    count, wrong = 0, []
    for words, content in files(kind, dtype):
        count += 1
        most = 6 if words.startswith("jpeg ") else 0
        found = outcome(content)
        if kind == "zero is white" and dtype not in ("u1", "i1"):
            assert found == "a TIFF of more than 8 bits whose zero means white; invert it"
            continue
        if isinstance(found, str):
            wrong.append(f"{words}: {found}")
        elif np.abs(np.asarray(found.pixels).astype(int) - expected).max() > most and not (
            kind == "palette" and most
        ):
            wrong.append(f"{words}: other pixels")
        with monkeypatch.context() as absent:
            for module in ("tifffile", "imagecodecs"):
                absent.setitem(sys.modules, module, None)
            without = outcome(content)
        if isinstance(without, str):
            if not without.endswith(EXTRA):
                wrong.append(f"{words}, without the extra: {without}")
        elif isinstance(found, str) or without.pixels.tobytes() != found.pixels.tobytes():
            wrong.append(f"{words}, without the extra: other pixels")
    assert not wrong, f"{len(wrong)} of {count}: " + "; ".join(wrong[:5])
    assert count >= 16
