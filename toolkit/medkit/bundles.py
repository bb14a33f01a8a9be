"""What medkit knows of a model: the card inside every file, and the folder it ships in.

A *bundle* is a folder ``trained/<task>/`` with the Keras original, its
exports and ``manifest.json``. A *model card* is the part of that knowledge
that travels inside every single file, so that a lone file can be used and
checked: as ``medkit.json`` in a ``.keras`` archive, as the metadata buffer
``medkit`` of a ``.tflite`` file, as the metadata property ``medkit`` of an
``.onnx`` file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from medkit.decisions import BALANCED, OperatingPoint, OperatingPoints, points_from
from medkit.errors import MedkitError, ModelFileError, UsageError
from medkit.images import InputContract, contract_for
from medkit.tasks import Task, get_task

CARD_NAME = "medkit"
"""Key of the card in a TFLite or ONNX file; with ``.json``, member of a Keras archive."""

MANIFEST_NAME = "manifest.json"
KERAS_NAME = "model.keras"
SEED_NAME = "seed.json"

FORMATS = {"tflite": ".tflite", "onnx": ".onnx"}
"""Export formats and their suffixes."""

PRECISIONS = ("int8", "mixed", "int16", "fp16", "fp32")
"""What a file's numbers are, the smallest and fastest first.

``int8`` multiplies 8-bit integers throughout. ``mixed`` has some products in
floating point, ``int16`` 8-bit weights and 16-bit activations: what an export
falls back on where 8 bits decide otherwise than the original. ``fp16`` stores
half precision, ``fp32`` is as trained.
"""

_NOT_AS_EXPECTED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What comes of reading JSON that is damaged, or of another shape."""

TRAINED_VARIABLE = "MEDKIT_TRAINED"
"""Environment variable that names another folder of bundles."""


@dataclass(frozen=True)
class ModelCard:
    """What a model file says of itself.

    Attributes
    ----------
    task
        Name of the task.
    labels
        Class names in output order.
    contract
        The input contract as :meth:`InputContract.to_dict` gives it.
    temperature
        What every runtime divides the logits by, so that probabilities can
        be taken at their word; see :func:`medkit.decisions.apply_temperature`.
    operating_points
        By name; see :class:`medkit.decisions.OperatingPoint`.
    precision
        ``original`` for Keras, else one of :data:`PRECISIONS`.
    version
        The medkit that wrote the file.
    source_sha256
        Hash of the Keras original that an export was made from; empty for
        an original.
    """

    task: str
    labels: tuple[str, ...]
    contract: dict[str, Any]
    temperature: float
    operating_points: OperatingPoints
    precision: str
    version: str
    source_sha256: str = ""

    def to_json(self) -> str:
        """Return the card as the JSON text that goes into a file."""
        points = {name: point.to_dict() for name, point in self.operating_points.items()}
        stored = {**asdict(self), "operating_points": points}
        return json.dumps(stored, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, where: Path) -> ModelCard:
        """Read and check a card.

        Raises
        ------
        ModelFileError
            If the text is no card, or names a task or labels unknown here.
        ContractMismatchError
            If the model was made for other preprocessing.
        """
        try:
            stored = json.loads(text)
            task = get_task(stored["task"])
            if "threshold" in stored:
                stored = _from_first_version(stored, task)
            read = {
                "labels": tuple(stored["labels"]),
                "contract": dict(stored["contract"]),
                "temperature": _temperature(stored["temperature"]),
                "operating_points": points_from(stored["operating_points"], task),
            }
            card = cls(**{**stored, **read})
        except (*_NOT_AS_EXPECTED, UsageError) as error:
            raise ModelFileError(
                f"{where}: its medkit card cannot be read ({error}); export the model again"
            ) from error
        if card.labels != task.labels:
            raise ModelFileError(
                f"{where}: its labels {list(card.labels)} are not those of task "
                f"{task.name}, {list(task.labels)}; export the model again"
            )
        contract_for(task).require(card.contract, str(where))
        return card

    @property
    def input_contract(self) -> InputContract:
        """The contract as an object."""
        known = {field.name for field in fields(InputContract)}
        return InputContract(**{key: self.contract[key] for key in known})


