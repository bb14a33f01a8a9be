"""Builds candidates for an exported file, and compares them with the original.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.division import Splits
from medkit.datasets.layout import Item
from medkit.datasets.sampling import load_tensors, stratified_sample
from medkit.errors import ExportError, ModelFileError
from medkit.evaluation.comparison import Comparison, compare
from medkit.evaluation.outputs import Images, ModelRun, Outputs
from medkit.evaluation.rules import BUDGETS
from medkit.models.bundle import Bundle
from medkit.models.card import ModelCard
from medkit.models.decisions import (
    apply_temperature,
    fit_temperature,
    found_by_points,
    match_points,
)
from medkit.models.manifest import Calibration
from medkit.models.operators.summary import check_promise, summarise_operators
from medkit.models.points import OperatingPoints
from medkit.models.runtimes.base import both_classes, one_line, predict_all
from medkit.models.runtimes.loading import load_model
from medkit.tasks import Task
from medkit.training.calibrate import changed_views
from medkit.version import __version__
from medkit_exporters.calibration import CalibrationSet, draw_calibration_sets
from medkit_exporters.formats.registry import KnownExporter
from medkit_exporters.ladder import Attempt, Rung
from medkit_exporters.quantize.bias import logit_drift, shift_logits
from medkit_exporters.quantize.equalise import equalise
from medkit_exporters.quantize.fold import fold_rescaling
from medkit_exporters.quantize.network import Rewritten
from medkit_exporters.quantize.rounding import round_together
from medkit_exporters.quantize.source import Source
from medkit_exporters.settings import Settings

_MOST_JUDGING_IMAGES = 500
"""Training images that judge a model of a recipe without validation."""


@dataclass(frozen=True)
class Candidate:
    """A converted file that has not been written to its bundle yet.

    Attributes
    ----------
    content
        Bytes of the file, card included.
    card
        The card.
    graph_temperature
        The temperature by which the file's own graph divides the logits.
    calibration
        Calibration of the file; ``None`` for a file without integers.
    """

    content: bytes
    card: ModelCard
    graph_temperature: float
    calibration: Calibration | None = None


@dataclass(frozen=True)
class _Converted:
    """A file without a card, and what its conversion left as it was."""

    content: bytes
    skipped: tuple[str, ...]


def _told(error: Exception) -> str:
    """Return why a rung has no file, in one line."""
    if isinstance(error, MemoryError):
        return f"it needs more memory than there is ({one_line(error)})"
    return str(error)


class CandidateBuilder:
    """Builds candidates from one original, and judges them.

    They are judged on images that were not used for calibration.

    Parameters
    ----------
    bundle, source
        The original.
    splits
        Data of the bundle; ``None`` builds files that are neither calibrated nor judged.
    count, seed
        Number of calibration images, and the seed that draws them.
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
        self._judging: tuple[Item, ...] = ()
        self._calibrating: tuple[Item, ...] = ()
        if splits is not None:
            self._judging, self._calibrating = splits.validation, splits.train
            if not splits.validation:
                most = min(_MOST_JUDGING_IMAGES, len(splits.train) // 3)
                self._judging = stratified_sample(splits.train, most, seed)
                set_aside = {item.sha256 for item in self._judging}
                self._calibrating = tuple(
                    item for item in splits.train if item.sha256 not in set_aside
                )
        self._count, self._seed, self._max_drop = count, seed, max_drop
        self._sets: dict[int, tuple[CalibrationSet, CalibrationSet]] = {}
        self._suited_copies: dict[tuple[str, bool], tuple[Source, tuple[str, ...]]] = {}

    def images_of(self, rung: Rung) -> int:
        """Return how many images calibrate a rung: at most half of those that may."""
        if not rung.settings.calibrated:
            return 0
        return min(self._count * rung.times_images, len(self._calibrating) // 2)

    def attempt(self, exporter: KnownExporter, rung: Rung) -> tuple[Attempt, Candidate | None]:
        """Convert as a rung says, and compare the file with the original.

        Returns
        -------
        attempt, candidate
            The latter is ``None`` if there is no file.
        """
        settings = rung.settings
        pair = self._calibration_sets(rung) if settings.calibrated else None
        attempt = Attempt(
            rung.name, settings.precision, settings.method, len(pair[0].images) if pair else 0
        )
        try:
            converted = self._convert(exporter, rung, pair[0] if pair else None)
            attempt = replace(attempt, skipped=converted.skipped)
            if self._splits is None:
                return self._unjudged(exporter, attempt, converted.content)
            candidate, scores = self._final(exporter, settings, converted.content)
        except (ExportError, ModelFileError, MemoryError) as error:
            return replace(attempt, error=_told(error)), None
        card = candidate.card
        outputs = Outputs(scores, card.operating_points)
        found = self._compare(exporter, card, self._original, outputs)
        attempt = replace(attempt, bytes=len(candidate.content), comparison=found)
        if pair is None:
            return attempt, candidate
        record = replace(pair[0].record, method=attempt.method)
        candidate = replace(candidate, calibration=record)
        if not found.passed:
            return attempt, candidate
        try:
            spread = self._spread(exporter, rung, pair[1], candidate, outputs)
        except (ExportError, ModelFileError) as error:
            return replace(attempt, error=f"with other calibration images, {error}"), candidate
        return replace(attempt, spread=spread), candidate

    def _unjudged(
        self, exporter: KnownExporter, attempt: Attempt, content: bytes
    ) -> tuple[Attempt, Candidate]:
        """Return a file that was made without data; it must give numbers at least."""
        card = self._card(attempt.precision)
        candidate = Candidate(*exporter.load().finalise(content, card), card.temperature)
        made = self._run(exporter, attempt.precision, candidate.content, self._made_images)
        if not np.isfinite(made).all():
            raise ExportError("a probability of a made image is not finite")
        return replace(attempt, bytes=len(candidate.content)), candidate

    def _final(
        self, exporter: KnownExporter, settings: Settings, content: bytes
    ) -> tuple[Candidate, NDArray[np.float32]]:
        """Make a converted file final, with rules of its own if it is quantised.

        Returns
        -------
        candidate, scores
            The latter are the final file's probabilities of the judging images.
        """
        converter = exporter.load()
        card, images, refitted = self._card(settings.precision), self._judging_images, False
        if settings.calibrated:
            images = self._views
            raw = self._trial(exporter, settings.precision, content, images)
            refitted = bool(self._validated and np.isfinite(raw).all())
            if refitted:
                card = replace(card, temperature=self._fit_temperature(raw))
        final, final_card = converter.finalise(content, card)
        scores = self._run(exporter, settings.precision, final, images)
        if refitted:
            # Thresholds are matched on what the final file gives, not on what was computed from it.
            points = self._match_points(scores)
            final_card = replace(final_card, operating_points=points)
            final = converter.attach_card(final, final_card)
        candidate = Candidate(final, final_card, card.temperature)
        return candidate, scores[: len(self._judging_images)]

    def _spread(
        self,
        exporter: KnownExporter,
        rung: Rung,
        others: CalibrationSet,
        candidate: Candidate,
        outputs: Outputs,
    ) -> Comparison:
        """Compare a file with one that other images calibrated, under the same rules."""
        card = candidate.card
        content, _ = exporter.load().finalise(
            self._convert(exporter, rung, others).content,
            replace(card, temperature=candidate.graph_temperature),
        )
        scores = self._run(exporter, card.precision, content, self._judging_images)
        return self._compare(exporter, card, outputs, Outputs(scores, card.operating_points))

    def _convert(
        self, exporter: KnownExporter, rung: Rung, calibration: CalibrationSet | None
    ) -> _Converted:
        """Convert; to integers twice, as the first file tells the drift of the logits."""
        settings, converter = rung.settings, exporter.load()
        lines: list[str] = []
        if calibration is None:
            content = converter.convert(self._source, settings, None, lines.append)
            return _Converted(content, tuple(lines))
        images = calibration.images
        suited, skipped = self._suited(calibration, settings.precision)
        trial = converter.convert(suited, settings, images)
        first = self._trial(exporter, settings.precision, trial, images)
        if not np.isfinite(first).all():
            raise ExportError("a probability of a calibration image is not finite")
        original = both_classes(self._source.model.predict(images, verbose=0))
        shifted = shift_logits(
            suited.model, -logit_drift(original, first, multi_label=self._task.multi_label)
        )
        content = converter.convert(replace(suited, model=shifted), settings, images, lines.append)
        return _Converted(content, (*skipped, *lines))

    def _suited(
        self, calibration: CalibrationSet, precision: str
    ) -> tuple[Source, tuple[str, ...]]:
        """Return the original rewritten so that integers suit it; both formats share the copy."""
        # 16 bits hold pixels less their mean, and TFLite's converter cannot mark their inside.
        fold = precision != "int16"
        key = calibration.record.sha256, fold
        if key not in self._suited_copies:
            folded = fold_rescaling(self._source.model) if fold else Rewritten(self._source.model)
            equalised = equalise(folded.model, calibration.images)
            rounded = round_together(equalised.model, calibration.images)
            self._suited_copies[key] = (
                replace(self._source, model=rounded.model),
                (*folded.skipped, *equalised.skipped, *rounded.skipped),
            )
        return self._suited_copies[key]

    def _trial(
        self,
        exporter: KnownExporter,
        precision: str,
        content: bytes,
        images: NDArray[np.uint8],
    ) -> NDArray[np.float32]:
        """Return the probabilities, at temperature 1, of a converted file that is not final."""
        plain = replace(self._card(precision), temperature=1.0)
        sealed = exporter.load().attach_card(content, plain)
        return self._run(exporter, precision, sealed, images)

    def _run(
        self,
        exporter: KnownExporter,
        precision: str,
        content: bytes,
        images: NDArray[np.uint8],
    ) -> NDArray[np.float32]:
        """Return the probabilities of a file with a card; raise if no runtime takes it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"trial{exporter.suffix}"
            path.write_bytes(content)
            check_promise(summarise_operators(path), precision)
            return predict_all(load_model(path), images)

    def _calibration_sets(self, rung: Rung) -> tuple[CalibrationSet, CalibrationSet]:
        if self._splits is None:
            raise ExportError(f"{rung.settings.precision} needs training images to calibrate on")
        count = self._count * rung.times_images
        if count not in self._sets:
            splits = replace(self._splits, train=self._calibrating)
            self._sets[count] = draw_calibration_sets(
                splits, self._bundle.contract, count, self._seed
            )
        return self._sets[count]

    def _card(self, precision: str) -> ModelCard:
        """Return a file's card, with the rules of the original."""
        bundle = self._bundle
        return ModelCard(
            task=bundle.task.name,
            labels=bundle.task.labels,
            contract=bundle.contract,
            temperature=bundle.temperature,
            operating_points=bundle.operating_points,
            precision=precision,
            calibrated=bundle.calibrated,
            version=__version__,
            source_sha256=bundle.keras_sha256,
        )

    @property
    def _validated(self) -> bool:
        """Whether there are validation images to which a file's own rules can be fitted."""
        return self._splits is not None and bool(self._splits.validation)

    def _fit_temperature(self, raw: NDArray[np.float32]) -> float:
        """Fit the temperature to a quantised file's scores of the views, at temperature 1."""
        truth = np.concatenate([self._labels] * (len(raw) // len(self._labels)))
        return fit_temperature(truth, raw)

    def _match_points(self, scores: NDArray[np.float32]) -> OperatingPoints:
        """Match the operating points to a final file's scores of the views."""
        points = self._bundle.operating_points
        decided = found_by_points(self._task, self._original_scores, points)
        return match_points(self._task, decided, points, scores)

    def _compare(
        self, exporter: KnownExporter, card: ModelCard, original: Outputs, export: Outputs
    ) -> Comparison:
        name = f"model-{card.precision}{exporter.suffix}"
        return compare(
            self._bundle.task,
            ModelRun(name, card.precision, exporter.runtime),
            original,
            export,
            Images([item.name for item in self._judging], self._labels),
            BUDGETS[card.precision].with_drop(self._max_drop),
        )

    @property
    def _made_images(self) -> NDArray[np.uint8]:
        """Black, grey, white and noise: a file without data must give numbers for these."""
        shape = self._bundle.contract.shape
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        plain = [np.full(shape, level, dtype=np.uint8) for level in (0, 128, 255)]
        return np.stack([*plain, noise])

    @cached_property
    def _loaded(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return load_tensors(self._task, self._judging, self._bundle.contract)

    @property
    def _judging_images(self) -> NDArray[np.uint8]:
        return self._loaded[0]

    @property
    def _labels(self) -> NDArray[np.int64]:
        return self._loaded[1]

    @cached_property
    def _views(self) -> NDArray[np.uint8]:
        """The images that the original's rules were fitted on: as they are, and changed."""
        recipe = self._bundle.manifest.recipe
        assert self._splits is not None
        if not self._splits.validation or recipe is None or recipe.augmentation is None:
            return self._judging_images
        return changed_views(self._judging_images, recipe.augmentation, self._bundle.manifest.seed)

    @cached_property
    def _original_scores(self) -> NDArray[np.float32]:
        """The original's probabilities of the views, at its own temperature."""
        bundle = self._bundle
        if bundle.temperature > 1:  # it must be applied to the logits
            return load_model(bundle.keras_path).predict(self._views)
        raw = both_classes(self._source.model.predict(self._views, verbose=0))
        return apply_temperature(raw, bundle.temperature, multi_label=bundle.task.multi_label)

    @cached_property
    def _original(self) -> Outputs:
        scores = self._original_scores[: len(self._judging_images)]
        return Outputs(scores, self._bundle.operating_points)

    @property
    def _task(self) -> Task:
        return self._bundle.task
