"""The division of one's own images into training, validation and test, and its record.

No patient is in two parts, and neither is an image of the same pixels. The
record ``splits.csv`` lies in the bundle, so that every later command knows which
images a model has not seen, whatever their folders are called by then.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medkit.datasets.csvfiles import read_csv_table
from medkit.datasets.layout import Dataset, Item
from medkit.datasets.own import OwnImages
from medkit.datasets.own_files import SPLITS, TEST, TRAIN, VALIDATION
from medkit.datasets.sampling import check_seed
from medkit.errors import DatasetLayoutError, ModelFileError, UsageError
from medkit.files import check_sha256, replacing
from medkit.tasks import Task
from medkit.wording import counted, unknown

SPLITS_NAME = "splits.csv"
"""File that records the division in a bundle."""

SHARE = 0.15
"""Share of the images that validation gets, and as much the test split."""

KEPT_OUT = "kept out"
"""What the record calls images that are in no split."""

_COLUMNS = ("image", "label", "split", "group", "sha256")

_BETWEEN_LABELS = ";"

_NOTHING = 1e-9  # of a share; what is left of 1 after 0.7 and 0.3 is no zero


@dataclass(frozen=True)
class Splits:
    """A data set as it was divided for a model.

    Attributes
    ----------
    dataset
        The data set.
    train
        Training images without conflicts, and without those that also lie in
        the test split.
    validation
        Images that were held out to choose epoch and operating points on;
        empty if there are none.
    test
        The test split.
    as_trained
        Whether validation and test are those of the training run, byte by byte.
    remarks
        Lines for people on the division.
    held_out
        Hashes of the images that a record lists for validation and test, also
        of those that are not there; empty without a record.
    kept_out
        Images of one's own that are in no part: copies of others, and images
        under several labels.
    """

    dataset: Dataset
    train: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    as_trained: bool
    remarks: tuple[str, ...] = ()
    held_out: frozenset[str] = frozenset()
    kept_out: tuple[Item, ...] = ()

    def lines(self) -> list[str]:
        """Return all lines for people: on the division, and on the images."""
        return [*self.remarks, *self.dataset.remarks()]


@dataclass(frozen=True)
class _Block:
    """Images that must stay together, and how many of them have each label."""

    items: tuple[Item, ...]
    counts: Mapping[int, int]


def divide(
    images: OwnImages, *, validation: float = SHARE, test: float = SHARE, seed: int = 0
) -> Splits:
    """Divide images: as their splits say, and what these leave open by a draw.

    All images of a patient, and all of the same pixels, come into one part. The
    draw keeps the shares of the labels; a multi-label image counts for each of
    its labels. Every part gets a patient of each label, as far as there are
    enough. A validation or test split that is given stays as it is. Training
    images whose pixels lie in one of these are left out, and so are validation
    images that lie in the test split.

    Parameters
    ----------
    images
        The images.
    validation, test
        Share of the images that are drawn for each part, 0..1; what is left is
        for training. With a part that is given, its share is not looked at.
    seed
        Decides the draw. The order of the files does not.

    Raises
    ------
    UsageError
        If the shares or the seed are not accepted.
    DatasetLayoutError
        If there are fewer patients than parts, or if a part must be drawn and
        there are no training images to draw it from.
    """
    check_seed(seed)
    shares = {VALIDATION: validation, TEST: test}
    shares = {name: share for name, share in shares.items() if name not in images.parts}
    _check_shares(shares)
    given = {name: images.parts.get(name, ()) for name in SPLITS}
    given[TRAIN] += images.parts.get("", ())
    remarks: list[str] = []
    seen: dict[str, Item] = {}
    kept_out: list[Item] = []
    for name in (TEST, VALIDATION, TRAIN):
        known = dict(seen)
        copies = [item for item in given[name] if item.content in known]
        if copies:
            remarks.append(
                f"{counted(len(copies), 'image')} of {name} left out, with the same pixels as in "
                f"another split: {copies[0].name} is {known[copies[0].content].name}"
            )
            kept_out += copies
            given[name] = tuple(item for item in given[name] if item.content not in known)
        seen |= {item.content: item for item in given[name]}
    shares = {name: share for name, share in shares.items() if share > _NOTHING}
    if shares:
        drawn = _draw(given[TRAIN], {TRAIN: 1 - sum(shares.values()), **shares}, seed)
        given |= drawn
    remarks += _on_division(images.task, given)
    dataset = Dataset(
        task=images.task,
        root=images.root,
        train=(*given[TRAIN], *given[VALIDATION]),
        test=given[TEST],
        left_out=images.left_out,
        passed_over=images.passed_over,
        labels=images.labels,
    )
    return Splits(
        dataset=dataset,
        train=given[TRAIN],
        validation=given[VALIDATION],
        test=given[TEST],
        as_trained=True,
        remarks=(*images.notes, *remarks),
        kept_out=tuple(kept_out),
    )


def _check_shares(shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UsageError(f"a {name} share of {share}; accepted: 0 to 1")
    if sum(shares.values()) > 1 + _NOTHING:
        raise UsageError(
            f"shares of {' and '.join(f'{share:g}' for share in shares.values())} for "
            f"{' and '.join(shares)}; together they can be 1 at most"
        )


def _draw(
    items: Sequence[Item], shares: Mapping[str, float], seed: int
) -> dict[str, tuple[Item, ...]]:
    """Draw parts of the given shares; every part's images are in their order."""
    parts = [name for name, share in shares.items() if share > _NOTHING]
    if not items:
        wanted = " and ".join(name for name in parts if name != TRAIN)
        raise DatasetLayoutError(
            f"there are no training images to draw {wanted} from; give some, or the split itself"
        )
    blocks = _blocks(items)
    if len(blocks) < len(parts):
        raise DatasetLayoutError(
            f"{counted(len(items), 'image')} of {counted(len(blocks), 'patient')} are too few to "
            f"divide into {', '.join(parts)}; give more"
        )
    rng = np.random.default_rng(seed)
    drawn = [blocks[index] for index in rng.permutation(len(blocks))]
    drawn.sort(key=lambda block: -len(block.items))  # among those of one size, chance decides
    totals = _count(drawn)
    holds: dict[str, Counter[int]] = {name: Counter() for name in parts}
    places: dict[int, str] = {}

    def put(index: int, name: str) -> None:
        places[index] = name
        holds[name].update(drawn[index].counts)

    # Rare labels come first, so that each part has some.
    having = Counter(label for block in drawn for label in block.counts)
    for label in sorted(totals, key=lambda label: (having[label], label)):
        fitting = [index for index, block in enumerate(drawn) if label in block.counts]
        for name in parts:
            left = [index for index in fitting if index not in places]
            if left and not holds[name][label]:
                # A patient of very many images would fill a small part.
                put(left[0 if name == TRAIN else -1], name)
    for index, block in enumerate(drawn):
        if index not in places:
            put(
                index,
                min(parts, key=lambda name: _excess(block, holds[name], totals, shares[name])),
            )
    part_of = {id(item): places[i] for i, block in enumerate(drawn) for item in block.items}
    return {
        name: tuple(item for item in items if part_of[id(item)] == name)
        for name in (TRAIN, *shares)
    }


