"""The ladder: what an export tries, in order, until a file decides like its original.

8 bits throughout come first, being smallest and fastest. Where they fall out
of the budget, each rung gives up a little of that, and only as much as it must.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medkit.comparison import Comparison
from medkit_exporters.settings import EXTREMES, Settings

MORE_IMAGES = 4
"""By how much the rung ``more calibration images`` multiplies their number."""


@dataclass(frozen=True)
class Rung:
    """One way to convert.

    Attributes
    ----------
    name
        For people.
    settings
        What the exporter is asked for.
    times_images
        Multiple of the calibration images that were asked for.
    """

    name: str
    settings: Settings
    times_images: int = 1


LADDERS = {
    "int8": (
        Rung("8 bits throughout", Settings("int8")),
        Rung("another calibration method", Settings("int8", EXTREMES)),
        Rung("more calibration images", Settings("int8"), MORE_IMAGES),
        Rung("a float head", Settings("mixed", float_head=True)),
        Rung("16-bit activations", Settings("int16")),
        # An eighth of ResNet50's convolutions is seven: the stem and a few additions'.
        Rung("the worst layers in float", Settings("mixed", float_head=True, float_share=1 / 8)),
        Rung("half precision", Settings("fp16")),
    ),
    "fp16": (Rung("half precision", Settings("fp16")),),
    "fp32": (Rung("as trained", Settings("fp32")),),
}
"""The rungs for each precision that can be asked for."""


@dataclass(frozen=True)
class Attempt:
    """A rung that was tried.

    Attributes
    ----------
    rung, precision
        Which.
    method
        How ranges were chosen; empty for a file without integers.
    images
        Calibration images; 0 for a file without integers.
    bytes
        Size of the file.
    comparison
        The file against its original on images that calibrated nothing;
        ``None`` without data, or if there is no file.
    spread
        The file against one that other images calibrated; ``None`` where
        nothing is calibrated.
    error
        Why there is no file; empty if there is one.
    """

    rung: str
    precision: str
    method: str
    images: int
    bytes: int = 0
    comparison: Comparison | None = None
    spread: Comparison | None = None
    error: str = ""

    @property
    def failures(self) -> tuple[str, ...]:
        """One line for each broken rule."""
        lines = [self.error] if self.error else []
        if self.comparison is not None:
            lines += self.comparison.failures
        if self.spread is not None:
            lines += (f"against other calibration images: {x}" for x in self.spread.failures)
        return tuple(lines)

    @property
    def passed(self) -> bool:
        """Whether the file may be kept."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Return the attempt as manifests and pages tell of it, without the list of flips."""
        return {
            "rung": self.rung,
            "precision": self.precision,
            "method": self.method,
            "images": self.images,
            "bytes": self.bytes,
            "passed": self.passed,
            "failures": list(self.failures),
            "validation": summary_of(self.comparison),
            "spread": summary_of(self.spread),
        }


def summary_of(comparison: Comparison | None) -> dict[str, Any] | None:
    """Return how many images a comparison had, its agreement, and each figure's change."""
    if comparison is None:
        return None
    return {
        "images": comparison.images,
        "agreement": comparison.agreement,
        "changes": {name: change.difference for name, change in comparison.changes.items()},
    }
