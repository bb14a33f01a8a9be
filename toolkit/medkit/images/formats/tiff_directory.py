"""The first directory of a TIFF: the tags that decide pixels, and a file with no others.

Descriptions, profiles and private tags can be damaged, or refer to gigabytes,
in a file whose pixels are sound. Decoders are given the file with a directory
that is written anew, without them. It is always a classic one: Pillow cannot
read the directory of a BigTIFF in big-endian order.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.formats.spliced import SplicedFile

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
FILL_ORDER, STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP = 266, 273, 274, 277, 278
STRIP_COUNTS, MIN_SAMPLE, MAX_SAMPLE = 279, 280, 281
PLANAR, PREDICTOR, COLOUR_MAP = 284, 317, 320
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT = 338, 339
S_MIN_SAMPLE, S_MAX_SAMPLE, JPEG_TABLES = 340, 341, 347
_T4_OPTIONS, _T6_OPTIONS, _INK_SET = 292, 293, 332
JPEG_OFFSET, JPEG_LENGTH, _OLD_JPEG = 513, 514, range(512, 522)
_YCBCR = range(529, 533)  # coefficients, subsampling, positioning, reference black and white
IMAGE_DEPTH = 32997
_XMP = 700

_DECIDING = frozenset(
    (WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS, ORIENTATION,
     SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS, MIN_SAMPLE, MAX_SAMPLE, PLANAR, PREDICTOR, COLOUR_MAP,
     TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS, EXTRA_SAMPLES, SAMPLE_FORMAT,
     S_MIN_SAMPLE, S_MAX_SAMPLE, JPEG_TABLES, _T4_OPTIONS, _T6_OPTIONS, _INK_SET, *_OLD_JPEG,
     *_YCBCR, IMAGE_DEPTH)
)  # fmt: skip
"""Tags (TIFF 6.0, 1992, and its supplements) on which a pixel depends."""

_PLACES = (STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS)

_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii",
          11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}  # fmt: skip
"""What a value of each of TIFF's types is made of. The ones above 13 are BigTIFF's."""

_MOST_PARTS = 1 << 18
"""Strips or tiles: decoders make some objects for each before anything is decoded."""

_MOST_VALUES = 3 << 16
"""Values of any other tag: a palette of 16 bits has that many."""

_MOST_TAGS = 65_535  # as many as a classic TIFF can have
_LARGEST = 2**32 - 2**26
"""Bytes of a file whose every place a classic directory behind it can still name."""

_MOST_XMP = 1 << 20
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


class Tag(NamedTuple):
    """The type of a tag, by TIFF's numbers, and its values."""

    kind: int
    values: tuple[Any, ...]


