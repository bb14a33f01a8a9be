"""How fast a folder gets through on this machine, against what the machine can do at all.

Decoding alone and inference alone are measured with every core at work. Done
one after the other without a gap they would take the *packed limit*; the
whole process, started anew, is measured against it. Every figure is the best
of several rounds, in which all take turns, so that a machine that slows down
for a while slows down all.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.bundles import Bundle, dump_json, load_bundle
from medkit.classify import AUTO, check_sizes, check_task, share_out
from medkit.errors import ImageError, MedkitError, MissingExtraError, UsageError
from medkit.fastest import Way, installed_version, passed_ways, processor_name
from medkit.images import contract_for, load_tensor, open_image, route
from medkit.listing import Found, find_images
from medkit.peers import PEERS
from medkit.runtimes import Model, load_model
from medkit.tasks import SKIN, Task, get_task

_MADE_IMAGES, _MADE_SIZE = 400, (600, 450)
_WARM_IMAGES = 64
"""Decoded images that inference is measured on, again and again: more would only fill caches."""


_INFERENCE_SECONDS = 1.0
_WATCHED_EVERY = 0.02
_PYTHON = (sys.executable, "-P", "-m")  # not from the folder that one happens to be in


@dataclass(frozen=True)
class BenchmarkOptions:
    """Arguments of a benchmark.

    Attributes
    ----------
    folder
        Images to get through; ``None`` for some that are made.
    task
        Whose models; ``auto`` decides by the colour of the first image.
    batch_size, threads
        As for :class:`medkit.classify.ClassifyOptions`.
    repeats
        Rounds, of which the best counts, at least 1.
    peers
        Whether to run other tools on the same folder, where they are installed.
    trained
        Folder of bundles, as for :func:`medkit.bundles.load_bundle`.
    """

    folder: Path | None = None
    task: str = AUTO
    batch_size: int = 16
    threads: int | None = None
    repeats: int = 3
    peers: bool = False
    trained: Path | None = None


@dataclass(frozen=True)
class Result:
    """One file on one runtime.

    Attributes
    ----------
    file, runtime
        Which.
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
    """What a benchmark found.

    Attributes
    ----------
    task, images
        The task, and how many images were got through.
    cores
        That were kept busy.
    decode_rate
        Images a second that are read and decoded, with every core at work.
    results, peers
        One for each file and runtime, and for each other tool that is there.
    absent
        Other tools that are not installed, or could not run, and why.
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


def run_benchmark(
    options: BenchmarkOptions, note: Callable[[str], None] = lambda text: None
) -> Benchmark:
    """Measure each export of a task on each runtime that is there.

    Parameters
    ----------
    options
        The arguments.
    note
        Called with a line before each lengthy step.

    Raises
    ------
    UsageError
        If the options cannot be obeyed, or there is no image.
    ModelFileError
        If the models are missing or damaged.
    MedkitError
        If a measured process fails.
    """
    _check(options)
    with _folder(options, note) as folder:
        found = list(find_images([folder]))
        task = _task_of(options.task, found)
        bundle = load_bundle(task, options.trained)
        ways = list(passed_ways(bundle))
        if not ways:
            raise UsageError(f"{bundle.folder} has no export that passed parity on data")
        for way in ways:
            bundle.verify(way.path)
        return _measure(options, folder, found, bundle, ways, note)


def write_benchmark(benchmark: Benchmark, path: Path) -> None:
    """Write a benchmark as JSON, atomically."""
    dump_json(path, benchmark.to_dict())


def write_chart(benchmark: Benchmark, path: Path) -> None:
    """Write a bar chart of the rates as SVG, atomically."""
    from medkit.plots import plot_rates, save_svg

    limits = {_label(r): benchmark.images / benchmark.packed_seconds(r) for r in benchmark.results}
    rates = {_label(r): benchmark.images / r.seconds for r in benchmark.results}
    others = {peer.name: benchmark.images / peer.seconds for peer in benchmark.peers}
    save_svg(plot_rates(rates, limits, others), path)


def check_chart_extras() -> None:
    """Raise :class:`MissingExtraError` unless a chart can be drawn."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "export", "draw the chart")


def _label(result: Result) -> str:
    return f"medkit, {result.file} on {result.runtime}"


