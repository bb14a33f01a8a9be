"""Which pixels a model was trained on, found by measuring.

A network that gets another range of pixels, or another resize, than it was
trained with still gives probabilities. With labelled images, the right rules
are those under which it is right most. Every candidate sees the same images,
so the differences are paired, and what is within their noise counts as a tie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.datasets.layout import Item
from medkit.errors import DatasetLayoutError, ImageError, UndecidedError
from medkit.images.contract import InputContract
from medkit.images.pixels import image_to_tensor
from medkit.images.reading import open_image
from medkit.images.resize import GEOMETRIES, KERNELS
from medkit.models.adoption import ALIKE, BEST, SAME, UNFIT, WORSE, MeasuredRule
from medkit.models.decisions import apply_temperature, fit_temperature
from medkit_exporters.adoption.pixels import PixelRule

USUAL = (
    "squash:pillow-bilinear-antialias",
    "squash:pillow-nearest",
    "crop:pillow-bilinear-antialias",
)
"""Resizes under which pixel rules are compared: of a wrong rule, all are bad."""

_PROBES = ("pillow-bilinear-antialias", "pillow-nearest")
"""Kernels under which geometries are compared: the smoothest, and the one that smooths nothing."""

_CHUNK = 16
"""Images that are decoded at a time. A large one takes tens of megabytes."""

_LEAST_ERRORS = 5
"""Images that must be wrong before the images tell how sure a model may be."""

_RESAMPLES, _LEVEL = 2000, 0.95
_TINY = 1e-7

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Takes values, float32 of shape (n, height, width, channels); gives probabilities at
temperature 1, (n, labels)."""


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes
    ----------
    images
        Number of images.
    candidates
        What was compared, the best first. Empty if nothing was.
    """

    images: int = 0
    candidates: tuple[MeasuredRule, ...] = ()

    def tied(self) -> tuple[MeasuredRule, ...]:
        """Return the candidates that the images do not tell from the best, and the best."""
        return tuple(each for each in self.candidates if each.verdict in (BEST, ALIKE))


@dataclass(frozen=True)
class Trial:
    """The outputs of a model under a candidate.

    Attributes
    ----------
    rule, resize
        The candidate.
    probabilities
        Shape (n, labels), at temperature 1.
    losses, as_is
        Log loss of each image under the temperature that suits the candidate
        best, and at temperature 1, shape (n,).
    right
        Whether each image is right, shape (n,); in a multi-label task, the
        share of its labels.
    digest
        Hash of the pixels.
    """

    rule: PixelRule
    resize: str
    probabilities: NDArray[np.float32]
    losses: NDArray[np.float64]
    as_is: NDArray[np.float64]
    right: NDArray[np.float64]
    digest: str


class Trials:
    """Runs a model under candidates, on the same images.

    Parameters
    ----------
    predict
        The model.
    contract
        Its input contract but for the resize.
    items, truth
        The images, and what they are labelled as: label indices, shape (n,),
        or 0 and 1, shape (n, labels).
    """

    def __init__(
        self,
        predict: Predict,
        contract: InputContract,
        items: Sequence[Item],
        truth: NDArray[np.int64],
    ) -> None:
        self._predict, self._contract = predict, contract
        self._items, self._truth = items, truth
        self._done: dict[tuple[str, str], Trial] = {}
        draws = np.random.default_rng(0)  # the same images give the same verdict
        self._draws = draws.integers(0, len(items), (_RESAMPLES, len(items)))

    def run(self, rules: Sequence[PixelRule], resizes: Iterable[str]) -> None:
        """Measure every pair of a pixel rule and a resize that has not been measured."""
        pairs = [
            (rule, resize)
            for resize in resizes
            for rule in rules
            if (rule.name, resize) not in self._done
        ]
        if not pairs:
            return
        wanted = list(dict.fromkeys(resize for _, resize in pairs))
        given: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
        hashes = {resize: hashlib.sha256() for resize in wanted}
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self._items), _CHUNK):
                images = list(pool.map(_decoded, self._items[start : start + _CHUNK]))
                seen: dict[tuple[str, bytes], NDArray[np.float32]] = {}
                for resize in wanted:
                    contract = replace(self._contract, resize=resize)
                    tensors = np.stack([image_to_tensor(image, contract) for image in images])
                    content = hashlib.sha256(tensors.tobytes()).digest()
                    hashes[resize].update(content)
                    for rule, other in pairs:
                        if other != resize:
                            continue
                        # Of a square image, most geometries make the same pixels.
                        if (rule.name, content) not in seen:
                            seen[rule.name, content] = self._predict(rule.apply(tensors))
                        given.setdefault((rule.name, resize), []).append(seen[rule.name, content])
        for rule, resize in pairs:
            probabilities = np.concatenate(given[rule.name, resize])
            losses, as_is, right = self._judged(probabilities)
            digest = hashes[resize].hexdigest()
            self._done[rule.name, resize] = Trial(
                rule, resize, probabilities, losses, as_is, right, digest
            )

    def best(self) -> Trial:
        """Return the best trial; of equal ones, the first that was run.

        It has the least loss under a temperature of its own. A network of
        ReLUs makes of pixels that are 255 times as large about the same
        logits, 255 times as large, and a temperature takes that away. So of
        those within the noise of the least, the best is that with the least
        loss as it is.
        """
        return min(self._leading(), key=lambda trial: float(trial.as_is.mean()))

    def best_and_all(self) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        """Return the probabilities of the best trial, and those of all, the best first."""
        best = self.best()
        others = [trial.probabilities for trial in self._done.values() if trial is not best]
        return best.probabilities, [best.probabilities, *others]

    def compared(self) -> Measured:
        """Compare everything that was measured with the best."""
        best = self.best()
        others = sorted(
            (trial for trial in self._done.values() if trial is not best),
            key=lambda trial: float(trial.losses.mean()),
        )
        leading = {id(trial) for trial in self._leading()}
        candidates, seen = [], set()
        for trial in (best, *others):
            pixels = trial.rule.name, trial.digest
            verdict = self._verdict(trial, best) if id(trial) in leading else WORSE
            candidates.append(
                MeasuredRule(
                    pixels=trial.rule.name,
                    resize=trial.resize,
                    accuracy=float(trial.right.mean()),
                    loss=float(trial.losses.mean()),
                    verdict=SAME if pixels in seen else verdict,
                )
            )
            seen.add(pixels)
        return Measured(len(self._items), tuple(candidates))

    def rules_alike(self) -> tuple[str, ...]:
        """Return the names of the pixel rules that measure like the best, the best first.

        Each counts under the resize that suits it best.
        """
        return tuple(dict.fromkeys(trial.rule.name for trial in self._alike()))

    def geometries_alike(self) -> tuple[str, ...]:
        """Return the geometries under which some kernel measures like the best."""
        return tuple(dict.fromkeys(trial.resize.partition(":")[0] for trial in self._alike()))

    def _alike(self) -> list[Trial]:
        """Return the best, and the trials within its noise."""
        best = self.best()
        others = [trial for trial in self._leading() if self._verdict(trial, best) == ALIKE]
        return [best, *others]

    def _leading(self) -> list[Trial]:
        """Return the trials within the noise of the least loss.

        Worse is what has surely a larger loss or a smaller accuracy, by the
        bootstrap of the paired differences, unless its accuracy is surely larger.
        """
        least = min(self._done.values(), key=lambda trial: float(trial.losses.mean()))
        return [
            trial
            for trial in self._done.values()
            if trial is least
            or self._surely(trial.right - least.right)
            or not (
                self._surely(trial.losses - least.losses) or self._surely(least.right - trial.right)
            )
        ]

    def _verdict(self, trial: Trial, best: Trial) -> str:
        """Return what one of the leading trials is beside the best of them."""
        if trial is best:
            return BEST
        # Where all is right, the surer rule has the lesser loss, however wrong its range is.
        enough = int((best.right < 1).sum()) >= _LEAST_ERRORS
        return UNFIT if enough and self._surely(trial.as_is - best.as_is) else ALIKE

    def _surely(self, differences: NDArray[np.float64]) -> bool:
        """Whether the mean of paired differences is above 0, in 95 % of two tests together."""
        means = differences[self._draws].mean(axis=1)
        return float(np.quantile(means, (1 - _LEVEL) / 4)) > 0

    def _judged(
        self, probabilities: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return each image's log loss, the same at temperature 1, and whether it is right."""
        truth = self._truth
        finite = np.nan_to_num(probabilities, nan=0.0)
        fitted = apply_temperature(
            finite, fit_temperature(truth, finite), multi_label=truth.ndim == 2
        )
        if truth.ndim == 2:
            right = ((finite >= 0.5) == (truth == 1)).mean(axis=1)
        else:
            right = (finite.argmax(axis=1) == truth).astype(np.float64)
        return self._losses(fitted), self._losses(finite), right

    def _losses(self, probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return each image's log loss, shape (n,)."""
        truth, known = self._truth, probabilities.astype(np.float64)
        if truth.ndim == 2:
            likely = np.where(truth == 1, known, 1 - known)
            return np.asarray(-np.log(np.maximum(likely, _TINY)).mean(axis=1))
        likely = known[np.arange(len(truth)), truth]
        return np.asarray(-np.log(np.maximum(likely, _TINY)))


def find_rules(
    trials: Trials,
    rules: Sequence[PixelRule],
    resize: str,
    *,
    accept_tie: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[PixelRule, str, Measured]:
    """Find the pixel rule and the resize that a model was trained with.

    First the pixel rules are compared under usual resizes, then the geometries
    under two kernels, then all kernels of the geometries that are left.

    Parameters
    ----------
    trials
        Runs the model.
    rules
        The pixel rules that may be meant; one alone is taken.
    resize
        The resize, where it is known; empty to find it.
    accept_tie
        Take the best where others measure like it.
    note
        Called with a line before each step.

    Returns
    -------
    rule, resize, measured
        What was found, and all that was compared.

    Raises
    ------
    UndecidedError
        If several measure alike.
    """
    note("comparing pixel ranges")
    trials.run(rules, [resize] if resize else USUAL)
    _check_pixels(trials, accept_tie=accept_tie)
    rule = trials.best().rule
    if resize:
        return rule, resize, trials.compared()
    note("comparing resizes")
    trials.run([rule], [f"{geometry}:{kernel}" for kernel in _PROBES for geometry in GEOMETRIES])
    trials.run(
        [rule],
        [f"{geometry}:{kernel}" for geometry in trials.geometries_alike() for kernel in KERNELS],
    )
    _check_pixels(trials, accept_tie=accept_tie)
    measured = trials.compared()
    tied = [each.resize for each in measured.tied() if each.pixels == rule.name]
    if len(tied) > 1 and not accept_tie:
        raise UndecidedError(
            f"{measured.images} images do not tell which resize the model was trained with: "
            f"{_listed(tied)} measure alike; say which with --resize, measure more with --images, "
            "or take the best of them with --accept-tie",
            measured,
        )
    best = trials.best()
    return best.rule, best.resize, measured


def _check_pixels(trials: Trials, *, accept_tie: bool) -> None:
    """Raise :class:`UndecidedError` if several pixel rules measure alike."""
    alike = trials.rules_alike()
    if len(alike) > 1 and not accept_tie:
        measured = trials.compared()
        raise UndecidedError(
            f"{measured.images} images do not tell which pixels the model was trained on: "
            f"{_listed(alike)} measure alike; say which with --pixels, measure more with --images, "
            "or take the best of them with --accept-tie",
            measured,
        )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _decoded(item: Item) -> Image.Image:
    try:
        return open_image(item.path, least_side=None)
    except ImageError as error:
        raise DatasetLayoutError(f"{item.path}: {error}; remove or replace the file") from error