def _temperature(stored: Any) -> float:
    """Return a stored temperature; raise :class:`ValueError` for what is none."""
    if not (isinstance(stored, int | float) and 0 < stored < math.inf):
        raise ValueError(f"temperature {stored!r} is no positive number")
    return float(stored)


def _from_first_version(stored: dict[str, Any], task: Task) -> dict[str, Any]:
    """Bring a card of medkit 0.1.0, which had one threshold and no temperature, to today's form."""
    threshold = stored["threshold"]
    point = OperatingPoint(BALANCED, None if threshold is None else task.alert, threshold)
    kept = {key: value for key, value in stored.items() if key != "threshold"}
    return {**kept, "temperature": 1.0, "operating_points": {BALANCED: point.to_dict()}}


def no_card(path: Path) -> ModelFileError:
    """Return the error for a model file that medkit did not write."""
    return ModelFileError(
        f"{path} carries no medkit card (task, labels, input contract); "
        "accepted: files written by 'medkit train' and 'medkit export'"
    )


@dataclass(frozen=True)
class Bundle:
    """One folder of ``trained/``: a manifest and the files it lists.

    Attributes
    ----------
    folder
        The folder.
    task
        Its task.
    manifest
        The parsed ``manifest.json``.
    """

    folder: Path
    task: Task
    manifest: dict[str, Any]

    @property
    def keras_path(self) -> Path:
        """The Keras original; a wheel does not hold it."""
        return self.folder / KERAS_NAME

    @property
    def keras_sha256(self) -> str:
        """The SHA-256 that the manifest gives for the original; :meth:`verify` compares it."""
        value: str = self.manifest["files"][KERAS_NAME]["sha256"]
        return value

    @property
    def seed_manifest(self) -> dict[str, Any] | None:
        """The manifest of the seed recipe's run, to compare with; ``None`` where there is none."""
        path = self.folder / SEED_NAME
        if not path.is_file():
            return None
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return manifest

    @property
    def temperature(self) -> float:
        """The original's temperature, fitted on validation."""
        return _temperature(self.manifest["temperature"])

    @property
    def operating_points(self) -> OperatingPoints:
        """The original's operating points by name, chosen on validation."""
        return points_from(self.manifest["operating_points"], self.task)

    def export_path(self, export_format: str = "tflite", precision: str = "int8") -> Path:
        """Return where the export of a format and precision lies.

        Raises
        ------
        ModelFileError
            If it is not there, or its bytes are not those in the manifest.
        """
        path = self.folder / export_name(export_format, precision)
        if not path.is_file():
            # int16 and mixed are what int8 falls back on.
            asked = precision if precision.startswith("fp") else "int8"
            raise ModelFileError(
                f"no {path}; make it with: medkit export {self.task.name} --{asked} "
                f"--format {export_format} --trained {self.folder.parent} --data DIR"
            )
        self.verify(path)
        return path

    def smallest_export(self, export_format: str = "tflite") -> Path:
        """Return where the smallest export of a format lies that is there.

        Raises
        ------
        ModelFileError
            If there is none, or its bytes are not those in the manifest.
        """
        listed = [
            precision
            for precision in PRECISIONS
            if export_name(export_format, precision) in self.manifest.get("exports", {})
        ]
        return self.export_path(export_format, listed[0] if listed else PRECISIONS[0])

    def verify(self, path: Path) -> None:
        """Raise :class:`ModelFileError` unless ``path`` has the SHA-256 of the manifest."""
        listed = listed_files(self.manifest).get(path.name)
        if listed is None:
            raise ModelFileError(f"{path} is not listed in {self.folder / MANIFEST_NAME}")
        if not path.is_file():
            raise ModelFileError(
                f"{path} is missing, though {MANIFEST_NAME} lists it; Keras originals are in the "
                "repository and not in the wheel, exports come from: medkit export"
            )
        if sha256_of(path) != listed["sha256"]:
            raise ModelFileError(
                f"{path} is damaged or was replaced: its SHA-256 is not the one in "
                f"{MANIFEST_NAME}; restore the file, or export it again"
            )


