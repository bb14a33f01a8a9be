"""Make the records of docs/architectures.md: well-known networks, through the exports.

A network that has a record is passed over, so the command can be stopped and
run again. ``make architectures`` runs it; names as arguments choose networks:

    python docs/make_architectures.py "MobileNetV2" "small ViT"
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import architecture_records as records
import numpy as np
from architecture_networks import LABELS, NETWORKS, Network, draw_images, train
from architecture_records import FOLDER, PRECISIONS, Cell, Record
from numpy.typing import NDArray
from PIL import Image

from medkit.datasets.division import Splits
from medkit.datasets.layout import Dataset, Item
from medkit.defaults import BALANCED, HIGH_SENSITIVITY, MAX_DROP
from medkit.errors import ExportError
from medkit.images.contract import InputContract
from medkit.models.bundle import KERAS_NAME, Bundle, file_record, load_bundle
from medkit.models.card import ModelCard
from medkit.models.manifest import Manifest, write_manifest
from medkit.models.operators.summary import summarise_operators
from medkit.models.points import OperatingPoint
from medkit.models.runtimes.loading import load_model
from medkit.tasks import Task, write_task
from medkit.training.archive import save_archive
from medkit.version import __version__
from medkit_exporters.candidates import CandidateBuilder
from medkit_exporters.formats.registry import KnownExporter, known_exporters
from medkit_exporters.quantize.source import open_source
from medkit_exporters.run import climb, keep

TRAINING, JUDGING, CALIBRATING = 240, 150, 24
"""Numbers of images; those of the calibration are drawn from those of the training."""

_PACKAGES = ("ai-edge-litert", "keras", "onnxruntime", "tf2onnx")
_TIMED_RUNS = 40

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]


def make_record(
    network: Network,
    folder: Path,
    training: int = TRAINING,
    judging: int = JUDGING,
    note: Callable[[str], None] = lambda text: None,
) -> Record:
    """Train a network, export it in every format and precision, and return what came of it.

    Parameters
    ----------
    network
        The network.
    folder
        An empty folder for images and models.
    training, judging
        Numbers of images to train and to judge on. At most half of the
        former calibrate.
    note
        Called with a line before each lengthy step.
    """
    seen, held_out = draw_images(training, network.size, 1), draw_images(judging, network.size, 2)
    note(f"{network.name}: training")
    model = train(network, *seen)
    bundle = _bundle_of(model, network.size, folder / "models")
    splits = _splits_of(bundle.task, folder / "images", seen, held_out)
    source = open_source(bundle.keras_path)
    decided = source.model.predict(held_out[0], batch_size=8, verbose=0).argmax(axis=1)
    builder = CandidateBuilder(bundle, source, splits, CALIBRATING, 0, MAX_DROP)
    cells: dict[str, dict[str, Cell]] = {}
    milliseconds: dict[str, float] = {}
    for form, exporter in known_exporters().items():
        cells[form], files = {}, {}
        for precision in PRECISIONS:
            bundle, cell, path = _export(bundle, builder, exporter, precision, note)
            cells[form][precision] = cell
            if path is not None:
                files[precision] = path
        times = time_in_turn(files)
        if "fp32" in times:
            milliseconds[form] = round(times["fp32"], 2)
            for precision, taken in times.items():
                ratio = round(taken / times["fp32"], 3)
                cells[form][precision] = replace(cells[form][precision], time_ratio=ratio)
    return Record(
        network=network.name,
        size=network.size,
        parameters=model.count_params(),
        accuracy=round(float((decided == held_out[1]).mean()), 4),
        fp32_milliseconds=milliseconds,
        cells=cells,
        versions={name: version(name) for name in _PACKAGES},
    )


def _bundle_of(model: Any, size: int, trained: Path) -> Bundle:
    """Write a bundle of a network, as that of a task which is not built in."""
    task = Task(
        name="shapes",
        title="blobs, rings and stripes",
        labels=LABELS,
        contract=InputContract(width=size, height=size, channels=3),
        positive=None,
        alert="rings",
    )
    points = {
        BALANCED: OperatingPoint(BALANCED),
        HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, task.alert, 0.25),
    }
    card = ModelCard(task.name, LABELS, task.contract, 1.0, points, "original", __version__)
    folder = trained / task.name
    folder.mkdir(parents=True)
    write_task(folder, task)
    save_archive(model, card, folder / KERAS_NAME)
    files = {KERAS_NAME: file_record(folder / KERAS_NAME)}
    write_manifest(folder, Manifest(LABELS, task.contract, 1.0, points, files, task=task.name))
    return load_bundle(task, trained)


def _splits_of(task: Task, root: Path, seen: Images, held_out: Images) -> Splits:
    """Write the images as files, and return them divided; there is no test split."""
    train, validation = (
        tuple(_written(root, name, *images))
        for name, images in (("train", seen), ("validation", held_out))
    )
    return Splits(Dataset(task, root, train, ()), train, validation, (), as_trained=True)


def _written(
    root: Path, split: str, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> list[Item]:
    (root / split).mkdir(parents=True)
    items = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / split / f"{number:03}.png"
        Image.fromarray(image).save(path, compress_level=1)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        items.append(Item(path, f"{split}/{path.name}", int(label), digest, path.stem))
    return items


def _export(
    bundle: Bundle,
    builder: CandidateBuilder,
    exporter: KnownExporter,
    precision: str,
    note: Callable[[str], None],
) -> tuple[Bundle, Cell, Path | None]:
    """Climb the ladder as ``medkit export`` does, and write the file that passes."""
    try:
        climbed = climb(bundle, builder, exporter, precision, note)
    except ExportError as error:
        return bundle, Cell(error=str(error)), None
    bundle, file = keep(bundle, exporter, climbed, None)
    *before, last = climbed.attempts
    assert last.comparison is not None
    cell = Cell(
        precision=file.precision,
        rung=last.rung,
        failed=tuple(f"{attempt.rung}: {attempt.failures[0]}" for attempt in before),
        bytes=file.bytes,
        integer_share=round(summarise_operators(file.path).integer_share, 4),
        agreement=round(last.comparison.agreement, 4),
        largest_difference=float(f"{last.comparison.largest_difference:.3g}"),
    )
    return bundle, cell, file.path


def time_in_turn(files: dict[str, Path]) -> dict[str, float]:
    """Return the fewest milliseconds of each file for one image; they take turns.

    The fewest are those that other programs on the machine disturbed least.
    """
    models = {name: load_model(path) for name, path in files.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(_TIMED_RUNS):
        for name, model in models.items():
            image = np.full((1, *model.card.contract.shape), 128, np.uint8)
            start = time.perf_counter()
            model.predict(image)
            taken[name].append(time.perf_counter() - start)
    return {name: min(times) * 1000 for name, times in taken.items()}


def main(arguments: Sequence[str]) -> int:
    """Make the records that are missing, or those of the networks that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="; ".join(NETWORKS))
    chosen = parser.parse_args(arguments).networks
    unknown = [name for name in chosen if name not in NETWORKS]
    if unknown:
        parser.error(f"unknown network {unknown[0]!r}; accepted: {'; '.join(NETWORKS)}")
    start = time.monotonic()

    def note(text: str) -> None:
        print(f"{time.monotonic() - start:7.0f} s  {text}", flush=True)

    for name, network in NETWORKS.items():
        if name in chosen or (not chosen and not records.path_of(name).exists()):
            with tempfile.TemporaryDirectory() as folder:
                records.write(make_record(network, Path(folder), note=note), FOLDER)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
