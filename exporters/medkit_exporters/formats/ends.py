"""The ends of every final file: the names of input and output, and the factors of its logits.

Importing this module imports neither Keras nor a converter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medkit.models.card import ModelCard

IMAGE, PROBABILITIES = "image", "probabilities"
"""Names of the input and of the output of every final file."""


def logit_factors(card: ModelCard, columns: int) -> NDArray[np.float32] | None:
    """Return what the logits are multiplied by, so that a file's output is final.

    Parameters
    ----------
    card
        The file's card.
    columns
        Number of columns of the file's output.

    Returns
    -------
    numpy.ndarray or None
        float32, shape (1,): the inverse temperature. For one sigmoid and two
        labels, shape (2,): sigmoid(-x) = 1 - sigmoid(x), so both factors
        together give a column for each label. ``None`` where nothing changes.
    """
    inverse = 1 / card.temperature
    if columns == 1 and len(card.labels) == 2:
        return np.array([-inverse, inverse], np.float32)
    return None if inverse == 1 else np.array([inverse], np.float32)
