"""What a person sees on the terminal: progress and tables, all on standard error.

Standard output stays clean for ``--out -``. Without a terminal, progress
becomes plain lines (training) or nothing (classification).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from medkit.decisions import BALANCED

if TYPE_CHECKING:
    from medkit.audit import Audit
    from medkit.benchmark import Benchmark
    from medkit.classify import ClassifySummary
    from medkit.comparison import Comparison
    from medkit.evaluation import Evaluation
    from medkit.inspection import Inspection
    from medkit.rows import Row
    from medkit_exporters import ExportedFile, ExportOptions

_SHOWN_EVERY = 0.1
"""Seconds between two changes of a progress bar."""

DISCLAIMER = "Research software: a prediction is not a diagnosis."


def stderr_console() -> Console:
    """Return the console that everything for people goes to."""
    return Console(stderr=True, highlight=False)


class ClassifyProgress:
    """Progress of a batch classification: done of total, rate, time left, errors."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]classifying"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[errors]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=None, rate="", errors="")
        self._started = self._shown = time.monotonic()
        self._done = self._errors = 0

    def __enter__(self) -> ClassifyProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._show()
        self._progress.stop()

    def total(self, count: int) -> None:
        """Take the number of rows to come."""
        self._progress.update(self._bar, total=count)

    def row(self, row: Row) -> None:
        """Count a row."""
        self._done += 1
        self._errors += row.status != "ok"
        # Telling the bar of every row would take longer than writing it.
        if time.monotonic() - self._shown >= _SHOWN_EVERY:
            self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        rate = self._done / max(time.monotonic() - self._started, 1e-6)
        self._progress.update(
            self._bar,
            completed=self._done,
            rate=f"{rate:,.0f} images/s",
            errors=f"[red]{self._errors} errors" if self._errors else "",
        )


class TrainingProgress:
    """Progress of a training run: epoch, step, loss, validation figures, time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("preparing", total=None, detail="")
        self._epoch = self._epochs = self._steps = self._step = 0
        self._epoch_started = time.monotonic()

    def __enter__(self) -> TrainingProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """Show a line."""
        self._console.print(text, markup=False)

    def epoch_begins(self, epoch: int, epochs: int, steps: int) -> None:
        """Start counting an epoch's steps."""
        self._epoch, self._epochs, self._steps, self._step = epoch, epochs, steps, 0
        self._epoch_started = time.monotonic()
        self._progress.update(
            self._bar,
            description=f"epoch {epoch}/{epochs}",
            total=epochs * steps,
            completed=(epoch - 1) * steps,
        )

    def step(self, loss: float) -> None:
        """Advance by one step."""
        self._step += 1
        detail = f"step {self._step}/{self._steps} · loss {loss:.4f}"
        self._progress.update(self._bar, advance=1, detail=detail)

    def epoch_ends(self, record: dict[str, Any], best: bool) -> None:
        """Show the epoch's line."""
        seconds = time.monotonic() - self._epoch_started
        left = _duration(seconds * (self._epochs - self._epoch))
        self._console.print(
            f"epoch {self._epoch}/{self._epochs}  loss {record['loss']:.4f}  "
            f"held out: loss {record['watched_loss']:.4f}  "
            f"accuracy {record['watched_accuracy']:.4f}  AUC {record['watched_auc']:.4f}  "
            f"{seconds:.0f} s, at most {left} left{'  best so far' if best else ''}",
            soft_wrap=True,
        )


