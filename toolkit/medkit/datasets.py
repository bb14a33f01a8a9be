"""The two data sets on disk: checked, hashed, freed of conflicts, and split.

A data set is a folder with a folder for each split, which holds one folder
for each class, as Kaggle ships them. Nothing is read from elsewhere, and no
listing decides the class order: that is the task's.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.errors import (
    DatasetConflictError,
    DatasetLayoutError,
    ImageError,
    MissingExtraError,
    UsageError,
)
from medkit.images import EXTENSIONS, InputContract, load_tensor
from medkit.tasks import TASKS, Task

_PATIENT = re.compile(r"^(person\d+)_|^((?:NORMAL2-)?IM-\d+)-")
"""Patient in the X-rays' file names: ``person12_virus_3``, ``NORMAL2-IM-0501-0001``."""

_ISIC = re.compile(r"^ISIC_(\d{7})")


POLICIES = ("error", "drop", "keep-first", "keep-rarer")
"""What to do with an image that lies under several labels.

Refuse, train on none of its copies, on the one under the first label, or on
the one under the label with fewest training images: where files of one class
strayed into the folder of another, the rare class is the one that would
otherwise vanish.
"""


@dataclass(frozen=True)
class Item:
    """One labelled image file.

    Attributes
    ----------
    path
        The file.
    name
        Its path relative to the data set, with forward slashes.
    label
        Index into the task's labels.
    sha256
        Of the file's bytes, in hexadecimal.
    group
        Patient where the file name tells one, else the file's own stem:
        images of one group never straddle a split.
    """

    path: Path
    name: str
    label: int
    sha256: str
    group: str

    @property
    def source(self) -> str:
        """Which contribution to the archive the file name tells; see :func:`source_of`."""
        return source_of(self.path.name)


@dataclass(frozen=True)
class Dropped:
    """An image kept out of training, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Both official splits of one data set, as they lie on disk."""

    task: Task
    root: Path
    train: tuple[Item, ...]
    test: tuple[Item, ...]


def locate_dataset(task: Task, root: Path) -> Path:
    """Find ``task``'s data set at ``root`` or in a folder of a known name inside it.

    For commands that serve several tasks from one ``--data``.

    Raises
    ------
    DatasetLayoutError
        If neither holds the split folders.
    """
    for folder in (root, *(root / name for name in task.dataset_folders)):
        if (folder / task.train_folder).is_dir() and (folder / task.test_folder).is_dir():
            return folder
    raise DatasetLayoutError(
        f"no {task.name} data in {root}: found {_listing(root)}; expected "
        f"{task.train_folder}/ and {task.test_folder}/, or a folder "
        f"{' or '.join(repr(name) for name in task.dataset_folders)} that holds them"
    )


def read_dataset(task: Task, root: Path) -> Dataset:
    """Check the layout of a data set and hash its files.

    Parameters
    ----------
    task
        Decides the folders that must be there.
    root
        The folder with the split folders. A split ``val`` is allowed and
        left alone: Kaggle's has 16 images, too few to select a model on.

    Raises
    ------
    DatasetLayoutError
        If a split or class folder is missing, misspelt, superfluous or
        empty; the message says what was found and what is expected.
    """
    check_layout(task, root)
    return Dataset(
        task=task,
        root=root,
        train=_items(task, root, task.train_folder),
        test=_items(task, root, task.test_folder),
    )


def check_layout(task: Task, root: Path) -> None:
    """Raise :class:`DatasetLayoutError` unless ``root`` is laid out for ``task``."""
    expected = f"{task.train_folder}/ and {task.test_folder}/, each with {len(task.labels)} folders"
    if not root.is_dir():
        raise DatasetLayoutError(f"no folder {root}; expected one that holds {expected}")
    for split in (task.train_folder, task.test_folder):
        if not (root / split).is_dir():
            raise DatasetLayoutError(
                f"{root} has no folder {split!r}: found {_listing(root)}; expected {expected}"
                + _hint(task, root)
            )
        _check_classes(task, root / split)


def _check_classes(task: Task, split: Path) -> None:
    found = {entry.name for entry in split.iterdir() if entry.is_dir() and _visible(entry)}
    missing = [label for label in task.labels if label not in found]
    extra = sorted(found.difference(task.labels))
    if missing or extra:
        problems = [f"missing {missing}"] * bool(missing) + [f"not known {extra}"] * bool(extra)
        raise DatasetLayoutError(
            f"class folders of {split} do not fit task {task.name}: {', '.join(problems)}; "
            f"expected exactly {list(task.labels)}"
        )
    empty = [label for label in task.labels if not class_images(split / label)]
    if empty:
        raise DatasetLayoutError(
            f"no image in {[str(split / label) for label in empty]}; "
            f"expected files with a suffix of {', '.join(sorted(EXTENSIONS))}"
        )


