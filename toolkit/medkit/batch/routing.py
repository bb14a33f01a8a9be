"""Routing of images to tasks, by the task that was asked for or by the colour of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.images.contract import InputContract
from medkit.images.notes import COLOUR_UNEXPECTED, TASK_GUESSED
from medkit.images.pixels import image_to_tensor
from medkit.tasks import ANY_COLOUR, COLOURED, GREY, PNEUMONIA, SKIN

HUE_THRESHOLD = 2.15
"""Hue spread, in grey levels, from which an image counts as coloured.

Measured with :func:`hue_spread` on training images. Of 1,000 dermoscopy images (ISIC) the
least has 2.3, of 1,000 from other sources one in a thousand has less than 2.5. Of 120 X-rays
(Kermany et al. 2018) with a tint of 4 to 20 %, in sepia or on blue film, the most has 1.4, and
2.0 as a JPEG in sepia of quality 60.
"""

HUE_THRESHOLD_OF_CHESTS = 2.9
"""The same for an image that has the shape of a chest X-ray.

120 training X-rays with a tint that changes by up to 40 grey levels from one side to the other
reach 2.2, with coloured bars at the borders 2.8 (but for two). Of 2,000 dermoscopy images, 38
have that shape; the least of these has 3.0.
"""

BY_COLOUR = (PNEUMONIA, SKIN)
"""The tasks that an image's colour tells apart: first the one of grey images."""

STRONGEST_TINT = 60.0
"""Mean chroma, in grey levels, above which a picture of one hue counts as coloured, unless it
has the shape of a chest: sepia and blue film reach 41."""

_FAINT = 1.0
"""Mean chroma, in grey levels, below which an image is grey but for its file format."""

LEAST_CONTRAST = 25.0
"""Standard deviation of the cells of a chest X-ray, in grey levels, at least."""

LEAST_SPINE = 0.1
"""What the middle of a chest X-ray is brighter than each lung, in standard deviations, at least.

With both, 0.9 % of 1,500 training X-rays (Kermany et al. 2018) and 97.5 % of 1,500 dermoscopy
images in grey (ISIC) are not like a chest; of 438 X-rays of adults from other sources, 19 %.
"""

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601

_CELLS = 16
"""Cells on each side of an image, over which colours are averaged: noise and the blocks of a
JPEG are smaller."""

_FEW, _MOST = 0.02, 500
"""Share of a task's images that may be of another kind without being expected, and the number
that is looked at."""

_MARGIN = 3
"""Cells from the border that a bar or a frame around an X-ray may cover."""


@dataclass(frozen=True)
class Route:
    """A task that images can be sent to.

    Attributes
    ----------
    task
        Its name.
    contract
        Input contract of the task's model.
    images
        What the task's images are; see :class:`medkit.tasks.Task`.
    """

    task: str
    contract: InputContract
    images: str = ""

    @property
    def expected(self) -> str:
        """What its images are: as the task says, else as the channels tell."""
        return self.images or (GREY if self.contract.channels == 1 else COLOURED)


@dataclass(frozen=True)
class Routed:
    """An image on its way to a model.

    Attributes
    ----------
    task
        Name of the task.
    tensor
        What its model takes, uint8 of the contract's shape.
    notes
        What was doubtful; see :mod:`medkit.images.notes`.
    """

    task: str
    tensor: NDArray[np.uint8]
    notes: tuple[str, ...] = ()


class Routing(Protocol):
    """Decides which task an image is for. It can be sent to another process."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every task that can be chosen."""

    def choose(self, image: Image.Image) -> Routed:
        """Choose the task of an image, and make its tensor.

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

    def choose(self, image: Image.Image) -> Routed:
        """Make the image's tensor; a colour that the model has not seen is noted."""
        contract = self.route.contract
        tensor = image_to_tensor(image, contract)
        if self.route.expected == ANY_COLOUR:
            return Routed(self.route.task, tensor)
        if image.mode == "L":
            coloured = False
        elif contract.channels == 3:
            coloured = is_coloured(tensor, chest=False)
        else:
            # A sample of the pixels is enough, and costs next to nothing.
            side = 4 * _CELLS
            sample = np.asarray(image.resize((side, side), Image.Resampling.NEAREST))
            coloured = colourfulness(sample) >= _FAINT
        unexpected = coloured != (self.route.expected == COLOURED)
        return Routed(self.route.task, tensor, (COLOUR_UNEXPECTED,) * unexpected)


