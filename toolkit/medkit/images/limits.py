"""What one image may cost: pixels, time, bytes, and how far it may unpack."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from medkit.defaults import EXPANSION, MEGABYTES, MEGAPIXELS, SECONDS
from medkit.errors import ImageError, UsageError

_HIGHEST = 1e6  # of any limit: a thread cannot wait for much longer


@dataclass(frozen=True)
class Limits:
    """What one image may cost.

    Attributes
    ----------
    megapixels
        Millions of pixels, as the file's header gives its size.
    seconds
        For reading and decoding.
    megabytes
        Millions of bytes of the file.
    expansion
        Bytes of pixels for each byte of a file whose decoding takes more
        than 64 MB. Pictures have some 10 to 60; what has a thousand is empty,
        or a bomb.

    Raises
    ------
    UsageError
        For a limit that is not above zero, or absurdly high.
    """

    megapixels: float = MEGAPIXELS
    seconds: float = SECONDS
    megabytes: float = MEGABYTES
    expansion: float = EXPANSION

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value <= _HIGHEST:
                raise UsageError(
                    f"a limit of {value:g} for {name}; accepted: above 0, up to {_HIGHEST:,.0f}"
                )


DEFAULT_LIMITS = Limits()

GRACE = 1.0
"""Seconds after its limit in which a worker can still report an image, before it is given up."""


@dataclass
class Clock:
    """When the work on an image began. Its time limit is counted from there."""

    limits: Limits
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until the time is up; negative after."""
        return self.started + self.limits.seconds - time.monotonic()

    def check(self) -> None:
        """Raise :class:`ImageError` if the time is up."""
        if self.left < 0:
            raise ImageError(took_too_long(self.limits))


def took_too_long(limits: Limits) -> str:
    """Return the reason of an image that was given up."""
    return f"takes longer to read and decode than {limits.seconds:g} s"
