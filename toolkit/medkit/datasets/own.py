"""Labelled images of one's own: of a task whose data set nobody has published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medkit.datasets.fingerprints import Fingerprint, take_fingerprints
from medkit.datasets.folders import LeftOut, summed_up
from medkit.datasets.grouping import GROUP_OPTION, group_names, read_grouping
from medkit.datasets.labels import Labels, nfc
from medkit.datasets.layout import Item
from medkit.datasets.own_files import SPLITS, OwnFile, OwnFiles, list_own_files
from medkit.errors import DatasetLayoutError
from medkit.images.entries import PassedOver
from medkit.tasks import Task
from medkit.wording import counted


@dataclass(frozen=True)
class OwnImages:
    """Labelled images of one's own.

    Attributes
    ----------
    task
        Task that they are labelled for.
    root
        The folder that names are relative to.
    parts
        The images of each split that is given, a key of
        :data:`~medkit.datasets.own_files.SPLITS`; or all of them under the
        name ``""``.
    left_out, passed_over
        As :class:`OwnFiles` has them.
    notes
        Further lines on how they were read.
    labels
        Tells what the names of the class folders stand for.
    """

    task: Task
    root: Path
    parts: dict[str, tuple[Item, ...]]
    left_out: tuple[LeftOut, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver, compare=False)
    notes: tuple[str, ...] = ()
    labels: Labels | None = field(default=None, compare=False)

    @property
    def items(self) -> tuple[Item, ...]:
        """The images of all splits."""
        return tuple(item for items in self.parts.values() for item in items)

    def remarks(self) -> list[str]:
        """Return lines on images that are left out, and on what tells the patients."""
        return [
            *summed_up(self.left_out, self.passed_over),
            *(self.labels.remarks() if self.labels else ()),
            *self.notes,
        ]


def read_own_images(
    task: Task,
    data: Path,
    *,
    spellings: Mapping[str, str] | None = None,
    group_by: str | None = None,
    fingerprints: Mapping[Path, Fingerprint] | None = None,
) -> OwnImages:
    """Read and compare labelled images of a task that has no published data set.

    Parameters
    ----------
    task
        The task.
    data
        A folder with a folder for each class; or one with folders ``train``,
        ``validation`` and ``test``, or some of them, that hold class folders;
        or a folder with one of these, under the task's name; or a table of
        labels, or a folder that holds it as ``labels.csv``. A multi-label
        task takes a table.
    spellings
        Other spellings of labels; see
        :func:`medkit.datasets.labels.read_labels_map`.
    group_by
        What images belong together; see
        :func:`medkit.datasets.grouping.read_grouping`. By default file names
        and folders tell it, or the table.
    fingerprints
        Those of the files, if they are known.

    Raises
    ------
    DatasetLayoutError
        If there are no labelled images, or if a file cannot be decoded.
    UsageError
        If ``group_by`` or the table cannot be read, or does not fit.
    """
    labels = Labels.of(task, spellings)
    found = list_own_files(task, data, labels)
    groups: Mapping[str, str] = {}
    if group_by is not None:
        names = [file.name for file in found.files]
        groups = group_names(read_grouping(group_by), group_by, names)
    if fingerprints is None:
        fingerprints = take_fingerprints(file.path for file in found.files)
    _check_readable(found, fingerprints)
    parts: dict[str, list[Item]] = {}
    for file in found.files:
        taken = fingerprints[file.path]
        indices = tuple(task.labels.index(label) for label in file.labels)
        item = Item(
            path=file.path,
            name=file.name,
            label=indices[0] if indices else -1,
            sha256=taken.sha256,
            # An image whose patient nobody knows is a patient of its own.
            group=groups.get(file.name) or file.group or nfc(file.name),
            pixels=taken.pixels,
            labels=indices if task.multi_label else (),
        )
        parts.setdefault(file.split, []).append(item)
    return OwnImages(
        task=task,
        root=found.root,
        parts={name: tuple(parts[name]) for name in ("", *SPLITS) if name in parts},
        left_out=found.left_out,
        passed_over=found.passed_over,
        notes=(*found.notes, *([] if groups else _on_groups(found.files))),
        labels=labels,
    )


def _check_readable(found: OwnFiles, fingerprints: Mapping[Path, Fingerprint]) -> None:
    bad = [file for file in found.files if fingerprints[file.path].error]
    if bad:
        raise DatasetLayoutError(
            f"{len(bad):,} of {counted(len(found.files), 'file')} cannot be decoded, such as "
            f"{bad[0].name}: {fingerprints[bad[0].path].error}; remove or replace them"
        )


def _on_groups(files: Sequence[OwnFile]) -> list[str]:
    """Return a line if no name tells the patient of some images."""
    without = [file.name for file in files if not file.group]
    if not without:
        return []
    which = f"each of {len(without):,} images, such as {without[0]}, counts"
    if len(without) == len(files):
        which = "every image counts"
    return [
        f"{which} as a patient of its own, because no name tells one; give {GROUP_OPTION} if "
        "patients have several images"
    ]
