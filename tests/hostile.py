"""Files that mean harm, or came to harm: what a folder of images may hold at worst.

Every function gives names, contents and what is to become of them: ``OK``,
or the beginning of the reason in the file's row.
"""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

OK = ""
FOREIGN = "not an image of an accepted format"
BROKEN = "cannot be decoded: "
CUT = "ends before its pixels do"
CUT_TIFF = "a TIFF that ends before its first page is described"
SHORT = "has too few bytes"
BOMB = "is empty or a decompression bomb"
MANY_SCANS = "has too many scans"
LARGE = "has "


@dataclass(frozen=True)
class Hostile:
    """One file of the corpus."""

    name: str
    content: bytes
    reason: str


@cache
def corpus() -> tuple[Hostile, ...]:
    """Return every file, each name once."""
    groups = (
        ("empty", empty()),
        ("cut", truncated()),
        ("foreign", foreign()),
        ("floods", floods()),
        ("scans", scans()),
        ("metadata", metadata()),
        ("pixels", pixels()),
        ("frames", frames()),
        ("tiff", tiff_structures()),
        ("noise", noise()),
    )
    return tuple(
        Hostile(f"{group}/{name}", content, reason)
        for group, members in groups
        for name, content, reason in members
    )


Members = Iterator[tuple[str, bytes, str]]


def picture(size: tuple[int, int] = (96, 80), seed: int = 0) -> Image.Image:
    """Draw noise on a gradient, which no format compresses to nothing."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[1], : size[0]]
    levels = np.stack([rows * 2, columns * 2, rows + columns], axis=-1) % 256
    return Image.fromarray((levels * 0.7 + rng.integers(0, 70, levels.shape)).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def png(
    width: int, height: int, data: bytes, depth: int = 8, colour: int = 2, extra: bytes = b""
) -> bytes:
    """Return a PNG of any promise, with further chunks before its data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def with_chunks(*chunks: bytes) -> bytes:
    """Return a good PNG with further chunks before its data."""
    content = encoded(picture(), "PNG")
    place = content.index(b"IDAT") - 4
    return content[:place] + b"".join(chunks) + content[place:]


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment of a JPEG file."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def with_segments(*segments: bytes, **options: Any) -> bytes:
    """Return a good JPEG with further segments at its start."""
    content = encoded(picture(), "JPEG", quality=90, **options)
    return content[:2] + b"".join(segments) + content[2:]


@cache
def zeros(size: int) -> bytes:
    """Return many zeros, deflated, without holding them."""
    deflate = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [deflate.compress(block) for _ in range(size >> 20)]
    return b"".join((*parts, deflate.compress(bytes(size & ((1 << 20) - 1))), deflate.flush()))


def tiff(tags: list[tuple[int, int, int, int]], data: bytes = b"", order: str = "<") -> bytes:
    """Return a TIFF with an image file directory as given: tag, type, count, value or offset."""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    entries = b"".join(struct.pack(order + "HHII", *tag) for tag in tags)
    return start + data + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def grey_tags(width: int, height: int, **changes: int) -> dict[int, tuple[int, int, int, int]]:
    """Return the tags of an uncompressed grey TIFF whose data begin at byte 8."""
    tags = {
        256: (256, 4, 1, width),
        257: (257, 4, 1, height),
        258: (258, 3, 1, 8),
        259: (259, 3, 1, 1),
        262: (262, 3, 1, 1),
        273: (273, 4, 1, 8),
        277: (277, 3, 1, 1),
        278: (278, 4, 1, height),
        279: (279, 4, 1, min(width * height, 2**32 - 1)),
    }
    for name, value in changes.items():
        tag = int(name.removeprefix("t"))
        tags[tag] = (tag, 4, 1, value)
    return tags


def empty() -> Members:
    for suffix in ("jpg", "jpeg", "jfif", "png", "bmp", "tif", "tiff", "webp", "JPG"):
        yield f"nothing.{suffix}", b"", FOREIGN
    yield "one-byte.png", b"\x89", FOREIGN
    yield "zeros.jpg", bytes(5000), FOREIGN
    yield "spaces.png", b" " * 5000, FOREIGN