@dataclass(frozen=True)
class TiffDirectory:
    """The tags of a TIFF's first page that decide its pixels.

    Attributes
    ----------
    order
        Byte order, as :mod:`struct` writes it: ``<`` or ``>``.
    tags
        The tags, by their numbers.
    several
        Whether another page follows.
    """

    order: str
    tags: Mapping[int, Tag]
    several: bool

    def values(self, tag: int, default: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """Return the values of a tag."""
        return self.tags[tag].values if tag in self.tags else default

    def number(self, tag: int, default: int) -> int:
        """Return the first value of a tag, which is a whole number.

        Raises
        ------
        ImageError
            If it is none.
        """
        values = self.values(tag) or (default,)
        if not isinstance(values[0], int):
            raise ImageError(f"has a TIFF tag {tag} that is no whole number")
        return values[0]


def read_directory(file: BoundedFile) -> TiffDirectory:
    """Read the first directory of a TIFF or a BigTIFF.

    A tag that decides no pixel is passed over, whatever it says.

    Raises
    ------
    ImageError
        If the directory, or a tag that decides pixels, is not there in full,
        or there are too many strips or tiles.
    """
    if file.size > _LARGEST:
        raise ImageError("a TIFF of more than 4 gigabytes; accepted: smaller ones")
    head = _read(file, 0, 8)
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in (head[2], head[3])
    if big:
        head = _read(file, 0, 16)
        counting, entry, link = "Q", "HHQ", "Q"
        (start,) = struct.unpack_from(order + "Q", head, 8)
    else:
        counting, entry, link = "H", "HHI", "I"
        (start,) = struct.unpack_from(order + "I", head, 4)
    first = struct.calcsize(order + counting)
    (count,) = struct.unpack(order + counting, _read(file, start, first))
    if not 0 < count <= _MOST_TAGS:
        raise ImageError(
            f"a TIFF whose first page has {count:,} tags; accepted: 1 to {_MOST_TAGS:,}"
        )
    room = struct.calcsize(order + link)
    size = struct.calcsize(order + entry) + room
    entries = _read(file, start + first, count * size)
    tags: dict[int, Tag] = {}
    for place in range(0, count * size, size):
        number, kind, length = struct.unpack_from(order + entry, entries, place)
        if number in (_XMP, *_DECIDING) and number not in tags:
            inline = entries[place + size - room : place + size]
            tag = _read_tag(file, order, number, kind, length, inline)
            if tag is not None:
                tags[number] = tag
    _take_orientation_of_xmp(tags)
    file.seek(min(start + first + count * size, file.size))
    following = file.read(room)
    several = len(following) == room and any(following)
    return TiffDirectory(order, tags, several)


def _read_tag(
    file: BoundedFile, order: str, number: int, kind: int, count: int, inline: bytes
) -> Tag | None:
    """Return a tag; ``None`` for one that is damaged, and can be done without."""
    letters = _TYPES.get(kind)
    most = _MOST_PARTS if number in _PLACES else _MOST_XMP if number == _XMP else _MOST_VALUES
    if number in _PLACES and count > most:
        raise ImageError("has too many strips or tiles")
    needed = number not in (_XMP, ORIENTATION, MIN_SAMPLE, MAX_SAMPLE, S_MIN_SAMPLE, S_MAX_SAMPLE)
    if letters is None or not 0 < count <= most:
        if needed:
            raise ImageError(f"has a damaged TIFF tag {number}")
        return None
    length = count * struct.calcsize(order + letters)
    content = inline
    if length > len(inline):
        (place,) = struct.unpack(order + ("Q" if len(inline) == 8 else "I"), inline)
        if place + length > file.size:
            if needed:
                raise ImageError(f"has a TIFF tag {number} that ends outside of the file")
            return None
        content = _read(file, place, length)
    if kind in (2, 7):
        return Tag(kind, (content[:length],))
    values = struct.unpack_from(f"{order}{count * len(letters)}{letters[0]}", content)
    return Tag(kind, values)


def _take_orientation_of_xmp(tags: dict[int, Tag]) -> None:
    """Use the orientation of an XMP packet where the file has no other, as Pillow does."""
    packet = tags.pop(_XMP, None)
    if packet is None or ORIENTATION in tags:
        return
    content = (
        packet.values[0]
        if packet.kind in (2, 7)
        else bytes(value for value in packet.values if isinstance(value, int) and 0 <= value < 256)
    )
    found = _XMP_ORIENTATION.search(content)
    if found:
        tags[ORIENTATION] = Tag(3, (int(found[1]),))


def _read(file: BoundedFile, place: int, count: int) -> bytes:
    if place + count > file.size:
        raise ImageError("a TIFF that ends before its first page is described")
    file.seek(place)
    return file.read(count)


def with_tags(file: BoundedFile, order: str, tags: Mapping[int, Tag]) -> SplicedFile:
    """Return a TIFF with the same data, whose only directory holds these tags.

    Places in the file stay what they are: the directory is put behind it.
    """
    start = file.size + file.size % 2
    after = start + 2 + 12 * len(tags) + 4
    entries, values = [struct.pack(order + "H", len(tags))], b""
    for number, tag in sorted(tags.items()):
        kind, count, content = _packed(order, number, tag)
        if len(content) > 4:
            values += bytes(len(values) % 2)
            content, place = b"", after + len(values)
            values += _packed(order, number, tag)[2]
            content = struct.pack(order + "I", place)
        entries.append(struct.pack(order + "HHI", number, kind, count) + content.ljust(4, b"\0"))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    directory = bytes(file.size % 2) + b"".join(entries) + bytes(4) + values
    return SplicedFile(file, (head, (8, file.size - 8), directory))


def _packed(order: str, number: int, tag: Tag) -> tuple[int, int, bytes]:
    """Return the type, the count and the bytes of a tag for a classic directory."""
    kind, values = tag
    if kind in (2, 7):
        return kind, len(values[0]), values[0]
    if kind in (13, 16, 17, 18):
        kind = 4
        if not all(0 <= value < 2**32 for value in values):
            raise ImageError(f"has a TIFF tag {number} with a number of more than 32 bits")
    letters = _TYPES[kind]
    return (
        kind,
        len(values) // len(letters),
        struct.pack(f"{order}{len(values)}{letters[0]}", *values),
    )
