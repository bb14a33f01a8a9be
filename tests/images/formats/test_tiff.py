"""TIFF: every way of storing samples gives the pixels that were stored, or a true reason."""

from __future__ import annotations

import io
import itertools
import struct
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import hostile
from medkit.errors import ImageError
from medkit.images.formats.jpeg_complete import brings_all_pixels
from medkit.images.formats.registry import Decoded
from medkit.images.limits import Limits
from medkit.images.notes import ALPHA_IGNORED, DEPTH_GUESSED
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
        if words.startswith("jpeg2000") and dtype in ("u4", "i4"):
            assert found == "a TIFF of JPEG 2000 with more than 16 bits; save it with LZW"
            continue
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


PACKED = tuple(range(9, 16))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", PACKED)
@pytest.mark.parametrize("kind", ["grey", "zero is white", "grey and alpha", "rgb"])
def test_packed_bits_say_how_deep_samples_are(
    kind: str, bits: int, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, options = KINDS[kind]
    picture = with_alpha(kind, levels(count))
    full = 2**bits - 1
    # Dark: no largest sample tells the depth.
    dark = picture if "alpha" in kind else picture // 3
    samples = np.rint(dark / 255 * full).astype(np.uint16)
    expected = seen(kind, np.rint(samples / full * 255).astype(np.uint8)).astype(int)
    for tile, planar in itertools.product((None, (16, 32)), ("contig", "separate")):
        values = samples[..., 0] if count == 1 else samples
        chosen = dict(options)
        if count > 1:
            chosen["planarconfig"] = planar
            values = np.moveaxis(samples, -1, 0).copy() if planar == "separate" else samples
        stream = io.BytesIO()
        # tifffile swaps the bytes of samples before it packs them, which no reader undoes.
        swapped = values if order == "<" else values.byteswap()
        tifffile.imwrite(stream, swapped, bitspersample=bits, byteorder=order, tile=tile, **chosen)
        stream.seek(0)
        assert np.array_equal(tifffile.imread(stream), values)
        found = outcome(stream.getvalue())
        assert isinstance(found, Decoded), found
        assert found.notes == ()
        assert np.abs(np.asarray(found.pixels).astype(int) - expected).max() <= 1
        with monkeypatch.context() as absent:
            absent.setitem(sys.modules, "tifffile", None)
            without = outcome(stream.getvalue())
        assert isinstance(without, str)
        assert without.endswith(EXTRA)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "packbits", "adobe_deflate"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_one_bit_is_black_or_white(order: str, compression: str, photometric: str) -> None:
    picture = levels(1)[..., 0] > 127
    stream = io.BytesIO()
    tifffile.imwrite(
        stream, picture, photometric=photometric, compression=compression, byteorder=order
    )
    found = outcome(stream.getvalue())
    assert isinstance(found, Decoded), found
    expected = picture if photometric == "minisblack" else ~picture
    assert np.array_equal(np.asarray(found.pixels), expected * np.uint8(255))


@pytest.mark.parametrize("dtype", ["u8", "i8"])
def test_integers_of_64_bits_obey_the_rule_of_depth(dtype: str) -> None:
    samples = (levels(1)[..., 0].astype(dtype) * 257).astype(dtype)
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, photometric="minisblack")
    found = outcome(stream.getvalue())
    assert isinstance(found, Decoded), found
    assert found.notes == (DEPTH_GUESSED,)
    assert np.array_equal(np.asarray(found.pixels), levels(1)[..., 0])


