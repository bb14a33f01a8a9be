"""The audit of a folder of labelled images: it finds problems before training.

The folder holds a folder for each class (``cat``, ``dog``), or such folders
in splits (``train/cat``, ``test/cat``). Exact copies are found by content
hash, near copies by perceptual hash (ImageHash, a discrete cosine transform
of 256 bits).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.layout import class_images, patient_of, source_of, visible_folders
from medkit.errors import DatasetLayoutError, ImageError
from medkit.extras import require
from medkit.files import write_json
from medkit.images.reading import read_image
from medkit.wording import counted

NEAR_BITS = 16
"""Most bits of 256 by which near duplicates differ.

In the ISIC data, pairs that differ by up to 4 bits are the same photograph
under two archive numbers, and the next pair differs by 26. The two most
alike of the different X-rays differ by 38.
"""

_HASH_SIDE = 16  # the hash has 16 x 16 bits

PROBLEMS = {
    "unreadable": "files that cannot be decoded",
    "label conflict": "the same image under several labels",
    "split leak": "the same image in several splits",
}
"""Kinds of findings that make a data set unfit for training, and what each means."""

REMARKS = {
    "duplicate": "the same image several times",
    "near duplicate": "almost the same image twice",
    "shared patient": "a patient in several splits",
}
"""Kinds of findings that do not forbid training, and what each means."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes
    ----------
    kind
        A key of :data:`PROBLEMS` or :data:`REMARKS`.
    images
        Names of the images, relative to the folder.
    detail
        One line about them, such as the labels or the decoder's message.
    """

    kind: str
    images: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes
    ----------
    root
        The folder.
    counts
        Number of images by split and class. Without splits, the split is ``""``.
    sizes
        Number of images by ``WIDTHxHEIGHT`` in pixels, the most frequent first.
    sources
        Number of images by split, class and source, if file names tell sources.
    patients
        Number of patients by split, if file names tell patients.
    findings
        Findings by kind, in the order of :data:`PROBLEMS` and :data:`REMARKS`.
    """

    root: Path
    counts: dict[str, dict[str, int]]
    sizes: dict[str, int]
    sources: dict[str, dict[str, dict[str, int]]]
    patients: dict[str, int]
    findings: tuple[Finding, ...]

    def of(self, kind: str) -> list[Finding]:
        """Return the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    @property
    def images(self) -> int:
        """Number of image files, unreadable ones included."""
        return sum(sum(classes.values()) for classes in self.counts.values())

    @property
    def problems(self) -> int:
        """Number of findings that make the data set unfit for training."""
        return sum(finding.kind in PROBLEMS for finding in self.findings)

    def summary(self) -> dict[str, int]:
        """Return the number of images and of each kind of finding, as a manifest holds them."""
        kinds = Counter(finding.kind for finding in self.findings)
        crossing = sum(_crosses(finding.images) for finding in self.of("label conflict"))
        return {
            "images": self.images,
            **{kind: kinds[kind] for kind in (*PROBLEMS, *REMARKS)},
            "label conflict across splits": crossing if len(self.counts) > 1 else 0,
        }


@dataclass(frozen=True)
class _Entry:
    """One image file.

    Attributes
    ----------
    path, name
        The file; its name relative to the audited folder.
    split, label
        The folders that it lies in.
    sha256, size
        Hash and size of the file; empty if it is unreadable.
    print
        Perceptual hash, 4 words of 64 bits; ``None`` if the file is unreadable.
    error
        Reason why the file is unreadable; empty if it is readable.
    """

    path: Path
    name: str
    split: str
    label: str
    sha256: str
    size: str
    print: NDArray[np.uint64] | None
    error: str


def audit_folder(
    root: Path,
    note: Callable[[str], None] = lambda text: None,
    only: Collection[str] | None = None,
) -> Audit:
    """Read every image of a folder, and compare them.

    Parameters
    ----------
    root
        Holds a folder for each class, or a folder for each split that does.
    note
        Called with a line of text before each long step.
    only
        Names of the folders in ``root`` to read; ``None`` for all.

    Raises
    ------
    DatasetLayoutError
        If there are no class folders with images.
    MissingExtraError
        If ImageHash is not installed.
    """
    require("find near duplicates", "imagehash")
    files = list(_files(root, only))
    if not files:
        raise DatasetLayoutError(
            f"no class folder with images in {root}; expected {root}/CLASS/IMAGE or "
            f"{root}/SPLIT/CLASS/IMAGE"
        )
    note(f"reading {counted(len(files), 'image')}")
    with ThreadPoolExecutor() as pool:
        entries = list(pool.map(lambda file: _read(root, *file), files))
    note("comparing them")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    sources: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for entry in entries:
        counts[entry.split][entry.label] += 1
        if source := source_of(entry.path.name):
            sources[entry.split][entry.label][source] += 1
    patients = _patients(entries)
    by_split = {
        split: sum(any(one.split == split for one in images) for images in patients.values())
        for split in counts
    }
    return Audit(
        root=root,
        counts={split: dict(labels) for split, labels in counts.items()},
        sizes=dict(Counter(entry.size for entry in entries if entry.size).most_common()),
        sources={
            split: {label: dict(found.most_common()) for label, found in labels.items()}
            for split, labels in sources.items()
        },
        patients={split: total for split, total in by_split.items() if total},
        findings=(
            *_unreadable(entries),
            *_copies(entries),
            *_near_copies(entries),
            *_shared_patients(patients),
        ),
    )


def write_audit_json(audit: Audit, path: Path) -> None:
    """Write the whole audit as JSON, atomically."""
    record = {**asdict(audit), "root": str(audit.root), "summary": audit.summary()}
    write_json(path, record)


def _files(root: Path, only: Collection[str] | None) -> Iterator[tuple[str, str, Path]]:
    """Yield split, class and path of every image; without splits the split is ``""``.

    Raises
    ------
    DatasetLayoutError
        If there is no such folder, or if a class folder holds folders: their
        images would be missed.
    """
    if not root.is_dir():
        raise DatasetLayoutError(f"{root} is no folder; give one with a folder for each class")
    for folder in visible_folders(root):
        if only is not None and folder.name not in only:
            continue
        inner = visible_folders(folder)
        split, classes = (folder.name, inner) if inner else ("", [folder])
        deeper = [label for label in classes if inner and visible_folders(label)]
        if deeper or (inner and class_images(folder)):
            raise DatasetLayoutError(
                f"{(deeper or [folder])[0]} holds folders beside or below its images; expected "
                f"{root}/CLASS/IMAGE or {root}/SPLIT/CLASS/IMAGE, move the others away"
            )
        for label in classes:
            for path in class_images(label):
                yield split, label.name, path


def _read(root: Path, split: str, label: str, path: Path) -> _Entry:
    import imagehash

    name = path.relative_to(root).as_posix()
    try:
        content = path.read_bytes()
        image = read_image(path)
    except (OSError, ImageError) as error:
        reason = str(error.strerror if isinstance(error, OSError) else error)
        return _Entry(path, name, split, label, "", "", None, reason)
    bits = imagehash.phash(image.pixels, hash_size=_HASH_SIDE).hash
    width, height = image.stored_size
    return _Entry(
        path,
        name,
        split,
        label,
        sha256=hashlib.sha256(content).hexdigest(),
        size=f"{width}x{height}",
        print=np.packbits(bits.ravel()).view(np.uint64),
        error="",
    )


def _unreadable(entries: Iterable[_Entry]) -> list[Finding]:
    return [Finding("unreadable", (entry.name,), entry.error) for entry in entries if entry.error]


def _copies(entries: Iterable[_Entry]) -> Iterator[Finding]:
    """Yield label conflicts, leaks between splits, and duplicates, by content hash."""
    groups: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        if not entry.error:
            groups[entry.sha256].append(entry)
    copies = [group for group in groups.values() if len(group) > 1]
    for kind, key in (("label conflict", "label"), ("split leak", "split")):
        for group in copies:
            values = list(dict.fromkeys(str(getattr(entry, key)) for entry in group))
            if len(values) > 1:
                yield Finding(kind, _names(group), " and ".join(values))
    for group in copies:
        yield Finding("duplicate", _names(group), f"{len(group)} files of the same bytes")


def _near_copies(entries: Iterable[_Entry]) -> Iterator[Finding]:
    """Yield pairs whose bytes differ and whose perceptual hashes almost agree, nearest first."""
    first: dict[str, _Entry] = {}
    for entry in entries:
        if entry.print is not None:
            first.setdefault(entry.sha256, entry)
    unique = list(first.values())
    if not unique:
        return
    prints = np.stack([entry.print for entry in unique if entry.print is not None])
    found = []
    for index in range(len(unique) - 1):
        distances = np.bitwise_count(prints[index + 1 :] ^ prints[index]).sum(axis=1)
        for other in np.flatnonzero(distances <= NEAR_BITS).tolist():
            found.append((int(distances[other]), index, index + 1 + other))
    for distance, one, other in sorted(found):
        pair = (unique[one], unique[other])
        yield Finding("near duplicate", _names(pair), f"{distance} of 256 bits differ")


def _shared_patients(patients: dict[str, list[_Entry]]) -> Iterator[Finding]:
    """Yield the patients who have images in several splits."""
    for patient, images in patients.items():
        if len({entry.split for entry in images}) > 1:
            yield Finding("shared patient", _names(images), patient)


def _patients(entries: Iterable[_Entry]) -> dict[str, list[_Entry]]:
    """Return the images by patient; leave out those whose file name tells none."""
    found: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        patient = patient_of(entry.path.name)
        if patient != entry.path.stem:
            found[patient].append(entry)
    return found


def _names(entries: Iterable[_Entry]) -> tuple[str, ...]:
    return tuple(entry.name for entry in entries)


def _crosses(names: Iterable[str]) -> bool:
    return len({name.partition("/")[0] for name in names}) > 1
