"""The fastest way to run a task's exports on this machine: measured once, and remembered.

Only files that have passed parity take part. Which of them and which runtime
is fastest depends on the processor, so each pair is tried on grey images for a
fraction of a second, and the answer is kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from medkit.errors import MedkitError, UsageError
from medkit.files import read_json, write_json
from medkit.models.bundle import Bundle
from medkit.models.formats import PRECISIONS, export_formats, export_name
from medkit.models.runtimes.loading import load_model
from medkit.models.runtimes.registry import runtimes

_SECONDS = 2.5
"""After which no further choice is tried: some runtimes alone take most of a second to load."""

_TRIAL_SECONDS = 0.2


@dataclass(frozen=True)
class ModelChoice:
    """A file of a task, and a runtime that runs it.

    Attributes
    ----------
    path
        The exported file.
    runtime
        Name of the runtime.
    """

    path: Path
    runtime: str


def fastest_choice(bundle: Bundle, batch_size: int, threads: int | None) -> ModelChoice:
    """Return the fastest of the choices that have passed parity.

    Parameters
    ----------
    bundle
        Bundle whose exports are measured.
    batch_size, threads
        Batch size and number of threads of the later inferences.

    Raises
    ------
    UsageError
        If no export has passed parity, or none has a runtime here.
    ModelFileError
        If a file is not the one in the manifest.
    """
    choices = list(passed_choices(bundle))
    if not choices:
        raise UsageError(
            f"no export in {bundle.folder} has passed parity on a runtime that is installed; "
            f"make one with: medkit export {bundle.task.name} --int8 --data DIR, or name a runtime"
        )
    if len(choices) == 1:
        bundle.verify(choices[0].path)
        return choices[0]
    store = _cache_file()
    known = _read(store)
    key = _key(bundle, choices, batch_size, threads)
    found = known.get(key)
    for choice in choices:
        if found == [choice.path.name, choice.runtime]:
            bundle.verify(choice.path)
            return choice
    best = _measure(bundle, choices, batch_size, threads)
    _write(store, {**known, key: [best.path.name, best.runtime]})
    return best


def passed_choices(bundle: Bundle) -> Iterator[ModelChoice]:
    """Give the exports that decided like their original on data, on each runtime that is there."""
    exports = bundle.manifest.exports
    return (choice for choice in possible_choices(bundle) if exports[choice.path.name].has_passed)


def possible_choices(bundle: Bundle) -> Iterator[ModelChoice]:
    """Give every export on each runtime that is there."""
    exports = bundle.manifest.exports
    names = {known.suffix: name for name, known in export_formats().items()}
    for runtime in runtimes().values():
        if runtime.suffix not in names or not runtime.installed:
            continue
        for precision in PRECISIONS:
            name = export_name(names[runtime.suffix], precision)
            if name in exports:
                yield ModelChoice(bundle.folder / name, runtime.name)


def processor_name() -> str:
    """Return what the processor calls itself, as far as it tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # there is no such file outside of Linux
    return platform.processor() or platform.machine() or "unknown"


def installed_version(package: str) -> str:
    """Return a package's version; an empty text if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _measure(
    bundle: Bundle, choices: list[ModelChoice], batch_size: int, threads: int | None
) -> ModelChoice:
    started = time.perf_counter()
    rates: dict[ModelChoice, float] = {}
    for choice in choices:
        if rates and time.perf_counter() - started > _SECONDS - 2 * _TRIAL_SECONDS:
            break
        bundle.verify(choice.path)
        try:
            model = load_model(choice.path, threads, choice.runtime)
        except MedkitError:
            if choice is choices[-1] and not rates:
                raise
            continue  # a runtime may refuse a file that others run
        grey = np.full((batch_size, *model.card.contract.shape), 128, dtype=np.uint8)
        model.predict(grey)
        begun, batches = time.perf_counter(), 0
        while (spent := time.perf_counter() - begun) < _TRIAL_SECONDS:
            model.predict(grey)
            batches += 1
        rates[choice] = batches / spent
    return max(rates, key=rates.__getitem__)


def _key(bundle: Bundle, choices: list[ModelChoice], batch_size: int, threads: int | None) -> str:
    """Return what the answer depends on: the processor's name, and a hash of the rest."""
    exports = bundle.manifest.exports
    facts = [
        [
            (choice.path.name, choice.runtime, exports[choice.path.name].sha256)
            for choice in choices
        ],
        {name: installed_version(known.package) for name, known in runtimes().items()},
        batch_size,
        threads,
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return f"{processor_name()} {bundle.task.name} {digest}"


def _cache_file() -> Path | None:
    """Return where answers are kept; ``None`` for a user without a home."""
    from platformdirs import user_cache_path

    try:
        return user_cache_path("medkit", appauthor=False) / "fastest.json"
    except RuntimeError:
        return None


def _read(path: Path | None) -> dict[str, list[str]]:
    """Return what is remembered: nothing where there is no file, or a damaged one."""
    if path is None:
        return {}
    try:
        known = read_json(path)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(path: Path | None, known: dict[str, list[str]]) -> None:
    if path is None:
        return
    # A folder that cannot be written costs a second a run, and no row.
    with suppress(MedkitError, OSError):
        write_json(path, dict(sorted(known.items())))
