"""Whether a graph begins with a normalisation of its own, and what it takes then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkit_exporters.adoption.pixels import PIXEL_RULES, PixelRule

_BYTES, _UNITS = PIXEL_RULES["0..255"], PIXEL_RULES["0..1"]

_SMALLEST, _LARGEST = 1 / 1000, 1 / 30
"""Factors that no network applies but to bytes: 1/255 is that of 0..1, and 1/57 ImageNet's."""


@dataclass(frozen=True)
class Step:
    """A product or sum with constants.

    Attributes
    ----------
    kind
        ``mul``, ``add``, ``sub`` or ``div``.
    values
        The constants: one, or one for each channel.
    data_first
        Whether the data are the first operand.
    """

    kind: str
    values: NDArray[np.float64]
    data_first: bool = True


def taken_by(steps: Sequence[Step], channels: int) -> PixelRule | None:
    """Return the rule of the pixels that a graph takes, if its first steps tell it.

    Parameters
    ----------
    steps
        What the graph begins with.
    channels
        Channels of the input.

    Returns
    -------
    PixelRule or None
        That of bytes as they are, or that of 0..1.
    """
    factor, offset = np.ones(channels), np.zeros(channels)
    for step in steps:
        if step.values.size not in (1, channels) or not np.isfinite(step.values).all():
            break
        values = np.broadcast_to(step.values.reshape(-1), channels)
        if step.kind == "add":
            offset = offset + values
        elif step.kind == "sub":
            sign = 1 if step.data_first else -1
            factor, offset = sign * factor, sign * (offset - values)
        elif step.kind == "mul":
            factor, offset = factor * values, offset * values
        elif step.data_first and values.all():
            factor, offset = factor / values, offset / values
        else:
            break
    if (factor >= _SMALLEST).all() and (factor <= _LARGEST).all():
        return _BYTES
    if (factor == 1).all() and (offset >= -200).all() and (offset <= -50).all():
        return _BYTES  # the means of a data set are taken away
    for rule in PIXEL_RULES.values():
        # What the rule does to bytes, done to 0..1.
        known = np.broadcast_to(rule.multiply, 3)[:channels] * 255
        added = np.broadcast_to(rule.add, 3)[:channels]
        like = np.allclose(factor, known, rtol=0.01) and np.allclose(offset, added, atol=0.02)
        if rule.fits(channels) and rule != _UNITS and not rule.bgr and like:
            return _UNITS
    return None