def _hint(task: Task, root: Path) -> str:
    """Name the folder that was probably meant, one level below or above, or another task's."""
    for folder in (*sorted(entry for entry in root.iterdir() if entry.is_dir()), root.parent):
        if (folder / task.train_folder).is_dir() and (folder / task.test_folder).is_dir():
            return f"; did you mean {folder}?"
    for other in TASKS.values():
        if other is not task and (root / other.train_folder / other.labels[0]).is_dir():
            return f"; this looks like the data of task {other.name}"
    return ""


def _listing(folder: Path) -> str:
    if not folder.is_dir():
        return "a file" if folder.exists() else "no such folder"
    names = sorted(entry.name for entry in folder.iterdir() if _visible(entry))
    shown = ", ".join(repr(name) for name in names[:6])
    return (shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")) or "nothing"


def _visible(entry: Path) -> bool:
    # Archives packed on a Mac leave both kinds behind.
    return not entry.name.startswith(".") and entry.name != "__MACOSX"


def visible_folders(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that a person would see, by name."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and _visible(entry))


def class_images(folder: Path) -> list[Path]:
    """Return the image files in a class folder, by name, as told by their suffixes."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() in EXTENSIONS and _visible(entry) and entry.is_file()
    )


def _items(task: Task, root: Path, split: str) -> tuple[Item, ...]:
    items = []
    for index, label in enumerate(task.labels):
        for path in class_images(root / split / label):
            items.append(
                Item(
                    path=path,
                    name=path.relative_to(root).as_posix(),
                    label=index,
                    sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                    group=patient_of(path.name),
                )
            )
    return tuple(items)


def patient_of(file_name: str) -> str:
    """Return the patient that an X-ray's file name tells, else the name's stem."""
    match = _PATIENT.match(file_name)
    return (match.group(1) or match.group(2)) if match else Path(file_name).stem


def source_of(file_name: str) -> str:
    """Return the contribution to the ISIC archive that a file name tells, else ``""``.

    The archive numbered its images as contributions came in. HAM10000 has
    24306 to 34320 (Tschandl et al. 2018); the others are told apart by
    thousands.
    """
    match = _ISIC.match(file_name)
    if match is None:
        return ""
    number = int(match.group(1))
    return "HAM10000" if 24306 <= number <= 34320 else f"ISIC_{number // 1000:04d}xxx"


@dataclass(frozen=True)
class Conflicts:
    """What contradicts itself in a data set, judged by content hash.

    Attributes
    ----------
    mislabelled
        For each content that lies under several labels, in either split or in
        both: its images' names.
    leaked
        Names of the training images whose content lies in the test split.
    digest
        SHA-256 over the file stems and labels of ``mislabelled``: whoever has
        the same published data set has the same digest, whatever the size of
        their copies.
    """

    mislabelled: tuple[tuple[str, ...], ...]
    leaked: tuple[str, ...]
    digest: str

    def __bool__(self) -> bool:
        return bool(self.mislabelled or self.leaked)


def find_conflicts(dataset: Dataset) -> Conflicts:
    """Find label conflicts and leaks between the splits by content hash."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in (*dataset.train, *dataset.test):
        groups[item.sha256].append(item)
    in_test = {item.sha256 for item in dataset.test}
    mislabelled = [group for group in groups.values() if len({item.label for item in group}) > 1]
    lines = sorted(
        f"{item.path.stem} {dataset.task.labels[item.label]}\n"
        for group in mislabelled
        for item in group
    )
    return Conflicts(
        mislabelled=tuple(tuple(item.name for item in group) for group in mislabelled),
        leaked=tuple(item.name for item in dataset.train if item.sha256 in in_test),
        digest=hashlib.sha256("".join(lines).encode()).hexdigest(),
    )


def resolve_conflicts(
    dataset: Dataset, policy: str
) -> tuple[tuple[Item, ...], tuple[Dropped, ...]]:
    """Keep out of training what would teach it wrongly, judged by content hash.

    Images whose bytes lie in the test split always leave training, and so do
    all but one of exact duplicates.

    Parameters
    ----------
    dataset
        Both splits.
    policy
        One of :data:`POLICIES`: what becomes of an image that lies under
        several labels of the training split.

    Returns
    -------
    kept, dropped
        The clean training items in their order, and the others with reasons.

    Raises
    ------
    DatasetConflictError
        Under the policy ``error``, if there is a label conflict or a leak.
    UsageError
        For another word than those of :data:`POLICIES`.
    """
    check_policy(policy)
    conflicts = find_conflicts(dataset)
    if policy == "error" and conflicts:
        raise DatasetConflictError(
            f"{dataset.root}: {len(conflicts.mislabelled)} images lie under two labels and "
            f"{len(conflicts.leaked)} training images in the test split; look at them with "
            f"'medkit audit', then say what to keep: --on-conflict {', '.join(POLICIES[1:])}"
        )
    in_test = {item.sha256: item.name for item in dataset.test}
    totals = Counter(item.label for item in dataset.train)
    twins: dict[str, list[Item]] = defaultdict(list)
    for item in dataset.train:
        twins[item.sha256].append(item)
    kept, dropped = [], []
    for item in dataset.train:
        group = twins[item.sha256]
        labels = sorted({twin.label for twin in group})
        names = " and ".join(dataset.task.labels[label] for label in labels)
        chosen = group[0]
        if policy == "keep-rarer":
            chosen = min(group, key=lambda twin: totals[twin.label])
        if item.sha256 in in_test:
            reason = f"same bytes in the test split: {in_test[item.sha256]}"
        elif len(labels) > 1 and policy == "drop":
            reason = f"same bytes under labels {names}"
        elif item is not chosen and len(labels) > 1:
            reason = f"same bytes under labels {names}: kept is {chosen.name}"
        elif item is not chosen:
            reason = f"exact duplicate of {chosen.name}"
        else:
            kept.append(item)
            continue
        dropped.append(Dropped(item.name, reason))
    return tuple(kept), tuple(dropped)


def without_twins(dataset: Dataset) -> list[bool]:
    """Tell of each test image whether its bytes lie in no training folder."""
    in_train = {item.sha256 for item in dataset.train}
    return [item.sha256 not in in_train for item in dataset.test]


def check_policy(policy: str) -> None:
    """Raise :class:`UsageError` unless ``policy`` is one of :data:`POLICIES`."""
    if policy not in POLICIES:
        raise UsageError(f"unknown way {policy!r} with conflicts; accepted: {', '.join(POLICIES)}")


def check_seed(seed: int) -> None:
    """Raise :class:`UsageError` unless every library used here accepts ``seed``."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed}; accepted: 0 to {2**32 - 1}")


def split_validation(
    items: Sequence[Item], fraction: float, seed: int
) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Cut a validation split from training items, stratified by label, whole groups only.

    Parameters
    ----------
    items
        Training items.
    fraction
        Share of validation, rounded to 1/n for a whole n.
    seed
        Decides the split.

    Returns
    -------
    train, validation

    Raises
    ------
    DatasetLayoutError
        If there are too few images.
    UsageError
        If ``seed`` is not accepted.
    """
    check_seed(seed)
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError:
        raise MissingExtraError("scikit-learn", "export", "split the data") from None

    folds = StratifiedGroupKFold(n_splits=round(1 / fraction), shuffle=True, random_state=seed)
    labels = [item.label for item in items]
    groups = [item.group for item in items]
    with warnings.catch_warnings():
        # A class with fewer images than folds is simply absent from some of them.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        try:
            train, validation = next(folds.split(np.zeros(len(items)), labels, groups))
        except ValueError as error:
            raise DatasetLayoutError(
                f"{len(items)} images of {len(set(groups))} patients are too few to cut a "
                f"validation split of 1 in {folds.n_splits}; give more"
            ) from error
    return tuple(items[i] for i in train), tuple(items[i] for i in validation)


def stratified_sample(items: Sequence[Item], count: int, seed: int) -> tuple[Item, ...]:
    """Draw ``count`` items, as evenly over the classes as their numbers allow.

    Every class gives one image in turn until ``count`` is reached, so that a
    rare class is not lost in a calibration set.
    """
    rng = np.random.default_rng(seed)
    queues: dict[int, list[Item]] = defaultdict(list)
    for index in rng.permutation(len(items)):
        queues[items[index].label].append(items[index])
    chosen: list[Item] = []
    while len(chosen) < count and any(queues.values()):
        for label in sorted(queues):
            if queues[label] and len(chosen) < count:
                chosen.append(queues[label].pop())
    return tuple(chosen)


def class_counts(task: Task, items: Sequence[Item]) -> dict[str, int]:
    """Count the items of every class, in label order."""
    counts = Counter(item.label for item in items)
    return {label: counts[index] for index, label in enumerate(task.labels)}


def load_tensors(
    items: Sequence[Item], contract: InputContract
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read labelled images as a model sees them.

    Returns
    -------
    images
        uint8, shape (n, height, width, channels).
    labels
        int64, shape (n,).

    Raises
    ------
    DatasetLayoutError
        If a file cannot be decoded; data for training and parity must be whole.
    """

    def read(item: Item) -> NDArray[np.uint8]:
        try:
            return load_tensor(item.path, contract)
        except ImageError as error:
            raise DatasetLayoutError(f"{item.path}: {error}; remove or replace the file") from error

    images = np.empty((len(items), *contract.shape), dtype=np.uint8)
    with ThreadPoolExecutor() as pool:
        for index, tensor in enumerate(pool.map(read, items)):
            images[index] = tensor
    return images, np.array([item.label for item in items], dtype=np.int64)
