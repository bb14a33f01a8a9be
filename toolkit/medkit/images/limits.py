"""Limits of one image: its pixels, its time, its bytes and how far it may unpack."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from medkit.defaults import EXPANSION, MEGABYTES, MEGAPIXELS, SECONDS
from medkit.errors import ImageError, UsageError

_HIGHEST = 1e6  # of any limit: a thread cannot wait for much longer


@dataclass(frozen=True)
class Limits:
    """Limits of one image.

    Attributes
    ----------
    megapixels
        Millions of pixels, by the size in the file's header.
    seconds
        Seconds that reading and decoding may take.
    megabytes
        Millions of bytes of the file.
    expansion
        Ratio of unpacked to stored bytes, for a file whose decoding takes
        more than 64 MB. Pictures have a ratio of some 10 to 60. A file with a
        ratio of a thousand is empty, or a bomb.

    Raises
    ------
    UsageError
        If a limit is not above zero, or is absurdly high.
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
    """The time at which the work on an image began. Its time limit starts there."""

    limits: Limits
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """The seconds until the time is up; negative afterwards."""
        return self.started + self.limits.seconds - time.monotonic()

    def check(self) -> None:
        """Raise :class:`ImageError` if the time is up."""
        if self.left < 0:
            raise ImageError(took_too_long(self.limits))


def took_too_long(limits: Limits) -> str:
    """Return the reason of an image that was given up."""
    return f"takes longer to read and decode than {limits.seconds:g} s"
