"""PNG, decoded by Pillow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import IO, cast

from PIL import PngImagePlugin

from medkit.images.bounded_file import BoundedFile
from medkit.images.depth import NOTHING_DECLARED, Declared
from medkit.images.formats import png_deep
from medkit.images.formats.pillow import decode_with
from medkit.images.formats.pillow_globals import as_pillow_comes
from medkit.images.formats.png_chunks import PngChunks, read_chunks
from medkit.images.formats.registry import Decoded, register_image_format
from medkit.images.limits import Limits
from medkit.images.notes import END_MISSING, SEVERAL_FRAMES

_SIXTEEN_BITS = 2.0**16 - 1


@dataclass(frozen=True)
class PngFormat:
    """PNG of any depth and colour, the first frame."""

    name: str = "PNG"
    extensions: tuple[str, ...] = (".png",)
    rule: str = ""
    facts: tuple[str, ...] = ()

    def accepts(self, head: bytes) -> bool:
        """Whether Pillow's plug-in takes a file with these first bytes."""
        return PngImagePlugin._accept(head)

    def decode(self, file: BoundedFile, least_side: int | None, limits: Limits) -> Decoded:
        """Decode the first frame, upright and with 8 bits; see the input contract's rules."""
        with as_pillow_comes():
            chunks = read_chunks(file)
            stream, declared = cast(IO[bytes], chunks.file), _declared(chunks)
            if png_deep.is_deep(chunks):
                found = png_deep.decode_deep(stream, chunks, declared, file, limits)
            else:
                plugin = PngImagePlugin.PngImageFile
                found = decode_with(plugin, stream, file, limits, declared=declared)
        ended = (END_MISSING,) * (not chunks.has_end)
        return replace(found, notes=(*found.notes, *ended, *(SEVERAL_FRAMES,) * chunks.several))


def _declared(chunks: PngChunks) -> Declared:
    """Return what a PNG of more than 8 bits says of its samples."""
    if chunks.significant_bits is None or not 8 <= chunks.significant_bits < 16:
        return NOTHING_DECLARED
    # A PNG of 12 significant bits fills 16 by its standard; not all writers obey.
    return Declared(
        (2.0**chunks.significant_bits - 1, _SIXTEEN_BITS),
        shifted_by=16 - chunks.significant_bits,
    )


register_image_format(PngFormat())
