"""The bundle of an adopted model: its files, and their manifest."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medkit.datasets.division import SPLITS_NAME, Splits, write_splits
from medkit.datasets.sampling import (
    class_counts,
)
from medkit.datasets.splits import digest_of
from medkit.errors import ModelFileError
from medkit.files import sha256_of
from medkit.models.adoption import UNCALIBRATED, Adoption
from medkit.models.bundle import KERAS_NAME, Bundle, file_record
from medkit.models.card import ModelCard
from medkit.models.decisions import apply_temperature
from medkit.models.formats import format_of
from medkit.models.manifest import (
    BY_PIXELS,
    DataRecord,
    ExportEntry,
    Manifest,
    write_manifest,
)
from medkit.models.runtimes.base import predict_all
from medkit.models.runtimes.loading import load_model
from medkit.reports.modelcard import write_card
from medkit.tasks import Task, write_task
from medkit.version import __version__
from medkit_exporters.adoption.base import OpenedModel
from medkit_exporters.adoption.fitting import (
    Rules,
)
from medkit_exporters.adoption.measuring import Measured
from medkit_exporters.adoption.options import AdoptOptions, AdoptResult
from medkit_exporters.adoption.original import (
    check_kept,
)
from medkit_exporters.adoption.pixels import (
    PixelRule,
)
from medkit_exporters.adoption.reference import noise_and_plain, probabilities_of


@dataclass(frozen=True)
class Found:
    """How a model is to be fed, and by which rules it decides.

    Attributes
    ----------
    task
        The task, with the contract that was found.
    pixels
        What goes in front of the network.
    rules
        Temperature, operating points and figures.
    measured
        What was compared; empty if nothing was.
    splits
        The labelled images; ``None`` without any.
    """

    task: Task
    pixels: PixelRule
    rules: Rules
    measured: Measured
    splits: Splits | None


@dataclass(frozen=True)
class Kept:
    """The original of an exported file, what was found for it, and what its outputs are."""

    opened: OpenedModel
    found: Found
    ending: str


def write_bundle(
    options: AdoptOptions, opened: OpenedModel, found: Found, ending: str, kept: Kept | None
) -> AdoptResult:
    """Write the bundle into a folder beside its place, and move it there when it is whole.

    Parameters
    ----------
    options
        The arguments.
    opened, found, ending
        The model, what was found for it, and what its outputs are.
    kept
        The original that stays beside an exported file; ``None`` for none.

    Raises
    ------
    ModelFileError
        If a file that was written gives other probabilities than its model.
    """
    folder, task = options.folder, found.task
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{task.name}-") as made:
        # A task's folder has the task's name.
        place = Path(made) / task.name
        place.mkdir()
        path = _write_model(place, opened, found, ending)
        if kept is not None:
            check_kept(_write_model(place, kept.opened, kept.found, kept.ending), kept.opened.path)
        manifest = _manifest(options, opened, found, path, kept)
        write_task(place, task)
        write_manifest(place, manifest)
        write_card(Bundle(place, task, manifest))
        if folder.exists():
            shutil.rmtree(folder)
        place.rename(folder)
    return AdoptResult(
        folder, task, manifest, folder / path.name, found.pixels.name, found.measured
    )


def _write_model(place: Path, opened: OpenedModel, found: Found, ending: str) -> Path:
    """Write a model file with its card, and check what it gives."""
    task = found.task
    card = ModelCard(
        task=task.name,
        labels=task.labels,
        contract=task.contract,
        temperature=found.rules.temperature,
        operating_points=found.rules.points,
        precision="original",
        version=__version__,
        calibrated=found.splits is not None,
    )
    path = opened.write(place, card, found.pixels, ending)
    _check_alike(opened, path, found, ending)
    return path


def _check_alike(opened: OpenedModel, path: Path, found: Found, ending: str) -> None:
    """Check on noise and plain images that the file that was written gives the same.

    Raises
    ------
    ModelFileError
        If a probability differs by more than the tolerance of the file.
    """
    written, images = load_model(path), noise_and_plain(found.task.contract.shape)
    temperature = found.rules.temperature
    wanted = apply_temperature(
        probabilities_of(opened, found.pixels.apply(images), ending),
        temperature,
        multi_label=found.task.multi_label,
    )
    difference = float(np.abs(predict_all(written, images) - wanted).max())
    # Next to 1, float32 tells a probability's logit less exactly than the file knows it.
    rounding = len(found.task.labels) * 1e-7 ** (1 / max(temperature, 1.0))
    if not difference <= opened.facts.tolerance / min(temperature, 1.0) + rounding:
        raise ModelFileError(
            f"{opened.path}: the file that was made of it gives probabilities that are off by "
            f"{difference:.2g}, so it was not kept; adopt another form of the model"
        )


def _manifest(
    options: AdoptOptions, opened: OpenedModel, found: Found, path: Path, kept: Kept | None
) -> Manifest:
    """Return the manifest of a bundle whose model file is written."""
    task, splits, measured = found.task, found.splits, found.measured
    record, files, exports = file_record(path), {}, {}
    reference = kept.found.rules if kept is not None else found.rules
    if kept is not None:
        files[KERAS_NAME] = file_record(path.with_name(KERAS_NAME))
    if path.name == KERAS_NAME:
        files[path.name] = record
    else:
        exports[path.name] = ExportEntry(
            bytes=record.bytes,
            sha256=record.sha256,
            precision=opened.facts.precision,
            format=format_of(path).name,
            temperature=load_model(path).card.temperature,
            operating_points=found.rules.points,
            graph_temperature=found.rules.temperature,
            metrics=found.rules.metrics or None,
        )
    data = DataRecord()
    if splits is not None:
        parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
        files[SPLITS_NAME] = file_record(write_splits(path.parent, splits))
        data = DataRecord(
            counts={name: class_counts(task, items) for name, items in parts.items()},
            sha256={name: digest_of(items) for name, items in parts.items()},
            compared_by=BY_PIXELS,
            group_by=options.group_by or "",
        )
    return Manifest(
        task=task.name,
        labels=task.labels,
        contract=task.contract,
        temperature=reference.temperature,
        operating_points=reference.points,
        chosen_on="validation" if splits is not None else UNCALIBRATED,
        metrics=reference.metrics,
        seed=options.seed,
        parameters=(kept.opened if kept is not None else opened).facts.parameters,
        data=data,
        versions={"medkit": __version__},
        adoption=Adoption(
            file=options.model.name,
            sha256="" if options.model.is_dir() else sha256_of(options.model),
            pixels=found.pixels.name,
            calibrated=splits is not None,
            images=measured.images,
            measured=measured.candidates,
        ),
        files=files,
        exports=exports,
    )
