"""Pixel rules: what networks are trained to see instead of bytes.

A network that gets other values than those that it was trained on still gives
probabilities, and they are wrong. So a rule is measured where images with
labels are there, and goes into the graph of every file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkit.errors import UsageError
from medkit.wording import unknown

# Mean and deviation of ImageNet's channels, red first, of pixels in 0..1
# (torchvision.models, keras.applications.imagenet_utils, mode "torch").
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# ImageNet's channel means, blue first (keras.applications.imagenet_utils, mode "caffe").
_CAFFE_MEAN = (103.939, 116.779, 123.68)


_LEAST_DEVIATION, _MOST = 2.0, 1000.0
"""A deviation of pixels of 0..255 is larger than 2; one that is smaller is of pixels of 0..1."""


@dataclass(frozen=True)
class PixelRule:
    """What is computed from bytes before a network sees them.

    Attributes
    ----------
    name
        Name of the rule, as ``--pixels`` takes it.
    multiply, add
        Factor of each channel, and what is added after it: one number for all
        channels, or one for each in the order that the network takes.
    bgr
        Whether the network takes blue first.
    """

    name: str
    multiply: tuple[float, ...] = (1.0,)
    add: tuple[float, ...] = (0.0,)
    bgr: bool = False

    @property
    def is_identity(self) -> bool:
        """Whether bytes are taken as they are."""
        return set(self.multiply) == {1.0} and set(self.add) == {0.0} and not self.bgr

    def fits(self, channels: int) -> bool:
        """Whether the rule can be applied to images of so many channels."""
        return channels == 3 or (len(self.multiply) == len(self.add) == 1 and not self.bgr)

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what a network sees, float32 of the shape of ``images``.

        Parameters
        ----------
        images
            uint8, shape (n, height, width, channels), red first.
        """
        values = images[..., ::-1] if self.bgr else images
        factors, offsets = (np.array(each, np.float32) for each in (self.multiply, self.add))
        return values.astype(np.float32) * factors + offsets


BYTES = "0..255"
"""The rule that leaves bytes as they are."""

PIXEL_RULES: dict[str, PixelRule] = {
    rule.name: rule
    for rule in (
        PixelRule(BYTES),
        PixelRule("0..1", (1 / 255,)),
        PixelRule("-1..1", (1 / 127.5,), (-1.0,)),
        PixelRule(
            "imagenet",
            tuple(1 / (255 * deviation) for deviation in _DEVIATION),
            tuple(-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)),
        ),
        PixelRule("caffe", (1.0,) * 3, tuple(-mean for mean in _CAFFE_MEAN), bgr=True),
    )
}
"""The rules that are tried and accepted, by name."""


def rules_for(channels: int) -> tuple[PixelRule, ...]:
    """Return the rules that fit images of so many channels."""
    return tuple(rule for rule in PIXEL_RULES.values() if rule.fits(channels))


def get_pixel_rule(name: str, channels: int) -> PixelRule:
    """Return a pixel rule.

    Parameters
    ----------
    name
        One of :data:`PIXEL_RULES`, or a mean and a deviation of one's own as
        ``MEAN/STD``, in grey levels of 0..255: one number for all channels,
        or one for each with commas between them, red first.
    channels
        Channels of the input.

    Raises
    ------
    UsageError
        If there is none of that name for so many channels, or if the numbers
        cannot be meant.
    """
    known = {rule.name: rule for rule in rules_for(channels)}
    if name in known:
        return known[name]
    if "/" in name:
        return _own_rule(name, channels)
    raise UsageError(f"{unknown('pixel rule', name, known)}, or MEAN/STD in grey levels of 0..255")


def _own_rule(text: str, channels: int) -> PixelRule:
    """Return the rule of a mean and a deviation."""
    try:
        mean, deviation = (
            tuple(float(number) for number in part.split(",")) for part in text.split("/")
        )
    except ValueError:
        raise UsageError(
            f"pixel rule {text!r}; accepted: MEAN/STD, such as 123.7,116.3,103.5/58.4,57.1,57.4"
        ) from None
    if not {len(mean), len(deviation)} <= {1, channels}:
        raise UsageError(
            f"pixel rule {text!r} has {len(mean)} and {len(deviation)} numbers; accepted: 1 or "
            f"{channels}, the channels of the model"
        )
    if not all(abs(number) <= _MOST for number in mean) or not all(
        _LEAST_DEVIATION <= number <= _MOST for number in deviation
    ):
        raise UsageError(
            f"pixel rule {text!r} is not of pixels of 0..255; accepted: deviations of "
            f"{_LEAST_DEVIATION:g} to {_MOST:g}; multiply both by 255 if they are of 0..1"
        )
    size = max(len(mean), len(deviation))
    means, deviations = ((part * size)[:size] for part in (mean, deviation))
    return PixelRule(
        text,
        tuple(1 / each for each in deviations),
        tuple(-middle / each for middle, each in zip(means, deviations, strict=True)),
    )
