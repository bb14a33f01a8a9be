"""The images of a bundle's record ``splits.csv``, found again by the bytes of their files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from medkit.datasets.division import KEPT_OUT, SPLITS_NAME, RecordedImage, Splits, read_splits
from medkit.datasets.entries import images_below, is_folder, is_hidden
from medkit.datasets.folders import LeftOut, summed_up
from medkit.datasets.labels import Labels
from medkit.datasets.layout import Dataset, Item
from medkit.datasets.measured import MeasuredFiles
from medkit.datasets.own_files import SPLITS, TEST, TRAIN, VALIDATION, OwnFile, list_own_files
from medkit.datasets.table import find_table
from medkit.errors import DatasetLayoutError
from medkit.models.bundle import Bundle
from medkit.tasks import Task
from medkit.wording import counted

SEEN = {
    TRAIN: "that the model was trained on",
    VALIDATION: "that the model's operating points were chosen on",
    KEPT_OUT: "that were kept out of training, as copies or under several labels",
}
"""Why an image of a split is not measured."""


def has_record(bundle: Bundle) -> bool:
    """Whether a bundle records how the images of its model were divided."""
    return SPLITS_NAME in bundle.manifest.files


def recorded_splits(
    bundle: Bundle, data: Path, spellings: Mapping[str, str] | None = None
) -> Splits | None:
    """Find the images of a bundle's record in a folder, whatever their folders are called.

    Their labels, names and patients are those of the record. If it has no
    training images, as that of a model that was trained elsewhere, images of
    ``data`` that it does not list take their place, for calibration.

    Parameters
    ----------
    bundle
        A bundle with a record; see :func:`has_record`.
    data
        A folder that holds the images, or a table that lists them.
    spellings
        Other spellings of the labels of images that are not listed.

    Returns
    -------
    Splits or None
        ``None`` if there is no image of validation or test.

    Raises
    ------
    DatasetLayoutError
        If ``data`` or a file in it cannot be read.
    ModelFileError
        If the record is missing or damaged.
    """
    bundle.verify(bundle.folder / SPLITS_NAME)
    record = read_splits(bundle.folder, bundle.task)
    paths = _images_in(bundle.task, data, spellings)
    hashes = dict(zip(paths, hash_files(paths), strict=True))
    places = {sha256: path for path, sha256 in reversed(hashes.items())}
    parts: dict[str, list[Item]] = {name: [] for name in SPLITS}
    for each in record:
        if each.sha256 in places and each.split in parts:
            parts[each.split].append(_item(bundle.task, each, places[each.sha256]))
    if not parts[VALIDATION] and not parts[TEST]:
        return None
    listed = {each.sha256 for each in record}
    new = [path for path in paths if hashes[path] not in listed]
    divided = [each for each in record if each.split in SPLITS]
    missing = [each for each in divided if each.sha256 not in places]
    remarks = _on_missing(missing, len(divided))
    if new and any(each.split == TRAIN for each in record):
        remarks.append(
            f"not used: {counted(len(new), 'image')} that {SPLITS_NAME} does not list, such as "
            f"{_named(new[0], data)}"
        )
    elif new:
        parts[TRAIN] = _unlisted(bundle.task, data, spellings, {path: hashes[path] for path in new})
        remarks.append(
            f"the model was trained elsewhere: {counted(len(parts[TRAIN]), 'image')} that "
            f"{SPLITS_NAME} does not list may calibrate"
        )
    train, validation, test = (tuple(parts[name]) for name in (TRAIN, VALIDATION, TEST))
    dataset = Dataset(bundle.task, data, (*train, *validation), test)
    held_out = frozenset(each.sha256 for each in divided if each.split != TRAIN)
    return Splits(
        dataset=dataset,
        train=train,
        validation=validation,
        test=test,
        as_trained=held_out <= places.keys(),
        remarks=tuple(remarks),
        held_out=held_out,
    )


def without_seen(found: MeasuredFiles, folder: Path, task: Task) -> MeasuredFiles:
    """Leave out images that a model has seen, and must not be measured on.

    Parameters
    ----------
    found
        The images to measure on.
    folder
        The model's folder. Without a record in it, nothing is left out.
    task
        Its task.

    Raises
    ------
    DatasetLayoutError
        If no image is left, or if a file cannot be read.
    ModelFileError
        If the record is damaged.
    """
    seen = _seen(folder, task)
    if not seen:
        return found
    hashes = hash_files(file.path for file in found.files)
    left_out = [
        LeftOut(file.name, seen[sha256])
        for file, sha256 in zip(found.files, hashes, strict=True)
        if sha256 in seen
    ]
    kept = [file for file, sha256 in zip(found.files, hashes, strict=True) if sha256 not in seen]
    _check_any(kept, len(found.files))
    return replace(
        found,
        files=tuple(kept),
        left_out=(*found.left_out, *left_out),
        remarks=(*found.remarks, *summed_up(left_out)),
    )


def unseen_items(items: Sequence[Item], folder: Path, task: Task) -> tuple[Item, ...]:
    """Return the images that a model has not seen; see :func:`without_seen`."""
    seen = _seen(folder, task)
    kept = [item for item in items if item.sha256 not in seen]
    _check_any(kept, len(items))
    return tuple(kept)


def _seen(folder: Path, task: Task) -> dict[str, str]:
    """Return by hash why an image that a folder's record lists is not measured."""
    if not (folder / SPLITS_NAME).is_file():
        return {}
    return {
        each.sha256: SEEN[each.split]
        # A copy of a training image that was kept out has the same bytes, and the last counts.
        for each in reversed(read_splits(folder, task))
        if each.split in SEEN
    }


