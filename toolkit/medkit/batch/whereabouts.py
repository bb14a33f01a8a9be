"""Whether the folders on a command line still are where they were."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from medkit.errors import MedkitError


class InputFolders:
    """Knows where the folders on a command line are, and whether they still are.

    Parameters
    ----------
    inputs
        Files and folders; files are not looked after.
    patience
        Seconds that a folder has for an answer.
    """

    def __init__(self, inputs: Sequence[Path], patience: float) -> None:
        self._known = {path: _identity(path) for path in inputs if os.path.isdir(path)}
        self._patience = patience

    def check(self) -> None:
        """Raise :class:`MedkitError` if a folder has gone, or does not answer."""
        for path in self._known:
            there: list[bool] = []
            # A network folder that hangs does so for whoever asks.
            asking = Thread(target=self._ask, args=(path, there), daemon=True)
            asking.start()
            asking.join(self._patience)
            if there != [True]:
                raise MedkitError(
                    f"folder {path} has gone; once it is back, continue with --resume"
                )

    def _ask(self, path: Path, there: list[bool]) -> None:
        """Answer whether a folder is the one that it was.

        Where a network folder was mounted, an empty one is left. One that
        was mounted again is another to the system, but not empty.
        """
        there.append(_identity(path) == self._known[path] or not _is_empty(path))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_empty(path: Path) -> bool:
    """Whether a folder has no entries, or cannot be listed."""
    try:
        with os.scandir(path) as scan:
            return next(scan, None) is None
    except OSError:
        return True