@pytest.mark.parametrize("kind", ["grey and alpha", "rgb and alpha"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_alpha_that_is_zero_everywhere_is_not_meant(kind: str, dtype: str) -> None:
    count, options = KINDS[kind]
    picture = levels(count)
    picture[..., -1] = 0
    stream = io.BytesIO()
    tifffile.imwrite(stream, deepened(kind, picture, dtype), planarconfig="contig", **options)
    found = outcome(stream.getvalue())
    assert isinstance(found, Decoded), found
    assert ALPHA_IGNORED in found.notes
    expected = picture[..., 0] if count == 2 else picture[..., :3]
    assert np.array_equal(np.asarray(found.pixels), expected)


@pytest.mark.parametrize("kind", ["grey, premultiplied", "rgb, premultiplied"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_colours_that_were_multiplied_by_zero_are_gone(kind: str, dtype: str) -> None:
    count, options = KINDS[kind]
    stream = io.BytesIO()
    empty = np.zeros((*SIZE, count), dtype)
    tifffile.imwrite(stream, empty, planarconfig="contig", **options)
    assert outcome(stream.getvalue()) == (
        "is wholly transparent, and its colours were multiplied by that"
    )
    empty[..., :-1] = 9000 if dtype == "u2" else 90
    stream = io.BytesIO()
    tifffile.imwrite(stream, empty, planarconfig="contig", **options)
    found = outcome(stream.getvalue())
    assert isinstance(found, Decoded), found
    assert ALPHA_IGNORED in found.notes


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_tiff_whose_pixels_are_cut_is_refused_wherever_its_directory_stands(
    compression: str | None, dtype: str
) -> None:
    picture = levels(3) if dtype == "u1" else levels(3).astype("u2") * 257
    stream = io.BytesIO()
    try:
        tifffile.imwrite(stream, picture, photometric="rgb", compression=compression)
    except Exception:
        pytest.skip("there is no such file")
    content = stream.getvalue()
    whole = outcome(content)
    assert isinstance(whole, Decoded)
    refused = 0
    for length in range(8, len(content)):
        found = outcome(content[:length])
        refused += isinstance(found, str)
        # A checksum behind the last pixel may be missing.
        if isinstance(found, Decoded):
            assert found.pixels.tobytes() == whole.pixels.tobytes(), length
    assert refused > len(content) * 2 // 3


def test_limits_hold_before_anything_is_decoded() -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((4000, 4000, 3), "u2"), photometric="rgb", compression="zlib")
    content = stream.getvalue()
    with pytest.raises(ImageError, match="decompression bomb"):
        read_image(io.BytesIO(content))
    with pytest.raises(ImageError, match="has 4,000 x 4,000 pixels"):
        read_image(io.BytesIO(content), Limits(megapixels=10))
    with pytest.raises(ImageError, match="megabytes; accepted"):
        read_image(io.BytesIO(content), Limits(megabytes=0.001))


def test_nothing_is_logged_of_a_damaged_file(
    capfd: pytest.CaptureFixture[str],
) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, levels(3).astype("u2") * 257, photometric="rgb", compression="zlib")
    content = stream.getvalue()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        outcome(bytes(changed))
    assert capfd.readouterr() == ("", "")


def jpeg_in_tiff(content: bytes, compression: int = 7) -> bytes:
    """Return a TIFF of one strip that is a JPEG."""
    with Image.open(io.BytesIO(content)) as image:
        tags = hostile.grey_tags(*image.size, t259=compression, t278=image.height)
        samples = len(image.getbands())
    tags |= {277: (277, 3, 1, samples), 279: (279, 4, 1, len(content))}
    if samples == 3:
        tags |= {262: (262, 3, 1, 6), 530: (530, 3, 2, 1 | 1 << 16)}
    if compression == 6:
        tags |= {512: (512, 3, 1, 1), 513: (513, 4, 1, 8), 514: (514, 4, 1, len(content))}
    return hostile.tiff([tags[tag] for tag in sorted(tags)], content)


@pytest.mark.parametrize(("compression", "mode"), [(6, "RGB"), (7, "RGB"), (7, "L")])
def test_half_a_jpeg_in_a_tiff_is_an_error_whatever_was_put_behind_it(
    compression: int, mode: str
) -> None:
    picture = hostile.picture((160, 120)).convert(mode)
    content = hostile.encoded(picture, "JPEG", subsampling="4:4:4")
    assert not isinstance(outcome(jpeg_in_tiff(content, compression)), str)
    start = content.index(b"\xff\xda") + 20
    for share in (0.1, 0.5, 0.9):
        half = content[: int(start + share * (len(content) - start))]
        for ending in (b"\xff\xd9", b"", bytes(len(content) - len(half))):
            found = outcome(jpeg_in_tiff(half + ending, compression))
            assert found == "ends before its pixels do", (share, ending[:2])


def test_padding_behind_a_jpeg_in_a_tiff_is_passed_over() -> None:
    content = hostile.encoded(hostile.picture((160, 120)).convert("L"), "JPEG")
    whole, padded = outcome(jpeg_in_tiff(content)), outcome(jpeg_in_tiff(content + bytes(200)))
    assert isinstance(whole, Decoded)
    assert isinstance(padded, Decoded)
    assert padded.pixels.tobytes() == whole.pixels.tobytes()


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_deflated_strip_that_ends_in_zeros_was_not_written_in_full(dtype: str) -> None:
    picture = np.random.default_rng(2).integers(0, 250, (90, 70)).astype(dtype)
    stream = io.BytesIO()
    tifffile.imwrite(stream, picture, compression="adobe_deflate", rowsperstrip=90)
    content = bytearray(stream.getvalue())
    with tifffile.TiffFile(io.BytesIO(content)) as opened:
        (start,), (length,) = (
            opened.pages[0].dataoffsets,
            opened.pages[0].databytecounts,
        )
    content[start + length // 2 : start + length] = bytes(length - length // 2)
    assert isinstance(outcome(bytes(content)), str)


def test_16_bits_whose_zero_is_white_are_read_where_the_file_says_what_is_black() -> None:
    picture = levels(1)[..., 0]
    for most, said in ((65535, 65535), (4095, 4095)):
        values = (most - np.rint(picture / 255 * most)).astype(np.uint16)
        stream = io.BytesIO()
        tifffile.imwrite(
            stream, values, photometric="miniswhite", extratags=[(281, "H", 1, said, True)]
        )
        found = outcome(stream.getvalue())
        assert isinstance(found, Decoded)
        assert np.abs(np.asarray(found.pixels).astype(int) - picture).max() <= 1


def test_the_full_scale_of_colours_is_told_from_all_of_them_at_any_size() -> None:
    rows, columns = np.indices((1000, 1200))
    grey = (rows // 8 + columns // 12) % 200 + 30
    film = np.stack([grey // 5, grey // 3, grey], axis=-1)
    for side in (1000, 700):
        values = np.rint(film[:side] / 255 * 4095).astype(np.uint16)
        stream = io.BytesIO()
        tifffile.imwrite(stream, values, photometric="rgb")
        found = outcome(stream.getvalue())
        assert isinstance(found, Decoded)
        assert np.abs(np.asarray(found.pixels).astype(int) - film[:side]).max() <= 1, side


def test_premultiplied_colours_have_the_full_scale_of_their_alpha() -> None:
    picture = levels(4) // 3
    picture[..., 3] = 255
    values = np.rint(picture / 255 * 65535).astype(np.uint16)
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, photometric="rgb", extrasamples=["assocalpha"])
    found = outcome(stream.getvalue())
    assert isinstance(found, Decoded)
    assert np.abs(np.asarray(found.pixels).astype(int) - picture[..., :3]).max() <= 1


def test_grey_with_alpha_whose_zero_is_white_is_turned() -> None:
    picture = levels(2)
    picture[..., 1] = 255
    stream = io.BytesIO()
    stored = np.stack([255 - picture[..., 0], picture[..., 1]], axis=-1)
    tifffile.imwrite(stream, stored, photometric="miniswhite", extrasamples=["unassalpha"])
    found = outcome(stream.getvalue())
    assert isinstance(found, Decoded)
    assert np.array_equal(np.asarray(found.pixels), picture[..., 0])


@pytest.mark.parametrize("code", [34887, 50002])
def test_a_compression_that_nothing_here_reads_is_named(code: int) -> None:
    tags = hostile.grey_tags(64, 64, t259=code)
    found = outcome(hostile.tiff(list(tags.values()), bytes(range(256)) * 20))
    assert isinstance(found, str)
    assert found.startswith(f"a TIFF whose compression, number {code}, is not read; save it")


def test_a_jpeg_that_is_larger_than_its_strip_or_of_many_scans_is_not_decoded_to_be_checked() -> (
    None
):
    small = hostile.encoded(hostile.picture((64, 64)).convert("L"), "JPEG", progressive=True)
    large = bytearray(small)
    frame = large.index(b"\xff\xc2")
    large[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    last = small.rindex(b"\xff\xda")
    many = small[:last] + small[last:-2] * 500 + b"\xff\xd9"
    for content in (bytes(large), many):
        assert brings_all_pixels(content, (64, 64)), "its decoder refuses it"
        tags = hostile.grey_tags(64, 64, t259=7, t279=len(content))
        assert isinstance(outcome(hostile.tiff(list(tags.values()), content)), str)