def _check_any(kept: Sequence[object], total: int) -> None:
    if total and not kept:
        raise DatasetLayoutError(
            f"all of {counted(total, 'image')} were used to make the model; give images that it "
            "has not seen"
        )


def hash_files(paths: Iterable[Path]) -> list[str]:
    """Return the SHA-256 of files, in hexadecimal.

    Raises
    ------
    DatasetLayoutError
        If one cannot be read.
    """

    def hashed(path: Path) -> str:
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise DatasetLayoutError(
                f"{path} cannot be read: {error.strerror}; remove or replace the file"
            ) from error

    with ThreadPoolExecutor() as pool:
        return list(pool.map(hashed, paths))


def _images_in(task: Task, data: Path, spellings: Mapping[str, str] | None) -> list[Path]:
    """Return the images in a folder, or those that a table lists."""
    if find_table(data) == data:
        return [file.path for file in list_own_files(task, data, Labels.of(task, spellings)).files]
    if not is_folder(data):
        raise DatasetLayoutError(f"{data} is no folder; give one that holds the images")
    return [
        path
        for path in images_below(data)
        if not any(is_hidden(Path(part)) for part in path.relative_to(data).parts)
    ]


def _item(task: Task, recorded: RecordedImage, path: Path) -> Item:
    return Item(
        path=path,
        name=recorded.name,
        label=recorded.labels[0] if recorded.labels else -1,
        sha256=recorded.sha256,
        group=recorded.group,
        labels=recorded.labels if task.multi_label else (),
    )


def _unlisted(
    task: Task, data: Path, spellings: Mapping[str, str] | None, hashes: Mapping[Path, str]
) -> list[Item]:
    """Return images that a record does not list, as their folders or the table label them."""
    found = list_own_files(task, data, Labels.of(task, spellings))
    return [
        _unlisted_item(task, file, hashes[file.path]) for file in found.files if file.path in hashes
    ]


def _unlisted_item(task: Task, file: OwnFile, sha256: str) -> Item:
    indices = tuple(task.labels.index(label) for label in file.labels)
    recorded = RecordedImage(file.name, indices, TRAIN, file.group or file.name, sha256)
    return _item(task, recorded, file.path)


def _on_missing(missing: list[RecordedImage], total: int) -> list[str]:
    """Return a line on the images of a record that are not there."""
    if not missing:
        return []
    by_split = Counter(each.split for each in missing)
    splits = ", ".join(f"{by_split[name]:,} of {name}" for name in SPLITS if by_split[name])
    return [
        f"missing: {counted(len(missing), 'image')} of {total:,} that {SPLITS_NAME} lists "
        f"({splits}), such as {missing[0].name}"
    ]


def _named(path: Path, data: Path) -> str:
    return path.relative_to(data).as_posix() if path.is_relative_to(data) else str(path)
