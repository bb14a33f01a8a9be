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


PIXEL_RULES: dict[str, PixelRule] = {
    rule.name: rule
    for rule in (
        PixelRule("0..255"),
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

    Raises
    ------
    UsageError
        If there is none of that name for so many channels.
    """
    known = {rule.name: rule for rule in rules_for(channels)}
    if name not in known:
        raise UsageError(unknown("pixel rule", name, known))
    return known[name]
