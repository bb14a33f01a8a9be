"""The manifest of a bundle: its training, its data, its figures and its files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medkit.errors import ModelFileError
from medkit.files import check_sha256, read_json, write_json
from medkit.images.contract import InputContract
from medkit.models.adoption import Adoption
from medkit.models.figures import Metrics, stored_metrics
from medkit.models.points import (
    OperatingPoints,
    check_points,
    check_temperature,
    stored_points,
    with_named_points,
)
from medkit.models.recipe import Recipe
from medkit.records import read_record

MANIFEST_NAME = "manifest.json"

FORMAT = 2
"""Version of the manifest's form."""

BY_BYTES, BY_PIXELS = "bytes", "pixels"
"""What tells that two files are the same image."""


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (hexadecimal) of a file in a bundle."""

    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        check_sha256(self.sha256)


@dataclass(frozen=True)
class Calibration:
    """The training images that fixed the ranges of an integer file.

    Attributes
    ----------
    images, seed
        Number of images that were drawn, and the seed of the draw.
    files, sha256
        SHA-256 of each image file, and over these hashes.
    method
        Method that chose the ranges.
    """

    images: int
    seed: int
    sha256: str
    files: tuple[str, ...]
    method: str = ""


@dataclass(frozen=True)
class ComparisonRecord:
    """The result of comparing an export with another model.

    Attributes
    ----------
    images
        Number of images that were compared.
    agreement
        Top-1 agreement: the share of images that both decide alike, 0..1.
    changes
        Change of each figure.
    """

    images: int
    agreement: float
    changes: dict[str, float]


@dataclass(frozen=True)
class RungRecord:
    """A rung of the ladder that an export tried.

    Attributes
    ----------
    rung, precision, method, images
        Settings that made the file; see :class:`medkit_exporters.ladder.Attempt`.
    bytes
        Size of the file; 0 if there is none.
    passed, failures
        Whether the file could be kept, and why not.
    validation
        The file against its original; ``None`` if nothing was compared.
    spread
        The file against one that other images calibrated.
    skipped
        Parts that the conversion left as they were, because no pattern fits them.
    """

    rung: str
    precision: str
    method: str
    images: int
    bytes: int
    passed: bool
    failures: tuple[str, ...]
    validation: ComparisonRecord | None = None
    spread: ComparisonRecord | None = None
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportEntry:
    """An exported file.

    Attributes
    ----------
    bytes, sha256, precision, format
        Size, hash (see :class:`FileRecord`), precision and format of the file.
    temperature, operating_points
        Those of its card; ``None`` for those of the original.
    graph_temperature
        The temperature in a final file's graph; ``None`` if only a card has one.
    ladder
        The rungs that were tried; the last is this file.
    calibration
        ``None`` for a file without integers.
    metrics
        Its figures on the official test split; ``None`` if not measured.
    """

    bytes: int
    sha256: str
    precision: str
    format: str = ""
    temperature: float | None = None
    operating_points: OperatingPoints | None = None
    graph_temperature: float | None = None
    ladder: tuple[RungRecord, ...] = ()
    calibration: Calibration | None = None
    metrics: Metrics | None = None

    def __post_init__(self) -> None:
        check_sha256(self.sha256)
        for temperature in (self.temperature, self.graph_temperature):
            if temperature is not None:
                check_temperature(temperature)

    @property
    def has_passed(self) -> bool:
        """Whether the file decided like its original on images with labels."""
        return bool(self.ladder) and self.ladder[-1].passed and bool(self.ladder[-1].validation)


@dataclass(frozen=True)
class KeptOut:
    """An image that was kept out of training, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class DataRecord:
    """The data of a training run.

    Attributes
    ----------
    source
        Origin of the data.
    counts
        Images by split and label.
    on_conflict
        Policy for contradictions; ``None`` for none.
    kept_out
        Images that were not trained on.
    audit
        Findings by kind.
    sha256
        Hash of each split, over the names and hashes of its files.
    compared_by
        What told that two files are the same image: ``pixels``, or ``bytes``
        as before pixels were compared.
    group_by
        What told the patients of one's own images: a regular expression, or
        the name of a CSV file; empty for file names and folders.
    """

    source: str = ""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    on_conflict: str | None = None
    kept_out: tuple[KeptOut, ...] = ()
    audit: dict[str, int] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    compared_by: str = BY_BYTES
    group_by: str = ""


@dataclass(frozen=True)
class EpochRecord:
    """An epoch of training; the loss, accuracy and AUC are those of the watched split."""

    epoch: int
    stage: int
    loss: float
    learning_rate: float
    watched_loss: float
    watched_accuracy: float
    watched_auc: float


@dataclass(frozen=True)
class FoundCount:
    """The number of images, and the number of those whose label is found."""

    images: int
    found: int


