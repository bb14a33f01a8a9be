"""Which pixels and which resize a model was trained with, by what it makes of images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from medkit.cli.views.adopt import show_measured
from medkit.datasets.layout import Item
from medkit.errors import UndecidedError
from medkit.images.contract import FULL_SCALE, InputContract
from medkit.models.adoption import ALIKE, BEST, SAME, UNFIT, WORSE, MeasuredRule, worth_showing
from medkit_exporters.adoption.measuring import Measured, Trials, find_rules
from medkit_exporters.adoption.pixels import PIXEL_RULES, rules_for

pytest.importorskip("scipy")

CONTRACT = InputContract(48, 48, 3, decoder=FULL_SCALE)

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def items_of(folder: Path, *, square: bool = False, count: int = 80) -> list[Item]:
    """Make smooth and rough images, in turn; the rough ones have the label 1."""
    rng = np.random.default_rng(0)
    items = []
    for number in range(count):
        height, width = (48, 48) if square else (100, int(rng.integers(130, 170)))
        noise = (18, 24)[number % 2] * rng.uniform(0.9, 1.1)
        image = 120 + rng.normal(0, noise, (height, width, 3))
        image[:, : width // 8] = 250
        path = folder / f"{number}.png"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)
        items.append(Item(path, path.name, number % 2, "", str(number)))
    return items


def roughness(values: NDArray[np.float32]) -> NDArray[np.float64]:
    inner = values[:, 4:-4, 12:-4].astype(np.float64)
    border = values[:, :, :5].astype(np.float64).mean(axis=(1, 2, 3))
    return np.asarray(inner.std(axis=(1, 2, 3)) - np.abs(border - 0.98))


def trained_with(items: list[Item], resize: str) -> Predict:
    """Return a model of pixels of 0..1 that knows how rough images are after a resize."""
    seen: list[float] = []

    def look(values: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.extend(roughness(values))
        return np.full((len(values), 2), 0.5, np.float32)

    trials = Trials(look, CONTRACT, items, truth_of(items))
    trials.run([PIXEL_RULES["0..1"]], [resize])
    levels = np.array(seen).reshape(-1, 2).mean(axis=0)

    def predict(values: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = (roughness(values) - levels.mean()) / (levels[1] - levels[0]) * 6
        score = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        return np.stack([1 - score, score], axis=1).astype(np.float32)

    return predict


def truth_of(items: list[Item]) -> NDArray[np.int64]:
    return np.array([item.label for item in items])


@pytest.mark.parametrize("resize", ["squash:pillow-nearest", "squash:pillow-bilinear-antialias"])
def test_the_resize_of_the_training_is_found(tmp_path: Path, resize: str) -> None:
    items = items_of(tmp_path)
    trials = Trials(trained_with(items, resize), CONTRACT, items, truth_of(items))
    rule, found, measured = find_rules(trials, rules_for(3), "", accept_tie=True)
    assert (rule.name, found.partition(":")[0]) == ("0..1", "squash")
    alike = {each.resize for each in measured.tied()}
    assert resize in alike
    # The smooth kernels and the sharp ones are told apart, whichever it was.
    assert not {"squash:pillow-nearest", "squash:pillow-bilinear-antialias"} <= alike
    worse = {each.pixels for each in measured.candidates if each.verdict == WORSE}
    assert {"0..255", "-1..1", "imagenet", "caffe"} <= worse


def test_a_rule_that_is_given_is_not_compared_with_others(tmp_path: Path) -> None:
    items = items_of(tmp_path)
    predict = trained_with(items, "squash:pillow-nearest")
    trials = Trials(predict, CONTRACT, items, truth_of(items))
    given = PIXEL_RULES["-1..1"]
    rule, resize, measured = find_rules(trials, [given], "pad:opencv-area")
    assert (rule, resize) == (given, "pad:opencv-area")
    assert len(measured.candidates) == 1


def test_ties_are_told_with_the_names_and_what_was_measured(tmp_path: Path) -> None:
    items = items_of(tmp_path)

    def blind() -> Trials:
        def predict(values: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.full((len(values), 2), 0.5, np.float32)

        return Trials(predict, CONTRACT, items, truth_of(items))

    with pytest.raises(UndecidedError, match="0..255, 0..1, -1..1, imagenet and caffe") as caught:
        find_rules(blind(), rules_for(3), "")
    assert isinstance(caught.value.measured, Measured)
    assert len(caught.value.measured.tied()) >= 5
    with pytest.raises(UndecidedError, match="which resize the model was trained with"):
        find_rules(blind(), rules_for(3)[:1], "")


def test_the_same_pixels_are_no_tie(tmp_path: Path) -> None:
    items = items_of(tmp_path, square=True)
    predict = trained_with(items, "squash:pillow-nearest")
    trials = Trials(predict, CONTRACT, items, truth_of(items))
    _, resize, measured = find_rules(trials, rules_for(3), "")
    assert resize == "squash:pillow-bilinear-antialias"
    same = {each.resize for each in measured.candidates if each.verdict == SAME}
    assert {"squash:pillow-nearest", "pad:pillow-bilinear-antialias"} <= same


def test_how_sure_a_model_is_does_not_decide(tmp_path: Path) -> None:
    """Wrong pixels often make a model unsure, which costs less than a confident mistake."""
    items = items_of(tmp_path)

    def predict(values: NDArray[np.float32]) -> NDArray[np.float32]:
        if values.max() > 1.5:
            return np.full((len(values), 2), 0.5, np.float32)
        rough = roughness(values)
        sure = rough > np.median(rough)
        return np.stack([1 - sure, sure], axis=1).astype(np.float32)

    trials = Trials(predict, CONTRACT, items, truth_of(items))
    trials.run([PIXEL_RULES["0..1"], PIXEL_RULES["0..255"]], ["squash:pillow-nearest"])
    assert trials.best().rule.name == "0..1"


def test_pixels_that_are_as_good_but_much_too_sure_are_no_tie(tmp_path: Path) -> None:
    """A network of ReLUs without biases makes of larger pixels the same logits, only larger."""
    items = items_of(tmp_path)

    def predict(values: NDArray[np.float32]) -> NDArray[np.float32]:
        inner = values[:, 4:-4, 12:-4].astype(np.float64)
        logits = 60 * (inner.std(axis=(1, 2, 3)) - 0.175 * inner.mean(axis=(1, 2, 3)))
        score = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
        return np.stack([1 - score, score], axis=1).astype(np.float32)

    truth = truth_of(items)
    truth[::10] = 1 - truth[::10]  # no model is always right
    trials = Trials(predict, CONTRACT, items, truth)
    rules = [PIXEL_RULES["0..255"], PIXEL_RULES["0..1"]]
    rule, _, measured = find_rules(trials, rules, "squash:pillow-nearest")
    assert rule.name == "0..1"
    assert [each.verdict for each in measured.candidates] == [BEST, UNFIT]


def test_the_table_fits_80_columns_and_shows_each_pixel_rule() -> None:
    rules = [
        MeasuredRule("imagenet", "resize-then-pad:pillow-bilinear-antialias", 0.9, 0.31, BEST),
        MeasuredRule("imagenet", "squash:pillow-nearest", 0.9, 0.31, SAME),
        MeasuredRule("imagenet", "squash:opencv-linear", 0.9, 0.32, ALIKE),
        *(MeasuredRule("imagenet", f"{n}", 0.8, 0.4, WORSE) for n in range(20)),
        MeasuredRule("0..255", "squash:pillow-nearest", 0.3, 1.2, WORSE),
        MeasuredRule("0..255", "crop:pillow-nearest", 0.3, 1.2, WORSE),
    ]
    assert len(worth_showing(rules)) == 8
    stream = io.StringIO()
    show_measured(Console(file=stream, width=80), Measured(300, tuple(rules)))
    lines = stream.getvalue().splitlines()
    assert lines[2].split() == ["imagenet", rules[0].resize, "0.900", "0.3100", "best"]
    assert any(line.startswith("0..255") for line in lines)
    assert "squash:pillow-nearest" not in lines[3]
    assert lines[-1].endswith("; 17 more are worse")


def test_how_sure_a_model_is_decides_nothing_where_all_is_right(tmp_path: Path) -> None:
    items = items_of(tmp_path)
    truth, seen = truth_of(items), []

    def predict(values: NDArray[np.float32]) -> NDArray[np.float32]:
        # A network without biases, trained on 0..1: bytes make larger logits.
        index = sum(seen) % len(items)
        seen.append(len(values))
        signs = 2.0 * truth[index : index + len(values)] - 1
        logits = signs * np.minimum(8 * values.max(axis=(1, 2, 3)), 20)
        share = 1 / (1 + np.exp(-logits))
        return np.stack([1 - share, share], axis=1).astype(np.float32)

    trials = Trials(predict, CONTRACT, items, truth)
    rules = [PIXEL_RULES["0..255"], PIXEL_RULES["0..1"]]
    for rule in rules:
        seen.clear()
        trials.run([rule], ["squash:pillow-nearest"])
    assert set(trials.rules_alike()) == {"0..255", "0..1"}
    with pytest.raises(UndecidedError, match="do not tell which pixels"):
        find_rules(trials, rules, "squash:pillow-nearest")
