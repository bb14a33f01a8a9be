"""What a page may say of the data that a model was trained and measured on.

What is known of a published data set is said of that data set alone: a user's
own images have another source, another licence, and traps of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medkit.models.manifest import Manifest
from medkit.reports.plots import OFFICIAL
from medkit.tasks import Task

OWN_TEST = "the test split of its data"
"""What the test split of data that are not the published ones is called."""


@dataclass(frozen=True)
class Origin:
    """The data of a run, in words.

    Attributes
    ----------
    test
        What the test split is called.
    source, licence
        Source of the data, and licence of the weights; empty if not known.
    misuse
        Uses that are wrong for a model of these data; empty if none is known.
    traps
        Properties of the data that mislead.
    """

    test: str
    source: str
    licence: str = ""
    misuse: str = ""
    traps: tuple[str, ...] = ()

    @property
    def test_column(self) -> str:
        """What the test split is called at the head of a column."""
        return "official test" if self.test == OFFICIAL else "test"


def name_of_test(task: Task, sha256: Mapping[str, str]) -> str:
    """Return what the test split of a run is called, by the hashes of its splits."""
    return OFFICIAL if task.layout and task.layout.is_published(sha256) else OWN_TEST


def origin_of(task: Task, manifest: Manifest) -> Origin:
    """Return what is known of the data of a run."""
    notes, stored = task.notes, manifest.data.source
    if task.layout is None:
        return Origin(OWN_TEST, stored, notes.licence, notes.misuse, notes.traps)
    test = name_of_test(task, manifest.data.sha256)
    if test == OFFICIAL:
        return Origin(test, task.layout.source, notes.licence, notes.misuse, notes.traps)
    # Older runs wrote down the published source for any data.
    source = "" if stored == task.layout.source else stored
    return Origin(test, source)
