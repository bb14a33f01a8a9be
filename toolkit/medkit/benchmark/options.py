"""Options of a benchmark, and their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medkit.defaults import AUTO, BATCH_SIZE, BENCHMARK_ROUNDS


@dataclass(frozen=True)
class BenchmarkOptions:
    """Arguments of a benchmark.

    Attributes
    ----------
    folder
        Images to get through; ``None`` for some that are made.
    task
        Task whose models are measured; ``auto`` decides by the colour of the first image.
    batch_size, threads
        As for :class:`medkit.batch.options.ClassifyOptions`.
    repeats
        Rounds, of which the best counts, at least 1.
    peers
        Whether to run other tools on the same folder, where they are installed.
    trained
        Folder of bundles, as for :func:`medkit.models.bundle.load_bundle`.
    """

    folder: Path | None = None
    task: str = AUTO
    batch_size: int = BATCH_SIZE
    threads: int | None = None
    repeats: int = BENCHMARK_ROUNDS
    peers: bool = False
    trained: Path | None = None
