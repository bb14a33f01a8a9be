"""Bring the tables in README.md and docs/, and the model cards, up to date with their figures.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` and is made
from the manifests in ``trained/`` and the records in ``docs/performance/``
and ``docs/architectures/``.
With ``--check`` nothing is written, and the exit status is 1 if a page is out
of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import architecture_records

from medkit.defaults import BALANCED
from medkit.files import read_json
from medkit.models.bundle import KERAS_NAME, SEED_NAME
from medkit.models.figures import Figures
from medkit.models.manifest import MANIFEST_NAME, Manifest, read_manifest
from medkit.reports.modelcard import CARD_FILE, render_card
from medkit.reports.tables import with_interval
from medkit.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(
    ROOT / name
    for name in ("README.md", "docs/architectures.md", "docs/baseline.md", "docs/performance.md")
)

# What the student project that medkit grew from reported of itself.
SEED_PROJECT: dict[str, dict[str, float | None]] = {
    "pneumonia": {"accuracy": 0.7292, "auc": 0.78},
    "skin": {"accuracy": 0.4661, "auc": None},
}


def seed_and_shipped(task: str) -> dict[str, Manifest]:
    """Return a task's manifests: of the seed recipe's run here, and of the shipped model."""
    folder = ROOT / "trained" / task
    names = {"seed": SEED_NAME, "default": MANIFEST_NAME}
    return {run: read_manifest(folder / name) for run, name in names.items()}


def results() -> str:
    """Compare accuracy and AUC on the official test splits."""
    rows = [
        "| task | model | test accuracy | test AUC | file |",
        "|---|---|---:|---:|---:|",
    ]
    for task in TASKS:
        reported = SEED_PROJECT[task]
        rows.append(
            f"| {task} | the student project | {_number(reported['accuracy'])} | "
            f"{reported['auc'] or 'not reported'} | |"
        )
        found = seed_and_shipped(task)
        seed, shipped = found["seed"], found["default"]
        runs = [
            ("`--recipe seed`, run here", seed.metrics, seed.files[KERAS_NAME].bytes),
            ("**shipped**, Keras", shipped.metrics, shipped.files[KERAS_NAME].bytes),
        ]
        for name, entry in shipped.exports.items():
            runs.append((f"**shipped**, `{name}`", entry.metrics or {}, entry.bytes))
        for name, metrics, size in runs:
            test = metrics["test"][BALANCED]
            accuracy = with_interval(test.accuracy, test.intervals.accuracy)
            area = with_interval(test.auc, test.intervals.auc)
            rows.append(f"| {task} | {name} | {accuracy} | {area} | {size / 1e6:.2f} MB |")
    return "\n".join(rows)


def details() -> str:
    """List what each run was made of and what it reached."""
    lines = ["| | " + " | ".join(f"{task}, {name}" for task, name in _runs()) + " |"]
    lines.append("|---|" + "---:|" * len(_runs()))
    found = {(task, name): seed_and_shipped(task)[name] for task, name in _runs()}

    def row(title: str, cell: Callable[[Manifest], str]) -> None:
        lines.append(f"| {title} | " + " | ".join(cell(found[run]) for run in _runs()) + " |")

    row("parameters", lambda m: f"{m.parameters:,}")
    row("training images", lambda m: f"{_count(m, 'train'):,}")
    row("validation images", lambda m: f"{_count(m, 'validation'):,}")
    row("kept out of training", lambda m: f"{len(m.data.kept_out):,}")
    row("epochs, kept one", lambda m: f"{m.epochs}, {m.kept_epoch}")
    row("threshold", lambda m: _number(m.operating_points[BALANCED].threshold))
    row("temperature", lambda m: _number(m.temperature))
    for split, title in (("validation", "validation"), ("test", "official test")):
        row(f"{title} accuracy", partial(_figure, split, lambda f: f.accuracy))
        row(f"{title} balanced accuracy", partial(_figure, split, lambda f: f.balanced_accuracy))
        row(f"{title} AUC", partial(_figure, split, lambda f: f.auc))
    return "\n".join(lines)


def sensitivities() -> str:
    """List the shipped models' sensitivity by class on the official test splits."""
    lines = ["| task | class | test images | seed recipe finds | shipped model finds |"]
    lines.append("|---|---|---:|---:|---:|")
    for task in TASKS:
        found = seed_and_shipped(task)
        for label, count in found["default"].data.counts["test"].items():
            tests = [manifest.metrics["test"][BALANCED] for manifest in found.values()]
            cells = [
                with_interval(test.sensitivity[label], test.intervals.sensitivity[label])
                for test in tests
            ]
            lines.append(f"| {task} | {label} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed(name: str) -> str:
    """Show a benchmark as ``medkit benchmark --json`` wrote it."""
    found = read_json(ROOT / "docs" / "performance" / f"{name}.json")
    count, best = found["images"], min(item["seconds"] for item in found["results"])
    lines = [
        f"{count:,} images, {found['cores']} cores of {found['machine']['processor']}; decoding "
        f"alone {found['decode_rate']:,.0f} images/s.",
        "",
        "| | model alone | whole process | packed limit | reached | start-up | reached without "
        "start-up | memory |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for item in found["results"]:
        lines.append(
            f"| `{item['file']}` on {item['runtime']} | {item['inference_rate']:,.0f}/s "
            f"| {item['rate']:,.0f}/s, {item['seconds']:.2f} s | {item['packed_seconds']:.2f} s "
            f"| {item['share_of_packed_limit']:.0%} | {item['start_seconds']:.2f} s "
            f"| {item['share_after_start']:.0%} "
            f"| {item['peak_bytes'] / 1e6:,.0f} MB |"
        )
    lines += ["", "| other tool | whole process | medkit is faster by |", "|---|---:|---:|"]
    for peer in found["peers"]:
        lines.append(
            f"| {peer['name']} | {count / peer['seconds']:,.0f}/s, {peer['seconds']:.2f} s "
            f"| {peer['seconds'] / best:.1f} times |"
        )
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "results": results,
    "details": details,
    "sensitivities": sensitivities,
    "dermoscopy": partial(speed, "dermoscopy"),
    "xrays": partial(speed, "xrays"),
    "architectures tflite": partial(architecture_records.matrix, "tflite"),
    "architectures onnx": partial(architecture_records.matrix, "onnx"),
    "architectures reasons": architecture_records.reasons,
}


def _runs() -> list[tuple[str, str]]:
    return [(task, name) for task in TASKS for name in ("seed", "default")]


def _count(manifest: Manifest, split: str) -> int:
    return sum(manifest.data.counts.get(split, {}).values())


def _figure(split: str, of: Callable[[Figures], float | None], manifest: Manifest) -> str:
    """Format one figure at the operating point ``balanced``; a dash for no figures."""
    figures = manifest.metrics.get(split, {}).get(BALANCED)
    return "-" if figures is None else _number(of(figures))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def updated(text: str) -> str:
    """Return a page with its tables brought up to date."""
    for name, make in TABLES.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if start in text:
            pattern = re.escape(start) + ".*?" + re.escape(end)
            before, after = re.split(pattern, text, maxsplit=1, flags=re.DOTALL)
            text = f"{before}{start}\n\n{make()}\n\n{end}{after}"
    return text


def pages() -> dict[Path, str]:
    """Return the pages that are made from manifests, and the text that each should have."""
    wanted = {page: updated(page.read_text(encoding="utf-8")) for page in PAGES}
    for name, task in TASKS.items():
        card = render_card(task, seed_and_shipped(name)["default"])
        wanted[ROOT / "trained" / name / CARD_FILE] = card
    return wanted


def main() -> int:
    """Update the pages, or with ``--check`` say which are out of date."""
    stale = {
        page: text
        for page, text in pages().items()
        if not page.is_file() or page.read_text(encoding="utf-8") != text
    }
    if "--check" in sys.argv:
        for page in stale:
            print(f"out of date: {page.relative_to(ROOT)}; run: make docs", file=sys.stderr)
        return 1 if stale else 0
    for page, text in stale.items():
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