def _check(options: BenchmarkOptions) -> None:
    check_task(options.task)
    check_sizes(options.batch_size, options.threads)
    if options.repeats < 1:
        raise UsageError(f"{options.repeats} repeats are too few; give 1 or more")


def _measure(
    options: BenchmarkOptions,
    folder: Path,
    found: Sequence[Found],
    bundle: Bundle,
    ways: Sequence[Way],
    note: Callable[[str], None],
) -> Benchmark:
    task, (workers, threads) = bundle.task, share_out(options.threads)
    cores = workers * threads
    single, tensors = _decoded(found, task)
    models = {}
    for way in ways:
        note(f"loading {way.path.name} for {way.runtime}")
        first = load_model(way.path, threads, way.runtime)
        models[way] = [first, *(first.another() for _ in range(workers - 1))]
    names = {way: way_models[0].runtime for way, way_models in models.items()}
    decoding: list[float] = []
    inferring: dict[Way, list[float]] = {way: [] for way in ways}
    starting: dict[Way, list[float]] = {way: [] for way in ways}
    whole: dict[Way, list[tuple[float, int | None]]] = {way: [] for way in ways}
    for turn in range(options.repeats):
        note(f"round {turn + 1} of {options.repeats}: decoding alone")
        decoding.append(_decode_seconds(found, task, cores))
        for way in ways:
            note(f"round {turn + 1} of {options.repeats}: {way.path.name} on {way.runtime}")
            inferring[way].append(_inference_rate(models[way], tensors, options.batch_size))
            starting[way].append(_run(_command(options, way, single))[0])
            whole[way].append(_run(_command(options, way, folder))[:2])
    models.clear()
    results = tuple(
        Result(
            way.path.name,
            names[way],
            max(inferring[way]),
            min(starting[way]),
            min(seconds for seconds, _ in whole[way]),
            max((peak for _, peak in whole[way] if peak is not None), default=None),
        )
        for way in ways
    )
    benchmark = Benchmark(
        task.name, len(found), cores, len(found) / min(decoding), results, machine=_machine(cores)
    )
    return _with_peers(benchmark, options, folder, bundle, note) if options.peers else benchmark


def _with_peers(
    benchmark: Benchmark,
    options: BenchmarkOptions,
    folder: Path,
    bundle: Bundle,
    note: Callable[[str], None],
) -> Benchmark:
    """Run every other tool that is installed, in a process of its own."""
    results, absent = [], []
    for name, peer in PEERS.items():
        if bundle.task.name not in peer.tasks:
            continue
        missing = [package for package in peer.packages if find_spec(package) is None]
        model = bundle.folder / peer.file
        if missing or not model.is_file():
            absent.append(f"{name}: {', '.join(missing) or model.name} is not there")
            continue
        command = [*_PYTHON, "medkit.peers", name, str(folder.resolve()), str(model.resolve())]
        best: tuple[float, int | None] | None = None
        for turn in range(options.repeats):
            note(f"round {turn + 1} of {options.repeats}: {name}")
            try:
                seconds, peak, said = _run([*command, bundle.task.name, str(benchmark.cores)])
                if said.strip() != str(benchmark.images):
                    raise MedkitError(f"{name} classified {said.strip()} of {benchmark.images}")
            except MedkitError as error:
                absent.append(f"{name}: {error}")
                break
            if best is None or seconds < best[0]:
                best = seconds, peak
        if best is not None:
            results.append(PeerResult(name, *best))
    return replace(benchmark, peers=tuple(results), absent=tuple(absent))


def _decoded(found: Sequence[Found], task: Task) -> tuple[Path, NDArray[np.uint8]]:
    """Return the first image that can be decoded, and the tensors of the first that can.

    The latter have the shape (n, height, width, channels).
    """
    decoded: dict[Path, NDArray[np.uint8]] = {}
    for item in found:
        with suppress(ImageError):
            decoded[item.path] = load_tensor(item.path, contract_for(task))
        if len(decoded) == _WARM_IMAGES:
            break
    if not decoded:
        raise UsageError("none of the images can be decoded; name a folder of others")
    return next(iter(decoded)), np.stack(list(decoded.values()))


