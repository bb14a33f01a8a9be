"""Which images calibrate an export: of the training split, and of no other."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.datasets.division import Splits
from medkit.datasets.sampling import read_pixels
from medkit.datasets.splits import splits_of
from medkit.errors import ExportError, UsageError
from medkit.models.bundle import load_bundle
from medkit.models.manifest import Calibration
from medkit.tasks import PNEUMONIA
from medkit_exporters import calibration

CONTRACT = PNEUMONIA.contract


@pytest.fixture
def splits(tiny_trained: Path, tiny_data: Path) -> Splits:
    """The made X-rays as the training of seed 0 divided them."""
    return splits_of(load_bundle(PNEUMONIA, tiny_trained), tiny_data)


def drawn(
    monkeypatch: pytest.MonkeyPatch, splits: Splits, count: int, seed: int = 0
) -> tuple[list[Any], list[Any]]:
    """Draw both calibration sets; return the items that were read for each, and the sets."""
    read: list[Any] = []

    def load(items: Any, contract: Any) -> Any:
        read.append(items)
        return read_pixels(items, contract)

    monkeypatch.setattr(calibration, "read_pixels", load)
    return read, list(calibration.draw_calibration_sets(splits, CONTRACT, count, seed))


def hashes(items: Any) -> set[str]:
    return {item.sha256 for item in items}


@pytest.mark.parametrize("seed", range(3))
def test_calibration_draws_training_images_evenly_over_the_classes(
    monkeypatch: pytest.MonkeyPatch, splits: Splits, seed: int
) -> None:
    read, sets = drawn(monkeypatch, splits, 12, seed)
    for items, chosen in zip(read, sets, strict=True):
        assert Counter(item.label for item in items) == {0: 6, 1: 6}
        assert hashes(items) <= hashes(splits.train)
        assert not hashes(items) & hashes((*splits.validation, *splits.test))
        files = sorted(item.sha256 for item in items)
        digest = hashlib.sha256("\n".join(files).encode()).hexdigest()
        assert chosen.record == Calibration(12, seed, digest, tuple(files))


@pytest.mark.parametrize("count", [1, 12, 10_000])
def test_the_two_sets_are_of_one_size_and_share_no_image(
    monkeypatch: pytest.MonkeyPatch, splits: Splits, count: int
) -> None:
    read, sets = drawn(monkeypatch, splits, count)
    assert not hashes(read[0]) & hashes(read[1])
    size = min(count, len(splits.train) // 2)
    assert [len(chosen.images) for chosen in sets] == [size, size]


def test_another_seed_draws_other_images(monkeypatch: pytest.MonkeyPatch, splits: Splits) -> None:
    (first, _), _ = drawn(monkeypatch, splits, 12, seed=0)
    (again, _), _ = drawn(monkeypatch, splits, 12, seed=0)
    (other, _), _ = drawn(monkeypatch, splits, 12, seed=1)
    assert hashes(first) == hashes(again) != hashes(other)


def test_a_leaked_test_image_never_calibrates_even_if_it_was_trained_on(
    monkeypatch: pytest.MonkeyPatch, tiny_trained: Path, tiny_data: Path, tmp_path: Path
) -> None:
    trained = Path(shutil.copytree(tiny_trained, tmp_path / "trained"))
    path = trained / "pneumonia/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["data"]["on_conflict"] = None
    manifest["recipe"] |= {"clean": False, "validation_fraction": 0.0}
    path.write_text(json.dumps(manifest))
    splits = splits_of(load_bundle(PNEUMONIA, trained), tiny_data)
    read, _ = drawn(monkeypatch, splits, 10_000)
    names = [item.path.name for items in read for item in items]
    assert len(names) == 40
    assert not {"leak.jpeg", "both.jpeg"} & set(names)


@pytest.mark.parametrize("held_out", ["validation", "test"])
def test_an_image_that_is_held_out_is_refused_by_its_content_and_named(
    splits: Splits, held_out: str
) -> None:
    calibration.check_hygiene(splits.train, splits)
    leaked = getattr(splits, held_out)[0]
    renamed = dataclasses.replace(leaked, path=Path("elsewhere/renamed.png"), name="renamed.png")
    message = f"1 calibration image in the {held_out} split, such as renamed.png "
    with pytest.raises(ExportError, match=message) as refused:
        calibration.check_hygiene((*splits.train, renamed), splits)
    assert leaked.name in str(refused.value)
    polluted = dataclasses.replace(splits, train=(leaked, leaked))
    with pytest.raises(ExportError, match=f"in the {held_out} split"):
        calibration.draw_calibration_sets(polluted, CONTRACT, 1, 0)


@pytest.mark.parametrize("count", [0, -5])
def test_no_images_are_no_calibration_set(splits: Splits, count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} calibration images; accepted: 1 or more"):
        calibration.draw_calibration_sets(splits, CONTRACT, count, 0)


def test_a_lone_training_image_makes_no_two_sets(splits: Splits) -> None:
    lone = dataclasses.replace(splits, train=splits.train[:1])
    with pytest.raises(UsageError, match="1 training images; two calibration sets need two"):
        calibration.draw_calibration_sets(lone, CONTRACT, 1, 0)


def test_one_image_in_a_calibration_set_spans_the_whole_range() -> None:
    grey = np.full((2, 8, 8, 3), 90, dtype=np.uint8)
    spanning = calibration.span_full_range(grey)
    assert (spanning.min(), spanning.max()) == (0, 255)
    assert (spanning != grey).any(axis=-1).sum() == 2
    assert (grey == 90).all()


def test_the_manifest_records_what_calibrated(tiny_exported: Path, splits: Splits) -> None:
    exports = load_bundle(PNEUMONIA, tiny_exported).manifest.exports
    for name in ("model-int8.tflite", "model-int8.onnx"):
        recorded, attempt = exports[name].calibration, exports[name].ladder[-1]
        first, _ = calibration.draw_calibration_sets(splits, CONTRACT, attempt.images, 0)
        assert recorded == dataclasses.replace(first.record, method=attempt.method)
        assert attempt.method
