"""How a TIFF stores its samples, what decoding them costs, and who decodes them right."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property

from medkit.errors import ImageError
from medkit.images.bounded_file import BoundedFile
from medkit.images.formats import tiff_directory as tiff
from medkit.images.formats.tiff_directory import TiffDirectory

UNSIGNED, SIGNED, FLOAT = 1, 2, 3
"""Values of the tag SampleFormat."""

ZERO_IS_WHITE, ZERO_IS_BLACK, RGB, PALETTE, CMYK, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
"""Values of the tag PhotometricInterpretation."""

_COLOURS = {ZERO_IS_WHITE: 1, ZERO_IS_BLACK: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, CIELAB: 3}
"""Samples of a pixel that are colours, by photometric interpretation."""

UNSPECIFIED, PREMULTIPLIED, STRAIGHT = 0, 1, 2
"""Values of the tag ExtraSamples: no alpha, and two kinds of it."""
_CORELDRAW_ALPHA = 999  # CorelDRAW 10 means alpha, as Pillow knows

NONE, LZW, OLD_JPEG, JPEG, PACKBITS, LZMA, ZSTD, WEBP = 1, 5, 6, 7, 32773, 34925, 50000, 50001
DEFLATE = (8, 32946)
_FAX = (2, 3, 4)
JPEG_2000 = (33003, 33004, 33005, 34712)
"""Values of the tag Compression."""

_BY_PILLOW = frozenset((NONE, *_FAX, LZW, OLD_JPEG, JPEG, *DEFLATE, PACKBITS, LZMA, ZSTD))
_BY_TIFFFILE = frozenset((NONE, LZW, JPEG, *DEFLATE, PACKBITS, LZMA, ZSTD, WEBP, *JPEG_2000))
_UNDO_PREDICTORS = frozenset((LZW, *DEFLATE, LZMA, ZSTD))
"""Compressions with which libtiff undoes a predictor; with others it passes over it."""

_PREDICTORS = {1: (UNSIGNED, SIGNED, FLOAT), 2: (UNSIGNED, SIGNED, FLOAT), 3: (FLOAT,)}
_LESS_THAN_A_BYTE = ((UNSIGNED, 1), (UNSIGNED, 2), (UNSIGNED, 4))
_WIDE = ((UNSIGNED, 32), (SIGNED, 16), (SIGNED, 32), (FLOAT, 32))
_MOST_SAMPLES = 8
_USUAL_TILE = 1024
"""Side of a tile that may be larger than the picture; a larger tile may not."""

_OWN_ORDER = "<" if sys.byteorder == "little" else ">"
_ACCEPTED = "accepted: grey, RGB, palette and CMYK, with or without alpha"


@dataclass(frozen=True)
class TiffLayout:
    """How a TIFF stores its samples.

    Attributes
    ----------
    size
        Width and height in pixels, before turning.
    bits
        Bits of each sample.
    sample_format
        :data:`UNSIGNED`, :data:`SIGNED` or :data:`FLOAT`.
    photometric, compression, predictor, fill_order
        Values of these tags.
    samples
        Samples of each pixel.
    extra
        Meaning of each sample that is no colour.
    separate
        Whether each sample has a plane of its own.
    part
        Width and height of a strip or tile.
    offsets, counts
        Place and number of bytes of each strip or tile.
    order
        Byte order, as :mod:`struct` writes it.
    """

    size: tuple[int, int]
    bits: int
    sample_format: int
    photometric: int
    compression: int
    predictor: int
    fill_order: int
    samples: int
    extra: tuple[int, ...]
    separate: bool
    tiled: bool
    part: tuple[int, int]
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    order: str
    subsampled: bool

    @cached_property
    def colours(self) -> int:
        """Samples of a pixel that are colours."""
        return _COLOURS[self.photometric]

    @cached_property
    def alpha(self) -> int | None:
        """Kind of alpha, if the first sample behind the colours is alpha."""
        first = self.extra[0] if self.extra else UNSPECIFIED
        return first if first in (PREMULTIPLIED, STRAIGHT) else None

    @cached_property
    def whole_pixels(self) -> int:
        """Pixels of all strips or tiles together, and so of what a decoder fills."""
        (width, height), (across, down) = self.size, self.part
        if not self.tiled:
            return width * height
        return -(-width // across) * across * -(-height // down) * down

    def check_parts(self, file: BoundedFile) -> None:
        """Check that strips or tiles fit the picture, are all there, and share no bytes.

        Raises
        ------
        ImageError
            If they do not.
        """
        if self.compression == OLD_JPEG and not self.offsets:
            return  # such a file may name its data by other tags, which only libtiff knows
        if self.tiled:
            for side, tile in zip(self.size, self.part, strict=True):
                if not 0 < tile <= max(side + 15, _USUAL_TILE):
                    raise ImageError(f"has tiles of {tile} pixels for a side of {side:,}")
        (width, height), (across, down) = self.size, self.part
        planes = self.samples if self.separate else 1
        expected = -(-width // across) * -(-height // down) * planes
        if len(self.offsets) < expected:
            raise ImageError(
                f"has {len(self.offsets):,} strips or tiles; its size needs {expected:,}"
            )
        if len(self.counts) != len(self.offsets) and self.compression != NONE and expected > 1:
            raise ImageError("does not tell how long its strips or tiles are")
        if len(self.counts) > 1 and self.compression != NONE and sum(self.counts) > 2 * file.size:
            raise ImageError("refers to the same bytes too often")
        for number in range(expected):
            if self.offsets[number] + self.length_of(number, file.size) > file.size:
                raise ImageError("ends before its pixels do")

    def length_of(self, number: int, size: int) -> int:
        """Return how many bytes a strip or tile has, in a file of so many bytes."""
        (_, height), (across, down) = self.size, self.part
        if self.compression == NONE and not self._is_subsampled:
            together = 1 if self.separate else self.samples
            rows = down if self.tiled else min(down, height - number % -(-height // down) * down)
            return rows * -(-across * together * self.bits // 8)
        rest = max(size - self.offsets[number], 1)
        count = self.counts[number] if len(self.counts) == len(self.offsets) else rest
        # A single strip may claim more than there is: decoders read up to the end.
        return min(count, rest) if len(self.offsets) == 1 else count

    @cached_property
    def _is_subsampled(self) -> bool:
        """Whether several pixels share samples, so that a row has fewer of them."""
        return self.photometric == YCBCR and self.subsampled

    @cached_property
    def pillow_is_right(self) -> bool:
        """Whether Pillow decodes such a file to the samples that it stores.

        The rule was found by comparing Pillow 13 with tifffile over all
        combinations that a test makes again, ``tests/images/formats/test_tiff.py``.
        It holds for bytes in any arrangement but two planes. A predictor is
        passed over with other compressions than those of the list. libtiff
        gives deeper samples in the machine's byte order, and Pillow takes
        signed ones and floats to be in the file's. Of deeper samples with
        several colours, Pillow keeps one byte.
        """
        if self.compression not in _BY_PILLOW or (
            self.predictor != 1 and self.compression not in _UNDO_PREDICTORS
        ):
            return False
        kind = self.sample_format, self.bits
        if kind == (UNSIGNED, 8):
            is_jpeg = self.compression in (OLD_JPEG, JPEG)
            if self._is_subsampled and not is_jpeg:
                return False
            if self.photometric == ZERO_IS_WHITE and self.samples > 1:
                return False
            if self.fill_order != 1 and self.photometric in (ZERO_IS_WHITE, CMYK):
                return False
            return not self.separate or (
                self.photometric in (RGB, CMYK) and UNSPECIFIED not in self.extra
            )
        return self.samples == 1 and self._single_samples_are_right()

    def _single_samples_are_right(self) -> bool:
        """Whether Pillow is right about samples of other than 8 bits, one for each pixel."""
        kind = self.sample_format, self.bits
        if kind in _LESS_THAN_A_BYTE:
            return self.predictor == 1
        if self.photometric != ZERO_IS_BLACK or self.fill_order != 1:
            return False
        in_place = self.order == _OWN_ORDER or (
            self.compression == NONE and self.sample_format != UNSIGNED
        )
        return kind == (UNSIGNED, 16) or (kind in _WIDE and in_place)

    def check_for_tifffile(self) -> None:
        """Check that tifffile can decode such a file.

        Raises
        ------
        ImageError
            If it cannot.
        """
        if self.compression not in _BY_TIFFFILE:
            raise ImageError(
                f"a TIFF whose compression, number {self.compression}, is not read"
                f"{' with such samples' * (self.compression in _BY_PILLOW)}; save it with LZW or "
                "without compression"
            )
        if self.compression in JPEG_2000 and self.bits > 16:
            raise ImageError("a TIFF of JPEG 2000 with more than 16 bits; save it with LZW")
        named = {CIELAB: "Lab", YCBCR: "YCbCr without JPEG"}
        if self.photometric == CIELAB or (self.photometric == YCBCR and self.compression != JPEG):
            raise ImageError(
                f"a TIFF of {self.bits} bits in {named[self.photometric]}; {_ACCEPTED}"
            )


def layout_of(directory: TiffDirectory) -> TiffLayout:
    """Return how a TIFF stores its samples, by its tags.

    Raises
    ------
    ImageError
        If a tag is missing, or says what no decoder reads. The message says
        which, and what is accepted.
    """
    number, values = directory.number, directory.values
    size = number(tiff.WIDTH, 0), number(tiff.LENGTH, 0)
    if min(size) <= 0:
        raise ImageError("a TIFF that does not tell its width and height")
    compression = number(tiff.COMPRESSION, NONE)
    photometric = _photometric(directory, compression)
    samples = number(tiff.SAMPLES, 3 if compression == OLD_JPEG and photometric == YCBCR else 1)
    colours = _COLOURS[photometric]
    if not colours <= samples <= _MOST_SAMPLES:
        raise ImageError(
            f"a TIFF with {samples} samples for each pixel of {colours} "
            f"colour{'s' * (colours > 1)}; {_ACCEPTED}"
        )
    if number(tiff.IMAGE_DEPTH, 1) != 1:
        raise ImageError("a TIFF of a volume; accepted: one picture on a page")
    tiled = tiff.TILE_WIDTH in directory.tags or tiff.TILE_OFFSETS in directory.tags
    if tiled:
        part = number(tiff.TILE_WIDTH, 0), number(tiff.TILE_LENGTH, 0)
        places, lengths = tiff.TILE_OFFSETS, tiff.TILE_COUNTS
    else:
        rows = number(tiff.ROWS_PER_STRIP, size[1])
        if rows <= 0:
            raise ImageError("a TIFF whose strips have no rows")
        part, places, lengths = (size[0], min(rows, size[1])), tiff.STRIP_OFFSETS, tiff.STRIP_COUNTS
    counted = directory.tags.get(lengths)
    sample_format = _same(values(tiff.SAMPLE_FORMAT, (UNSIGNED,)), samples, "formats")
    predictor = number(tiff.PREDICTOR, 1)
    if sample_format not in (UNSIGNED, SIGNED, FLOAT):
        raise ImageError(f"a TIFF with samples of format {sample_format}; accepted: 1, 2 and 3")
    if compression != JPEG and sample_format not in _PREDICTORS.get(predictor, ()):
        raise ImageError(f"a TIFF with predictor {predictor}, which its samples cannot have")
    return TiffLayout(
        size=size,
        bits=_same(values(tiff.BITS, (1,)), samples, "depths"),
        sample_format=sample_format,
        photometric=photometric,
        compression=compression,
        predictor=predictor,
        fill_order=number(tiff.FILL_ORDER, 1),
        samples=samples,
        extra=_extra(directory, samples - colours),
        separate=samples > 1 and number(tiff.PLANAR, 1) == 2,
        tiled=tiled,
        part=part,
        offsets=values(places),
        # A length that is no whole number counts as none.
        counts=counted.values if counted and counted.kind in (3, 4, 16) else (),
        order=directory.order,
        subsampled=values(530, (2, 2)) != (1, 1),
    )


def _photometric(directory: TiffDirectory, compression: int) -> int:
    """Return the photometric interpretation; a file without one counts darkness, as ever."""
    if compression == OLD_JPEG and directory.number(tiff.PHOTOMETRIC, YCBCR) == RGB:
        return YCBCR
    found = directory.number(tiff.PHOTOMETRIC, YCBCR if compression == OLD_JPEG else ZERO_IS_WHITE)
    if found not in _COLOURS:
        raise ImageError(f"a TIFF with photometric interpretation {found}; {_ACCEPTED}")
    return found


def _extra(directory: TiffDirectory, count: int) -> tuple[int, ...]:
    """Return what the samples behind the colours are; one that is not named is alpha."""
    if count == 0:
        return ()
    named = directory.values(tiff.EXTRA_SAMPLES, (STRAIGHT,) if count == 1 else ())
    known = (STRAIGHT if kind == _CORELDRAW_ALPHA else kind for kind in named[:count])
    return (*known, *(UNSPECIFIED,) * (count - len(named[:count])))


def _same(values: tuple[int, ...], samples: int, what: str) -> int:
    """Return the one value that all samples of a pixel have."""
    if len(set(values[:samples])) != 1 or not isinstance(values[0], int):
        raise ImageError(f"a TIFF whose samples have different {what}; accepted: one for all")
    return values[0]
