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
from medkit.models.adoption import ALIKE, BEST, SAME, WORSE, MeasuredRule
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
    """The outputs of a model under a candidate."""

    rule: PixelRule
    resize: str
    probabilities: NDArray[np.float32]
    losses: NDArray[np.float64]
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
            losses, right = self._judged(probabilities)
            self._done[rule.name, resize] = Trial(
                rule, resize, probabilities, losses, right, hashes[resize].hexdigest()
            )

    def best(self) -> Trial:
        """Return the trial with the least loss; of equal ones, the first that was run."""
        return min(self._done.values(), key=lambda trial: float(trial.losses.mean()))

    def compared(self) -> Measured:
        """Compare everything that was measured with the best."""
        best = self.best()
        others = sorted(
            (trial for trial in self._done.values() if trial is not best),
            key=lambda trial: float(trial.losses.mean()),
        )
        candidates, seen = [], set()
        for trial in (best, *others):
            pixels = trial.rule.name, trial.digest
            verdict = BEST if trial is best else self._verdict(trial, best)
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
        best = self.best()
        by_rule: dict[str, list[Trial]] = {}
        for trial in self._done.values():
            by_rule.setdefault(trial.rule.name, []).append(trial)
        return (
            best.rule.name,
            *(
                name
                for name, trials in by_rule.items()
                if name != best.rule.name
                and any(self._verdict(trial, best) != WORSE for trial in trials)
            ),
        )

    def geometries_alike(self) -> tuple[str, ...]:
        """Return the geometries under which some kernel measures like the best."""
        best = self.best()
        found = [
            trial.resize.partition(":")[0]
            for trial in self._done.values()
            if trial is best or self._verdict(trial, best) != WORSE
        ]
        return tuple(dict.fromkeys(found))

    def _verdict(self, trial: Trial, best: Trial) -> str:
        differences = trial.losses - best.losses
        means = differences[self._draws].mean(axis=1)
        return WORSE if float(np.quantile(means, (1 - _LEVEL) / 2)) > 0 else ALIKE

    def _judged(
        self, probabilities: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return each image's log loss, and whether it is right, both of shape (n,)."""
        truth, rows = self._truth, np.arange(len(self._truth))
        multi_label = truth.ndim == 2
        finite = np.nan_to_num(probabilities, nan=0.0)
        temperature = fit_temperature(truth, finite)
        scaled = apply_temperature(finite, temperature, multi_label=multi_label)
        scaled = scaled.astype(np.float64)
        if multi_label:
            likely = np.where(truth == 1, scaled, 1 - scaled)
            right = ((scaled >= 0.5) == (truth == 1)).mean(axis=1)
            return -np.log(np.maximum(likely, _TINY)).mean(axis=1), right
        right = (scaled.argmax(axis=1) == truth).astype(np.float64)
        return -np.log(np.maximum(scaled[rows, truth], _TINY)), right


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
    alike = trials.rules_alike()
    if len(alike) > 1 and not accept_tie:
        measured = trials.compared()
        raise UndecidedError(
            f"{measured.images} images do not tell which pixels the model was trained on: "
            f"{_listed(alike)} measure alike; say which with --pixels, measure more with --images, "
            "or take the best of them with --accept-tie",
            measured,
        )
    rule = trials.best().rule
    if resize:
        return rule, resize, trials.compared()
    note("comparing resizes")
    trials.run([rule], [f"{geometry}:{kernel}" for kernel in _PROBES for geometry in GEOMETRIES])
    trials.run(
        [rule],
        [f"{geometry}:{kernel}" for geometry in trials.geometries_alike() for kernel in KERNELS],
    )
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


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _decoded(item: Item) -> Image.Image:
    try:
        return open_image(item.path, least_side=None)
    except ImageError as error:
        raise DatasetLayoutError(f"{item.path}: {error}; remove or replace the file") from error
