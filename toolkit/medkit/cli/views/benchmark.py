"""Tables of a benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from medkit.cli.console import megabytes, show_table, table, visible
from medkit.wording import counted

if TYPE_CHECKING:
    from medkit.benchmark.result import Benchmark


def show_benchmark(console: Console, benchmark: Benchmark) -> None:
    """Show the rates of each file and runtime, the limit, and what other tools take."""
    machine = benchmark.machine
    console.print(
        f"{counted(benchmark.images, 'image')} for {benchmark.task} on "
        f"{counted(benchmark.cores, 'core')} of "
        f"{machine['processor']}; decoding alone {benchmark.decode_rate:,.0f} images/s",
        soft_wrap=True,
        markup=False,
    )
    shown = table("file", "runtime", right=("model", "whole", "of limit", "start", "memory"))
    for result in benchmark.results:
        shown.add_row(
            result.file,
            result.runtime,
            f"{result.inference_rate:,.0f}/s",
            f"{benchmark.images / result.seconds:,.0f}/s",
            f"{benchmark.share(result):.0%}",
            f"{result.start_seconds:.2f} s",
            megabytes(result.peak_bytes),
        )
    show_table(console, shown)
    if benchmark.peers:
        best = min(result.seconds for result in benchmark.results)
        shown = table("other tool", right=("seconds", "whole", "medkit", "memory"))
        for peer in benchmark.peers:
            shown.add_row(
                peer.name,
                f"{peer.seconds:.1f}",
                f"{benchmark.images / peer.seconds:,.0f}/s",
                f"{peer.seconds / best:.1f} times",
                megabytes(peer.peak_bytes),
            )
        show_table(console, shown)
    for line in benchmark.absent:
        console.print(f"left out: {visible(line)}", soft_wrap=True)