def show_audit(console: Console, audit: Audit) -> None:
    """Show what an audit found: counts by class, findings by kind, the first of each problem."""
    from medkit.audit import PROBLEMS, REMARKS

    splits = list(audit.counts)
    table = _table("class", right=tuple(_visible(split) or "images" for split in splits))
    for label in dict.fromkeys(label for classes in audit.counts.values() for label in classes):
        counts = (str(audit.counts[split].get(label, 0)) for split in splits)
        table.add_row(_visible(label), *counts)
    console.print(table)
    table = _table("finding", right=("number",))
    for kinds, colour in ((PROBLEMS, "red"), (REMARKS, "yellow")):
        for kind, meaning in kinds.items():
            count = len(audit.of(kind))
            table.add_row(meaning, f"[{colour}]{count}[/]" if count else "0")
    console.print(table)
    for kind in PROBLEMS:
        for finding in audit.of(kind)[:3]:
            console.print(
                _visible(f"{kind}: {'; '.join(finding.images)} ({finding.detail})"),
                soft_wrap=True,
            )
    several = "s" if audit.problems > 1 else ""
    verdict = f"{audit.problems} problem{several}" if audit.problems else "no problem"
    console.print(f"{audit.images:,} images, {verdict}", soft_wrap=True)


def show_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Show every figure of an evaluation with its interval, and the files left out."""
    figures = evaluation.figures
    console.print(
        f"{evaluation.task.name}: {evaluation.file} on {evaluation.runtime}, {figures['images']} "
        f"images of {evaluation.folder}, operating point {figures['operating_point']}",
        soft_wrap=True,
        markup=False,
    )
    table = _table("figure", right=("value", "95 % interval"))
    for key in ("accuracy", "balanced_accuracy", "auc", "calibration_error"):
        table.add_row(key.replace("_", " "), *_spread(figures[key], figures["intervals"][key]))
    console.print(table)
    table = _table("class", right=("images", "sensitivity", "", "specificity", ""))
    for index, label in enumerate(evaluation.task.labels):
        cells: list[str] = []
        for key in ("sensitivity", "specificity"):
            value, interval = figures[key][label], figures["intervals"][key][label]
            cells += _spread(value, interval, digits=2)
        table.add_row(label, str(sum(figures["confusion"][index])), *cells)
    console.print(table)
    for name, error in evaluation.unreadable:
        console.print(_visible(f"left out: {name}: {error}"), soft_wrap=True)
    console.print(DISCLAIMER)


def show_inspection(console: Console, found: Inspection) -> None:
    """Show a model file's card, its operators, and what stays in floating point."""
    facts = {"file": str(found.path), "size": f"{found.bytes:,} bytes", "SHA-256": found.sha256}
    if found.card is None:
        facts["card"] = f"none: {found.problem}"
    else:
        card = found.card
        facts |= {
            "task": card.task,
            "labels": ", ".join(card.labels),
            "precision": f"{card.precision}, by medkit {card.version}",
            "contract": ", ".join(f"{key} {value}" for key, value in card.contract.items()),
            "temperature": f"{card.temperature:g}",
            "points": "; ".join(
                f"{name}: {point.label} from {point.threshold:.4f}"
                if point.threshold is not None
                else f"{name}: the likeliest"
                for name, point in card.operating_points.items()
            ),
        }
        if card.source_sha256:
            facts["made from"] = card.source_sha256
    for name, text in facts.items():
        console.print(f"{name:12}{_visible(text)}", soft_wrap=True)
    census = found.census
    table = _table("operator", "computes in", right=("number", "of the work"))
    for kind, computes_in, number, work in census.by_kind:
        share = f"{work / census.work:.1%}" if work else ""
        table.add_row(kind, computes_in, str(number), share)
    console.print(table)
    console.print(
        f"{census.work / 1e6:,.1f} million multiply-accumulates an image, "
        f"{census.integer_share:.1%} in integers"
    )
    if census.integer_share:
        for operator in census.floating:
            reason = operator.reason or "no reason known"
            console.print(
                f"in floating point: {operator.kind} {_visible(operator.name)} ({reason})",
                soft_wrap=True,
            )


