"""The outputs of a model, and the images that they belong to: the data of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkit.models.points import OperatingPoints


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model for a set of images.

    Attributes
    ----------
    probabilities
        Shape (n, classes), calibrated by the model's own temperature.
    points
        The model's own operating points.
    """

    probabilities: NDArray[np.float32]
    points: OperatingPoints


@dataclass(frozen=True)
class Images:
    """The images of a comparison, without their pixels.

    Attributes
    ----------
    names
        Names of the n files, for the list of flips.
    labels
        True label indices, shape (n,); in a multi-label task 0 and 1, shape
        (n, labels); ``None`` where nobody knows them.
    """

    names: Sequence[str]
    labels: NDArray[np.int64] | None


@dataclass(frozen=True)
class ModelRun:
    """An exported file on a runtime.

    Attributes
    ----------
    file
        Name of the file.
    precision
        One of :data:`medkit.models.formats.PRECISIONS`.
    runtime
        Name of the library that computed, for people.
    """

    file: str
    precision: str
    runtime: str