def _count(blocks: Iterable[_Block]) -> Counter[int]:
    """Return the number of images of each label."""
    totals: Counter[int] = Counter()
    for block in blocks:
        totals.update(block.counts)
    return totals


def _excess(
    block: _Block, held: Mapping[int, int], totals: Mapping[int, int], share: float
) -> float:
    """Return by how much a part would be farther from its share of each label with a block.

    It is the change of chi squared: the smaller the part, the more an image counts.
    """
    change = 0.0
    for label, count in block.counts.items():
        wanted = share * totals[label]
        before, after = held[label] - wanted, held[label] + count - wanted
        change += (after**2 - before**2) / wanted
    return change


def _blocks(items: Sequence[Item]) -> list[_Block]:
    """Return the images that must stay together, in an order that the files' does not change."""
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while leader.setdefault(key, key) != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for item in items:
        # By patient and by pixels; neither can be taken for the other.
        leader[find(f"group {item.group}")] = find(f"image {item.content}")
    together: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        together[find(f"image {item.content}")].append(item)
    blocks = sorted(together.values(), key=lambda block: min(item.content for item in block))
    return [
        _Block(
            tuple(block), Counter(label for item in block for label in item.labels or (item.label,))
        )
        for block in blocks
    ]


def _on_division(task: Task, parts: Mapping[str, Sequence[Item]]) -> list[str]:
    """Return lines on what a division lacks, and on patients that given splits share."""
    lines = []
    where: dict[str, set[str]] = defaultdict(set)
    for name, items in parts.items():
        for item in items:
            where[item.group].add(name)
        held = {label for item in items for label in item.labels or (item.label,)}
        missing = [label for index, label in enumerate(task.labels) if index not in held]
        if items and missing:
            lines.append(f"no image of {', '.join(missing)} in {name}")
    shared = [group for group, names in where.items() if len(names) > 1]
    if shared:
        verb = "is" if len(shared) == 1 else "are"
        lines.append(
            f"{counted(len(shared), 'patient')} {verb} in several of the given splits, such as "
            f"{shared[0]}"
        )
    return lines


