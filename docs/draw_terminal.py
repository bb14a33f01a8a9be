"""Draw docs/terminal.svg: what ``medkit classify`` shows for the sample images.

The picture shows a real run. A console records its output instead of showing it.
"""

from __future__ import annotations

import io
import re
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from medkit.batch.options import ClassifyOptions
from medkit.batch.run import classify_files
from medkit.cli.views.classify import ClassifyProgress, show_summary

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "tests" / "samples"
SHOWN_ROWS = 5


def main() -> None:
    """Classify the samples and write the picture."""
    console = Console(record=True, width=88, file=io.StringIO(), highlight=False)
    console.print("[bold green]$[/] medkit classify tests/samples --out preds.csv")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "preds.csv"
        with ClassifyProgress(console) as progress:
            summary = classify_files(ClassifyOptions(inputs=(SAMPLES,), out=out), progress)
        lines = out.read_text(encoding="utf-8").splitlines()
    # The line's length is written into the picture, so the name must be the shown one.
    show_summary(console, replace(summary, out="preds.csv"))
    console.print(f"[bold green]$[/] cut -d, -f1-5 preds.csv | head -n {SHOWN_ROWS + 1}")
    for line in lines[: SHOWN_ROWS + 1]:
        console.print(",".join(line.split(",")[:5]), soft_wrap=True)
    console.print()  # the picture's edge would cut the last line's tails
    svg = console.export_svg(title="medkit classify")
    # Viewers have a fixed-width font of their own; nothing is fetched for a picture.
    svg = re.sub(r"@font-face\s*{[^}]*}", "", svg).replace("Fira Code,", "")
    (ROOT / "docs" / "terminal.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