def load_bundle(task: str | Task, trained: Path | None = None) -> Bundle:
    """Open the bundle of a task.

    Parameters
    ----------
    task
        A task or its name.
    trained
        Folder that holds a folder for each task; by default the one named by
        the environment variable ``MEDKIT_TRAINED``, else what ships.

    Raises
    ------
    ModelFileError
        If there is no bundle, or its manifest cannot be read.
    ContractMismatchError
        If its models were made for other preprocessing.
    """
    task = get_task(task) if isinstance(task, str) else task
    folder = (trained or trained_folder()) / task.name
    path = folder / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        labels, contract = tuple(manifest["labels"]), dict(manifest["contract"])
        _temperature(manifest["temperature"])
        points_from(manifest["operating_points"], task)
        for record in listed_files(manifest).values():
            bytes.fromhex(record["sha256"])
    except FileNotFoundError:
        raise ModelFileError(
            f"no trained {task.name} model in {folder}; "
            f"name another folder with --trained, or train one with: medkit train {task.name}"
        ) from None
    except (OSError, *_NOT_AS_EXPECTED) as error:
        raise ModelFileError(
            f"{path} cannot be read as a manifest ({type(error).__name__}: {error}); restore it"
        ) from error
    if labels != task.labels:
        raise ModelFileError(
            f"{path}: labels {list(labels)} are not those of task {task.name}, {list(task.labels)}"
        )
    contract_for(task).require(contract, str(path))
    return Bundle(folder, task, manifest)


def is_listed(path: Path) -> bool:
    """Whether a manifest beside a file lists it with the bytes that it has."""
    try:
        manifest = json.loads((path.parent / MANIFEST_NAME).read_text(encoding="utf-8"))
        listed = listed_files(manifest)[path.name]["sha256"]
    except (OSError, *_NOT_AS_EXPECTED):
        return False
    return bool(listed == sha256_of(path))


def listed_files(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest says of every file in its bundle, by name."""
    return {**manifest["files"], **manifest.get("exports", {})}


def trained_folder() -> Path:
    """Return the folder of bundles: ``MEDKIT_TRAINED``, the wheel's own, or the repository's."""
    named = os.environ.get(TRAINED_VARIABLE)
    if named:
        return Path(named)
    package = Path(__file__).resolve().parent
    installed = package / "trained"
    return installed if installed.is_dir() else package.parents[1] / "trained"


def format_run_by(suffix: str) -> str:
    """Return the export format whose files have a suffix."""
    (found,) = (name for name, own in FORMATS.items() if own == suffix)
    return found


def export_name(export_format: str, precision: str) -> str:
    """Return the file name of an export, such as ``model-int8.tflite``."""
    return f"model-{precision}{FORMATS[export_format]}"


def check_writable(folder: Path) -> None:
    """Raise :class:`UsageError` unless files can be made in ``folder``, which need not exist."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"{folder} cannot be written: {there} is no writable folder; name another")


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write ``manifest.json`` atomically."""
    with replacing(folder / MANIFEST_NAME) as temporary:
        temporary.write_text(
            json.dumps(manifest, indent=2, ensure_ascii=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",  # of a name that is no UTF-8: an escape that JSON knows
        )


def dump_json(path: Path, content: Any) -> None:
    """Write a report as JSON, atomically; a number that is not finite is an error.

    What is not ASCII is escaped: a name that is no UTF-8 can be written no other way.
    """
    with replacing(path) as temporary:
        text = json.dumps(content, indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def file_record(path: Path) -> dict[str, Any]:
    """Return size in bytes and SHA-256 of a file, as a manifest lists them."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises
    ------
    ModelFileError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that replaces it if the block succeeds.

    A reader sees the old file or the whole new one, never a part; after an
    exception the old file is untouched and the temporary one is gone.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
        )
    except OSError as error:
        raise MedkitError(
            f"{target} cannot be written: {error.strerror}; name another place"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; an output should have the usual rights.
        umask = os.umask(0)
        os.umask(umask)
        with temporary.open("r+b") as written:
            os.fsync(written.fileno())  # or a power cut could leave an empty file of that name
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except OSError as error:
        # Full disks and folders that vanish show in the block, as it writes.
        raise MedkitError(
            f"{target} cannot be written: {error.strerror or error}; make room, or name another "
            "place"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