@dataclass(frozen=True)
class RecordedImage:
    """An image of a record.

    Attributes
    ----------
    name
        Its path relative to the folder of the images.
    labels
        Indices of its labels.
    split
        A key of :data:`~medkit.datasets.own_files.SPLITS`, or :data:`KEPT_OUT`.
    group
        Its patient.
    sha256
        Hash of the file's bytes, in hexadecimal.
    """

    name: str
    labels: tuple[int, ...]
    split: str
    group: str
    sha256: str


def write_splits(folder: Path, splits: Splits) -> Path:
    """Write the record of a division into a bundle's folder, atomically, and return where."""
    task = splits.dataset.task
    path = folder / SPLITS_NAME
    parts = {
        TRAIN: splits.train,
        VALIDATION: splits.validation,
        TEST: splits.test,
        KEPT_OUT: splits.kept_out,
    }
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogatepass", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for name, items in parts.items():
            for item in items:
                indices = item.labels if task.multi_label else (item.label,)
                label = _BETWEEN_LABELS.join(task.labels[index] for index in indices)
                writer.writerow((item.name, label, name, item.group, item.sha256))
    return path


def read_splits(folder: Path, task: Task) -> tuple[RecordedImage, ...]:
    """Read the record of a division from a bundle's folder.

    Raises
    ------
    ModelFileError
        If it is missing, damaged, or of other labels.
    """
    path = folder / SPLITS_NAME
    if not path.is_file():
        raise ModelFileError(
            f"{path} is missing, so it cannot be told which images the model has not seen; restore "
            "it"
        )
    try:
        table = read_csv_table(path, verbatim=True)
        if table.columns != _COLUMNS:
            raise ValueError(f"columns {', '.join(table.columns)} instead of {', '.join(_COLUMNS)}")
        return tuple(_recorded(task, line, cells) for line, cells in table.rows)
    except (UsageError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); restore it") from error


def _recorded(task: Task, line: int, cells: Sequence[str]) -> RecordedImage:
    """Read a row.

    Raises
    ------
    ValueError
        If a cell holds something else than it may.
    """
    name, label, split, group, sha256 = cells
    named = label.split(_BETWEEN_LABELS) if label or not task.multi_label else []
    for each in named:
        if each not in task.labels:
            raise ValueError(f"line {line}: {unknown('label', each, task.labels)}")
    if split not in (*SPLITS, KEPT_OUT):
        raise ValueError(f"line {line}: {unknown('split', split, (*SPLITS, KEPT_OUT))}")
    check_sha256(sha256)
    return RecordedImage(name, tuple(map(task.labels.index, named)), split, group, sha256)
