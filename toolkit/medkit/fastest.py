"""The fastest way to run a task's exports on this machine: measured once, and remembered.

Only files that have passed parity take part. Which of them and which runtime
is fastest depends on the processor, so each way is tried on grey images for a
fraction of a second, and the answer kept in the user's cache folder.
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

from medkit.bundles import FORMATS, PRECISIONS, Bundle, dump_json, export_name, format_run_by
from medkit.errors import MedkitError, UsageError
from medkit.runtimes import PACKAGES, RUNTIMES, is_installed, load_model

_SECONDS = 2.5
"""After which no further way is tried: that of one runtime alone takes most of a second to load."""

_TRIAL_SECONDS = 0.2


@dataclass(frozen=True)
class Way:
    """One way to run a task.

    Attributes
    ----------
    path
        The exported file.
    runtime
        One of :data:`medkit.runtimes.RUNTIMES`.
    """

    path: Path
    runtime: str


def fastest_way(bundle: Bundle, batch_size: int, threads: int | None) -> Way:
    """Return the fastest of the ways that have passed parity.

    Parameters
    ----------
    bundle
        Whose exports.
    batch_size, threads
        Of an inference, as they will be used.

    Raises
    ------
    UsageError
        If no export has passed parity, or none has a runtime here.
    ModelFileError
        If a file is not the one in the manifest.
    """
    ways = list(passed_ways(bundle))
    if not ways:
        raise UsageError(
            f"no export in {bundle.folder} has passed parity on a runtime that is installed; "
            f"make one with: medkit export {bundle.task.name} --int8 --data DIR, or name a runtime"
        )
    if len(ways) == 1:
        bundle.verify(ways[0].path)
        return ways[0]
    store = _cache_file()
    known = _read(store)
    key = _key(bundle, ways, batch_size, threads)
    found = known.get(key)
    for way in ways:
        if found == [way.path.name, way.runtime]:
            bundle.verify(way.path)
            return way
    best = _measure(bundle, ways, batch_size, threads)
    _write(store, {**known, key: [best.path.name, best.runtime]})
    return best


def passed_ways(bundle: Bundle) -> Iterator[Way]:
    """Give the exports that decided like their original on data, on each runtime that is there."""
    exports = bundle.manifest.get("exports", {})
    for runtime, suffix in RUNTIMES.items():
        if suffix not in FORMATS.values() or not is_installed(runtime):
            continue
        for precision in PRECISIONS:
            name = export_name(format_run_by(suffix), precision)
            ladder = exports.get(name, {}).get("ladder", [])
            if ladder and ladder[-1]["passed"] and ladder[-1]["validation"] is not None:
                yield Way(bundle.folder / name, runtime)


def processor_name() -> str:
    """Return what the processor calls itself, as far as it tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # there is no such file outside of Linux
    return platform.processor() or platform.machine() or "unknown"


def _measure(bundle: Bundle, ways: list[Way], batch_size: int, threads: int | None) -> Way:
    started = time.perf_counter()
    rates: dict[Way, float] = {}
    for way in ways:
        if rates and time.perf_counter() - started > _SECONDS - 2 * _TRIAL_SECONDS:
            break
        bundle.verify(way.path)
        try:
            model = load_model(way.path, threads, way.runtime)
        except MedkitError:
            if way is ways[-1] and not rates:
                raise
            continue  # a runtime may refuse a file that others run
        grey = np.full((batch_size, *model.card.input_contract.shape), 128, dtype=np.uint8)
        model.predict(grey)
        begun, batches = time.perf_counter(), 0
        while (spent := time.perf_counter() - begun) < _TRIAL_SECONDS:
            model.predict(grey)
            batches += 1
        rates[way] = batches / spent
    return max(rates, key=rates.__getitem__)


def _key(bundle: Bundle, ways: list[Way], batch_size: int, threads: int | None) -> str:
    """Return what the answer depends on: the processor's name, and a hash of the rest."""
    facts = [
        [(way.path.name, way.runtime, bundle.manifest["exports"][way.path.name]["sha256"])
         for way in ways],
        {runtime: installed_version(PACKAGES[runtime]) for runtime in RUNTIMES},
        batch_size,
        threads,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return f"{processor_name()} {bundle.task.name} {digest}"


def installed_version(package: str) -> str:
    """Return a package's version; an empty text if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


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
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(path: Path | None, known: dict[str, list[str]]) -> None:
    if path is None:
        return
    # A folder that cannot be written costs a second a run, and no row.
    with suppress(MedkitError, OSError):
        dump_json(path, dict(sorted(known.items())))
