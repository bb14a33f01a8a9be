"""Training runs of one's own tasks: continued, refused, and replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

from medkit.errors import TrainingError, UsageError, WeightsUnavailableError
from medkit.models.bundle import load_bundle
from medkit.tasks import TASKS, task_file, user_folder
from medkit.training import (
    OwnOptions,
    TrainOptions,
    TrainResult,
    folder_for,
    plan_own,
    train_model,
)
from trainingruns import MakeRecorder, little_network, weights_hash


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two classes, grey, with 30 images each."""
    root = tmp_path_factory.mktemp("own") / "data"
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        for number in range(30):
            pixels = rng.normal(90 + 60 * label, 12, (40, 40)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    from medkit.training import networks, outcome

    monkeypatch.setattr(outcome, "save_png", lambda figure, path: path.touch())
    monkeypatch.setitem(networks._BACKBONES, "compact-cnn", little_network)


_OF_THE_RUN = ("resume", "overwrite", "weights", "group_by")


def train(data: Path, out: Path, observer: Any, **more: Any) -> TrainResult:
    run = {name: more.pop(name) for name in _OF_THE_RUN if name in more}
    asked = OwnOptions(**{"size": (32, 32), "epochs": 3, **more})
    plan = plan_own("shade", data, asked, folder_for("shade", out))
    return train_model(TrainOptions(plan.task, data, plan.recipe, out, **run), observer)


def test_an_interrupted_run_is_continued_to_the_same_weights(
    data: Path, tmp_path: Path, recorder: MakeRecorder
) -> None:
    train(data, tmp_path / "whole", recorder())
    out = tmp_path / "parts"
    first = train(data, out, recorder(stop=(2, 1)))
    assert first.interrupted
    assert first.manifest is not None
    assert first.manifest.epochs == 1
    assert task_file(out / "shade") is not None
    with pytest.raises(UsageError, match="--resume continues it, --overwrite replaces it"):
        train(data, out, recorder())
    second = train(data, out, recorder(), resume=True)
    assert not second.interrupted
    assert weights_hash(out, "shade") == weights_hash(tmp_path / "whole", "shade")
    assert load_bundle("shade", out).task.alert == "light"


@pytest.mark.parametrize(
    "change",
    [{"labels": ("light", "dark")}, {"size": (32, 40)}, {"channels": 3}, {"alert": "dark"}],
    ids=str,
)
def test_a_run_of_another_task_is_not_continued(
    data: Path, tmp_path: Path, recorder: MakeRecorder, change: dict[str, Any]
) -> None:
    train(data, tmp_path, recorder(stop=(2, 1)))
    with pytest.raises(TrainingError, match="started with another size, colour, alert label or"):
        train(data, tmp_path, recorder(), resume=True, **change)


def test_a_model_is_replaced_on_demand_and_its_description_stays(
    data: Path, tmp_path: Path, recorder: MakeRecorder
) -> None:
    train(data, tmp_path, recorder(), title="Shades", alert="dark")
    train(data, tmp_path, recorder(), overwrite=True, size=(40, 32))
    task = load_bundle("shade", tmp_path).task
    assert (task.title, task.alert, task.contract.shape) == ("Shades", "dark", (32, 40, 1))


def test_weights_and_sizes_that_do_not_fit_are_refused_before_an_image_is_read(
    data: Path, tmp_path: Path, recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medkit.training import run

    monkeypatch.setattr(run, "read_own_training_data", lambda *_: pytest.fail("images were read"))
    junk = tmp_path / "junk.h5"
    junk.write_bytes(b"")
    with pytest.raises(WeightsUnavailableError, match=r"junk\.h5 does not hold MobileNetV2's"):
        train(data, tmp_path, recorder(), network="MobileNetV2", weights=junk)
    with pytest.raises(UsageError, match="no file .*gone; --weights takes the network's"):
        train(data, tmp_path, recorder(), network="MobileNetV2", weights=tmp_path / "gone")
    with pytest.raises(UsageError, match="InceptionV3 does not take images of 32x32 pixels"):
        train(data, tmp_path, recorder(), network="InceptionV3", from_scratch=True)
    with pytest.raises(UsageError, match="--group-by x gives no group for 60 images of 60"):
        train(data, tmp_path, recorder(), group_by="x")
    assert not (tmp_path / "shade").exists()


def test_models_of_new_tasks_go_to_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDKIT_TRAINED", raising=False)
    own = user_folder()
    assert own is not None
    assert folder_for("shade", None) == own / "shade"
    assert folder_for("shade", tmp_path) == tmp_path / "shade"
    for name in TASKS:
        assert own not in folder_for(name, None).parents
    monkeypatch.setenv("MEDKIT_TRAINED", str(tmp_path))
    assert folder_for("shade", None) == tmp_path / "shade"
