"""The interface of an exporter, and the steps that all exporters share.

Importing this module imports Keras.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medkit.errors import ExportError
from medkit.models.card import ModelCard
from medkit.models.operators.summary import OperatorSummary, check_promise
from medkit.models.runtimes.base import one_line
from medkit_exporters.quantize.caps import cap_activations
from medkit_exporters.quantize.network import flat
from medkit_exporters.quantize.source import Source
from medkit_exporters.settings import LEAST_ERROR, Settings

Tell = Callable[[str], None]
"""Takes a line about something that a conversion left as it was."""


def tell_nobody(line: str) -> None:
    """Drop a line."""


class Exporter(Protocol):
    """Converts Keras originals to one format.

    See :mod:`medkit_exporters.formats.registry` for how one is made known,
    and for the packages that it needs.

    Attributes
    ----------
    name
        Name of the format, as :mod:`medkit.models.formats` knows it.
    """

    name: str

    def convert(
        self,
        source: Source,
        settings: Settings,
        calibration: NDArray[np.uint8] | None,
        tell: Tell = tell_nobody,
    ) -> bytes:
        """Convert a Keras original.

        Parameters
        ----------
        source
            The original.
        settings
            Settings of the conversion.
        calibration
            uint8 images (n, height, width, channels) that fix the ranges of
            integers; ``None`` where there are none.
        tell
            Called with a line for whatever the conversion left as it was,
            because it does not know it.

        Returns
        -------
        bytes
            Input uint8 (n, height, width, channels) with a free n, taken as
            raw pixels; output float32 probabilities.

        Raises
        ------
        ExportError
            If the network cannot be converted, if the file computes otherwise
            than its precision says, or if it does not take raw pixels.
        """

    def attach_card(self, content: bytes, card: ModelCard) -> bytes:
        """Return a converted file, sealed, with a card inside in place of an earlier one."""

    def finalise(self, content: bytes, card: ModelCard) -> tuple[bytes, ModelCard]:
        """Make a file final: any runtime turns raw pixels into calibrated probabilities.

        Parameters
        ----------
        content
            A converted file, with or without a card.
        card
            The file's card, whose temperature goes into the graph.

        Returns
        -------
        content, card
            The file, sealed, and the card inside it. The card's temperature
            is 1, because nothing remains to be divided. Input and output are
            called :data:`~medkit_exporters.formats.ends.IMAGE` and
            :data:`~medkit_exporters.formats.ends.PROBABILITIES`, and the output
            has a column for each label.

        Raises
        ------
        ExportError
            If the file does not end in a softmax or a sigmoid.
        """


class NetworkExporter(ABC):
    """An exporter by which a network's own library converts it.

    A subclass says how floats and integers are converted, and what a file
    computes. Checks, ranges and errors are the same for all.

    Attributes
    ----------
    name
        As for :class:`Exporter`.
    title
        Common name of the format.
    """

    name: str
    title: str

    def convert(
        self,
        source: Source,
        settings: Settings,
        calibration: NDArray[np.uint8] | None,
        tell: Tell = tell_nobody,
    ) -> bytes:
        """Convert a Keras original; see :meth:`Exporter.convert`."""
        source.check_ending()
        try:
            if not settings.calibrated:
                content = self._convert_floats(source, settings)
            elif calibration is None:
                raise ExportError(f"{settings.precision} needs calibration images and got none")
            else:
                suited = _with_ranges(source, settings, calibration, tell)
                content = self._convert_integers(suited, settings, calibration, tell)
        except ExportError:
            raise
        except Exception as error:
            # The converters raise classes that share no other base.
            # TensorFlow's says of each operator of a kind what it says of the first.
            told = " ".join(dict.fromkeys(re.split(r"(?<=\.) ", one_line(error))))
            raise ExportError(f"conversion to {self.title} failed: {told}") from error
        check_promise(self.summarise(content), settings.precision)
        return content

    @abstractmethod
    def _convert_floats(self, source: Source, settings: Settings) -> bytes:
        """Convert to ``fp32`` (as trained) or ``fp16`` (in half precision)."""

    @abstractmethod
    def _convert_integers(
        self, source: Source, settings: Settings, calibration: NDArray[np.uint8], tell: Tell
    ) -> bytes:
        """Convert a flat network to ``int8``, ``int16`` or ``mixed``."""

    @abstractmethod
    def summarise(self, content: bytes) -> OperatorSummary:
        """List what a converted file computes."""

    @abstractmethod
    def attach_card(self, content: bytes, card: ModelCard) -> bytes:
        """Return a converted file, sealed, with a card inside in place of an earlier one."""

    def finalise(self, content: bytes, card: ModelCard) -> tuple[bytes, ModelCard]:
        """Make a file final; see :meth:`Exporter.finalise`."""
        final = replace(card, temperature=1.0)
        content = self._with_final_ends(content, card)
        check_promise(self.summarise(content), card.precision)
        return self.attach_card(content, final), final

    @abstractmethod
    def _with_final_ends(self, content: bytes, card: ModelCard) -> bytes:
        """Name input and output, and multiply the logits by what makes them final."""


def _with_ranges(
    source: Source, settings: Settings, calibration: NDArray[np.uint8], tell: Tell
) -> Source:
    """Return a flat network whose activations end where the settings want their ranges to end."""
    if settings.ranges != LEAST_ERROR:
        # From the lowest value to the highest is what the converters take by themselves.
        return replace(source, model=flat(source.model))
    capped = cap_activations(source.model, calibration, settings.levels)
    for line in capped.skipped:
        tell(line)
    return replace(source, model=capped.model)


def most_distorted(
    products: Sequence[str], errors: Callable[[], Sequence[float]], settings: Settings
) -> list[str]:
    """Name the products of a ``mixed`` file that stay in float.

    Parameters
    ----------
    products
        Names, in the order of the file.
    errors
        Measures by how much 8 bits distort each. Only called if that counts.
    settings
        Whether the last stays in float, and which share of all.
    """
    kept = [products[-1]] if settings.float_head else []
    count = round(settings.float_share * len(products))
    if not count:
        return kept
    by_name = dict(zip(products, errors(), strict=True))
    worst = sorted(products, key=by_name.__getitem__, reverse=True)[:count]
    return list(dict.fromkeys([*kept, *worst]))
