"""The ladder: what an export tries, in order, until a file decides like its original.

8 bits throughout come first: such a file is the smallest and fastest. Where
it is out of the budget, each rung gives up a little size and speed, and only
as much as it must.
"""

from __future__ import annotations

from dataclasses import dataclass

from medkit.evaluation.comparison import Comparison
from medkit.models.manifest import ComparisonRecord, RungRecord
from medkit_exporters.settings import EXTREMES, Settings

MORE_IMAGES = 4
"""Factor by which the rung ``more calibration images`` multiplies their number."""


@dataclass(frozen=True)
class Rung:
    """One way to convert.

    Attributes
    ----------
    name
        Common name of the rung.
    settings
        Settings of the conversion.
    times_images
        Factor for the number of calibration images.
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
        Name of the rung, and precision of the file.
    method
        Method that chose the ranges; empty for a file without integers.
    images
        Number of calibration images; 0 for a file without integers.
    bytes
        Size of the file.
    comparison
        The file compared with its original, on images that were not used for
        calibration; ``None`` without data, or if there is no file.
    spread
        The file compared with one that other images calibrated; ``None``
        where nothing is calibrated.
    error
        Reason why there is no file; empty if there is one.
    skipped
        Parts that the conversion left as they were, with the reason; one line each.
    """

    rung: str
    precision: str
    method: str
    images: int
    bytes: int = 0
    comparison: Comparison | None = None
    spread: Comparison | None = None
    error: str = ""
    skipped: tuple[str, ...] = ()

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

    def to_record(self) -> RungRecord:
        """Return the attempt as manifests hold it, without the list of flips."""
        return RungRecord(
            rung=self.rung,
            precision=self.precision,
            method=self.method,
            images=self.images,
            bytes=self.bytes,
            passed=self.passed,
            failures=self.failures,
            validation=_record_of(self.comparison),
            spread=_record_of(self.spread),
            skipped=self.skipped,
        )


def _record_of(comparison: Comparison | None) -> ComparisonRecord | None:
    if comparison is None:
        return None
    changes = {name: change.difference for name, change in comparison.changes.items()}
    return ComparisonRecord(comparison.images, comparison.agreement, changes)
