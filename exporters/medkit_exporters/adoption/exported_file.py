"""Files that another tool exported: what TFLite and ONNX files have in common.

Such a file is adopted as it is. Its network is not converted again: what makes
its input of bytes is put in front of it, and what is missing behind it. The
file as it was given, run by its own runtime on pixels that NumPy prepared,
tells whether that was done rightly.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.errors import ExportError, MedkitError, ModelFileError, UsageError
from medkit.files import replacing
from medkit.models.card import ModelCard
from medkit.models.formats import export_name
from medkit.models.operators.summary import (
    OperatorSummary,
    check_promise,
    summarise_operators,
)
from medkit.models.runtimes.base import activate, one_line
from medkit.models.runtimes.loading import load_model
from medkit_exporters.adoption.base import LOGITS, SIGMOID, SOFTMAX, ModelFacts
from medkit_exporters.adoption.metadata import Told
from medkit_exporters.adoption.pixels import PIXEL_RULES, PixelRule
from medkit_exporters.adoption.precision import precision_of, tolerance_of
from medkit_exporters.adoption.reference import calibrated, noise_and_plain
from medkit_exporters.adoption.taken import Taken, with_size

Run = Callable[[NDArray[np.generic]], NDArray[np.float32]]
"""Computes a file's output, as real numbers, of an array that its input takes."""

_USUAL_SIDE = 224
"""Side, in pixels, on which a network is tried that leaves its size free."""

_BATCH = 16


