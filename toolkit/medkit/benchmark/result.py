"""The result of a benchmark, and its JSON form."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medkit.files import write_json


@dataclass(frozen=True)
class Result:
    """One file on one runtime.

    Attributes
    ----------
    file, runtime
        Name of the file, and of the runtime.
    inference_rate
        Images a second that are put through the model, with every core at work.
    start_seconds
        Duration of a whole process that classifies one image.
    seconds
        Duration of a whole process that classifies them all.
    peak_bytes
        Most resident memory of that process; ``None`` where the system does not tell.
    """

    file: str
    runtime: str
    inference_rate: float
    start_seconds: float
    seconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class PeerResult:
    """Another tool: its name, and its whole process on the same folder."""

    name: str
    seconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Benchmark:
    """The result of a benchmark.

    Attributes
    ----------
    task, images
        The task, and the number of images that were classified.
    cores
        Number of cores that were used.
    decode_rate
        Images a second that are read and decoded on all cores.
    results, peers
        One result for each file and runtime, and one for each other tool that ran.
    absent
        Other tools that are not installed or could not run, with the reason.
    machine
        Processor, system, and versions.
    """

    task: str
    images: int
    cores: int
    decode_rate: float
    results: tuple[Result, ...]
    peers: tuple[PeerResult, ...] = ()
    absent: tuple[str, ...] = ()
    machine: dict[str, str] = field(default_factory=dict)

    def packed_seconds(self, result: Result) -> float:
        """Return how long decoding and inference take without a gap between them."""
        return self.images / self.decode_rate + self.images / result.inference_rate

    def share(self, result: Result) -> float:
        """Return the share of the packed limit that the whole process reaches, start-up included.

        A little more than 1 is possible: its parts were not measured at the same time.
        """
        return self.packed_seconds(result) / result.seconds

    def share_after_start(self, result: Result) -> float:
        """Return the share of the packed limit that is reached once the process has started."""
        return self.packed_seconds(result) / max(result.seconds - result.start_seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Return every figure, and what follows from them."""
        derived = [
            {
                **asdict(result),
                "rate": self.images / result.seconds,
                "packed_seconds": self.packed_seconds(result),
                "share_of_packed_limit": self.share(result),
                "share_after_start": self.share_after_start(result),
            }
            for result in self.results
        ]
        return {**asdict(self), "results": derived}


def write_benchmark(benchmark: Benchmark, path: Path) -> None:
    """Write a benchmark as JSON, atomically."""
    write_json(path, benchmark.to_dict())


def write_chart(benchmark: Benchmark, path: Path) -> None:
    """Write a bar chart of the rates as SVG, atomically."""
    from medkit.reports.plots import plot_rates, save_svg

    limits = {_label(r): benchmark.images / benchmark.packed_seconds(r) for r in benchmark.results}
    rates = {_label(r): benchmark.images / r.seconds for r in benchmark.results}
    others = {peer.name: benchmark.images / peer.seconds for peer in benchmark.peers}
    save_svg(plot_rates(rates, limits, others), path)


def _label(result: Result) -> str:
    return f"medkit, {result.file} on {result.runtime}"
