"""A bundle: the folder ``trained/<task>/`` with an original, its exports and the manifest."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from medkit.errors import MedkitError, ModelFileError
from medkit.files import sha256_of
from medkit.images.contract import InputContract
from medkit.models.formats import KERAS, PRECISIONS, export_formats, export_name
from medkit.models.manifest import (
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    read_manifest,
    write_manifest,
)
from medkit.models.points import OperatingPoints
from medkit.tasks import (
    TASKS,
    TOML_NAME,
    Task,
    as_task,
    folder_of,
    get_task,
    read_task,
    shipped_folder,
    task_file,
)

KERAS_NAME = "model.keras"
SEED_NAME = "seed.json"


@dataclass(frozen=True)
class Bundle:
    """One folder of ``trained/``: a manifest and the files that it lists.

    Attributes
    ----------
    folder
        The folder.
    task
        Task of the models.
    manifest
        Content of ``manifest.json``.
    """

    folder: Path
    task: Task
    manifest: Manifest

    @property
    def keras_path(self) -> Path:
        """The Keras original; a wheel does not hold it."""
        return self.folder / KERAS_NAME

    @property
    def has_original(self) -> bool:
        """Whether there is a Keras original; a lone exported file was adopted without one."""
        return KERAS_NAME in self.manifest.files

    @property
    def sources(self) -> tuple[str, ...]:
        """The SHA-256 of each file that an export may be made from.

        That of the original, and of the exported file that was adopted.
        """
        original = self.manifest.files.get(KERAS_NAME)
        adoption = self.manifest.adoption
        known = original.sha256 if original else "", adoption.sha256 if adoption else ""
        return tuple(filter(None, known))

    @property
    def keras_sha256(self) -> str:
        """The SHA-256 that the manifest gives for the original; :meth:`verify` compares it.

        Raises
        ------
        ModelFileError
            If there is no original.
        """
        self.check_original("this")
        return self.manifest.files[KERAS_NAME].sha256

    def check_original(self, what: str) -> None:
        """Raise :class:`ModelFileError` unless there is a Keras original, which ``what`` needs."""
        if not self.has_original:
            raise ModelFileError(
                f"{what} needs the Keras original, and {self.folder} has none, because "
                f"{', '.join(self.manifest.exports)} was adopted without it; adopt it again with "
                "--original MODEL"
            )

    @property
    def contract(self) -> InputContract:
        """The models' input contract."""
        return self.manifest.contract

    @property
    def seed_manifest(self) -> Manifest | None:
        """The manifest of the seed recipe's run, to compare with; ``None`` if there is none."""
        path = self.folder / SEED_NAME
        return read_manifest(path) if path.is_file() else None

    @property
    def is_shipped(self) -> bool:
        """Whether it is one of the bundles that ship."""
        return self.folder.resolve() == (shipped_folder() / self.task.name).resolve()

    @property
    def calibrated(self) -> bool:
        """Whether temperature and operating points were fitted to images, or fixed by a recipe."""
        adoption = self.manifest.adoption
        return adoption is None or adoption.calibrated

    @property
    def temperature(self) -> float:
        """The original's temperature, fitted on validation images."""
        return self.manifest.temperature

    @property
    def operating_points(self) -> OperatingPoints:
        """The original's operating points by name, chosen on validation images."""
        return self.manifest.operating_points

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
            others = ", ".join(name for name in self.manifest.exports if name.endswith(path.suffix))
            there = f"there is {others}; " if others else ""
            if not self.has_original:
                known = ", ".join(self.manifest.exports)
                raise ModelFileError(
                    f"no {path}; {self.folder} holds {known}, adopted as it is; name a runtime "
                    "and a precision that fit it, or none"
                )
            trained = shlex.quote(str(self.folder.parent))
            raise ModelFileError(
                f"no {path}; {there}make it with: medkit export {self.task.name} --{asked} "
                f"--format {export_format} --trained {trained} --data DIR"
            )
        self.verify(path)
        return path

    def smallest_export(self, export_format: str = "tflite") -> Path:
        """Return where the smallest export of a format lies.

        Raises
        ------
        ModelFileError
            If there is none, or its bytes are not those in the manifest.
        """
        listed = [
            precision
            for precision in PRECISIONS
            if export_name(export_format, precision) in self.manifest.exports
        ]
        return self.export_path(export_format, listed[0] if listed else PRECISIONS[0])

    def file_with(self, suffix: str, precision: str | None = None) -> Path:
        """Return the verified file with a suffix: the original, or an export.

        Parameters
        ----------
        suffix
            Suffix of a model file, such as ``.tflite``.
        precision
            Precision of an export; ``None`` for the smallest export that is there.

        Raises
        ------
        ModelFileError
            If it is not there, or its bytes are not those in the manifest.
        """
        if suffix == KERAS.suffix:
            self.verify(self.keras_path)
            return self.keras_path
        (name,) = (known.name for known in export_formats().values() if known.suffix == suffix)
        if precision is None:
            return self.smallest_export(name)
        return self.export_path(name, precision)

    def verify(self, path: Path) -> FileRecord:
        """Check a file against the manifest, and return what that lists.

        Raises
        ------
        ModelFileError
            Unless the file has the SHA-256 of the manifest.
        """
        listed = self.manifest.listed.get(path.name)
        if listed is None:
            raise ModelFileError(f"{path} is not listed in {self.folder / MANIFEST_NAME}")
        if not path.is_file():
            raise ModelFileError(
                f"{path} is missing, though {MANIFEST_NAME} lists it; Keras originals are in the "
                "repository and not in the wheel, exports come from: medkit export"
            )
        if sha256_of(path) != listed.sha256:
            raise ModelFileError(
                f"{path} is damaged or was replaced: its SHA-256 is not the one in "
                f"{MANIFEST_NAME}; restore the file, or export it again"
            )
        return listed

    def with_manifest(self, manifest: Manifest) -> Bundle:
        """Write another manifest, and return the bundle that has it."""
        write_manifest(self.folder, manifest)
        return replace(self, manifest=manifest)