def truncated() -> Members:
    """Cut good files at every 512th byte."""
    kinds = {
        "baseline.jpg": encoded(picture(), "JPEG", quality=92),
        "progressive.jpg": encoded(picture((128, 96)), "JPEG", quality=90, progressive=True),
        "rgb.png": encoded(picture((72, 60)), "PNG"),
        "rgb.bmp": encoded(picture((72, 60)), "BMP"),
        "lzw.tif": encoded(picture((72, 60)), "TIFF", compression="tiff_lzw"),
        "raw.tif": encoded(picture((64, 50)), "TIFF"),
        "palette.png": encoded(picture((110, 100)).convert("P"), "PNG"),
        "deep.png": encoded(picture((70, 60)).convert("L").convert("I;16"), "PNG"),
        "cmyk.jpg": encoded(picture().convert("CMYK"), "JPEG", quality=80),
        "float.tif": encoded(picture((50, 40)).convert("F"), "TIFF"),
        "lossless.webp": encoded(picture((72, 60)), "WEBP", lossless=True),
        "lossy.webp": encoded(picture((180, 150)), "WEBP", quality=85),
    }
    for name, content in kinds.items():
        stem, _, suffix = name.rpartition(".")
        for end in range(512, len(content), 512):
            reason = BROKEN
            if suffix == "jpg" and has_scan(content[:end]):
                reason = CUT
            elif name == "lzw.tif":  # its directory stands at its end
                reason = CUT_TIFF
            elif name in ("raw.tif", "float.tif"):
                reason = CUT
            yield f"{stem}-{end:05}.{suffix}", content[:end], reason


def has_scan(content: bytes) -> bool:
    """Whether a JPEG that an encoder of these tests has made is cut behind its header."""
    start = content.find(b"\xff\xda")
    return 0 <= start < len(content) - 14


def foreign() -> Members:
    page = b"<!doctype html><title>404</title><p>Not found: scan-17.jpg</p>" * 20
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("scan.png", encoded(picture(), "PNG"))
    yield "page.jpg", page, FOREIGN
    yield "text.jpg", b"patient list, see attachment\n" * 40, FOREIGN
    yield "archive.jpg", stream.getvalue(), FOREIGN
    yield "vector.png", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', FOREIGN
    yield "vector-with-xml.png", b'<?xml version="1.0"?><svg onload="x()"/>', FOREIGN
    yield "postscript.tif", encoded(picture(), "EPS"), FOREIGN
    yield "script.tif", b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file\n", FOREIGN
    yield "animated.webp", encoded(picture(), "GIF", save_all=True, append_images=[picture(seed=1)]
    ), OK  # fmt: skip
    yield "portable.png", encoded(picture(), "PPM"), FOREIGN
    yield "document.jpg", b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n", FOREIGN
    yield "dicom.jpg", bytes(128) + b"DICM" + bytes(400), FOREIGN
    yield "program.png", b"\x7fELF\x02\x01\x01" + bytes(600), FOREIGN
    yield "gzip.png", b"\x1f\x8b\x08\0" + zlib.compress(bytes(900)), FOREIGN
    yield "heic.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), BROKEN
    yield "jpeg2000.jpg", encoded(picture(), "JPEG2000"), OK
    yield "icon.bmp", encoded(picture((32, 32)), "ICO"), FOREIGN
    yield "targa.bmp", encoded(picture(), "TGA"), FOREIGN
    yield "photoshop.tif", b"8BPS\0\x01" + bytes(300), FOREIGN
    yield "riff-sound.webp", b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), FOREIGN
    yield "byte-order-mark.png", b"\xef\xbb\xbf" + encoded(picture(), "PNG"), FOREIGN
    # The content decides, and not the suffix.
    yield "really-png.jpg", encoded(picture(), "PNG"), OK
    yield "really-jpeg.png", encoded(picture(), "JPEG"), OK
    yield "really-webp.tiff", encoded(picture(), "WEBP"), OK
    yield "really-tiff.bmp", encoded(picture(), "TIFF"), OK
    yield "really-bmp.webp", encoded(picture(), "BMP"), OK
    yield "jpeg-and-archive.jpg", encoded(picture(), "JPEG") + stream.getvalue(), OK


