"""The audit of a folder of labelled images: it finds problems before training.

The folder holds a folder for each class (``cat``, ``dog``), or such folders
in splits (``train/cat``, ``test/cat``). Copies are found by the hash of their
decoded pixels, near copies by perceptual hash (ImageHash, a discrete cosine
transform of 256 bits).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.datasets.fingerprints import Fingerprint, take_fingerprints
from medkit.datasets.folders import (
    LabelledFile,
    LeftOut,
    images_beside,
    read_labelled_folder,
    summed_up,
)
from medkit.datasets.labels import Labels, fold
from medkit.datasets.layout import group_of, patient_of, source_of
from medkit.datasets.unnamed import splits_in
from medkit.errors import DatasetLayoutError
from medkit.extras import require
from medkit.files import write_json
from medkit.images.entries import PassedOver
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
    left_out
        Image files that have no label.
    passed_over
        Counts of the files that are no images of an accepted format.
    notes
        Further lines on how the folder was read.
    fingerprints
        What was compared of each file.
    """

    root: Path
    counts: dict[str, dict[str, int]]
    sizes: dict[str, int]
    sources: dict[str, dict[str, dict[str, int]]]
    patients: dict[str, int]
    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver)
    notes: tuple[str, ...] = ()
    fingerprints: Mapping[Path, Fingerprint] = field(default_factory=dict, repr=False)

    def of(self, kind: str) -> list[Finding]:
        """Return the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def remarks(self) -> list[str]:
        """Return lines on what was not compared, and on how the folder was read."""
        return [*summed_up(self.left_out, self.passed_over), *self.notes]

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
    file, name
        The file; its name relative to the audited folder.
    split
        The split that it lies in.
    taken
        Its fingerprint.
    print
        Perceptual hash, 4 words of 64 bits; ``None`` if the file is unreadable.
    """

    file: LabelledFile
    name: str
    split: str
    taken: Fingerprint
    print: NDArray[np.uint64] | None

    @property
    def label(self) -> str:
        return self.file.label