@dataclass(frozen=True, kw_only=True)
class SourceCount:
    """The images of one label from one source: in training, and those found elsewhere."""

    label: str
    source: str
    train: int
    validation: FoundCount | None = None
    test: FoundCount


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``.

    Attributes
    ----------
    labels, contract
        Labels and input contract that the models were made for.
    temperature, operating_points
        Temperature and operating points of the original, chosen on validation.
    files
        The original and its plots, by file name.
    exports
        Exports by file name.
    task, format
        Name of the task, and version of the manifest's form.
    chosen_on
        Images on which temperature and operating points were chosen.
    metrics, by_source
        Figures of the original, and its images by label and source.
    recipe, seed, compute_type
        Settings of the training. A model that was trained elsewhere has no recipe.
    kept_epoch, epochs, interrupted, history
        Course of the training.
    parameters
        Number of parameters of the network.
    data, versions, adoption
        Training data, versions of the packages, and how a model of elsewhere was adopted.
    """

    labels: tuple[str, ...]
    contract: InputContract
    temperature: float
    operating_points: OperatingPoints
    files: dict[str, FileRecord]
    exports: dict[str, ExportEntry] = field(default_factory=dict)
    task: str = ""
    format: int = FORMAT
    chosen_on: str = ""
    metrics: Metrics = field(default_factory=dict)
    by_source: tuple[SourceCount, ...] = ()
    recipe: Recipe | None = None
    seed: int = 0
    compute_type: str = "float32"
    kept_epoch: int = 0
    epochs: int = 0
    interrupted: bool = False
    parameters: int = 0
    data: DataRecord = field(default_factory=DataRecord)
    history: tuple[EpochRecord, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    adoption: Adoption | None = None

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_points(self.operating_points, self.labels)
        for name, entry in self.exports.items():
            try:
                if entry.operating_points is not None:
                    check_points(entry.operating_points, self.labels)
            except ValueError as error:
                raise ValueError(f"exports.{name}: {error}") from None

    @property
    def listed(self) -> dict[str, FileRecord]:
        """Every file of the bundle, by name."""
        exports = {
            name: FileRecord(entry.bytes, entry.sha256) for name, entry in self.exports.items()
        }
        return {**self.files, **exports}

    def with_export(
        self, name: str, entry: ExportEntry, instead_of: tuple[str, ...] = ()
    ) -> Manifest:
        """Return the manifest with an export, and without those that it replaces."""
        kept = {key: value for key, value in self.exports.items() if key not in instead_of}
        return replace(self, exports={**kept, name: entry})

    @classmethod
    def from_dict(cls, stored: Any, where: str) -> Manifest:
        """Read a manifest.

        Parameters
        ----------
        stored
            The parsed JSON.
        where
            The file, for the message.

        Raises
        ------
        ModelFileError
            If a field is missing or wrong; the message names it.
        ContractMismatchError
            If the models were made for other preprocessing.
        """
        if isinstance(stored, dict) and isinstance(stored.get("contract"), dict):
            stored = {**stored, "contract": InputContract.from_dict(stored["contract"], where)}
        try:
            return read_record(cls, with_named_points(stored))
        except ValueError as error:
            raise ModelFileError(
                f"{where} cannot be read as a manifest ({error}); restore it"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON holds it; what is not known is left out."""
        stored = asdict(self)
        if self.data.compared_by == BY_BYTES:
            del stored["data"]["compared_by"]
        if self.adoption is None:
            del stored["adoption"]
        if not self.data.group_by:
            del stored["data"]["group_by"]
        if self.recipe is not None and not self.recipe.from_scratch:
            del stored["recipe"]["from_scratch"]
        stored["contract"] = self.contract.to_dict()
        stored["operating_points"] = stored_points(self.operating_points)
        stored["metrics"] = stored_metrics(self.metrics)
        for name, entry in self.exports.items():
            kept = {key: value for key, value in stored["exports"][name].items() if value}
            if entry.metrics:
                kept["metrics"] = stored_metrics(entry.metrics)
            if entry.operating_points is not None:
                kept["operating_points"] = stored_points(entry.operating_points)
            for rung in kept.get("ladder", ()):
                if not rung["skipped"]:
                    del rung["skipped"]
            stored["exports"][name] = kept
        for count in stored["by_source"]:
            if count["validation"] is None:
                del count["validation"]
        # The order in which a person reads it.
        first = ("format", "task", "labels", "contract", "temperature", "operating_points")
        last = ("files", "exports")
        middle = (key for key in stored if key not in (*first, *last))
        return {key: stored[key] for key in (*first, *middle, *last)}


def read_manifest(path: Path) -> Manifest:
    """Read a ``manifest.json``.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ModelFileError
        If it cannot be read; the message names the field.
    ContractMismatchError
        If the models were made for other preprocessing.
    """
    try:
        stored = read_json(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"{path} cannot be read as a manifest ({type(error).__name__}: {error}); restore it"
        ) from error
    return Manifest.from_dict(stored, str(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` atomically."""
    write_json(folder / MANIFEST_NAME, manifest.to_dict(), ascii_only=False)