@dataclass(frozen=True)
class ByColour:
    """Sends grey images to one task and coloured ones to another."""

    grey: Route
    coloured: Route

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes for grey and for coloured images."""
        return (self.grey, self.coloured)

    def choose(self, image: Image.Image) -> Routed:
        """Choose the task that the image's colour tells, and make its tensor.

        A grey image with a tint is still grey, and the tint is noted. Where the
        colour says one thing and the shape another, the task is a guess, and noted.
        """
        tinted = False
        if image.mode != "L":
            coloured = image_to_tensor(image, self.coloured.contract)
            grey = image_to_tensor(image, self.grey.contract)
            chest = is_like_a_chest(grey)
            if is_coloured(coloured, chest):
                return Routed(self.coloured.task, coloured, (TASK_GUESSED,) * chest)
            tint = colourfulness(coloured)
            if tint > STRONGEST_TINT and not chest:
                return Routed(self.coloured.task, coloured, (TASK_GUESSED,))
            tinted = tint >= _FAINT
        else:
            grey = image_to_tensor(image, self.grey.contract)
            chest = is_like_a_chest(grey)
        notes = (COLOUR_UNEXPECTED,) * tinted + (TASK_GUESSED,) * (not chest)
        return Routed(self.grey.task, grey, notes)


def least_side(routing: Routing) -> int | None:
    """Return the pixels that a decoder must leave on each side for any of the tasks.

    ``None`` means all, because one of the tasks needs them.
    """
    sides = [route.contract.least_side for route in routing.routes]
    known = [side for side in sides if side is not None]
    return max(known) if len(known) == len(sides) else None


def colours_of(images: NDArray[np.uint8]) -> str:
    """Return what a task's images are, told from some of them: grey, coloured, or any.

    A model of RGB input may know grey images only, such as X-rays.

    Parameters
    ----------
    images
        uint8, shape (n, height, width, channels).

    Returns
    -------
    str
        Empty for images of one channel, which do not tell.
    """
    if images.shape[-1] == 1:
        return ""
    some = images[:: max(len(images) // _MOST, 1)]
    share = float(np.mean([is_coloured(image, chest=False) for image in some]))
    if share > 1 - _FEW:
        return COLOURED
    return GREY if share < _FEW else ANY_COLOUR


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


def is_coloured(tensor: NDArray[np.uint8], chest: bool) -> bool:
    """Whether a picture has colours of its own, and not just a tint.

    Parameters
    ----------
    tensor
        uint8, shape (height, width, 3).
    chest
        Whether it has the shape of a chest X-ray. Then bars at its borders do
        not count either, and it takes more to be no X-ray.
    """
    cells = _cells(tensor)
    if chest:
        inner = cells[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        spread = min(hue_spread(each, by_place=True) for each in (cells, inner))
        return spread >= HUE_THRESHOLD_OF_CHESTS
    return hue_spread(cells, by_place=False) >= HUE_THRESHOLD


def hue_spread(cells: NDArray[np.float64], by_place: bool) -> float:
    """Return by how much colours differ from what brightness tells, in grey levels.

    A tint, sepia or a blue film makes colour a function of brightness. That
    function (of second order) is fitted, and what is left counts, in seven
    tenths of the cells: a marker or a box does not.

    Parameters
    ----------
    cells
        Mean colours of an image's cells, 0..255, shape (rows, columns, 3).
    by_place
        Fit a change of colour from one side to the other as well.
    """
    colours = cells.reshape(-1, 3)
    brightness = colours @ _LUMA
    known = [np.ones_like(brightness), brightness, brightness**2]
    if by_place:
        places = np.mgrid[-1 : 1 : cells.shape[0] * 1j, -1 : 1 : cells.shape[1] * 1j]
        known += [places[0].ravel(), places[1].ravel()]
    terms = np.stack(known, axis=1)
    kept = np.ones(len(colours), dtype=bool)
    for _ in range(2):
        fitted, *_ = np.linalg.lstsq(terms[kept], colours[kept], rcond=None)
        left = colours - terms @ fitted
        spread = left.max(axis=1) - left.min(axis=1)
        kept = spread <= np.percentile(spread, 85)
    return float(np.percentile(spread, 70))


def is_like_a_chest(tensor: NDArray[np.uint8]) -> bool:
    """Whether a grey picture has a bright middle between two darker sides, as a chest X-ray has.

    Parameters
    ----------
    tensor
        uint8, shape (height, width, 1), each side at least 16.
    """
    cells = _cells(tensor)[..., 0]
    contrast = float(cells.std())
    if contrast < LEAST_CONTRAST:
        return False
    spine = cells[5:13, 7:9].mean()
    lungs = cells[5:11, 3:6].mean(), cells[5:11, 10:13].mean()
    return bool(spine - max(lungs) >= LEAST_SPINE * contrast)


def _cells(tensor: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean of each of 16x16 cells, shape (16, 16, channels)."""
    high, wide = (side // _CELLS for side in tensor.shape[:2])
    cells = tensor[: high * _CELLS, : wide * _CELLS].reshape(_CELLS, high, _CELLS, wide, -1)
    return np.asarray(cells.mean(axis=(1, 3)))
