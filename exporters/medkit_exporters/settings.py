"""Settings of a conversion."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_ERROR, EXTREMES = "least error", "extremes"
"""Ways to choose the range of an activation from its values on calibration images.

The range of the least mean square error, or the one from the lowest value to the highest.
"""

Range = tuple[float, float]
"""Lowest and highest value that a tensor can hold."""


@dataclass(frozen=True)
class Settings:
    """Settings of a conversion.

    Attributes
    ----------
    precision
        One of :data:`medkit.models.formats.PRECISIONS`.
    ranges
        :data:`LEAST_ERROR` or :data:`EXTREMES`, for integer files.
    float_head
        Whether the last product computes in floating point (``mixed``).
    float_share
        Share of the products that compute in floating point (``mixed``), 0..1.
        These are the products that 8 bits distort most.
    """

    precision: str
    ranges: str = LEAST_ERROR
    float_head: bool = False
    float_share: float = 0.0

    @property
    def method(self) -> str:
        """The method that chooses the ranges of activations; empty if none are chosen.

        The manifest records it.
        """
        if not self.calibrated:
            return ""
        if self.ranges == LEAST_ERROR:
            return "least mean square error over all images"
        return "minimum and maximum over all images"

    @property
    def levels(self) -> int:
        """Steps of an activation in integers."""
        return 65535 if self.precision == "int16" else 255

    @property
    def calibrated(self) -> bool:
        """Whether the conversion needs calibration images."""
        return self.precision in ("int8", "int16", "mixed")