def floods() -> Members:
    """Promise more pixels than there can be, or keep such a promise from a few bytes."""
    side = 14_000  # 196 megapixels, within the limit
    yield "header.png", png(30_000, 30_000, zlib.compress(bytes(100))), LARGE
    yield "header-deep.png", png(2**31 - 1, 2**31 - 1, b"", 16, 6), LARGE
    yield "zero.png", png(0, 100, b""), BROKEN
    yield "grey.png", png(side, side, zeros(side * (side + 1)), colour=0), BOMB
    yield "rgb.png", png(side, side, zeros(1 << 27)), BOMB
    yield "rgba-deep.png", png(side, side, zeros(1 << 26), 16, 6), LARGE
    yield "grey-deep.png", png(side, side, zeros(1 << 26), 16, 0), BOMB
    yield "bits.png", png(side, side, zeros(side * (side // 8 + 1)), 1, 0), BOMB
    yield "palette.png", png(side, side, zeros(1 << 26), 8, 3), BOMB
    ramp = chunk(b"PLTE", bytes(range(256)) * 3)
    for name, extra in (("ramp", ramp), ("ramp-alpha", ramp + chunk(b"tRNS", bytes(256)))):
        yield f"palette-{name}.png", png(8190, 8190, zeros(8190 * 8191), 8, 3, extra), BOMB
    yield "smaller-deep.png", png(5790, 5790, zeros(5790 * 11_581), 16, 0), BOMB
    yield "smaller-alpha.png", png(4090, 4090, zeros(4090 * 8181), 8, 4), BOMB
    yield "wide.png", png(67_000_000, 1, zeros(67_000_001), 8, 0), LARGE
    yield "tall.png", png(1, 33_500_000, zeros(67_000_000), 8, 0), LARGE
    yield "short.png", png(4000, 4000, zlib.compress(bytes(5000)), 8, 0), BROKEN
    yield "long.png", png(8, 8, zeros(1 << 28)), OK
    for name, text in (
        ("text", chunk(b"zTXt", b"Comment\0\0" + zeros(1 << 28))),
        ("itext", chunk(b"iTXt", b"Comment\0\x01\0\0\0" + zeros(1 << 28))),
        ("many-texts", b"".join([chunk(b"zTXt", b"Comment\0\0" + zeros(1 << 20))] * 100)),
    ):
        yield f"{name}.png", with_chunks(text), OK
    yield "profile.png", with_chunks(chunk(b"iCCP", b"icc\0\0" + zeros(1 << 28))), OK
    yield "many-chunks.png", with_chunks(chunk(b"teXt", b"") * 200_000), OK
    yield "many-pieces.png", with_chunks(chunk(b"IDAT", b"") * 200_000), OK
    yield (
        "endless-chunk.png",
        with_chunks(struct.pack(">I", 2**31 - 1) + b"tEXt" + bytes(90)),
        (BROKEN),
    )
    for width, height in ((65_500, 65_500), (65_535, 65_535), (65_500, 40_000)):
        yield f"header-{width}x{height}.jpg", resized_jpeg(width, height), LARGE
        yield (
            f"header-progressive-{width}x{height}.jpg",
            resized_jpeg(width, height, progressive=True),
            LARGE,
        )
    yield "promise.jpg", resized_jpeg(14_000, 14_000), SHORT
    yield "promise-progressive.jpg", resized_jpeg(14_000, 14_000, progressive=True), SHORT
    yield "zero.jpg", resized_jpeg(0, 0), BROKEN
    yield (
        "junk.jpg",
        b"\xff\xd8\xff" + bytes(6_000_000) + encoded(picture(), "JPEG")[2:],
        "is made of too many pieces",
    )
    yield "fill.jpg", b"\xff\xd8" + b"\xff" * 300_000 + encoded(picture(), "JPEG")[3:], OK
    yield "header.webp", flat_webp(16_383, 16_383), "more pixels than the decoder accepts"
    yield "large-flat.webp", flat_webp(13_000, 13_000), LARGE
    yield "flat.webp", flat_webp(4095, 4095), BOMB
    yield "small-flat.webp", flat_webp(300, 200), OK
    yield "canvas.webp", extended_webp(1 << 24, 1 << 24), "more pixels than the decoder accepts"
    yield "header.bmp", resized_bmp(2**31 - 1, 2**31 - 1), LARGE
    yield "promise.bmp", resized_bmp(13_000, 13_000), BOMB
    for width, height in ((67_000_000, 1), (9000, 9000)):
        content = run_lengths(width, height, b"\1\5\0\0\0\1")
        yield f"lines-{height}.bmp", content, LARGE
    yield "lines-small.bmp", run_lengths(900, 900, b"\1\5" + b"\0\0" * 900 + b"\0\1"), BROKEN
    yield "negative.bmp", resized_bmp(-5, 7), LARGE
    yield "zero.bmp", resized_bmp(0, 0), BROKEN
    yield "header.tif", tiff(list(grey_tags(1 << 20, 1 << 20).values()), bytes(99)), LARGE
    yield "promise.tif", tiff(list(grey_tags(side, side).values()), bytes(99)), CUT
    data = zeros(side * side)
    deflated = grey_tags(side, side, t259=8, t279=len(data))
    yield "deflated.tif", tiff(list(deflated.values()), data), BOMB
    fax = grey_tags(side, side, t258=1, t259=4, t279=64)
    yield "fax.tif", tiff(list(fax.values()), bytes(64)), BOMB


def resized_jpeg(width: int, height: int, **options: Any) -> bytes:
    """Return a JPEG whose header tells another size than its data have."""
    content = bytearray(encoded(picture(), "JPEG", **options))
    frame = content.index(b"\xff\xc2" if options else b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def resized_bmp(width: int, height: int) -> bytes:
    content = bytearray(encoded(picture(), "BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def run_lengths(width: int, height: int, data: bytes) -> bytes:
    """Return a run-length encoded BMP, in which a line may end at once."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + palette + data


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP"
    for name, content in chunks:
        body += name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flat_webp(width: int, height: int) -> bytes:
    """Return a lossless WebP of one colour: its codes have one symbol each, so no pixel costs."""
    bits = [(0x2F, 8), (width - 1, 14), (height - 1, 14), (0, 1), (0, 3), (0, 3)]
    for level in (90, 200, 30, 255, 0):
        bits += [(1, 1), (0, 1), (1, 1), (level, 8)]
    value = place = 0
    for number, count in bits:
        value |= number << place
        place += count
    return riff((b"VP8L", value.to_bytes(place // 8 + 9, "little")))


def extended_webp(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = encoded(picture((8, 8)), "WEBP", lossless=True)[20:]
    return riff((b"VP8X", bytes(4) + sides), (b"VP8L", frame))


def scans() -> Members:
    """Repeat what a JPEG's decoder does with every pixel."""
    for name, content in (
        ("progressive", encoded(picture(), "JPEG", progressive=True)),
        ("grey-progressive", encoded(picture().convert("L"), "JPEG", progressive=True)),
    ):
        last = content.rindex(b"\xff\xda")
        for count in (200, 5000):
            many = content[:last] + content[last:-2] * count + b"\xff\xd9"
            yield f"{name}-{count}.jpg", many, MANY_SCANS
        few = content[:last] + content[last:-2] * 3 + b"\xff\xd9"
        yield f"{name}-few.jpg", few, OK
        hidden = content[:last] + segment(0xFE, b"\xff\xd9" * 9) + content[last:-2] * 200
        yield f"{name}-hidden.jpg", hidden + b"\xff\xd9", MANY_SCANS
        empty_scan = content[last : last + 14]
        tiny = content[:last] + empty_scan * 3000 + content[last:]
        yield f"{name}-empty-scans.jpg", tiny, MANY_SCANS
        large = bytearray(content[:last] + content[last:-2] * 3 + b"\xff\xd9")
        frame = large.index(b"\xff\xc2")
        large[frame + 5 : frame + 9] = struct.pack(">HH", 9000, 9000)
        yield f"{name}-large.jpg", bytes(large) + bytes(200_000), BOMB
    trailing = encoded(picture(), "JPEG", progressive=True) + b"\xff\xda" * 9000
    yield "markers-after-the-end.jpg", trailing, OK
    baseline = encoded(picture(), "JPEG")
    start = baseline.index(b"\xff\xda")
    single = bytearray(baseline[start:-2])
    one = b"\xff\xda\x00\x08\x01" + bytes(single[5:7]) + b"\x00\x3f\x00" + bytes(single[14:])
    yield "sequential.jpg", baseline[:start] + one * 3000 + b"\xff\xd9", MANY_SCANS
    yield "restarts.jpg", baseline[:start] + segment(0xDD, b"\0\x01") + baseline[start:], CUT
    yield "no-scan.jpg", baseline[:start] + b"\xff\xd9", BROKEN
    yield "no-tables.jpg", b"\xff\xd8" + baseline[baseline.index(b"\xff\xc0") :], BROKEN


def metadata() -> Members:
    """Hide strange things where no pixel is."""
    exif = Image.Exif()
    exif[274] = 6
    good = exif.tobytes()
    tags = [(274, 2, 9, 8), (282, 5, 2**31, 8), (34665, 4, 1, 8), (36867, 2, 2**32 - 1, 0)]
    directory = tiff(tags)
    loop = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 34665, 4, 1, 8)
    many = tiff([(tag, 7, 60_000, 0) for tag in range(5000)])[:60_000]
    for name, content in {
        "exif-upright": good[:-2],
        "exif-cut": good[:9],
        "exif-empty": b"Exif\0\0",
        "exif-noise": b"Exif\0\0" + random.Random(0).randbytes(4000),
        "exif-text": b"Exif\0\0" + b"orientation: 6" * 9,
        "exif-strange-types": b"Exif\0\0" + directory,
        "exif-circle": b"Exif\0\0" + loop + struct.pack("<I", 8),
        "exif-many-tags": b"Exif\0\0" + many,
        "exif-orientation-9": b"Exif\0\0" + tiff([(274, 3, 1, 9)]),
        "exif-orientation-0": b"Exif\0\0" + tiff([(274, 3, 1, 0)]),
        "exif-orientation-text": b"Exif\0\0" + tiff([(274, 2, 4, 0x41414141)]),
        "exif-orientation-twice": b"Exif\0\0" + tiff([(274, 3, 1, 3), (274, 3, 1, 6)]),
        "exif-orientation-list": b"Exif\0\0" + tiff([(274, 3, 2, 0x00030006)]),
        "exif-zero-resolution": b"Exif\0\0" + tiff([(282, 5, 1, 8), (296, 3, 1, 2)], bytes(8)),
        "xmp": b"http://ns.adobe.com/xap/1.0/\0" + b"<x:xmpmeta>" * 3000,
        "xmp-entities": b"http://ns.adobe.com/xap/1.0/\0"
        b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>',
        "icc-noise": b"ICC_PROFILE\0\x01\x01" + random.Random(1).randbytes(3000),
        "icc-missing-parts": b"ICC_PROFILE\0\xff\xff" + bytes(300),
        "icc-no-parts": b"ICC_PROFILE\0\0\0",
        "icc-cut": b"ICC_PROFILE\0",
        "mpf": b"MPF\0" + random.Random(2).randbytes(200),
        "adobe-cut": b"Adobe",
    }.items():
        marker = {"i": 0xE2, "m": 0xE2, "a": 0xEE}.get(name[0], 0xE1)
        yield f"{name}.jpg", with_segments(segment(marker, content)), OK
    sideways = with_segments(segment(0xE1, good))
    yield "exif-sideways.jpg", sideways, OK
    yield "exif-twice.jpg", with_segments(segment(0xE1, good), segment(0xE1, good)), OK
    for x, y, unit in ((0, 0, 1), (65_535, 1, 2), (1, 65_535, 255)):
        header = b"JFIF\0\x01\x02" + struct.pack(">BHHBB", unit, x, y, 0, 0)
        yield f"density-{x}-{y}.jpg", with_segments(segment(0xE0, header)), OK
    thumbnail = b"JFIF\0\x01\x02\0\0\x01\0\x01\x08\x08" + bytes(192)
    yield "thumbnail.jpg", with_segments(segment(0xE0, thumbnail)), OK
    black = encoded(Image.new("RGB", (40, 30)), "JPEG")
    yield "jfxx-thumbnail.jpg", with_segments(segment(0xE0, b"JFXX\0\x10" + black)), OK
    photoshop = b"Photoshop 3.0\x008BIM\x03\xed\0\0" + struct.pack(">I", 2**31) + bytes(9)
    yield "photoshop.jpg", with_segments(segment(0xED, photoshop)), OK
    yield "comments.jpg", with_segments(*[segment(0xFE, bytes(65_000))] * 40), OK
    yield "short-segment.jpg", with_segments(b"\xff\xe1\0\0"), OK
    for name, extra, reason in (
        ("gamma", chunk(b"gAMA", bytes(4)), OK),
        ("density", chunk(b"pHYs", struct.pack(">IIB", 2**32 - 1, 0, 1)), OK),
        ("density-cut", chunk(b"pHYs", b"\0"), OK),
        ("exif", chunk(b"eXIf", good[6:]), OK),
        ("exif-noise", chunk(b"eXIf", random.Random(3).randbytes(900)), OK),
        ("profile-noise", chunk(b"iCCP", b"a\0\0" + random.Random(4).randbytes(900)), OK),
        ("profile", chunk(b"iCCP", b"a\0\0" + zlib.compress(srgb())), OK),
        ("profile-cut", chunk(b"iCCP", b"a"), OK),
        ("text", chunk(b"tEXt", b"Comment\0" + b"x" * 900_000), OK),
        ("text-no-key", chunk(b"tEXt", b"\0\0\0"), OK),
        ("transparency-long", chunk(b"tRNS", bytes(999)), OK),
        ("transparency-cut", chunk(b"tRNS", b""), BROKEN),
        ("animation", chunk(b"acTL", struct.pack(">II", 2**31, 0)), OK),
        ("animation-none", chunk(b"acTL", struct.pack(">II", 0, 0)), OK),
        ("second-header", chunk(b"IHDR", bytes(13)), BROKEN),
        ("critical", chunk(b"ABCD", b"x"), OK),
        ("bad-checksum", b"\0\0\0\x01tEXtx\0\0\0\0", OK),
    ):
        yield f"{name}.png", with_chunks(extra), reason
    wrong = bytearray(encoded(picture(), "PNG"))
    wrong[-8] ^= 1
    yield "end-checksum.png", bytes(wrong), OK
    wrong[60] ^= 1
    yield "data-checksum.png", bytes(wrong), "has damaged pixels"
    for name, options in (
        ("exif", {"exif": good}),
        ("exif-noise", {"exif": random.Random(5).randbytes(500)}),
        ("icc", {"icc_profile": random.Random(6).randbytes(500)}),
        ("xmp", {"xmp": b"<x>" * 900}),
    ):
        yield f"{name}.webp", encoded(picture(), "WEBP", **options), OK
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[34675], info[33432] = random.Random(7).randbytes(800), "nobody"
    yield "icc.tif", encoded(picture(), "TIFF", tiffinfo=info), OK


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def pixels() -> Members:
    """Store samples in every way there is, and some that there is not."""
    rgb, grey = picture(), picture().convert("L")
    for mode in ("CMYK", "L", "RGB"):
        for transform in (0, 1, 2, 3, 255):
            adobe = b"Adobe\0\x64\0\0\0\0" + bytes([transform])
            content = encoded(rgb.convert(mode), "JPEG")
            start = content.find(b"\xff\xee")
            if start >= 0:
                end = start + 2 + struct.unpack_from(">H", content, start + 2)[0]
                content = content[:start] + content[end:]
            yield (
                f"adobe-{mode}-{transform}.jpg",
                content[:2] + segment(0xEE, adobe) + content[2:],
                OK,
            )
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = grey.convert("I;16") if mode == "I;16" else rgb.convert(mode)
        yield f"mode-{mode.replace(';', '')}.png", encoded(image, "PNG"), OK
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"):
        image = grey.convert("I;16") if mode == "I;16" else None
        if mode == "LAB":
            image = Image.merge("LAB", rgb.split())
        if mode == "PA":
            image = rgb.convert("P").convert("PA")
        image = image or rgb.convert(mode)
        yield f"mode-{mode.replace(';', '')}.tif", encoded(image, "TIFF"), OK
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"mode-{mode}.bmp", encoded(rgb.convert(mode), "BMP"), OK
    transparent = rgb.convert("P")
    yield "palette-transparent.png", encoded(transparent, "PNG", transparency=3), OK
    yield "palette-alphas.png", encoded(transparent, "PNG", transparency=bytes(range(256))), OK
    yield "rgb-transparent.png", encoded(rgb, "PNG", transparency=(1, 2, 3)), OK
    yield "grey-transparent.png", encoded(grey, "PNG", transparency=7), OK
    yield "no-palette.png", png(8, 8, zlib.compress(bytes(72)), 8, 3), OK
    yield "depth-3.png", png(8, 8, zlib.compress(bytes(72)), 3, 0), BROKEN
    yield "colour-7.png", png(8, 8, zlib.compress(bytes(72)), 8, 7), BROKEN
    yield "filter-9.png", png(8, 8, zlib.compress(b"\x09" * 200)), BROKEN
    yield "interlaced.png", interlaced(), OK
    deep = np.asarray(grey).astype(np.int32)
    ramp = np.asarray(grey).astype(np.float32) / 255
    negative, endless = "has negative samples", "has samples that are not finite"
    for name, samples, reason in (
        ("int", deep * 200, OK),
        ("int-negative", deep - 300, negative),
        ("int-large", deep * 100_000, "has samples up to"),
        ("float", ramp, OK),
        ("float-large", ramp * 1e30, "has samples up to"),
        ("float-negative", ramp - 1, negative),
        ("float-nan", np.where(ramp > 0.5, np.nan, ramp).astype(np.float32), endless),
        ("float-infinite", np.full_like(ramp, np.inf), endless),
        ("float-zero", np.zeros_like(ramp), OK),
    ):
        yield f"{name}.tif", encoded(Image.fromarray(samples), "TIFF"), reason
    for size in ((1, 1), (1, 20_000), (20_000, 1), (2, 3)):
        image = picture((size[0], size[1]))
        for kind in ("png", "jpg", "bmp", "tif", "webp"):
            name = {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper())
            if kind == "webp" and max(size) > 16_383:
                continue
            yield f"size-{size[0]}x{size[1]}.{kind}", encoded(image, name), OK


def interlaced() -> bytes:
    content = bytearray(png(8, 8, zlib.compress(bytes(300)), 8, 0))
    content[28] = 1
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def frames() -> Members:
    """Hold several pictures: the first counts."""

    def others() -> list[Image.Image]:
        return [picture(seed=1), picture(seed=2)]

    for kind, name in (("WEBP", "webp"), ("PNG", "png"), ("TIFF", "tif"), ("MPO", "jpg")):
        yield f"three.{name}", encoded(picture(), kind, save_all=True, append_images=others()), OK
    two = encoded(picture(), "MPO", save_all=True, append_images=others()[:1])
    yield "cut-second.jpg", two[: len(two) * 3 // 4], OK
    pages = encoded(picture(), "TIFF", save_all=True, append_images=others())
    (first,) = struct.unpack_from("<I", pages, 4)
    (count,) = struct.unpack_from("<H", pages, first)
    link = first + 2 + 12 * count
    circular = pages[:link] + struct.pack("<I", first) + pages[link + 4 :]
    yield "circle.tif", circular, OK
    yield "nowhere.tif", pages[:link] + struct.pack("<I", 2**32 - 2) + pages[link + 4 :], OK


def tiff_structures() -> Members:
    """Refer to parts of a TIFF that are not there, or to the same one over and over."""
    data = bytes(range(256)) * 16
    good = grey_tags(64, 64)
    yield "good.tif", tiff(list(good.values()), data), OK
    for name, tag, value, reason in (
        ("no-width", 256, 0, "a TIFF that does not tell"),
        ("no-height", 257, 0, "a TIFF that does not tell"),
        ("depth-64", 258, 64, CUT),
        ("compression-unknown", 259, 999, "a TIFF whose compression, number 999"),
        ("compression-jpeg", 259, 7, CUT),
        ("compression-old-jpeg", 259, 6, BROKEN),
        ("compression-lzw", 259, 5, BROKEN),
        ("compression-zstd", 259, 50_000, BROKEN),
        ("compression-fax", 259, 4, BROKEN),
        ("photometric-unknown", 262, 77, "a TIFF with photometric interpretation 77"),
        ("offset-outside", 273, 2**32 - 1, CUT),
        ("offset-here", 273, 0, OK),
        ("samples-many", 277, 65_535, "a TIFF with 65535 samples"),
        ("samples-five", 277, 5, CUT),
        ("rows-none", 278, 0, "a TIFF whose strips have no rows"),
        ("rows-many", 278, 2**32 - 1, OK),
        ("bytes-many", 279, 2**32 - 1, OK),
        ("planar", 284, 2, OK),
        ("orientation", 274, 8, OK),
        ("orientation-none", 274, 99, OK),
        ("fill-order", 266, 2, OK),
        ("sample-format", 339, 99, "a TIFF with samples of format 99"),
        ("predictor", 317, 3, "a TIFF with predictor 3"),
    ):
        tags = {**good, tag: (tag, 4, 1, value)}
        yield f"{name}.tif", tiff(list(tags.values()), data), reason
    yield "no-tags.tif", tiff([]), "a TIFF whose first page has 0 tags"
    yield "no-directory.tif", b"II*\0\xff\xff\xff\xff", CUT_TIFF
    yield "big-endian.tif", tiff(
        [(t, 4, n, v) for t, _, n, v in good.values()], data, ">"
    ), OK  # fmt: skip
    yield "big-tiff.tif", b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63) + bytes(64), CUT_TIFF
    yield "count-many.tif", tiff([*good.values(), (305, 2, 2**32 - 1, 8)], data), OK
    huge = [(tag, 7, 4000, 8) for tag in range(40_000, 60_000)]
    yield "tags-overlapping.tif", tiff([*good.values(), *huge], data), OK
    strips = struct.pack("<300000I", *[8] * 300_000)
    many = {**good, 273: (273, 4, 300_000, 8), 278: (278, 4, 1, 1)}
    yield "strips-many.tif", tiff(list(many.values()), strips), "has too many strips or tiles"
    tiles = {**good, 322: (322, 4, 1, 1), 323: (323, 4, 1, 1), 324: (324, 4, 300_000, 8)}
    del tiles[273], tiles[278], tiles[279]
    yield "tiles-many.tif", tiff(list(tiles.values()), strips), "has too many strips or tiles"
    for side in (2000, 12_000):
        content = tiled(64, 64, side, zeros(side * side), 1)
        yield f"tile-{side}.tif", content, f"has tiles of {side} pixels for a side of 64"
    thin = tiled(12_000, 1, 12_000, zeros(144_000_000), 1)
    yield "tile-thin.tif", thin, "has tiles of 12000 pixels for a side of 1"
    yield (
        "tiles-thin.tif",
        tiled(100_000, 1, 1024, zeros(1024 * 1024), 98),
        ("refers to the same bytes too often"),
    )
    yield "tile-none.tif", tiled(64, 64, 0, zeros(64), 1), "has tiles of 0 pixels"
    for kind in (1, 2, 5, 8, 9, 17):
        content = tiled(480, 480, 16, zeros(256), 900, kind)
        outside = "has a TIFF tag 325 that ends outside of the file"
        reason = outside if kind in (5, 17) else "does not tell how long its strips or tiles"
        yield f"lengths-of-type-{kind}.tif", content, reason
    yield "tile-usual.tif", tiled(64, 64, 256, zeros(65_536), 1), OK
    blocks = zlib.compressobj(9, zlib.DEFLATED, -15)
    pixels = bytes(256)
    stream = b"\x78\x01" + b"\0\0\0\xff\xff" * 60_000 + blocks.compress(pixels) + blocks.flush()
    stream += struct.pack(">I", zlib.adler32(pixels))
    yield (
        "tiles-of-nothing.tif",
        tiled(4096, 4096, 16, stream, 65_536),
        ("refers to the same bytes too often"),
    )
    yield "tiles.tif", tiled(64, 64, 64, zeros(4096), 1), OK
    block = bytes(1 << 20)
    again = {**grey_tags(1024, 1024), 273: (273, 4, 60_000, 8), 278: (278, 4, 1, 1023)}
    same = struct.pack("<60000I", *[8 + 240_000] * 60_000)
    yield (
        "strips-same.tif",
        tiff(list(again.values()), same + block),
        ("refers to the same bytes too often"),
    )


def tiled(width: int, height: int, side: int, data: bytes, count: int, kind: int = 4) -> bytes:
    """Return a deflated grey TIFF whose tiles all lie at the same place.

    ``kind`` is the type of their lengths, by TIFF's numbers.
    """
    tags = grey_tags(width, height, t259=8, t322=side, t323=side)
    for tag in (273, 278, 279):
        del tags[tag]
    if count == 1:
        return tiff([*tags.values(), (324, 4, 1, 8), (325, 4, 1, len(data))], data)
    lists = struct.pack(f"<{count}I", *[8] * count), struct.pack(f"<{count}I", *[len(data)] * count)
    places = 8 + len(data), 8 + len(data) + len(lists[0])
    entries = [(324, 4, count, places[0]), (325, kind, count, places[1])]
    return tiff([*tags.values(), *entries], data + b"".join(lists))


def noise() -> Members:
    """Follow a good beginning by nonsense, or change good files here and there."""
    starts = {
        "jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "bmp": b"BM" + bytes(12) + b"\x28\0\0\0",
        "tif": b"II*\0\x08\0\0\0",
        "webp": b"RIFF\xff\xff\0\0WEBPVP8 ",
    }
    for suffix, start in starts.items():
        for seed in range(6):
            rng = random.Random(f"{suffix} {seed}")
            reason = CUT_TIFF if suffix == "tif" else BROKEN
            yield f"start-{seed}.{suffix}", start + rng.randbytes(3000), reason
