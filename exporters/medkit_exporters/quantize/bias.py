"""Correction of the bias that 8-bit arithmetic brings into a network's logits.

Rounding errors of thousands of weights do not cancel: on average over images
a quantised network favours some classes. That average can be measured once
the file exists, and is subtracted from the last layer's bias (Nagel et al.
2019, Data-Free Quantization Through Weight Equalization and Bias Correction).

Importing this module imports Keras.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from medkit_exporters.quantize.network import copy_network, ending_of, flat

# Beyond, float32 probabilities of a sigmoid have too few digits for their logit.
_SUREST = 1e-6


def logit_drift(
    original: NDArray[np.float32], export: NDArray[np.float32], *, multi_label: bool
) -> NDArray[np.float64]:
    """Return by how much an export's logits exceed the original's on average.

    Parameters
    ----------
    original, export
        Probabilities of the same images at temperature 1, shape (n, classes).
    multi_label
        Whether each label has a sigmoid of its own.

    Returns
    -------
    numpy.ndarray
        Shape (classes,). A softmax's has mean 0: its probabilities tell logits
        up to a constant.
    """
    logits = _sigmoid_logits if multi_label else _logits
    return np.asarray(np.mean(logits(export) - logits(original), axis=0))


def shift_logits(model: Any, shift: NDArray[np.float64]) -> Any:
    """Return a copy of a network with ``shift``, shape (classes,), added to its logits.

    A last layer of one unit holds the second class's logit less the first's.
    A last layer without a bias gets one.

    Raises
    ------
    ExportError
        In the same cases as :func:`medkit_exporters.quantize.network.ending_of`.
    """
    model = flat(model)
    copy = copy_network(model if ending_of(model, "the network").use_bias else _with_bias(model))
    last = ending_of(copy, "the network")
    kernel, bias = last.get_weights()
    last.set_weights([kernel, bias + (shift[1:] - shift[:1] if last.units == 1 else shift)])
    return copy


def _with_bias(model: Any) -> Any:
    """Return a network whose last layer has a bias of zeros."""
    last = ending_of(model, "the network")
    biased = keras.layers.Dense.from_config({**last.get_config(), "use_bias": True})
    output = biased(last.input)
    (kernel,) = last.get_weights()
    biased.set_weights([kernel, np.zeros(last.units, kernel.dtype)])
    return keras.Model(model.input, output, name=model.name)


def _logits(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    logits = np.log(np.clip(probabilities.astype(np.float64), _SUREST, 1))
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def _sigmoid_logits(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    known = np.clip(probabilities.astype(np.float64), _SUREST, 1 - _SUREST)
    return np.asarray(np.log(known) - np.log1p(-known))