def audit_folder(
    root: Path,
    note: Callable[[str], None] = lambda text: None,
    only: Collection[str] | None = None,
    labels: Labels | None = None,
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
    labels
        Names of class folders; ``None`` accepts every folder as a class.

    Raises
    ------
    DatasetLayoutError
        If there are no class folders with images, or if it cannot be told
        which folders are classes.
    MissingExtraError
        If ImageHash is not installed.
    """
    require("find near duplicates", "imagehash")
    files: list[tuple[str, str, LabelledFile]] = []
    labels = labels or Labels(None)
    spelt: dict[str, str] = {}
    splits = splits_in(root, labels, only)
    left_out = [] if "" in splits else images_beside(root, splits.values())
    passed_over = PassedOver()
    for split, folder in splits.items():
        found = read_labelled_folder(folder, labels)
        prefix = f"{split}/" if split else ""
        for file in found.files:
            # Without a task, a class is called as its first folder.
            label = spelt.setdefault(fold(file.label), file.label)
            files.append((split, prefix + file.name, replace(file, label=label)))
        left_out += [LeftOut(prefix + each.name, each.reason) for each in found.left_out]
        passed_over.update(found.passed_over)
    if not files:
        raise DatasetLayoutError(
            f"no class folder with images in {root}; expected {root}/CLASS/IMAGE or "
            f"{root}/SPLIT/CLASS/IMAGE"
        )
    audit = audit_files(root, files, note)
    return replace(
        audit,
        # A split without an image is counted, too.
        counts={split: audit.counts.get(split, {}) for split in splits},
        left_out=tuple(left_out),
        passed_over=passed_over,
        notes=tuple(labels.remarks()),
    )


def audit_files(
    root: Path,
    files: Iterable[tuple[str, str, LabelledFile]],
    note: Callable[[str], None] = lambda text: None,
) -> Audit:
    """Read labelled files, and compare them.

    Parameters
    ----------
    root
        The folder that names are relative to.
    files
        Split, name and file of each image; without splits, the split is ``""``.
    note
        Called with a line of text before each long step.

    Raises
    ------
    MissingExtraError
        If ImageHash is not installed.
    """
    require("find near duplicates", "imagehash")
    given = list(files)
    note(f"reading {counted(len(given), 'image')}")
    entries = _entries(given)
    note("comparing them")
    counts: dict[str, Counter[str]] = {split: Counter() for split, _, _ in given}
    sources: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for entry in entries:
        counts[entry.split][entry.label] += 1
        if source := source_of(entry.file.path.name):
            sources[entry.split][entry.label][source] += 1
    patients = _patients(entries)
    by_split = {
        split: sum(any(one.split == split for one in images) for images in patients.values())
        for split in counts
    }
    sizes = Counter("{}x{}".format(*entry.taken.size) for entry in entries if entry.taken.size)
    return Audit(
        root=root,
        counts={split: dict(classes) for split, classes in counts.items()},
        sizes=dict(sizes.most_common()),
        sources={
            split: {label: dict(counted.most_common()) for label, counted in classes.items()}
            for split, classes in sources.items()
        },
        patients={split: total for split, total in by_split.items() if total},
        findings=(
            *_unreadable(entries),
            *_copies(entries),
            *_near_copies(entries),
            *_shared_patients(patients),
        ),
        fingerprints={entry.file.path: entry.taken for entry in entries},
    )


def write_audit_json(audit: Audit, path: Path) -> None:
    """Write the whole audit as JSON, atomically."""
    record = asdict(replace(audit, fingerprints={}, passed_over=PassedOver()))
    del record["fingerprints"]
    record |= {"root": str(audit.root), "passed_over": dict(audit.passed_over)}
    write_json(path, {**record, "summary": audit.summary()})


def _entries(files: Iterable[tuple[str, str, LabelledFile]]) -> list[_Entry]:
    """Decode every file once, and take both of its hashes."""
    import imagehash

    given = list(files)
    prints: dict[Path, NDArray[np.uint64]] = {}

    def look(path: Path, image: Image.Image) -> None:
        bits = imagehash.phash(image, hash_size=_HASH_SIDE).hash
        prints[path] = np.packbits(bits.ravel()).view(np.uint64)

    taken = take_fingerprints((file.path for _, _, file in given), look)
    return [
        _Entry(file, name, split, taken[file.path], prints.get(file.path))
        for split, name, file in given
    ]


def _unreadable(entries: Iterable[_Entry]) -> list[Finding]:
    return [
        Finding("unreadable", (entry.name,), entry.taken.error)
        for entry in entries
        if entry.taken.error
    ]


def _copies(entries: Iterable[_Entry]) -> Iterator[Finding]:
    """Yield label conflicts, leaks between splits, and duplicates, by the hash of the pixels."""
    groups: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        if not entry.taken.error:
            groups[entry.taken.pixels].append(entry)
    copies = [group for group in groups.values() if len(group) > 1]
    for kind, key in (("label conflict", "label"), ("split leak", "split")):
        for group in copies:
            values = list(dict.fromkeys(str(getattr(entry, key)) for entry in group))
            if len(values) > 1:
                yield Finding(kind, _names(group), " and ".join(values))
    for group in copies:
        same = "bytes" if len({entry.taken.sha256 for entry in group}) == 1 else "pixels"
        yield Finding("duplicate", _names(group), f"{len(group)} files of the same {same}")


def _near_copies(entries: Iterable[_Entry]) -> Iterator[Finding]:
    """Yield pairs whose pixels differ and whose perceptual hashes almost agree, nearest first."""
    first: dict[str, _Entry] = {}
    for entry in entries:
        if entry.print is not None:
            first.setdefault(entry.taken.pixels, entry)
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
    """Return the images by patient; leave out those of which no name tells one."""
    found: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        file = entry.file
        if file.subfolder or patient_of(file.path.name) != file.path.stem:
            found[group_of(file)].append(entry)
    return found


def _names(entries: Iterable[_Entry]) -> tuple[str, ...]:
    return tuple(entry.name for entry in entries)


def _crosses(names: Iterable[str]) -> bool:
    return len({name.partition("/")[0] for name in names}) > 1
