"""The image formats that are known, and what each must be able to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import Protocol

from PIL import Image

from medkit.images.bounded_file import BoundedFile
from medkit.images.limits import Limits
from medkit.registry import Registry

HEAD = 132
"""Bytes of a file by which a format is told: DICOM's mark stands at 128."""


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes
    ----------
    pixels
        Upright, mode ``L`` if the file is grey and else ``RGB``, without
        metadata.
    stored_size
        Width and height in the file, before scaling and turning.
    facts
        Facts from the file's metadata that may go into a row. A format lists
        the names of its facts. Nothing else of the metadata is copied.
    notes
        Doubts about how the file was read; see :mod:`medkit.images.notes`.
    """

    pixels: Image.Image
    stored_size: tuple[int, int]
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ImageFormat(Protocol):
    """A format of image files, and its decoder."""

    @property
    def name(self) -> str:
        """The common name of the format."""

    @property
    def extensions(self) -> tuple[str, ...]:
        """Suffixes, in small letters with their dot, by which a folder's files count as images."""

    @property
    def rule(self) -> str:
        """The name of the decoding rule, for the record of a run.

        It is empty if the input contract's ``decoder`` already names the rule.
        A changed rule needs a new name.
        """

    @property
    def facts(self) -> tuple[str, ...]:
        """Names of the facts that :meth:`decode` may give."""

    def accepts(self, head: bytes) -> bool:
        """Whether a file is of this format, by its first :data:`HEAD` bytes."""

    def decode(self, file: BoundedFile, least_side: int | None, limits: Limits) -> Decoded:
        """Decode a file that :meth:`accepts` was true for.

        Parameters
        ----------
        file
            The file, at its start. Its reads are bounded.
        least_side
            Pixels that a decoder which can scale must leave on each side;
            ``None`` forbids it to scale.
        limits
            Limits of one image.

        Raises
        ------
        ImageError
            If the file cannot be decoded, or costs too much. Other errors
            are taken for damage, too.
        """


_FORMATS: Registry[ImageFormat] = Registry(
    "image format",
    attrgetter("name"),
    tuple(f"medkit.images.formats.{name}" for name in ("jpeg", "png", "pillow", "tiff", "further")),
)


def register_image_format(added: ImageFormat) -> None:
    """Register a format. It is shown the files that no earlier format accepts.

    Raises
    ------
    ValueError
        If its name is taken.
    """
    _FORMATS.add(added)
    extensions.cache_clear()


def image_formats() -> tuple[ImageFormat, ...]:
    """Return every known format, in the order in which they are asked."""
    return tuple(_FORMATS.all().values())


@cache
def extensions() -> frozenset[str]:
    """Return the suffixes, in small letters, that make a file in a folder an image."""
    return frozenset(suffix for known in image_formats() for suffix in known.extensions)


def rules() -> dict[str, str]:
    """Return the decoding rules that the input contract does not name, by format."""
    return {known.name: known.rule for known in image_formats() if known.rule}
