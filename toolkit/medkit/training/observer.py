"""Observers of the progress of a training run."""

from __future__ import annotations

from typing import Protocol

from medkit.models.manifest import EpochRecord


class Observer(Protocol):
    """Gets the progress of a run. The methods return nothing and must not fail."""

    def note(self, text: str) -> None:
        """Take a line of text for the user."""

    def epoch_begins(self, epoch: int, epochs: int, steps: int) -> None:
        """Take the start of an epoch.

        Parameters
        ----------
        epoch
            Number of the epoch, from 1.
        epochs
            The most epochs that the run can have.
        steps
            The number of steps in the epoch.
        """

    def step(self, loss: float) -> None:
        """Take the end of a step; ``loss`` is the epoch's mean so far."""

    def epoch_ends(self, record: EpochRecord, best: bool) -> None:
        """Take an epoch's figures.

        Parameters
        ----------
        record
            The figures.
        best
            Whether it is the best so far; never in a run that chooses no epoch.
        """
