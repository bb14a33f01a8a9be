"""Routing of images to tasks, by the task that was asked for or by the colour of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.images.contract import InputContract
from medkit.images.pixels import image_to_tensor
from medkit.tasks import PNEUMONIA, SKIN

COLOUR_THRESHOLD = 4.0
"""Mean chroma, in grey levels, from which an image counts as coloured.

Measured on both data sets with :func:`colourfulness`: all 5,840 X-rays have
0.0, the least colourful of 2,359 dermoscopy images 8.3. The threshold lies
between, at half of the latter, so that a faint tint or the chroma noise of a
re-encoded X-ray does not make it dermoscopy.
"""

BY_COLOUR = (PNEUMONIA, SKIN)
"""The tasks that an image's colour tells apart: first the one of grey images."""


@dataclass(frozen=True)
class Route:
    """A task that images can be sent to.

    Attributes
    ----------
    task
        Its name.
    contract
        Input contract of the task's model.
    """

    task: str
    contract: InputContract


class Routing(Protocol):
    """Decides which task an image is for. It can be sent to another process."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every task that can be chosen."""

    def choose(self, image: Image.Image) -> tuple[str, NDArray[np.uint8]]:
        """Return the name of the task, and the image's tensor for it.

        Parameters
        ----------
        image
            Upright, mode ``L`` or ``RGB``.
        """


@dataclass(frozen=True)
class OneTask:
    """Sends every image to one task."""

    route: Route

    @property
    def routes(self) -> tuple[Route, ...]:
        """The only route."""
        return (self.route,)

    def choose(self, image: Image.Image) -> tuple[str, NDArray[np.uint8]]:
        """Return the task's name and the image's tensor."""
        return self.route.task, image_to_tensor(image, self.route.contract)


@dataclass(frozen=True)
class ByColour:
    """Sends grey images to one task and coloured ones to another."""

    grey: Route
    coloured: Route

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes for grey and for coloured images."""
        return (self.grey, self.coloured)

    def choose(self, image: Image.Image) -> tuple[str, NDArray[np.uint8]]:
        """Return the name of the task for the image's colour, and the tensor for it."""
        if image.mode != "L":
            tensor = image_to_tensor(image, self.coloured.contract)
            if colourfulness(tensor) >= COLOUR_THRESHOLD:
                return self.coloured.task, tensor
        return self.grey.task, image_to_tensor(image, self.grey.contract)


def least_side(routing: Routing) -> int:
    """Return the pixels that a scaled decoder must leave on each side for any of the tasks."""
    return max(route.contract.least_side for route in routing.routes)


def colourfulness(tensor: NDArray[np.uint8]) -> float:
    """Return the mean chroma (largest minus smallest channel), in grey levels 0..255.

    Parameters
    ----------
    tensor
        uint8, shape (height, width, 3). Pixels are averaged two by two first,
        so that noise is not taken for colour.
    """
    height, width, _ = tensor.shape
    even = tensor[: height // 2 * 2, : width // 2 * 2]
    rows = even[0::2].astype(np.uint16) + even[1::2]
    sums = rows[:, 0::2] + rows[:, 1::2]
    return float((sums.max(axis=2) - sums.min(axis=2)).mean()) / 4