def load_bundle(task: str | Task, trained: Path | None = None) -> Bundle:
    """Open the bundle of a task.

    Parameters
    ----------
    task
        A task or its name.
    trained
        Folder that holds a folder for each task; ``None`` for the one named
        by the environment variable ``MEDKIT_TRAINED``, else for what ships,
        and for the user's own besides; see :func:`medkit.tasks.folder_of`.

    Raises
    ------
    UsageError
        If no task has that name.
    ModelFileError
        If there is no bundle, if its manifest cannot be read, or if it lies in
        two folders.
    ContractMismatchError
        If this version does not perform the models' preprocessing.
    """
    task = as_task(task, trained)
    folder = folder_of(task.name, trained)
    try:
        return open_bundle(task, folder)
    except FileNotFoundError:
        raise ModelFileError(
            f"no trained {task.name} model in {folder}; "
            f"name another folder with --trained, or train one with: medkit train {task.name}"
        ) from None


def find_bundle(task: Task, folder: Path) -> Bundle:
    """Open a bundle: ``folder`` itself, or that of a task in it.

    Raises
    ------
    ModelFileError
        If there is none, if its manifest cannot be read, or if it is another task's.
    """
    for place in (folder, folder / task.name):
        if (place / MANIFEST_NAME).is_file():
            return open_bundle(task, place)
    raise ModelFileError(
        f"no {MANIFEST_NAME} of {task.name} in {folder}; name a bundle, or a folder of bundles"
    )


def open_bundle(task: Task, folder: Path) -> Bundle:
    """Open the bundle of a task in a folder.

    Raises
    ------
    FileNotFoundError
        If the folder has no manifest.
    ModelFileError, ContractMismatchError
        In the same cases as :func:`load_bundle`.
    """
    path = folder / MANIFEST_NAME
    manifest = read_manifest(path)
    if manifest.labels != task.labels:
        raise ModelFileError(
            f"{path}: labels {list(manifest.labels)} are not those of task {task.name}, "
            f"{list(task.labels)}"
        )
    if task.name not in TASKS:
        _check_input(task, manifest.contract, folder)
        _check_kind(task, manifest.operating_points, folder)
    if KERAS_NAME not in manifest.files and not manifest.exports:
        raise ModelFileError(f"{path} lists no model file; restore it")
    return Bundle(folder, task, manifest)


def _check_input(task: Task, made_for: InputContract, folder: Path) -> None:
    """Refuse a description that asks for other pixels than the models were made for.

    A rule that a description leaves out is that of the models: the default of
    a later version may be another one.
    """
    for name, made in asdict(made_for).items():
        described = getattr(task.contract, name)
        if described not in (made, getattr(InputContract, name, None)):
            raise ModelFileError(
                f"{folder}: its task has {name} {described!r}, and its models were made for "
                f"{made!r}; correct {TOML_NAME}, or make the models again"
            )


def _check_kind(task: Task, points: OperatingPoints, folder: Path) -> None:
    """Refuse a description of several labels an image for models of one, and the other way."""
    for point in points.values():
        if (point.thresholds is not None) != task.multi_label:
            kinds = ("one label an image", "multi-label")
            raise ModelFileError(
                f"{folder}: its task is {kinds[task.multi_label]}, and its models are "
                f"{kinds[not task.multi_label]}; correct multi_label in {TOML_NAME}"
            )


def task_beside(path: Path, name: str, trained: Path | None = None) -> Task:
    """Return the task that a model file is for.

    Parameters
    ----------
    path
        The file. A ``task.toml`` beside it describes a task of its own.
    name
        Name of the task in the file's card.
    trained
        Folder of bundles in which it is looked for besides.

    Raises
    ------
    ModelFileError
        If neither is known.
    """
    if name in TASKS:
        return TASKS[name]
    try:
        beside = task_file(path.parent)
        return read_task(beside) if beside else get_task(name, trained)
    except MedkitError as error:
        raise ModelFileError(
            f"{path} is a model for the task {name!r}, which is not known here ({error}); put its "
            f"{TOML_NAME} beside it"
        ) from error


def is_listed(path: Path) -> bool:
    """Whether a manifest beside a file lists it with the bytes that it has."""
    try:
        listed = read_manifest(path.parent / MANIFEST_NAME).listed.get(path.name)
        return listed is not None and listed.sha256 == sha256_of(path)
    except (OSError, ModelFileError):
        return False


def file_record(path: Path) -> FileRecord:
    """Return size and SHA-256 of a file, as a manifest lists them."""
    return FileRecord(path.stat().st_size, sha256_of(path))
