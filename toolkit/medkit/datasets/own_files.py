"""The files of one's own images: class folders, such folders in splits, or a table of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from medkit.datasets.entries import entries_of, is_folder, visible_folders
from medkit.datasets.folders import (
    LabelledFile,
    LeftOut,
    images_beside,
    read_labelled_folder,
    relative_name,
)
from medkit.datasets.labels import Labels, fold, fold_name, nfc
from medkit.datasets.layout import group_of, patient_of
from medkit.datasets.table import (
    TABLE_NAME,
    LabelsTable,
    find_table,
    labels_of_table,
    read_labels_table,
)
from medkit.errors import DatasetLayoutError
from medkit.images.entries import PassedOver
from medkit.system.names import name_in_rows
from medkit.tasks import Task
from medkit.wording import counted, unknown

TRAIN, VALIDATION, TEST = "train", "validation", "test"

SPLITS: dict[str, tuple[str, ...]] = {
    TRAIN: ("train", "training"),
    VALIDATION: ("validation", "valid", "val", "dev"),
    TEST: ("test", "testing"),
}
"""The splits of one's own images, and the names that their folders may have."""


@dataclass(frozen=True)
class OwnFile:
    """An image file of one's own.

    Attributes
    ----------
    path
        The file.
    name
        Its path relative to the images' folder, with forward slashes.
    labels
        Its labels: one, unless the task is a multi-label task.
    split
        A key of :data:`SPLITS`; empty if it lies in none.
    group
        What its folders, its name or the table tell of its patient; empty if
        they tell nothing.
    """

    path: Path
    name: str
    labels: tuple[str, ...]
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class OwnFiles:
    """The image files of one's own, before any is opened.

    Attributes
    ----------
    root
        The folder that names are relative to.
    files
        The files: by split, by label in the task's order, and then by name;
        those of a table as it lists them.
    left_out
        Image files that have no label.
    passed_over
        Counts of the files that are no images.
    notes
        Further lines on how they were read.
    is_table
        Whether a table lists them.
    """

    root: Path
    files: tuple[OwnFile, ...]
    left_out: tuple[LeftOut, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver, compare=False)
    notes: tuple[str, ...] = ()
    is_table: bool = False


def list_own_files(task: Task, data: Path, labels: Labels) -> OwnFiles:
    """List the files that :func:`medkit.datasets.own.read_own_images` reads. No image is opened.

    Raises
    ------
    DatasetLayoutError, UsageError
        In the same cases, as far as names tell.
    """
    root = _folder_of(task, data, labels)
    splits = _split_folders(root) if is_folder(root) else {}
    table = find_table(root)
    if table is not None and (task.multi_label or not has_class_folders(root, labels)):
        listed = read_labels_table(table, labels, multi_label=task.multi_label)
        return _not_empty(_from_table(listed))
    if task.multi_label:
        raise DatasetLayoutError(
            f"no table of labels in {root}; the multi-label task {task.name} takes a CSV file, or "
            f"a folder with {TABLE_NAME}: the image's path, and a column for each label"
        )
    if not splits and not (is_folder(root) and _has_classes(root, labels)):
        raise DatasetLayoutError(_nothing_there(task, root, labels))
    found = _from_folders(root, splits, labels)
    if table is not None:
        note = f"{TABLE_NAME} was not read: the class folders tell the labels"
        found = replace(found, notes=(note, *found.notes))
    return _not_empty(found)


