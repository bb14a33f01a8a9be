"""The engines that are known, and what each must be able to do."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from operator import attrgetter
from threading import Event
from typing import Protocol

from medkit.batch.chunk import Chunk, Job
from medkit.batch.rows import Row
from medkit.errors import MedkitError, UsageError
from medkit.registry import Registry
from medkit.wording import unknown


class WorkersDiedError(MedkitError):
    """Workers of an engine ended without a result, as when an image crashes the decoder.

    The run can be continued: what was in work is tried out apart first.
    """


class Engine(Protocol):
    """An engine: it spreads chunks over workers.

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

        Any other exception is taken for a worker that died; see
        :class:`WorkersDiedError`.
        """

    def most_in_work(self, workers: int) -> int:
        """Return how many chunks may have been begun without rows being given."""


_ENGINES: Registry[Engine] = Registry(
    "engine", attrgetter("name"), ("medkit.batch.engines.threads",)
)


def register_engine(added: Engine) -> None:
    """Register an engine. Raise :class:`ValueError` if its name is taken."""
    _ENGINES.add(added)


def engines() -> dict[str, Engine]:
    """Return every engine by its name."""
    return _ENGINES.all()


def get_engine(name: str) -> Engine:
    """Return the engine with this name. Raise :class:`UsageError` if there is none."""
    known = engines()
    if name not in known:
        raise UsageError(unknown("engine", name, known))
    return known[name]
