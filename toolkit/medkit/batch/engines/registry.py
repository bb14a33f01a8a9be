"""The engines that are known, and what each must be able to do."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from importlib import import_module
from threading import Event
from typing import Protocol

from medkit.batch.chunk import Chunk, Job
from medkit.batch.rows import Row
from medkit.errors import UsageError


class Engine(Protocol):
    """Spreads chunks over workers.

    Attributes
    ----------
    name
        The word for it, as ``--engine`` takes it.
    """

    name: str

    def run(
        self, chunks: Iterator[Chunk], job: Job, stop: Event
    ) -> Generator[list[Row], None, None]:
        """Give the rows of each chunk, in the order of the chunks.

        A bounded number of chunks is taken ahead of the rows that have been
        given, so that memory does not grow with the input. Once ``stop`` is
        set, no further chunk is begun, and those in work are finished. When
        the generator is closed, the workers end.

        Raises
        ------
        MedkitError
            If a model cannot be opened.
        """

    def most_in_work(self, workers: int) -> int:
        """Return how many chunks may have been begun without rows being given."""


_BUILT_IN = ("medkit.batch.engines.threads",)
"""Modules that register an engine when they are imported."""

_ENGINES: list[Engine] = []


def register_engine(added: Engine) -> None:
    """Make an engine known; raise :class:`ValueError` for a name that is."""
    if any(known.name == added.name for known in _ENGINES):
        raise ValueError(f"there is an engine {added.name!r} already")
    _ENGINES.append(added)


def get_engine(name: str) -> Engine:
    """Return the engine of a name; raise :class:`UsageError` for any other word."""
    for module in _BUILT_IN:
        import_module(module)
    known = {engine.name: engine for engine in _ENGINES}
    if name not in known:
        raise UsageError(f"unknown engine {name!r}; accepted: {', '.join(known)}")
    return known[name]