def show_training(console: Console, folder: Path, manifest: dict[str, Any]) -> None:
    """Show a finished run's figures."""
    console.print(f"[bold]{manifest['task']}[/], recipe {manifest['recipe']['name']}")
    table = _table("split", right=("images", "accuracy", "balanced accuracy", "AUC"))
    for split, points in manifest["metrics"].items():
        figures = points[BALANCED]
        table.add_row(
            "official test" if split == "test" else split,
            str(figures["images"]),
            *(f"{figures[key]:.4f}" for key in ("accuracy", "balanced_accuracy", "auc")),
        )
    console.print(table)
    console.print(f"written to {folder}", soft_wrap=True, markup=False)
    console.print(
        f"next: medkit export {manifest['task']} --int8 --trained {folder.parent} --data DIR",
        soft_wrap=True,
        markup=False,
    )
    console.print(DISCLAIMER)


def show_exports(console: Console, files: Sequence[ExportedFile], options: ExportOptions) -> None:
    """Show each rung of the ladder that was tried, what was kept, and the next command."""
    for file in files:
        console.print(f"[bold]{file.task}[/]/{file.path.name}")
        table = _table("rung", right=("accuracy", "AUC", "agree", "other calib."))
        table.add_column("", no_wrap=True)
        for attempt in file.attempts:
            table.add_row(
                attempt.rung,
                _signed(attempt.comparison, "accuracy"),
                _signed(attempt.comparison, "AUC"),
                f"{attempt.comparison.agreement:.1%}" if attempt.comparison else "-",
                f"{attempt.spread.agreement:.1%}" if attempt.spread else "-",
                "[green]kept" if attempt.passed else "[red]FAIL",
            )
        console.print(table)
        for attempt in file.attempts:
            for failure in attempt.failures:
                console.print(f"[red]FAIL[/] {attempt.rung}: {_visible(failure)}", soft_wrap=True)
    table = _table("file", "precision", right=("size", "of original", "ms an image"))
    for file in files:
        table.add_row(
            f"{file.task}/{file.path.name}",
            file.precision,
            f"{file.bytes / 1e6:.2f} MB",
            f"{file.ratio:.0%}",
            f"{file.milliseconds:.2f}",
        )
    console.print(table)
    trained = files[0].path.parents[1]
    console.print(f"written to {trained}", soft_wrap=True, markup=False)
    tasks = " ".join(dict.fromkeys(file.task for file in files))
    data = options.data or "DIR"
    console.print(
        f"next: medkit parity {tasks} --trained {trained} --data {data}",
        soft_wrap=True,
        markup=False,
    )


def show_parity(console: Console, comparisons: Sequence[Comparison]) -> None:
    """Show every comparison, what flipped, and each broken rule on a line of its own."""
    for task in dict.fromkeys(item.task for item in comparisons):
        shown = [item for item in comparisons if item.task == task]
        console.print(f"[bold]{task}[/]: {shown[0].images} images, exports against the original")
        for item in shown:
            verdict = "[green]pass[/]" if item.passed else "[red]FAIL[/]"
            console.print(f"{verdict} {_visible(item.file)} on {item.runtime}", soft_wrap=True)
            table = _table("figure", right=("original", "export", "change", "95 % interval"))
            for name, change in item.changes.items():
                table.add_row(
                    name,
                    f"{change.before:.4f}",
                    f"{change.after:.4f}",
                    f"{change.difference:+.4f}",
                    f"{change.low:+.4f} to {change.high:+.4f}",
                )
            if item.changes:
                console.print(table)
            console.print(_in_words(item), soft_wrap=True)
    for item in comparisons:
        for failure in item.failures:
            console.print(
                f"[red]FAIL[/] {item.task}/{_visible(item.file)} on {item.runtime}: "
                f"{_visible(failure)}",
                soft_wrap=True,
            )
    flipped = sum(len(item.flips) for item in comparisons)
    if flipped:
        console.print(f"{flipped} flips are listed with their files by --json and --html")
    console.print(DISCLAIMER)


