"""The operators of a Keras original."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from medkit.models.operators.summary import (
    Operator,
    OperatorSummary,
    Pixels,
)


def read_operators(path: Path) -> OperatorSummary:
    """List the layers of a Keras original, each with the work of its kernel."""
    from medkit.models.runtimes.keras import load_keras

    network = load_keras(path)
    operators = []
    for layer in network.layers:
        output = layer.output.shape[1:]
        kernel = getattr(layer, "kernel", None)
        work = math.prod(output) * math.prod(kernel.shape[:-1]) if kernel is not None else 0
        operators.append(Operator(layer.name, type(layer).__name__, layer.compute_dtype, work))
    tensors = Counter(weight.dtype for weight in network.weights)
    pixels = Pixels(network.inputs[0].dtype)
    return OperatorSummary(tuple(operators), dict(sorted(tensors.items())), pixels)
