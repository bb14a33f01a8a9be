"""Brings the tables in README.md and docs/baseline.md up to date with the files they report.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` and is made
from the manifests in ``trained/`` and ``docs/baseline/`` and from the figures
that ``medkit parity --json`` wrote. With ``--check`` nothing is written, and
the exit status is 1 if a table is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "baseline.md")
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
        "seed": read_json(f"docs/baseline/{task}-seed.json"),
        "default": read_json(f"trained/{task}/manifest.json"),
    }


def share(value: float | None) -> str:
    """Format a share as a percentage."""
    return "not reported" if value is None else f"{100 * value:.2f} %"


def results() -> str:
    """Compare accuracy and AUC on the official test splits."""
    rows = [
        "| task | model | test accuracy | test AUC | file |",
        "|---|---|---:|---:|---:|",
    ]
    parity = read_json("docs/baseline/parity.json")
    for task in TASKS:
        seed = SEED_PROJECT[task]
        found = manifests(task)
        rows.append(
            f"| {task} | the student project | {share(seed['accuracy'])} | "
            f"{seed['auc'] or 'not reported'} | |"
        )
        for recipe, name in (
            ("seed", "`--recipe seed`, run here"),
            ("default", "**shipped**, Keras"),
        ):
            manifest = found[recipe]
            test, size = manifest["metrics"]["test"], manifest["files"]["model.keras"]["bytes"]
            rows.append(
                f"| {task} | {name} | {share(test['accuracy'])} | {test['auc']:.4f} | "
                f"{size / 1e6:.2f} MB |"
            )
        for item in parity:
            if item["task"] == task:
                size = found["default"]["exports"][item["file"]]["bytes"]
                accuracy, auc = share(item["export_accuracy"]), item["export_auc"]
                rows.append(
                    f"| {task} | **shipped**, `{item['file']}` | {accuracy} | {auc:.4f} | "
                    f"{size / 1e6:.2f} MB |"
                )
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
    row("kept out of training", lambda m: f"{m['data']['kept_out']:,}")
    row("epochs, kept one", lambda m: f"{m['epochs']}, {m['kept_epoch']}")
    row("threshold", lambda m: _number(m["operating_point"]["threshold"]))
    for split, title in (("validation", "validation"), ("test", "official test")):
        for key, name in (
            ("accuracy", "accuracy"),
            ("balanced_accuracy", "balanced accuracy"),
            ("auc", "AUC"),
        ):
            row(
                f"{title} {name}", lambda m, s=split, k=key: _number(m["metrics"].get(s, {}).get(k))
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
            cells = [share(found[r]["metrics"]["test"]["sensitivity"][label]) for r in found]
            lines.append(f"| {task} | {label} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


TABLES = {"results": results, "details": details, "sensitivities": sensitivities}


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


def main() -> int:
    """Update the pages, or with ``--check`` tell whether they are up to date."""
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if updated(text) != text:
            stale.append(page)
            if "--check" not in sys.argv:
                page.write_text(updated(text), encoding="utf-8")
    if "--check" in sys.argv and stale:
        names = ", ".join(str(page.relative_to(ROOT)) for page in stale)
        print(f"out of date: {names}; run: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
