"""The input contract: everything that decides the pixels that a model sees.

Training, calibration, parity and classification turn files into tensors by
the same contract. Its hash is inside every model file, and a model whose
contract names a rule that this version does not know is refused.

The rules, in order:

1. ``decoder``: decode the first frame. With :data:`SCALED`, a JPEG is decoded
   at the smallest of the scales 1, 1/2, 1/4, 1/8 that keeps both sides at least
   twice the tensor's; with :data:`FULL_SCALE`, no pixel is averaged away.
2. ``orientation``: turn the image upright by its EXIF orientation.
3. ``colour``: make samples 8-bit. The full scale of deeper ones is what the
   file says (BitsPerSample of 9 to 15, MaxSampleValue, SMinSampleValue, sBIT,
   a JPEG's precision).
   Otherwise it is told from the samples, so that a few bright pixels do not move it; see
   :mod:`medkit.images.depth`. Floats in 0..1 are multiplied by 255. A deep TIFF
   whose zero means white is refused unless it says what is black: its pixels
   would be a negative.
   Transparency is laid onto black, unless hardly a pixel is visible: then it
   is not meant. Palettes and CMYK become RGB; colour profiles are ignored. For
   one channel, luma (ITU-R 601) is taken; for three, grey is repeated.
4. ``resize``: resize to the tensor's size, by a geometry and a kernel; see
   :mod:`medkit.images.resize`. The shipped models squash with Pillow's
   antialiased bilinear kernel.

Normalisation is not among the rules: it is part of every model's graph.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from medkit.errors import ContractMismatchError
from medkit.images.resize import GEOMETRIES, KERNELS, RESIZE_RULES, kernel_of
from medkit.records import read_record

SCALED, FULL_SCALE = "pillow:first-frame:jpeg-scale-to-2x", "pillow:first-frame:full-scale"
"""The rules of ``decoder``."""

RULES: dict[str, tuple[str, ...]] = {
    "decoder": (SCALED, FULL_SCALE),
    "orientation": ("exif",),
    "colour": (
        "depth-by-percentile:alpha-if-any:luma-601",
        # Of 8-bit images, which all models were trained on, both make the same pixels.
        "depth-by-maximum:alpha-on-black:luma-601",
    ),
    "resize": RESIZE_RULES,
    "dtype": ("uint8",),
    "layout": ("NHWC",),
}
"""The rules that this version performs, by the contract's field; new models get the first.

A rule that changes gets a new name. The older one stays accepted only where it makes the
same pixels of all images that models were trained on.
"""

SMALLEST_SIDE, LARGEST_SIDE = 32, 1024
"""Pixels that a side of a tensor may have."""


def decoder_for(resize: str) -> str:
    """Return the decoder that suits a rule of ``resize``.

    A kernel without antialiasing sees single pixels, and those of a JPEG that
    was decoded at a smaller scale are others. An antialiased kernel averages
    them anyway; :data:`FULL_SCALE` fits it too, and takes longer.

    Parameters
    ----------
    resize
        One of :data:`RULES`.
    """
    return SCALED if kernel_of(resize).antialiased else FULL_SCALE


@dataclass(frozen=True)
class InputContract:
    """Everything that decides the pixels a model sees.

    Attributes
    ----------
    width, height
        Size of the tensor, in pixels.
    channels
        1 (luma) or 3 (RGB).
    decoder, orientation, colour, resize, dtype, layout
        Names of rules; see the module's docstring and :data:`RULES`.

    Raises
    ------
    ValueError
        If the decoder leaves out pixels that the rule of ``resize`` needs; see
        :func:`decoder_for`.
    """

    width: int
    height: int
    channels: int
    decoder: str = RULES["decoder"][0]
    orientation: str = RULES["orientation"][0]
    colour: str = RULES["colour"][0]
    resize: str = RULES["resize"][0]
    dtype: str = RULES["dtype"][0]
    layout: str = RULES["layout"][0]

    def __post_init__(self) -> None:
        """Refuse rules of which one spoils what the other needs."""
        needs = decoder_for(self.resize) if self.resize in RESIZE_RULES else SCALED
        if self.decoder == SCALED != needs:
            raise ValueError(
                f"resize {self.resize!r} has no antialiasing, so decoder must be {needs!r} "
                f"instead of {self.decoder!r}"
            )

    @cached_property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the fields."""
        import hashlib
        import json

        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image's tensor: height, width, channels."""
        return (self.height, self.width, self.channels)

    @property
    def least_side(self) -> int | None:
        """Pixels that a decoder must leave on each side: twice the tensor's; ``None`` for all."""
        return None if self.decoder == FULL_SCALE else 2 * max(self.width, self.height)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the hash, as stored in manifests and model files."""
        return {**asdict(self), "hash": self.hash}

    @classmethod
    def from_dict(cls, stored: Any, where: str) -> InputContract:
        """Read a contract, and check that this version performs it.

        Parameters
        ----------
        stored
            Result of :meth:`to_dict`, read from a model file or a manifest.
        where
            The file, for the message.

        Raises
        ------
        ContractMismatchError
            If a field is missing, a rule is unknown here, a size is not
            accepted, or the hash is not that of the fields.
        """
        try:
            contract = read_record(cls, stored)
        except ValueError as error:
            raise _refusal(where, str(error)) from error
        problems = [
            f"{name} {getattr(contract, name)!r} instead of {_accepted(name)}"
            for name, known in RULES.items()
            if getattr(contract, name) not in known
        ]
        if contract.channels not in (1, 3):
            problems.append(f"channels {contract.channels} instead of 1 or 3")
        problems += [
            f"a side of {side} instead of {SMALLEST_SIDE} to {LARGEST_SIDE} pixels"
            for side in dict.fromkeys((contract.width, contract.height))
            if not SMALLEST_SIDE <= side <= LARGEST_SIDE
        ]
        if stored.get("hash") != contract.hash:
            problems.append(f"hash {stored.get('hash')!r} instead of {contract.hash!r}")
        if problems:
            raise _refusal(where, "; ".join(problems))
        return contract


def _accepted(name: str) -> str:
    """Return the rules of a field, for a message."""
    if name != "resize":
        return " or ".join(map(repr, RULES[name]))
    return (
        f"GEOMETRY:KERNEL with a geometry of {', '.join(GEOMETRIES)} "
        f"and a kernel of {', '.join(KERNELS)}"
    )


def _refusal(where: str, difference: str) -> ContractMismatchError:
    return ContractMismatchError(
        f"{where} was made for other preprocessing ({difference}); "
        "export it again with this version of medkit"
    )
