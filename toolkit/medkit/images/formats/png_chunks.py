"""A PNG file without what no pixel depends on, and what it says of its samples.

Profiles, text and gamma can be damaged, or larger than Pillow accepts, in a
file whose pixels are sound. Pillow is given the file without these chunks.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.formats.spliced import Part, SplicedFile

_SIGNATURE = 8
_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Chunks that decide pixels. Those of further frames do not decide the first one's."""

_EXIF, _BITS, _ANIMATION = b"eXIf", b"sBIT", b"acTL"
_LARGEST = {_EXIF: 1 << 20, _BITS: 4, _ANIMATION: 8}
"""Bytes of the chunks that may say something useful, and are passed over if they are damaged."""

_PIECE = 1 << 20  # bytes
_DEEP = 16
_COLOUR_TYPES = {0: (1, False), 2: (3, False), 3: (3, False), 4: (1, True), 6: (3, True)}
"""Colours and alpha, by the header's colour type (PNG 1.2, 4.1.1)."""


@dataclass(frozen=True)
class PngChunks:
    """What matters of a PNG.

    Attributes
    ----------
    file
        The chunks that matter, as a file.
    significant_bits
        Bits of the original samples, where the file says so (chunk sBIT).
    several
        Whether there are more frames than the first.
    has_end
        Whether the end marker is there.
    deep
        Whether samples have 16 bits.
    colours, alpha
        Colours of a pixel, and whether alpha follows them.
    colour_key
        Samples of the colour that is transparent, if samples have 16 bits.
    """

    file: SplicedFile
    significant_bits: int | None = None
    several: bool = False
    has_end: bool = False
    deep: bool = False
    colours: int = 3
    alpha: bool = False
    colour_key: tuple[int, ...] = ()


def read_chunks(file: BoundedFile) -> PngChunks:
    """Sort a PNG's chunks. What follows a chunk that ends early is left for the decoder."""
    parts: list[Part] = [(0, _SIGNATURE)]
    place, has_end, useful = _SIGNATURE, False, dict[bytes, bytes]()
    while place < file.size and not has_end:
        file.seek(place)
        head = file.read(8)
        kind, length = head[4:], int.from_bytes(head[:4])
        end, has_end = place + 12 + length, kind == b"IEND"
        if kind in _LARGEST and end <= file.size:
            content = _content(file, kind, length)
            if content is not None:
                useful[kind] = content
            if content is None or kind != _EXIF:
                place = end
                continue
        if kind in (b"IHDR", b"tRNS") and length <= 16 and end <= file.size:
            useful.setdefault(kind, file.read(length))
        if kind == b"IDAT" and length and end <= file.size:
            _check_sum(file, length)
        scaled = _scaled_key(useful) if kind == b"tRNS" else None
        if scaled is not None:
            parts.append(scaled)
        elif kind in (*_KEPT, _EXIF):
            _add(parts, place, min(end, file.size))
        elif not kind.isalpha() or end > file.size:
            if b"IDAT" in useful:
                break  # pixels are there or not; what is cut is no more of them
            _add(parts, place, file.size)  # no chunk: the decoder says why
            break
        if kind == b"IDAT" or (kind == b"fcTL" and b"IDAT" not in useful):
            useful[kind] = b""  # the first frame is one of the animation's, or is not
        place = end
    return _told(SplicedFile(file, parts), useful, has_end)


def _check_sum(file: BoundedFile, length: int) -> None:
    """Check the checksum of pixels, from where they begin; decoders pass over it."""
    found = zlib.crc32(b"IDAT")
    while length:
        piece = file.read(min(length, _PIECE))
        found, length = zlib.crc32(piece, found), length - len(piece)
    if found != int.from_bytes(file.read(4)):
        raise ImageError("has damaged pixels: their checksum is wrong")


def _add(parts: list[Part], start: int, end: int) -> None:
    """Add a part of a file, to the last one if it follows that."""
    last = parts[-1]
    if not isinstance(last, bytes) and sum(last) == start:
        parts[-1] = last[0], end - last[0]
    else:
        parts.append((start, end - start))


def _scaled_key(useful: dict[bytes, bytes]) -> bytes | None:
    """Return the chunk of a transparent grey of 2 or 4 bits as one of 8, as Pillow takes it."""
    header, key = useful.get(b"IHDR", b""), useful.get(b"tRNS", b"")
    if len(header) != 13 or header[8] not in (2, 4) or header[9] != 0 or len(key) != 2:
        return None
    most = 2 ** header[8] - 1
    content: bytes = b"tRNS" + ((int.from_bytes(key) & most) * 255 // most).to_bytes(2)
    return (2).to_bytes(4) + content + zlib.crc32(content).to_bytes(4)


def _content(file: BoundedFile, kind: bytes, length: int) -> bytes | None:
    """Return what a chunk holds, from where its content begins; ``None`` if it is damaged."""
    if not 0 < length <= _LARGEST[kind]:
        return None
    content, checksum = file.read(length), file.read(4)
    return content if zlib.crc32(kind + content) == int.from_bytes(checksum) else None


def _told(file: SplicedFile, useful: dict[bytes, bytes], has_end: bool) -> PngChunks:
    """Return what the chunks say."""
    header, key = useful.get(b"IHDR", b""), useful.get(b"tRNS", b"")
    if len(header) != 13 or header[9] not in _COLOUR_TYPES:
        return PngChunks(file, has_end=has_end)
    colours, alpha = _COLOUR_TYPES[header[9]]
    deep = header[8] == _DEEP
    frames = int.from_bytes(useful.get(_ANIMATION, b"")[:4])
    return PngChunks(
        file,
        significant_bits=max(useful.get(_BITS, b""), default=None),
        several=frames > 1 or (frames == 1 and b"fcTL" not in useful),
        has_end=has_end,
        deep=deep,
        colours=colours,
        alpha=alpha,
        colour_key=tuple(
            int.from_bytes(key[place : place + 2]) for place in range(0, 2 * colours, 2)
        )
        if deep and not alpha and len(key) >= 2 * colours
        else (),
    )
