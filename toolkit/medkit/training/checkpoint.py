"""The folder that keeps an unfinished run, so that it can be continued."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from medkit.errors import TrainingError
from medkit.files import output_errors, read_json, write_json
from medkit.models.manifest import EpochRecord
from medkit.models.recipe import Recipe
from medkit.records import read_record
from medkit.tasks import Task

CHECKPOINT_FOLDER = "unfinished"
"""Name of the folder, in the folder of the task."""

STATE_NAME = "state.json"
"""The file with the state. A run without it cannot be continued."""

_WORDS = {"described": "size, colour, alert label or order of labels"}
"""Fields of an identity that have another name for people."""

_START_ANEW = "start anew with --overwrite"


@dataclass(frozen=True)
class Identity:
    """The identity of a run. A run is continued only if its identity is the same.

    Attributes
    ----------
    task
        Name of the task.
    recipe, seed
        Recipe and seed of the run.
    data
        Digest of each split; see :func:`medkit.datasets.splits.digest_of`.
    compute_type
        Keras' dtype policy.
    described
        Labels and input of a task of one's own; see :func:`described`. Those
        of a built-in task are known.
    """

    task: str
    recipe: Recipe
    seed: int
    data: dict[str, str]
    compute_type: str
    described: str = ""


def described(task: Task) -> str:
    """Return what decides a network's shape and the order of its outputs, in one line."""
    return f"{task.contract.hash}: {', '.join(task.labels)}; {task.alert}"


@dataclass(frozen=True)
class State:
    """The progress of a run.

    Attributes
    ----------
    stage, epoch
        The next epoch to run, counted from 0 within its stage.
    history
        A record of each epoch that has ended.
    best_loss, best_epoch
        Loss on the watched split, and number of the epoch, counted from 1
        over all stages.
    stale
        Epochs of this stage since the best one.
    """

    stage: int = 0
    epoch: int = 0
    history: tuple[EpochRecord, ...] = ()
    best_loss: float = math.inf
    best_epoch: int = 0
    stale: int = 0


@dataclass(frozen=True)
class _Stored:
    """The content of the state file."""

    identity: Identity
    state: State


class Checkpoint:
    """The weights and the state of an unfinished run.

    The name of a weights file holds the number of its epoch. If a run is
    interrupted while it saves, the files that the state file needs are
    still there.

    Parameters
    ----------
    folder
        Folder of the checkpoint. It need not exist.
    identity
        Identity of the run.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        self._folder = folder
        self._identity = identity
        self._state = folder / STATE_NAME

    def last(self, state: State) -> Path:
        """Return the file with model and optimiser after the last epoch."""
        return self._folder / f"last-{len(state.history)}.keras"

    def best(self, state: State) -> Path:
        """Return the file with the weights of the best epoch."""
        return self._folder / f"best-{state.best_epoch}.weights.h5"

    def load(self) -> State:
        """Return the state of the unfinished run.

        Raises
        ------
        TrainingError
            If the state file is damaged, or belongs to a run of another
            task, recipe, seed or data set.
        """
        try:
            stored = read_record(_Stored, read_json(self._state))
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"checkpoint {self._state} cannot be read ({error}); {_START_ANEW}"
            ) from error
        changed = [
            _WORDS.get(field.name, field.name.replace("_", " "))
            for field in fields(Identity)
            if getattr(stored.identity, field.name) != getattr(self._identity, field.name)
        ]
        if changed:
            raise TrainingError(
                f"cannot resume {self._folder}: it was started with another "
                f"{', '.join(changed)}; give the same arguments, or leave --resume out"
            )
        return stored.state

    def load_model(self, state: State) -> Any:
        """Return model and optimiser as they were after the last epoch.

        Raises
        ------
        TrainingError
            If the file is missing or damaged.
        """
        import keras

        path = self.last(state)
        try:
            return keras.saving.load_model(path)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrainingError(
                f"checkpoint {path} cannot be read ({error}); {_START_ANEW}"
            ) from error

    def load_best(self, model: Any, state: State) -> None:
        """Give a model the weights of the best epoch.

        Raises
        ------
        TrainingError
            If the file is missing or damaged.
        """
        path = self.best(state)
        try:
            model.load_weights(path)
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"best weights {path} cannot be read ({error}); {_START_ANEW}"
            ) from error

    def save(self, model: Any, state: State, is_best: bool) -> None:
        """Keep model, optimiser and state. The state file is replaced last, and atomically.

        Raises
        ------
        MedkitError
            If the folder cannot be written.
        """
        with output_errors(str(self._folder)):
            self._folder.mkdir(parents=True, exist_ok=True)
            if is_best:
                model.save_weights(self.best(state))
            model.save(self.last(state))
            write_json(self._state, asdict(_Stored(self._identity, state)))

    def tidy(self, state: State) -> None:
        """Delete the files of other epochs."""
        needed = (self._state, self.last(state), self.best(state))
        for path in self._folder.iterdir():
            if path not in needed:
                path.unlink()
