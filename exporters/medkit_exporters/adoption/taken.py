"""What a foreign file takes: its input, and what goes into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.errors import ModelFileError, UsageError
from medkit_exporters.adoption.pixels import PIXEL_RULES, PixelRule


@dataclass(frozen=True)
class Taken:
    """What a file takes.

    Attributes
    ----------
    height, width
        In pixels; ``None`` where they are free.
    channels
        1 or 3.
    channels_first
        Whether the channels come before height and width.
    dtype
        ``float32``, ``float16``, ``uint8`` or ``int8``.
    scale, zero_point
        Of an integer input: a number is ``scale * (integer - zero_point)``.
        Without a scale, bytes go in as they are.
    """

    height: int | None
    width: int | None
    channels: int
    channels_first: bool
    dtype: str
    scale: float | None = None
    zero_point: int = 0

    @property
    def takes_bytes(self) -> bool:
        """Whether bytes go in as they are."""
        return self.dtype == "uint8" and self.scale is None

    @property
    def ends(self) -> tuple[float, float] | None:
        """The lowest and the highest number that an integer input can hold; else ``None``."""
        if self.scale is None:
            return None
        info = np.iinfo(self.dtype)
        low, high = (self.scale * (each - self.zero_point) for each in (info.min, info.max))
        return low, high

    def own_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """Return the shape of one image, given as height, width and channels, in the file."""
        height, width, channels = shape
        return (1, channels, height, width) if self.channels_first else (1, *shape)

    def fed(self, values: NDArray[np.float32]) -> NDArray[np.generic]:
        """Return what goes into the file, of what a pixel rule gives."""
        own = values.transpose(0, 3, 1, 2) if self.channels_first else values
        own = np.ascontiguousarray(own)
        if self.scale is not None:
            info = np.iinfo(self.dtype)
            own = np.rint(own / np.float32(self.scale)) + np.float32(self.zero_point)
            own = np.clip(own, info.min, info.max)
        fed: NDArray[np.generic] = own.astype(self.dtype)
        return fed


def read_shape(path: Path, sides: Sequence[int | None]) -> tuple[int | None, int | None, int, bool]:
    """Return height, width, channels, and whether these come first.

    Parameters
    ----------
    path
        The file, for messages.
    sides
        Shape of its input, with ``None`` for what is free.

    Raises
    ------
    ModelFileError
        If it is not the shape of grey or colour images.
    """
    shown = ", ".join("free" if side is None else str(side) for side in sides)
    if len(sides) != 4:
        raise ModelFileError(
            f"{path} takes an array of shape ({shown}), which is no image; accepted: classifiers "
            "that take (n, height, width, channels) or (n, channels, height, width)"
        )
    batch, first, middle, last = sides
    if batch not in (None, 1):
        raise ModelFileError(
            f"{path} takes {batch} images at once, no fewer and no more; accepted: a free number, "
            "or 1; export it again with a free batch"
        )
    if last in (1, 3):
        return first, middle, last, False
    if first in (1, 3):
        return middle, last, first, True
    known = [side for side in (first, last) if side is not None]
    if not known:
        raise ModelFileError(
            f"{path} takes an array of shape ({shown}), which does not tell how many channels an "
            "image has; accepted: 1 (grey) or 3 (colour); export it again with that side fixed"
        )
    raise ModelFileError(
        f"{path} takes images of {min(known)} channels, by its shape ({shown}); accepted: 1 (grey) "
        "or 3 (colour)"
    )


def with_size(path: Path, taken: Taken, size: tuple[int, int] | None) -> Taken:
    """Return what a file takes, with the size that a user gives, width first, where it is free.

    Raises
    ------
    UsageError
        If the file takes another size.
    """
    if size is None:
        return taken
    width, height = size
    if (taken.width or width, taken.height or height) != size:
        raise UsageError(
            f"{path} takes images of {taken.width} x {taken.height} pixels, not of {width} x "
            f"{height}; leave the size out"
        )
    return replace(taken, width=width, height=height)


def rule_of_range(taken: Taken) -> PixelRule | None:
    """Return the pixel rule whose range an integer input holds, to a fiftieth, if any."""
    if taken.takes_bytes:
        return PIXEL_RULES["0..255"]
    if taken.ends is None:
        return None
    low, high = taken.ends
    for name in ("0..255", "0..1", "-1..1"):
        rule = PIXEL_RULES[name]
        lowest, highest = rule.add[0], 255 * rule.multiply[0] + rule.add[0]
        most = 0.02 * (highest - lowest)
        if abs(low - lowest) <= most and abs(high - highest) <= most:
            return rule
    return None
