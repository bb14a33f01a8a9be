"""Makes candidates for a file of a bundle, and judges them by what they make of its images."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.bundles import Bundle, ModelCard
from medkit.census import check_promise, take_census
from medkit.comparison import BUDGETS, Budget, Comparison, Images, Outputs, compare
from medkit.datasets import Item, load_tensors, stratified_sample
from medkit.decisions import (
    OperatingPoints,
    apply_temperature,
    decide,
    fit_temperature,
    match_points,
)
from medkit.errors import ExportError, ModelFileError
from medkit.images import contract_for
from medkit.runtimes import both_classes, load_model, predict_all
from medkit.splits import Splits
from medkit.training.calibrate import changed_views
from medkit.training.recipes import Augmentation
from medkit.version import __version__
from medkit_exporters.bias import logit_drift, shift_logits
from medkit_exporters.calibration import CalibrationSet, draw_calibration_sets
from medkit_exporters.equalise import equalise
from medkit_exporters.fold import fold_rescaling
from medkit_exporters.ladder import Attempt, Rung
from medkit_exporters.rounding import round_together
from medkit_exporters.source import Source

_MOST_GATE_IMAGES = 500
"""Training images that judge a model of a recipe without validation."""


@dataclass(frozen=True)
class Candidate:
    """A converted file that is not yet one.

    Attributes
    ----------
    content
        Its bytes, card included.
    card
        What it says of itself.
    calibration
        What calibrated it, as the manifest tells it; ``None`` where nothing did.
    """

    content: bytes
    card: ModelCard
    calibration: dict[str, Any] | None


class Bench:
    """Makes candidates of one original, and judges them on images that calibrated nothing.

    Parameters
    ----------
    bundle, source
        The original.
    splits
        Its data; ``None`` makes files that nothing is calibrated on or judged by.
    count, seed
        Of the calibration images.
    max_drop
        Budget of accuracy in points, and of AUC in hundredths.
    """

    def __init__(
        self,
        bundle: Bundle,
        source: Source,
        splits: Splits | None,
        count: int,
        seed: int,
        max_drop: float,
    ) -> None:
        self._bundle, self._source, self._splits = bundle, source, splits
        self._gate_items: tuple[Item, ...] = ()
        self._calibrating: tuple[Item, ...] = ()
        if splits is not None:
            self._gate_items, self._calibrating = splits.validation, splits.train
            if not splits.validation:
                most = min(_MOST_GATE_IMAGES, len(splits.train) // 3)
                self._gate_items = stratified_sample(splits.train, most, seed)
                set_aside = {item.sha256 for item in self._gate_items}
                self._calibrating = tuple(
                    item for item in splits.train if item.sha256 not in set_aside
                )
        self._count, self._seed, self._max_drop = count, seed, max_drop
        self._sets: dict[int, tuple[CalibrationSet, CalibrationSet]] = {}
        self._copies: dict[tuple[str, bool], Source] = {}

    def images_of(self, rung: Rung) -> int:
        """Return how many images calibrate a rung: no more than half of those that may."""
        if not rung.settings.calibrated:
            return 0
        return min(self._count * rung.times_images, len(self._calibrating) // 2)

    def attempt(self, exporter: ModuleType, rung: Rung) -> tuple[Attempt, Candidate | None]:
        """Convert as a rung says, and compare what comes out with the original.

        Parameters
        ----------
        exporter
            A module with ``convert`` and ``attach_card``.
        rung
            How.

        Returns
        -------
        attempt, candidate
            The latter is ``None`` if there is no file.
        """
        settings = rung.settings
        pair = self._calibration(rung) if settings.calibrated else None
        told = Attempt(
            rung.name,
            settings.precision,
            settings.method,
            len(pair[0].images) if pair else 0,
        )
        try:
            content = self._convert(exporter, rung, pair[0] if pair else None)
            if self._splits is None:
                card = self._card(settings.precision)
                made = self._run(exporter, settings.precision, content, self._made_images)
                if not np.isfinite(made).all():
                    raise ExportError("a probability of a made image is not finite")
                unjudged = Candidate(exporter.attach_card(content, card), card, None)
                return replace(told, bytes=len(unjudged.content)), unjudged
            raw = self._run(
                exporter, settings.precision, content, self._views if pair else self._gate_images
            )
        except (ExportError, ModelFileError) as error:
            return replace(told, error=str(error)), None
        count = len(self._gate_images)
        card = self._card(settings.precision, raw if pair else None)
        scores = apply_temperature(raw[:count], card.temperature)
        found = self._compare(
            exporter, card, self._original, Outputs(scores, card.operating_points)
        )
        candidate = Candidate(exporter.attach_card(content, card), card, None)
        told = replace(told, bytes=len(candidate.content), comparison=found)
        if pair is None:
            return told, candidate
        method = {**pair[0].record, "method": told.method}
        candidate = replace(candidate, calibration=method)
        if not found.passed:
            return told, candidate
        try:
            other = self._convert(exporter, rung, pair[1])
            other_raw = self._run(exporter, settings.precision, other, self._gate_images)
        except (ExportError, ModelFileError) as error:
            return replace(told, error=f"with other calibration images, {error}"), candidate
        spread = self._compare(
            exporter,
            card,
            Outputs(scores, card.operating_points),
            Outputs(apply_temperature(other_raw, card.temperature), card.operating_points),
        )
        return replace(told, spread=spread), candidate

    def _convert(
        self, exporter: ModuleType, rung: Rung, calibration: CalibrationSet | None
    ) -> bytes:
        """Convert; with calibration a copy that suits integers, twice: one tells the drift."""
        settings = rung.settings
        if calibration is None:
            return bytes(exporter.convert(self._source, settings, None))
        images = calibration.images
        suited = self._suited(calibration, settings.precision)
        trial = exporter.convert(suited, settings, images)
        first = self._run(exporter, settings.precision, trial, images)
        if not np.isfinite(first).all():
            raise ExportError("a probability of a calibration image is not finite")
        original = both_classes(self._source.model.predict(images, verbose=0))
        shifted = shift_logits(suited.model, -logit_drift(original, first))
        return bytes(exporter.convert(replace(suited, model=shifted), settings, images))

    def _suited(self, calibration: CalibrationSet, precision: str) -> Source:
        """Return the original rewritten so that integers suit it; both formats share the copy."""
        # 16 bits hold pixels less their mean, and TFLite's converter cannot mark their inside.
        fold = precision != "int16"
        key = calibration.record["sha256"], fold
        if key not in self._copies:
            model = fold_rescaling(self._source.model) if fold else self._source.model
            rounded = round_together(equalise(model, calibration.images), calibration.images)
            self._copies[key] = replace(self._source, model=rounded)
        return self._copies[key]

    def _run(
        self, exporter: ModuleType, precision: str, content: bytes, images: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        """Return a file's probabilities at temperature 1; a file that no runtime takes is none."""
        plain = replace(self._card(precision), temperature=1.0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"trial{exporter.SUFFIX}"
            path.write_bytes(exporter.attach_card(content, plain))
            check_promise(take_census(path), precision)
            return predict_all(load_model(path), images)

    def _calibration(self, rung: Rung) -> tuple[CalibrationSet, CalibrationSet]:
        if self._splits is None:
            raise ExportError(f"{rung.settings.precision} needs training images to calibrate on")
        count = self._count * rung.times_images
        if count not in self._sets:
            contract = contract_for(self._bundle.task)
            rest = replace(self._splits, train=self._calibrating)
            self._sets[count] = draw_calibration_sets(rest, contract, count, self._seed)
        return self._sets[count]

    def _card(self, precision: str, raw: NDArray[np.float32] | None = None) -> ModelCard:
        """Return a file's card, its rules refitted if it was quantised."""
        bundle = self._bundle
        temperature, points = bundle.temperature, bundle.operating_points
        refitted = raw is not None and self._splits is not None and self._splits.validation
        if refitted and np.isfinite(raw).all():  # type: ignore[arg-type]
            temperature, points = self._refit(raw)  # type: ignore[arg-type]
        return ModelCard(
            task=bundle.task.name,
            labels=bundle.task.labels,
            contract=contract_for(bundle.task).to_dict(),
            temperature=temperature,
            operating_points=points,
            precision=precision,
            version=__version__,
            source_sha256=bundle.keras_sha256,
        )

    def _refit(self, raw: NDArray[np.float32]) -> tuple[float, OperatingPoints]:
        """Fit temperature and operating points to a quantised file's scores of the views."""
        task, points = self._bundle.task, self._bundle.operating_points
        truth = np.tile(self._gate.labels, len(raw) // len(self._gate.labels))  # type: ignore[arg-type]
        temperature = fit_temperature(truth, raw)
        original = apply_temperature(self._original_raw, self._bundle.temperature)
        decided = {
            name: decide(task, original, point) == task.labels.index(point.label)
            for name, point in points.items()
            if point.label is not None
        }
        return temperature, match_points(task, decided, points, apply_temperature(raw, temperature))

    def _compare(
        self, exporter: ModuleType, card: ModelCard, original: Outputs, export: Outputs
    ) -> Comparison:
        what = (f"model-{card.precision}{exporter.SUFFIX}", card.precision, exporter.RUNTIME)
        return compare(
            self._bundle.task, what, original, export, self._gate, self._budget(card.precision)
        )

    def _budget(self, precision: str) -> Budget:
        return BUDGETS[precision].with_drop(self._max_drop)

    @property
    def _made_images(self) -> NDArray[np.uint8]:
        """Black, grey, white and noise: what a file without data must at least survive."""
        shape = contract_for(self._bundle.task).shape
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        plain = [np.full(shape, level, dtype=np.uint8) for level in (0, 128, 255)]
        return np.stack([*plain, noise])

    @cached_property
    def _loaded(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return load_tensors(self._gate_items, contract_for(self._bundle.task))

    @property
    def _gate_images(self) -> NDArray[np.uint8]:
        return self._loaded[0]

    @cached_property
    def _gate(self) -> Images:
        return Images([item.name for item in self._gate_items], self._loaded[1])

    @cached_property
    def _views(self) -> NDArray[np.uint8]:
        """The images as the original's rules were fitted on: as they are, and changed."""
        assert self._splits is not None
        stored = self._bundle.manifest["recipe"]["augmentation"]
        if not self._splits.validation or stored is None:
            return self._gate_images
        seed = self._bundle.manifest["seed"]
        return changed_views(self._gate_images, Augmentation(**stored), seed)

    @cached_property
    def _original_raw(self) -> NDArray[np.float32]:
        """What the original makes of the views, at temperature 1."""
        return both_classes(self._source.model.predict(self._views, verbose=0))

    @cached_property
    def _original(self) -> Outputs:
        raw = self._original_raw[: len(self._gate_images)]
        scores = apply_temperature(raw, self._bundle.temperature)
        return Outputs(scores, self._bundle.operating_points)