class ExportedFile(ABC):
    """A lone exported file: an :class:`~medkit_exporters.adoption.base.OpenedModel`.

    A subclass reads, changes and runs files of one format.

    Attributes
    ----------
    format
        Name of the format, as :mod:`medkit.models.formats` knows it.
    source_sha256
        SHA-256 of the file as it was given.
    """

    format: str

    def __init__(self, path: Path, size: tuple[int, int] | None = None) -> None:
        """Open a file.

        Parameters
        ----------
        path
            The file.
        size
            Width and height in pixels, for a file that leaves them free.

        Raises
        ------
        ModelFileError
            If it is damaged, or is no classifier of images.
        UsageError
            If it takes another size.
        """
        self.path = path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
        self.source_sha256 = hashlib.sha256(content).hexdigest()
        summary = summarise_operators(path)  # tells a damaged file before a runtime reads it
        self._tolerance = tolerance_of(summary)
        taken, told, remarks = self._read(content)
        self._taken = with_size(path, taken, size)
        self._given = self._start(self._neutral)
        self._fixed, self._plain = True, b""
        self.facts = self._look(told, remarks)

    def _look(self, told: Told, remarks: list[str]) -> ModelFacts:
        """Run the file on noise, prepare what :meth:`predict` runs, and describe it all."""
        taken = self._taken
        probes = self._probes()
        found = self._as_given(probes)
        outputs = found.shape[1]
        if not np.isfinite(found).all():
            raise ModelFileError(
                f"{self.path} gives outputs that are no finite numbers; export it again from a "
                "network without NaN"
            )
        ending = self._ending(found)
        self._plain = self._ended(outputs, ending)
        self._fixed = self._has_fixed_batch(probes, found, ending)
        if self._fixed:
            remarks.append("its graph takes one image at a time, and so does the adopted file")
        self._prepared = self._start(self._with_front(self._plain, self._shape(), None))
        labels, labels_from = told.labels, told.labels_from
        if labels and len(labels) != outputs and (len(labels), outputs) != (2, 1):
            remarks.append(
                f"{labels_from} holds {len(labels)} labels, and the model gives {outputs} values; "
                "they are not used"
            )
            labels, labels_from = (), ""
        pixels = self._pixels_in_graph()
        if pixels is None or "float" in taken.dtype:
            # What an integer input can hold is surer than what somebody wrote beside it.
            pixels = told.pixels or pixels
        if pixels is not None and not pixels.fits(taken.channels):
            remarks.append(f"its metadata tell pixels {pixels.name} for other channels; not used")
            pixels = None
        precision = self._precision(outputs, ending, remarks)
        return ModelFacts(
            height=taken.height,
            width=taken.width,
            channels=taken.channels,
            outputs=outputs,
            ending=ending,
            takes_bytes=pixels == PIXEL_RULES["0..255"],
            precision=precision,
            pixels=pixels,
            tolerance=self._tolerance,
            labels=labels,
            labels_from=labels_from,
            remarks=tuple(remarks),
        )

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the network gives, float32 of shape (n, outputs).

        A softmax or sigmoid in 8 bits is computed in floating point instead,
        of the same logits, as in the file that :meth:`write` makes.
        """
        if self._taken.takes_bytes:
            self._check_bytes(values)
        own = values.astype(np.uint8 if self._taken.takes_bytes else np.float32)
        size = 1 if self._fixed else _BATCH
        parts = [self._prepared(own[start : start + size]) for start in range(0, len(own), size)]
        return np.concatenate(parts)

    def write(self, folder: Path, card: ModelCard, pixels: PixelRule, ending: str) -> Path:
        """Write the file with its normalisation in front, and probabilities at its end.

        Its card has the precision that the operators show, and the hash of
        the file as it was given.

        Raises
        ------
        UsageError
            If the pixel rule, the size or the ending does not fit the file.
        ExportError
            If the new file does not give what the file gives on pixels that
            NumPy prepared.
        """
        self._check_asked(card, pixels, ending)
        shape = card.contract.shape
        content = self._with_front(self._plain, shape, pixels)
        if self.facts.ending == LOGITS:
            content = self._activated(content, self.facts.outputs, ending)
        images = noise_and_plain(shape)
        plain = self._batchwise(self._start(content), images)
        expected = self._as_given(pixels.apply(images))
        if self.facts.ending == LOGITS:
            expected = activate(expected, ending)
        self._check_alike(plain, expected, self._tolerance)
        card = replace(card, precision=self.facts.precision, source_sha256=self.source_sha256)
        content = self._with_ends(content, card)
        check_promise(self._summary(content), card.precision)
        final = replace(card, temperature=1.0)
        path = folder / export_name(self.format, card.precision)
        with replacing(path) as temporary:
            temporary.write_bytes(self._with_card(content, final))
            written = load_model(temporary).predict(images)
            # Near 0 and 1, float32 tells a logit from a probability only roughly.
            rounding = len(card.labels) * 1e-7 ** (1 / max(card.temperature, 1.0))
            allowed = self._tolerance / min(card.temperature, 1.0) + rounding
            self._check_alike(written, calibrated(plain, ending, card), allowed)
        return path

    @abstractmethod
    def _read(self, content: bytes) -> tuple[Taken, Told, list[str]]:
        """Read and check a file: what it takes, what its metadata tell, and remarks.

        Sets what the other methods work on.
        """

    @property
    @abstractmethod
    def _neutral(self) -> bytes:
        """The file as it was given, written anew."""

    @abstractmethod
    def _start(self, content: bytes) -> Run:
        """Load a file into the format's own runtime."""

    @abstractmethod
    def _told_ending(self) -> tuple[str, str]:
        """Return what the graph ends in, if its operators tell, and the last of them."""

    @abstractmethod
    def _ended(self, outputs: int, ending: str) -> bytes:
        """Return the file with its ending in floating point."""

    @abstractmethod
    def _with_front(
        self, content: bytes, shape: tuple[int, int, int], pixels: PixelRule | None
    ) -> bytes:
        """Return a file that takes bytes, or with ``None`` what a rule makes of them."""

    @abstractmethod
    def _activated(self, content: bytes, outputs: int, ending: str) -> bytes:
        """Return a file that ends in logits with a softmax or sigmoid behind them."""

    @abstractmethod
    def _with_ends(self, content: bytes, card: ModelCard) -> bytes:
        """Return a file with named ends, whose output is calibrated."""

    @abstractmethod
    def _with_card(self, content: bytes, card: ModelCard) -> bytes:
        """Return a file with a card inside, sealed."""

    @abstractmethod
    def _summary(self, content: bytes) -> OperatorSummary:
        """List what a file computes."""

    @abstractmethod
    def _pixels_in_graph(self) -> PixelRule | None:
        """Return the rule of the pixels that the graph takes, if it tells."""

    @property
    def _needs_one_by_one(self) -> bool:
        """Whether an image's outputs depend on the others of its batch."""
        return False

    def _shape(self) -> tuple[int, int, int]:
        taken = self._taken
        return taken.height or _USUAL_SIDE, taken.width or _USUAL_SIDE, taken.channels

    def _probes(self) -> NDArray[np.float32]:
        """Return three images of noise, in all ranges that a network may take."""
        noise = np.random.default_rng(0).random((3, *self._shape()), np.float32)
        if self._taken.takes_bytes:
            return np.floor(noise * 255)
        low, high = self._taken.ends or (0.0, 1.0)
        if self._taken.ends is not None:
            return low + (high - low) * noise
        factors, offsets = (
            np.array(each, np.float32).reshape(3, 1, 1, 1) for each in ((1, 2, 255), (0, -1, 0))
        )
        return noise * factors + offsets

    def _as_given(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the file as it was given, image by image, on what NumPy prepared."""
        outputs = [self._given(self._taken.fed(image[np.newaxis])) for image in values]
        if any(each.ndim != 2 or len(each) != 1 for each in outputs):
            shown = ", ".join(map(str, outputs[0].shape))
            raise ModelFileError(
                f"{self.path} gives an array of shape ({shown}), which is no classification; "
                "accepted: one row of values for each image, (n, labels)"
            )
        return np.concatenate(outputs)

    def _ending(self, outputs: NDArray[np.float32]) -> str:
        """Return what the network ends in: by its operators, else by what it gives."""
        ending, last = self._told_ending()
        several = outputs.shape[1] > 1
        if ending == SOFTMAX and not several:
            raise ModelFileError(
                f"{self.path} ends in a softmax of one value, which is always 1; accepted: a "
                "softmax of two or more, or a sigmoid"
            )
        if ending:
            return ending
        inside = bool((outputs >= 0).all() and (outputs <= 1).all())
        if inside and several and np.allclose(outputs.sum(axis=1), 1, atol=0.02):
            return SOFTMAX
        if inside and np.ptp(outputs):
            raise ModelFileError(
                f"{self.path} gives values of 0 to 1, and ends in {last}; accepted: a softmax, a "
                "sigmoid, or logits before either; export it again with one of them"
            )
        return LOGITS

    def _has_fixed_batch(
        self, probes: NDArray[np.float32], expected: NDArray[np.float32], ending: str
    ) -> bool:
        """Try the prepared file on a batch, else image by image; tell whether it takes only one.

        Raises
        ------
        ModelFileError
            If it then gives other values than the file as it was given.
        """
        scale = np.maximum(1.0, abs(expected).max(axis=1, keepdims=True))
        if ending != LOGITS:
            scale = np.ones_like(scale)
        own = probes.astype(np.uint8) if self._taken.takes_bytes else probes
        problem = ""
        for fixed in (True,) if self._needs_one_by_one else (False, True):
            self._fixed = fixed
            try:
                run = self._start(self._with_front(self._plain, self._shape(), None))
                difference = abs(self._batchwise(run, own) - expected)
            except (ModelFileError, ValueError) as error:
                problem = one_line(error)
                continue
            if (difference <= self._tolerance * scale).all():
                return fixed
            problem = f"its outputs are then {difference.max():.2g} apart"
        raise ModelFileError(
            f"{self.path} cannot be given another input and output ({problem}); adopt the model "
            "that it was exported from"
        )

    def _batchwise(self, run: Run, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run a file on all images at once, or one by one if it takes no more."""
        if not self._fixed:
            return run(values)
        return np.concatenate([run(image[np.newaxis]) for image in values])

    def _precision(self, outputs: int, ending: str, remarks: list[str]) -> str:
        """Return the word for what the file computes in, and remark where none fits well."""
        content = self._with_front(self._plain, self._shape(), PIXEL_RULES["0..255"])
        if ending == LOGITS:
            content = self._activated(content, outputs, SIGMOID)
        try:
            precision, remark = precision_of(self._summary(content))
        except ExportError as error:
            raise ModelFileError(f"{self.path} cannot be adopted: {error}") from error
        remarks += [remark] * bool(remark)
        return precision

    def _check_bytes(self, values: NDArray[np.float32]) -> None:
        if (values != np.rint(values)).any() or values.min() < 0 or values.max() > 255:
            raise UsageError(
                f"{self.path} takes bytes as they are; accepted: pixels 0..255, without a mean and "
                "deviation"
            )

    def _check_asked(self, card: ModelCard, pixels: PixelRule, ending: str) -> None:
        """Refuse what does not fit the file, before anything is written."""
        height, width, channels = card.contract.shape
        taken, facts = self._taken, self.facts
        size = taken.height or height, taken.width or width, taken.channels
        if size != (height, width, channels):
            raise UsageError(
                f"{self.path} takes images of {taken.width} x {taken.height} pixels and "
                f"{taken.channels} channels, not of {width} x {height} and {channels}"
            )
        if taken.takes_bytes and (set(pixels.multiply), set(pixels.add)) != ({1.0}, {0.0}):
            raise UsageError(
                f"{self.path} takes bytes as they are, and no pixels {pixels.name}; accepted: "
                "0..255"
            )
        if not pixels.fits(channels):
            raise UsageError(
                f"pixels {pixels.name} are for colour images, and {self.path} takes grey ones"
            )
        if ending not in (SOFTMAX, SIGMOID) or facts.ending not in (ending, LOGITS):
            raise UsageError(
                f"{self.path} ends in {facts.ending}, and cannot end in {ending}; accepted: "
                f"{f'{SOFTMAX} or {SIGMOID}' if facts.ending == LOGITS else facts.ending}"
            )

    def _check_alike(
        self, found: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float
    ) -> None:
        difference = float(np.nan_to_num(abs(found - expected), nan=np.inf).max())
        if difference > tolerance:
            raise ExportError(
                f"the file made of {self.path} gives probabilities that are {difference:.2g} from "
                "those of the file as it was given; nothing was written; adopt the model that it "
                "was exported from"
            )


def loaded(path: Path, runtime: str, load: Callable[[], Run]) -> Run:
    """Load a file into a runtime, whose own errors become one line."""
    try:
        return load()
    except MedkitError:
        raise
    except Exception as error:
        # The runtimes raise classes that share no other base.
        raise ModelFileError(f"{path} cannot be loaded by {runtime}: {one_line(error)}") from error