def labels_in(data: Path, spellings: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the labels of images that no task describes yet.

    Parameters
    ----------
    data
        As for :func:`medkit.datasets.own.read_own_images`, without a folder of the task's name.
    spellings
        Other spellings, each with its label.

    Returns
    -------
    tuple of str
        Names of the class folders, in alphabetical order; or what the table
        names. There may be none.

    Raises
    ------
    DatasetLayoutError, UsageError
        If a folder or the table cannot be read.
    """
    if not is_folder(data):
        table = find_table(data)
        if table is None:
            raise DatasetLayoutError(
                f"{data} is no folder; give one with a folder for each class, or a table of labels"
            )
        return labels_of_table(table)
    any_label = Labels(None, spellings or {})
    found: dict[str, str] = {}
    for root in _split_folders(data).values() or [data]:
        for folder in visible_folders(root):
            if label := any_label.label_of(folder.name):
                found.setdefault(fold(label), label)
    if table := find_table(data):
        told = labels_of_table(table)
        # Folders such as images/ beside a table are no classes.
        if found.keys().isdisjoint(map(fold, told)):
            return told
    return tuple(found[name] for name in sorted(found))


def _folder_of(task: Task, data: Path, labels: Labels) -> Path:
    """Return the folder of the images, or the table: ``data``, or a folder of the task's name."""
    if find_table(data) is not None:
        return data
    if not is_folder(data):
        raise DatasetLayoutError(
            f"{data} is no folder; give one with a folder for each class, or a table of labels"
        )
    if _split_folders(data) or _has_classes(data, labels):
        return data
    inside = [each for each in visible_folders(data) if fold(each.name) == fold(task.name)]
    return inside[0] if len(inside) == 1 else data


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split, in the order of :data:`SPLITS`.

    Raises
    ------
    DatasetLayoutError
        If there are several for one.
    """
    found: dict[str, Path] = {}
    for split, names in SPLITS.items():
        folders = [each for each in visible_folders(root) if fold(each.name) in names]
        if len(folders) > 1:
            names_there = " and as ".join(folder.name for folder in folders)
            raise DatasetLayoutError(
                f"{root} holds the split {split} as {names_there}; leave one of them there"
            )
        if folders:
            found[split] = folders[0]
    return found


def has_class_folders(data: Path, labels: Labels) -> bool:
    """Whether class folders lie in a folder, or in those of its splits."""
    return is_folder(data) and any(
        _has_classes(folder, labels) for folder in (data, *_split_folders(data).values())
    )


def _has_classes(root: Path, labels: Labels) -> bool:
    return any(labels.label_of(folder.name) for folder in visible_folders(root))


def _from_folders(root: Path, splits: Mapping[str, Path], labels: Labels) -> OwnFiles:
    """Read class folders: those of each split, or those in ``root``."""
    left_out = images_beside(root, splits.values()) if splits else []
    for beside in visible_folders(root) if splits else ():
        if beside not in splits.values() and labels.label_of(beside.name):
            first = next(iter(splits.values()))
            raise DatasetLayoutError(
                f"{beside} lies beside the split {first.name}, and is none itself; expected "
                f"{root}/CLASS/IMAGE or {root}/SPLIT/CLASS/IMAGE, move the others away"
            )
    files: list[OwnFile] = []
    passed_over = PassedOver()
    twice: list[str] = []
    notes: list[str] = []
    for split, folder in (splits or {"": root}).items():
        found = read_labelled_folder(folder, labels)
        prefix = f"{folder.name}/" if split else ""
        files += [
            OwnFile(
                path=file.path,
                name=relative_name(file.path, root),
                labels=(file.label,),
                split=split,
                group=_told_group(file),
            )
            for file in found.files
        ]
        left_out += [LeftOut(prefix + each.name, each.reason) for each in found.left_out]
        passed_over.update(found.passed_over)
        twice += [prefix + name for name in found.twice]
        notes += _on_spellings(folder, labels)
    if twice:
        notes.append(
            f"{counted(len(twice), 'image')} under several labels, by links to the same file, such "
            f"as {twice[0]}"
        )
    return OwnFiles(root, tuple(files), tuple(left_out), passed_over, tuple(notes))


def _on_spellings(root: Path, labels: Labels) -> list[str]:
    """Return a line for each label that several folders beside each other have by their names."""
    by_label: dict[str, list[str]] = {}
    for folder in visible_folders(root):
        if fold_name(folder.name) not in labels.spellings and (
            label := labels.label_of(folder.name)
        ):
            by_label.setdefault(label, []).append(name_in_rows(folder.name))
    return [
        f"the folders {' and '.join(names)} are one class, {label}: letter case does not tell "
        "classes apart"
        for label, names in by_label.items()
        if len(names) > 1
    ]


def _from_table(table: LabelsTable) -> OwnFiles:
    """Take the images that a table lists."""
    by_name = {name: split for split, names in SPLITS.items() for name in names}
    files = []
    for row in table.rows:
        split = by_name.get(fold(row.split), "") if row.split else ""
        if row.split and not split:
            raise DatasetLayoutError(
                f"{table.path}: {row.name}: {unknown('split', row.split, SPLITS)}"
            )
        told = patient_of(row.path.name)
        group = row.group or (told if told != row.path.stem else "")
        files.append(OwnFile(row.path, row.name, row.labels, split, nfc(group)))
    without = [file.name for file in files if not file.split]
    if without and len(without) < len(files):
        raise DatasetLayoutError(
            f"{table.path}: {counted(len(without), 'image')} of {len(files):,} in no split, such "
            f"as {without[0]}; give each a split, or none of them"
        )
    notes = tuple(table.remarks())
    return OwnFiles(table.path.parent, tuple(files), table.left_out, notes=notes, is_table=True)


def _told_group(file: LabelledFile) -> str:
    """Return the patient that folder or name tell; empty if they tell none."""
    told = bool(file.subfolder) or patient_of(file.path.name) != file.path.stem
    return group_of(file) if told else ""


def _not_empty(found: OwnFiles) -> OwnFiles:
    """Return the files; refuse them if there are none."""
    if not found.files:
        passed_over = f" (passed over: {found.passed_over})" if found.passed_over else ""
        raise DatasetLayoutError(f"no labelled image in {found.root}{passed_over}; check the files")
    return found


def _nothing_there(task: Task, root: Path, labels: Labels) -> str:
    names = [repr(name_in_rows(entry.name)) for entry in entries_of(root)][:6]
    return (
        f"no class folder of {task.name} in {root}: found {', '.join(names) or 'nothing'}; "
        f"expected some of {list(task.labels)}, or {TRAIN}/, {VALIDATION}/ or {TEST}/ with them, "
        f"or {TABLE_NAME}{labels.probably([folder.name for folder in visible_folders(root)])}"
    )
