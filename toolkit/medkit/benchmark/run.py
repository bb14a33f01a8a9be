"""A benchmark: the speed of classifying a folder, compared with the limit of this machine.

Decoding alone and inference alone are measured on all cores. The *packed
limit* is the rate of both, done one after the other without a gap. The rate
of a whole new process is compared with it. Every figure is the best of several
rounds. The candidates take turns in each round, so that a machine that slows
down for a while slows down all of them.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.batch.listing import Inputs, ListedImage, find_images
from medkit.batch.plan import check_sizes, check_task, no_choice, share_out
from medkit.batch.routing import BY_COLOUR, ByColour, Route
from medkit.benchmark.options import BenchmarkOptions
from medkit.benchmark.peers import PEERS
from medkit.benchmark.process import PYTHON, Timed, run_process
from medkit.benchmark.result import Benchmark, PeerResult, Result
from medkit.defaults import AUTO, STDOUT
from medkit.errors import ImageError, MedkitError, ModelFileError, UsageError
from medkit.extras import is_installed
from medkit.images.contract import InputContract
from medkit.images.reading import load_tensor, open_image
from medkit.models.bundle import Bundle, load_bundle
from medkit.models.fastest import (
    ModelChoice,
    installed_version,
    passed_choices,
    possible_choices,
    processor_name,
)
from medkit.models.runtimes.base import Model
from medkit.models.runtimes.loading import load_model
from medkit.tasks import SKIN, Task, get_task
from medkit.wording import Remark

_MADE_IMAGES, _MADE_SIZE = 400, (600, 450)
_WARM_IMAGES = 64
"""Decoded images that inference is measured on, again and again: more would only fill caches."""


_INFERENCE_SECONDS = 1.0


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
        listed = list(find_images(Inputs((folder,))))
        bundle = _bundle_of(options, listed)
        passed = list(passed_choices(bundle))
        choices = passed or list(possible_choices(bundle))
        if not choices:
            raise UsageError(
                f"{bundle.folder} has no export that a runtime here can run; make one with: "
                f"medkit export {bundle.task.name}"
            )
        for choice in choices:
            bundle.verify(choice.path)
        if not passed:
            note(Remark("no export has passed parity on data, so every one is measured"))
        benchmark = _measure(options, folder, listed, bundle, choices, note)
        return _with_peers(benchmark, options, folder, bundle, note) if options.peers else benchmark


def _check(options: BenchmarkOptions) -> None:
    check_task(options.task, options.trained)
    check_sizes(options.batch_size, options.threads)
    if options.repeats < 1:
        raise UsageError(f"{options.repeats} repeats are too few; give 1 or more")
    # Before images are made: of the tasks that may be meant, one must have models.
    possible = BY_COLOUR if options.task == AUTO else (get_task(options.task, options.trained),)
    for task in possible:
        try:
            load_bundle(task, options.trained)
            return
        except ModelFileError as error:
            problem = error
    raise no_choice(problem, options.trained) if options.task == AUTO else problem


@dataclass
class _Timings:
    """The measurements of one file on one runtime, over all rounds."""

    models: list[Model]
    inference_rates: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    wholes: list[Timed] = field(default_factory=list)

    def result(self, choice: ModelChoice, runtime: str) -> Result:
        """Return the best of the rounds."""
        peaks = [timed.peak_bytes for timed in self.wholes if timed.peak_bytes is not None]
        return Result(
            file=choice.path.name,
            runtime=runtime,
            inference_rate=max(self.inference_rates),
            start_seconds=min(self.starts),
            seconds=min(timed.seconds for timed in self.wholes),
            peak_bytes=max(peaks, default=None),
        )


def _measure(
    options: BenchmarkOptions,
    folder: Path,
    listed: Sequence[ListedImage],
    bundle: Bundle,
    choices: Sequence[ModelChoice],
    note: Callable[[str], None],
) -> Benchmark:
    workers = share_out(options.threads)
    cores = workers.count * (workers.threads or 1)
    single, tensors = _decoded(listed, bundle.contract)
    timings = {}
    for choice in choices:
        note(f"loading {choice.path.name} for {choice.runtime}")
        first = load_model(choice.path, workers.threads, choice.runtime)
        timings[choice] = _Timings([first, *(first.another() for _ in range(workers.count - 1))])
    names = {choice: timing.models[0].runtime for choice, timing in timings.items()}
    decoding: list[float] = []
    for turn in range(options.repeats):
        in_round = f"round {turn + 1} of {options.repeats}"
        note(f"{in_round}: decoding alone")
        decoding.append(_decode_seconds(listed, bundle.contract, cores))
        for choice, timing in timings.items():
            note(f"{in_round}: {choice.path.name} on {choice.runtime}")
            rate = _inference_rate(timing.models, tensors, options.batch_size)
            timing.inference_rates.append(rate)
            timing.starts.append(run_process(_command(options, choice, single)).seconds)
            timing.wholes.append(run_process(_command(options, choice, folder)))
    for timing in timings.values():
        timing.models.clear()
    return Benchmark(
        task=bundle.task.name,
        images=len(listed),
        cores=cores,
        decode_rate=len(listed) / min(decoding),
        results=tuple(timing.result(choice, names[choice]) for choice, timing in timings.items()),
        machine=_machine(cores),
    )


def _with_peers(
    benchmark: Benchmark,
    options: BenchmarkOptions,
    folder: Path,
    bundle: Bundle,
    note: Callable[[str], None],
) -> Benchmark:
    """Run every other tool that is installed, in a process of its own."""
    results, absent = [], []
    contract = json.dumps(bundle.contract.to_dict())
    for name, peer in PEERS.items():
        if peer.tasks and bundle.task.name not in peer.tasks:
            continue
        missing = [module for module in peer.modules if not is_installed(module)]
        model = bundle.folder / peer.file
        if missing or not model.is_file():
            absent.append(f"{name}: {', '.join(missing) or model.name} is not there")
            continue
        command = [
            *PYTHON,
            "medkit.benchmark.peers",
            name,
            str(folder.resolve()),
            str(model.resolve()),
        ]
        best: Timed | None = None
        for turn in range(options.repeats):
            note(f"round {turn + 1} of {options.repeats}: {name}")
            try:
                timed = run_process([*command, contract, str(benchmark.cores)])
                if timed.said.strip() != str(benchmark.images):
                    said = timed.said.strip()
                    raise MedkitError(f"{name} classified {said} of {benchmark.images}")
            except MedkitError as error:
                absent.append(f"{name}: {error}")
                break
            if best is None or timed.seconds < best.seconds:
                best = timed
        if best is not None:
            results.append(PeerResult(name, best.seconds, best.peak_bytes))
    return replace(benchmark, peers=tuple(results), absent=tuple(absent))


def _decoded(
    listed: Sequence[ListedImage], contract: InputContract
) -> tuple[Path, NDArray[np.uint8]]:
    """Return the first image that can be decoded, and the tensors of the first that can.

    The latter have the shape (n, height, width, channels).
    """
    decoded: dict[Path, NDArray[np.uint8]] = {}
    for item in listed:
        with suppress(ImageError):
            decoded[item.path] = load_tensor(item.path, contract)
        if len(decoded) == _WARM_IMAGES:
            break
    if not decoded:
        raise UsageError("none of the images can be decoded; name a folder of others")
    return next(iter(decoded)), np.stack(list(decoded.values()))


def _decode_seconds(listed: Sequence[ListedImage], contract: InputContract, cores: int) -> float:
    def decode(item: ListedImage) -> None:
        with suppress(ImageError):  # what it took until then, it costs a run as well
            load_tensor(item.path, contract)

    started = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        for _ in pool.map(decode, listed, chunksize=1):
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
        # A thread that begins late still counts one.
        while not batches or time.perf_counter() - started < _INFERENCE_SECONDS:
            model.predict(batch)
            batches += 1
        return batches

    with ThreadPoolExecutor(len(models)) as pool:
        count = sum(pool.map(work, models))
    return count * batch_size / (time.perf_counter() - started)


def _command(options: BenchmarkOptions, choice: ModelChoice, what: Path) -> list[str]:
    """Return the command line that classifies ``what``."""
    command = [*PYTHON, "medkit", "classify", "--out", STDOUT]
    command += ["--model", str(choice.path), "--runtime", choice.runtime]
    command += ["--batch-size", str(options.batch_size)]
    command += ["--threads", str(options.threads)] if options.threads else []
    return [*command, "--", str(what)]


@contextmanager
def _folder(options: BenchmarkOptions, note: Callable[[str], None]) -> Iterator[Path]:
    """Give the folder, or one with images that are made and removed again."""
    if options.folder is not None:
        yield options.folder
        return
    note(f"making {_MADE_IMAGES} images of {_MADE_SIZE[0]}x{_MADE_SIZE[1]}")
    channels = (SKIN if options.task == AUTO else get_task(options.task, options.trained)).channels
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


def _bundle_of(options: BenchmarkOptions, listed: Sequence[ListedImage]) -> Bundle:
    """Open the models of the task that was asked for, or that the first image's colour tells."""
    task = _task_of(options, listed)
    try:
        return load_bundle(task, options.trained)
    except ModelFileError as error:
        raise (no_choice(error, options.trained) if options.task == AUTO else error) from None


def _task_of(options: BenchmarkOptions, listed: Sequence[ListedImage]) -> Task:
    """Return the task that was asked for, or that the first image's colour tells."""
    if options.task != AUTO:
        return get_task(options.task, options.trained)
    grey, coloured = (Route(task.name, task.contract) for task in BY_COLOUR)
    by_colour = ByColour(grey, coloured)
    for item in listed:
        try:
            return get_task(by_colour.choose(open_image(item.path)).task)
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
