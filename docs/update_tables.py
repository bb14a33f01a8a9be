"""Brings the tables in README.md and docs/, and the model cards, up to date with their figures.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` and is made
from the manifests in ``trained/`` and the benchmarks in ``docs/performance/``.
With ``--check`` nothing is written, and the exit status is 1 if a page is out
of date.
"""

from __future__ import annotations

import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from medkit.modelcard import CARD_FILE, render_card, with_interval
from medkit.tasks import get_task

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(ROOT / name for name in ("README.md", "docs/baseline.md", "docs/performance.md"))
TASKS = ("pneumonia", "skin")

# What the student project that medkit grew from reported of itself.
SEED_PROJECT = {
    "pneumonia": {"accuracy": 0.7292, "auc": 0.78},
    "skin": {"accuracy": 0.4661, "auc": None},
}


def read_json(path: str) -> Any:
    """Return the content of a JSON file in the repository."""
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def manifests(task: str) -> dict[str, Any]:
    """Return a task's manifests: of the seed recipe's run here, and of the shipped model."""
    return {
        "seed": read_json(f"trained/{task}/seed.json"),
        "default": read_json(f"trained/{task}/manifest.json"),
    }


def figures(metrics: dict[str, Any], split: str = "test") -> dict[str, Any]:
    """Return a split's figures at the operating point ``balanced``."""
    found: dict[str, Any] = metrics.get(split, {}).get("balanced", {})
    return found


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
        found = manifests(task)
        seed, shipped = found["seed"], found["default"]
        runs = [
            ("`--recipe seed`, run here", seed["metrics"], seed["files"]["model.keras"]),
            ("**shipped**, Keras", shipped["metrics"], shipped["files"]["model.keras"]),
        ]
        runs += [
            (f"**shipped**, `{name}`", entry["metrics"], entry)
            for name, entry in shipped["exports"].items()
        ]
        for name, metrics, file in runs:
            test = figures(metrics)
            cells = [with_interval(test[k], test["intervals"][k]) for k in ("accuracy", "auc")]
            size = f"{file['bytes'] / 1e6:.2f} MB"
            rows.append(f"| {task} | {name} | {cells[0]} | {cells[1]} | {size} |")
    return "\n".join(rows)


def details() -> str:
    """List what each run was made of and what it reached."""
    lines = ["| | " + " | ".join(f"{task}, {name}" for task, name in _runs()) + " |"]
    lines.append("|---|" + "---:|" * len(_runs()))
    found = {(task, name): manifests(task)[name] for task, name in _runs()}

    def row(title: str, cell: Any) -> None:
        lines.append(f"| {title} | " + " | ".join(cell(found[run]) for run in _runs()) + " |")

    row("parameters", lambda m: f"{m['parameters']:,}")
    row("training images", lambda m: f"{sum(m['data']['counts']['train'].values()):,}")
    row(
        "validation images",
        lambda m: f"{sum(m['data']['counts'].get('validation', {}).values()):,}",
    )
    row("kept out of training", lambda m: f"{len(m['data']['kept_out']):,}")
    row("epochs, kept one", lambda m: f"{m['epochs']}, {m['kept_epoch']}")
    row("threshold", lambda m: _number(m["operating_points"]["balanced"]["threshold"]))
    row("temperature", lambda m: _number(m["temperature"]))
    for split, title in (("validation", "validation"), ("test", "official test")):
        for key, name in (
            ("accuracy", "accuracy"),
            ("balanced_accuracy", "balanced accuracy"),
            ("auc", "AUC"),
        ):
            row(
                f"{title} {name}",
                lambda m, s=split, k=key: _number(figures(m["metrics"], s).get(k)),
            )
    return "\n".join(lines)


def sensitivities() -> str:
    """List the shipped models' sensitivity by class on the official test splits."""
    lines = ["| task | class | test images | seed recipe finds | shipped model finds |"]
    lines.append("|---|---|---:|---:|---:|")
    for task in TASKS:
        found = manifests(task)
        counts = found["default"]["data"]["counts"]["test"]
        for label, count in counts.items():
            tests = [figures(found[run]["metrics"]) for run in found]
            cells = [
                with_interval(test["sensitivity"][label], test["intervals"]["sensitivity"][label])
                for test in tests
            ]
            lines.append(f"| {task} | {label} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed(name: str) -> str:
    """Tell of a benchmark as ``medkit benchmark --json`` wrote it."""
    found = read_json(f"docs/performance/{name}.json")
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


TABLES = {
    "results": results,
    "details": details,
    "sensitivities": sensitivities,
    "dermoscopy": partial(speed, "dermoscopy"),
    "xrays": partial(speed, "xrays"),
}


def _runs() -> list[tuple[str, str]]:
    return [(task, name) for task in TASKS for name in ("seed", "default")]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def updated(text: str) -> str:
    """Return a page with every table in it made anew."""
    for name, make in TABLES.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if start in text:
            pattern = re.escape(start) + ".*?" + re.escape(end)
            before, after = re.split(pattern, text, maxsplit=1, flags=re.DOTALL)
            text = f"{before}{start}\n\n{make()}\n\n{end}{after}"
    return text


def pages() -> dict[Path, str]:
    """Return the pages that manifests decide, and the text that each should have."""
    wanted = {page: updated(page.read_text(encoding="utf-8")) for page in PAGES}
    for task in TASKS:
        card = render_card(get_task(task), manifests(task)["default"])
        wanted[ROOT / "trained" / task / CARD_FILE] = card
    return wanted


def main() -> int:
    """Update the pages, or with ``--check`` tell whether they are up to date."""
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