def _decode_seconds(found: Sequence[Found], task: Task, cores: int) -> float:
    contract = contract_for(task)

    def decode(item: Found) -> None:
        with suppress(ImageError):  # what it took until then, it costs a run as well
            load_tensor(item.path, contract)

    started = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        for _ in pool.map(decode, found, chunksize=1):
            pass
    return time.perf_counter() - started


def _inference_rate(models: Sequence[Model], tensors: NDArray[np.uint8], batch_size: int) -> float:
    """Return the images a second of all models together, each in a thread of its own."""
    batch = np.resize(tensors, (batch_size, *tensors.shape[1:]))
    for model in models:
        model.predict(batch)
    started = time.perf_counter()

    def work(model: Model) -> int:
        batches = 0
        while time.perf_counter() - started < _INFERENCE_SECONDS:
            model.predict(batch)
            batches += 1
        return batches

    with ThreadPoolExecutor(len(models)) as pool:
        count = sum(pool.map(work, models))
    return count * batch_size / (time.perf_counter() - started)


def _command(options: BenchmarkOptions, way: Way, what: Path) -> list[str]:
    """Return the command line that classifies ``what``."""
    command = [*_PYTHON, "medkit.cli", "classify", "--out", "-"]
    command += ["--model", str(way.path), "--runtime", way.runtime]
    command += ["--batch-size", str(options.batch_size)]
    command += ["--threads", str(options.threads)] if options.threads else []
    return [*command, "--", str(what)]


def _run(command: Sequence[str]) -> tuple[float, int | None, str]:
    """Run a process; return its seconds, most resident bytes, and the last line that it wrote."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        try:
            with _watching(process.pid) as peak:
                process.wait()
        except BaseException:  # an interruption that the process did not get
            process.kill()
            process.wait()
            raise
        seconds = time.perf_counter() - started
        if process.returncode not in (0, 3):  # 3: some images could not be classified
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise MedkitError(f"{' '.join(command[3:5])} failed: {lines[-1]}")
        output.seek(max(0, output.seek(0, os.SEEK_END) - 1000))
        said = output.read().decode(errors="replace").splitlines() or [""]
    return seconds, max(peak, default=None), said[-1]


@contextmanager
def _watching(process: int) -> Iterator[list[int]]:
    """Collect what a process has had resident at most, as Linux tells it while the process lives.

    What it tells afterwards (``ru_maxrss``) counts in the process that started it.
    """
    status, stop = Path(f"/proc/{process}/status"), Event()
    peak: list[int] = []

    def watch() -> None:
        while not stop.wait(_WATCHED_EVERY):
            with suppress(OSError):  # it has just ended, or this is no Linux
                lines = status.read_text().splitlines()
                peak.extend(int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM:"))

    thread = Thread(target=watch, name="medkit-watch")
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


@contextmanager
def _folder(options: BenchmarkOptions, note: Callable[[str], None]) -> Iterator[Path]:
    """Give the folder, or one with images that are made and removed again."""
    if options.folder is not None:
        yield options.folder
        return
    note(f"making {_MADE_IMAGES} images of {_MADE_SIZE[0]}x{_MADE_SIZE[1]}")
    channels = get_task(options.task).channels if options.task != AUTO else SKIN.channels
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        for number in range(_MADE_IMAGES):
            small = rng.integers(0, 256, (9, 12, channels), dtype=np.uint8)
            image = Image.fromarray(small[..., 0] if channels == 1 else small)
            smooth = np.asarray(image.resize(_MADE_SIZE, Image.Resampling.BICUBIC), np.int16)
            grain = rng.normal(0, 5, smooth.shape[:2]).astype(np.int16)
            grained = smooth + (grain if channels == 1 else grain[..., np.newaxis])
            pixels = np.clip(grained, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(Path(name) / f"{number:03}.jpg", quality=95)
        yield Path(name)


def _task_of(word: str, found: Sequence[Found]) -> Task:
    if word != AUTO:
        return get_task(word)
    for item in found:
        try:
            return route(open_image(item.path))[0]
        except ImageError:
            continue
    raise UsageError("none of the images can be decoded; name a folder of others")


def _machine(cores: int) -> dict[str, str]:
    packages = ("ai-edge-litert", "onnxruntime", "openvino", "pillow", "numpy", "keras", "timm")
    found = {name: installed_version(name) for name in packages}
    return {
        "processor": processor_name(),
        "cores": str(cores),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: text for name, text in found.items() if text},
    }
