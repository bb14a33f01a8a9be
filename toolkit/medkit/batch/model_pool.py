"""The models of a process: each is opened when its first image comes, once for every thread."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock, local
from typing import Protocol

from medkit.models.runtimes.base import Model


class Closed(Protocol):
    """A model that is not open yet."""

    def open(self) -> Model:
        """Open the model."""


class ModelPool:
    """A pool that gives each thread models of its own.

    Parameters
    ----------
    models
        The model of each task, which is not open yet.
    opened
        Models that are open already, by task.
    """

    def __init__(self, models: Mapping[str, Closed], opened: Mapping[str, Model]) -> None:
        self._models = models
        self._first = dict(opened)
        self._given: set[str] = set()
        self._lock, self._own = Lock(), local()

    def get(self, task: str) -> Model:
        """Return the calling thread's model of a task.

        Raises
        ------
        ModelFileError, MissingExtraError
            If it cannot be opened.
        """
        own: dict[str, Model] = self._own.__dict__
        if task not in own:
            with self._lock:
                if task not in self._first:
                    self._first[task] = self._models[task].open()
                first = self._first[task]
                unused = task not in self._given
                self._given.add(task)
            own[task] = first if unused else first.another()
        return own[task]