def _in_words(item: Comparison) -> str:
    """Say how many decisions two models share, and whether those that turned did so by chance."""
    line = (
        f"decided alike {item.agreement:.2%}, largest difference {item.largest_difference:.2g}, "
        f"{item.distinct[1]} different scores of {item.distinct[0]}"
    )
    if item.mcnemar is None:
        return line
    return (
        f"{line}; {item.worse} turned wrong and {item.better} right "
        f"(McNemar's p = {item.mcnemar:.2f})"
    )


def _signed(comparison: Comparison | None, name: str) -> str:
    """Return the change of a figure, with its sign."""
    if comparison is None or name not in comparison.changes:
        return "-"
    return f"{comparison.changes[name].difference:+.4f}"


def show_benchmark(console: Console, benchmark: Benchmark) -> None:
    """Show the rates of each file and runtime, the limit, and what other tools take."""
    machine = benchmark.machine
    console.print(
        f"{benchmark.images:,} images for {benchmark.task} on {benchmark.cores} cores of "
        f"{machine['processor']}; decoding alone {benchmark.decode_rate:,.0f} images/s",
        soft_wrap=True,
        markup=False,
    )
    table = _table("file", "runtime", right=("model", "whole", "of limit", "start", "memory"))
    for result in benchmark.results:
        table.add_row(
            result.file,
            result.runtime,
            f"{result.inference_rate:,.0f}/s",
            f"{benchmark.images / result.seconds:,.0f}/s",
            f"{benchmark.share(result):.0%}",
            f"{result.start_seconds:.2f} s",
            _megabytes(result.peak_bytes),
        )
    console.print(table)
    if benchmark.peers:
        best = min(result.seconds for result in benchmark.results)
        table = _table("other tool", right=("seconds", "whole", "medkit", "memory"))
        for peer in benchmark.peers:
            table.add_row(
                peer.name,
                f"{peer.seconds:.1f}",
                f"{benchmark.images / peer.seconds:,.0f}/s",
                f"{peer.seconds / best:.1f} times",
                _megabytes(peer.peak_bytes),
            )
        console.print(table)
    for line in benchmark.absent:
        console.print(f"left out: {_visible(line)}", soft_wrap=True)


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:,.0f} MB"


def show_summary(console: Console, summary: ClassifySummary) -> None:
    """Show counts by label, errors, duration, and where the rows are."""
    table = _table("task", "label", right=("images",))
    for (task, label), count in sorted(summary.counts.items()):
        table.add_row(task, label, str(count))
    if summary.errors:
        table.add_row("", "[red]not classified", f"[red]{summary.errors}")
    console.print(table)
    where = "standard output" if str(summary.out) == "-" else str(summary.out)
    done = summary.ok + summary.errors - summary.kept
    kept = f"{summary.kept:,} kept, " if summary.kept else ""
    console.print(
        f"{kept}{done:,} images in {summary.seconds:.1f} s "
        f"({summary.images_per_second:,.0f} images/s), {summary.errors} errors; rows in {where}",
        soft_wrap=True,
        markup=False,  # a path may hold brackets
    )
    models = "; ".join(f"{task}: {model}" for task, model in sorted(summary.models.items()))
    if models:
        console.print(models, soft_wrap=True, markup=False)
    console.print(DISCLAIMER)


def _table(*left: str, right: tuple[str, ...]) -> Table:
    """Return an empty table that fits 80 columns: no frame, no wrapped cell."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _visible(text: str) -> str:
    """Return a name as it can be shown: no markup, and control characters as escapes."""
    shown = (
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
    return escape("".join(shown))


def _spread(value: float | None, interval: Any, digits: int = 4) -> tuple[str, str]:
    """Return a figure and its interval as text."""
    if value is None:
        return ("-", "-")
    if interval is None:
        return (f"{value:.{digits}f}", "-")
    return (f"{value:.{digits}f}", f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
