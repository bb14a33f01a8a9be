"""Contradictions in a data set: an image under several labels, or in both splits.

Two files are the same image if they have the same content: the same decoded
pixels, or the same bytes where pixels were not looked at.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass

from medkit.datasets.labels import name_as_bytes, nfc
from medkit.datasets.layout import Dataset, Item
from medkit.errors import DatasetConflictError, UsageError
from medkit.models.manifest import KeptOut
from medkit.system.names import name_in_rows
from medkit.wording import counted, unknown

POLICIES = ("error", "drop", "keep-first", "keep-rarer")
"""What to do with an image that lies under several labels.

``error`` refuses the data set. ``drop`` trains on no copy of the image.
``keep-first`` trains on the copy under the first label. ``keep-rarer`` trains
on the copy under the label with the fewest training images: if files of a
rare class were put into a common one as well, the rare class does not vanish.
"""


@dataclass(frozen=True)
class Conflicts:
    """The conflicts of a data set.

    Attributes
    ----------
    mislabelled
        The names of the copies of each image that lies under several labels,
        in one split or in both.
    leaked
        Names of the training images that also lie in the test split.
    digest
        SHA-256 over the file stems, in NFC, and labels of ``mislabelled``. All
        copies of a published data set have the same digest, even if the images
        were resized.
    """

    mislabelled: tuple[tuple[str, ...], ...]
    leaked: tuple[str, ...]
    digest: str

    def __bool__(self) -> bool:
        return bool(self.mislabelled or self.leaked)


def find_conflicts(dataset: Dataset) -> Conflicts:
    """Find the images under several labels, and those in both splits."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in (*dataset.train, *dataset.test):
        groups[item.content].append(item)
    in_test = {item.content for item in dataset.test}
    mislabelled = [group for group in groups.values() if len({item.label for item in group}) > 1]
    lines = sorted(
        f"{nfc(name_in_rows(item.path.stem))} {dataset.task.labels[item.label]}\n"
        for group in mislabelled
        for item in group
    )
    return Conflicts(
        mislabelled=tuple(tuple(item.name for item in group) for group in mislabelled),
        leaked=tuple(item.name for item in dataset.train if item.content in in_test),
        digest=hashlib.sha256(name_as_bytes("".join(lines))).hexdigest(),
    )


def resolve_conflicts(
    dataset: Dataset, policy: str
) -> tuple[tuple[Item, ...], tuple[KeptOut, ...]]:
    """Divide the training images into those to train on and those to keep out.

    An image that also lies in the test split is always kept out. Of exact
    duplicates under one label, one is trained on.

    Parameters
    ----------
    dataset
        Both splits.
    policy
        One of :data:`POLICIES`.

    Returns
    -------
    kept, kept_out
        The images to train on, in their order; the others, with reasons.

    Raises
    ------
    DatasetConflictError
        Under the policy ``error``, if there is a conflict.
    UsageError
        If ``policy`` is not one of :data:`POLICIES`.
    """
    check_policy(policy)
    conflicts = find_conflicts(dataset)
    if policy == "error" and conflicts:
        raise DatasetConflictError(
            f"{dataset.root}: {counted(len(conflicts.mislabelled), 'image')} under two labels and "
            f"{counted(len(conflicts.leaked), 'training image')} in the test split; look at them "
            f"with 'medkit audit', then say what to keep: --on-conflict {', '.join(POLICIES[1:])}"
        )
    in_test = {item.content: item for item in dataset.test}
    totals = Counter(item.label for item in dataset.train)
    copies: dict[str, list[Item]] = defaultdict(list)
    for item in dataset.train:
        copies[item.content].append(item)
    kept, kept_out = [], []
    for item in dataset.train:
        group = copies[item.content]
        labels = sorted({copy.label for copy in group})
        names = " and ".join(dataset.task.labels[label] for label in labels)
        chosen = group[0]
        if policy == "keep-rarer":
            chosen = min(group, key=lambda copy: totals[copy.label])
        if twin := in_test.get(item.content):
            reason = f"{_same(item, twin)} in the test split: {twin.name}"
        elif len(labels) > 1 and policy == "drop":
            reason = f"{_same(*group)} under labels {names}"
        elif item is not chosen and len(labels) > 1:
            reason = f"{_same(*group)} under labels {names}: kept is {chosen.name}"
        elif item is not chosen:
            reason = f"exact duplicate of {chosen.name}"
        else:
            kept.append(item)
            continue
        kept_out.append(KeptOut(item.name, reason))
    return tuple(kept), tuple(kept_out)


def _same(*items: Item) -> str:
    """Say what images have in common that have the same content."""
    return "same bytes" if len({item.sha256 for item in items}) == 1 else "same pixels"


def deduplicated_mask(dataset: Dataset) -> list[bool]:
    """Return for each test image whether no file of the training split is the same image."""
    in_train = {item.content for item in dataset.train}
    return [item.content not in in_train for item in dataset.test]


def check_policy(policy: str) -> None:
    """Raise :class:`UsageError` unless ``policy`` is one of :data:`POLICIES`."""
    if policy not in POLICIES:
        raise UsageError(unknown("policy", policy, POLICIES, of="conflicts"))
