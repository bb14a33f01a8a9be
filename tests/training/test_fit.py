"""The training loop: its epochs, the best of them, and when it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras")

from medkit.errors import TrainingError
from medkit.training import RECIPES, fit
from medkit.training.batches import Batches
from trainingruns import MakeRecorder, Shorten, stages, train


def test_every_epoch_has_new_augmentation_and_is_reported(
    tiny_xrays: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def batches(*arguments: Any) -> Any:
        made.append(arguments[4:])
        return Batches(*arguments)

    monkeypatch.setattr(fit, "Batches", batches)
    observer = recorder()
    result = train(tiny_xrays, tmp_path, observer, seed=5)
    assert not result.interrupted
    images = sum(result.manifest.data.counts["train"].values())
    steps = -(-images // 8)
    assert observer.begun == [(1, 3, steps), (2, 3, steps), (3, 3, steps)]
    assert len(observer.losses) == 3 * steps
    assert np.isfinite(observer.losses).all()
    assert tuple(record for record, _ in observer.ended) == result.manifest.history
    assert "4 of 44 training images kept out" in observer.notes
    augmentation = RECIPES["pneumonia", "default"].augmentation
    assert made == [(augmentation, 5, 1), (augmentation, 5, 2), (augmentation, 5, 3)]


def test_a_stage_ends_when_its_patience_is_used_up(
    tiny_xrays: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = iter([0.5, 0.4, 0.6, 0.7, 0.1])
    monkeypatch.setattr(fit, "_watch", lambda *_: fit._Watched(next(losses), 1.0, 1.0))
    small(stages=stages(5, patience=2))
    manifest = train(tiny_xrays, tmp_path, recorder()).manifest
    assert (manifest.epochs, manifest.kept_epoch) == (4, 2)


def test_outputs_that_are_not_finite_end_the_run(
    tiny_xrays: Path, tmp_path: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    small(stages=stages(2, 1e30, cosine=False))
    with pytest.raises(TrainingError, match="lower"):
        train(tiny_xrays, tmp_path / "out", recorder())
    assert not (tmp_path / "out/pneumonia/manifest.json").exists()


def test_a_loss_that_is_not_a_number_ends_the_run(
    tiny_xrays: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fit, "_targets", lambda *_: np.full((40, 1), np.nan, dtype=np.float32))
    monkeypatch.setattr(fit, "_watch", lambda *_: fit._Watched(0.5, 1.0, 1.0))
    with pytest.raises(TrainingError, match="the loss of epoch 1 is not finite"):
        train(tiny_xrays, tmp_path / "out", recorder())
    assert not (tmp_path / "out").exists()
