"""What a row says of an image that was read, but not without a doubt.

The words are few and fixed, so that people and programs can look for them.
``docs/input.md`` explains each.
"""

from __future__ import annotations

DEPTH_GUESSED = "depth guessed"
"""The file does not say how deep its samples are; the full scale was told from the samples."""

DEPTH_CLIPPED = "samples clipped"
"""Some samples lie outside of the full scale, as after a resize that overshoots."""

ALPHA_IGNORED = "alpha ignored"
"""Hardly a pixel is visible, so transparency cannot be meant."""

END_MISSING = "end marker missing"
"""The file stops before its end marker; all pixels are there."""

COLOUR_UNEXPECTED = "colour unexpected"
"""A coloured image for a model of grey ones, or a grey image for a model of coloured ones."""

TASK_GUESSED = "task guessed"
"""Colour and shape disagree: a grey image without the shape of a chest, or a coloured one
with it."""

SHAPE_UNUSUAL = "shape unusual"
"""One side is more than twice as long as the other; the model's shape is another."""

SEVERAL_FRAMES = "several frames"
"""The file holds more frames or pages than the one that was read."""

UNCALIBRATED = "uncalibrated"
"""The model was adopted without labelled images: its probabilities and its threshold are as the
network gives them."""

NOTES = (
    DEPTH_GUESSED,
    DEPTH_CLIPPED,
    ALPHA_IGNORED,
    END_MISSING,
    SEVERAL_FRAMES,
    COLOUR_UNEXPECTED,
    TASK_GUESSED,
    SHAPE_UNUSUAL,
    UNCALIBRATED,
)
"""Every note, in the order in which a row gives them."""


def joined(notes: tuple[str, ...]) -> str:
    """Return notes as one text, in their fixed order, with a semicolon between two."""
    return ";".join(note for note in NOTES if note in notes)
