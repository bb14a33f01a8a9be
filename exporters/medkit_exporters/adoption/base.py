"""A model that was trained elsewhere: what its file tells, and what can be done with it.

One module for each kind of file opens it; what follows is the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medkit.models.card import ModelCard
from medkit_exporters.adoption.pixels import PixelRule

SOFTMAX, SIGMOID, LOGITS = "softmax", "sigmoid", "logits"
"""What a network's last layer gives: probabilities of one label, of each label, or neither yet."""


@dataclass(frozen=True)
class ModelFacts:
    """What a model file tells of itself.

    Attributes
    ----------
    height, width
        Size of the input in pixels; ``None`` where the file leaves it free.
    channels
        1 for grey input, 3 for RGB.
    outputs
        Number of values that it gives for an image.
    ending
        :data:`SOFTMAX`, :data:`SIGMOID` or :data:`LOGITS`.
    takes_bytes
        Whether its graph begins with a normalisation of its own, so that it
        takes pixels of 0..255.
    precision
        Precision of its weights, as :mod:`medkit.models.formats` names it.
    pixels
        The rule by which its input is computed from bytes, where the file
        tells it; ``None`` where it does not.
    tolerance
        By how much a probability of the file that is written may differ from
        the model's: an integer that is rounded otherwise is a step apart.
    parameters
        Number of its parameters; 0 if it is not counted.
    labels, labels_from
        The labels that the file holds, in the order of its outputs, and where
        it holds them; both empty if it holds none.
    remarks
        Lines for the user on what was found.
    """

    height: int | None
    width: int | None
    channels: int
    outputs: int
    ending: str
    takes_bytes: bool = False
    precision: str = "fp32"
    pixels: PixelRule | None = None
    tolerance: float = 1e-4
    parameters: int = 0
    labels: tuple[str, ...] = ()
    labels_from: str = ""
    remarks: tuple[str, ...] = ()


class OpenedModel(Protocol):
    """A model file, opened so that it can be measured and written as a file of medkit's own.

    Attributes
    ----------
    path
        The file or folder.
    facts
        What it tells of itself.
    """

    path: Path
    facts: ModelFacts

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the model gives, as it is.

        Parameters
        ----------
        values
            float32, shape (n, height, width, channels), as a pixel rule makes them.

        Returns
        -------
        numpy.ndarray
            float32, shape (n, outputs).
        """

    def write(self, folder: Path, card: ModelCard, pixels: PixelRule, ending: str) -> Path:
        """Write a file that takes raw bytes and gives probabilities into a bundle's folder.

        Parameters
        ----------
        folder
            The folder of the bundle.
        card
            The card that goes into the file. Its temperature goes into the
            graph where a file of the format has it there.
        pixels
            Goes into the graph in front of the network.
        ending
            What the outputs are: logits get a softmax or a sigmoid.

        Returns
        -------
        Path
            The file.
        """
