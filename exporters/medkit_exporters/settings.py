"""How a file is converted: what an exporter is asked for."""

from __future__ import annotations

from dataclasses import dataclass

PERCENTILE, EXTREMES = "percentile", "extremes"
"""Ways to choose the range of an activation from what calibration images make of it.

All but its outermost values, or all.
"""


@dataclass(frozen=True)
class Settings:
    """How to convert.

    Attributes
    ----------
    precision
        One of :data:`medkit.bundles.PRECISIONS`.
    ranges
        :data:`PERCENTILE` or :data:`EXTREMES`, for integer files.
    float_head
        Whether the last product computes in floating point (``mixed``).
    float_share
        Share of the products, those that 8 bits distort most, that compute
        in floating point (``mixed``), 0..1.
    """

    precision: str
    ranges: str = PERCENTILE
    float_head: bool = False
    float_share: float = 0.0

    @property
    def calibrated(self) -> bool:
        """Whether the conversion needs calibration images."""
        return self.precision in ("int8", "int16", "mixed")
