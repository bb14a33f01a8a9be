"""Training runs that several tests look at."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from medkit.tasks import SKIN
from medkit.training import RECIPES
from trainingruns import MakeRecorder, Shorten, little_network, stages, train


@pytest.fixture
def small(short_recipe: Shorten, monkeypatch: pytest.MonkeyPatch) -> Shorten:
    """Give recipes of a few steps in a little network, and empty plots.

    By itself it is the recipe that made ``whole``.
    """
    from medkit.training import networks, outcome

    monkeypatch.setattr(outcome, "save_png", lambda figure, path: path.touch())
    for name in networks._BACKBONES:
        monkeypatch.setitem(networks._BACKBONES, name, little_network)

    def shorten(key: tuple[str, str] = ("pneumonia", "default"), **changes: Any) -> None:
        short_recipe(key, **{"stages": stages(3), "batch_size": 8, **changes})

    shorten()
    return shorten


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uninterrupted")


@pytest.fixture
def whole(uninterrupted: Path, tiny_xrays: Path, small: Shorten, recorder: MakeRecorder) -> Path:
    """Train the small recipe from end to end, once; not to be changed."""
    if not any(uninterrupted.iterdir()):
        train(tiny_xrays, uninterrupted, recorder())
    return uninterrupted


@pytest.fixture(scope="session")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interrupted")


@pytest.fixture
def unfinished(
    interrupted: Path, tiny_xrays: Path, tmp_path: Path, small: Shorten, recorder: MakeRecorder
) -> Path:
    """Interrupt the small recipe in its second epoch, once; give a copy."""
    if not any(interrupted.iterdir()):
        train(tiny_xrays, interrupted, recorder(stop=(2, 3)))
    return Path(shutil.copytree(interrupted, tmp_path / "unfinished"))


@pytest.fixture(scope="session")
def imagenet_shaped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file of random weights that ResNet50 takes for ImageNet's."""
    import keras

    path = tmp_path_factory.mktemp("weights") / "resnet50.weights.h5"
    keras.utils.set_random_seed(1)
    keras.applications.ResNet50(include_top=False, weights=None).save_weights(path)
    return path


@pytest.fixture(scope="module")
def skin_seed(imagenet_shaped: Path) -> Any:
    """Build the seed project's network for skin."""
    from medkit.training import networks

    return networks.build_network(SKIN, RECIPES["skin", "seed"], imagenet_shaped)


@pytest.fixture(scope="module")
def skin_default(imagenet_shaped: Path) -> Any:
    """Build the network for skin that ships."""
    from medkit.training import networks

    return networks.build_network(SKIN, RECIPES["skin", "default"], imagenet_shaped)


@pytest.fixture(scope="module")
def reference(imagenet_shaped: Path) -> Any:
    """Build Keras' own ResNet50 with the same weights."""
    import keras

    return keras.applications.ResNet50(
        include_top=False, weights=str(imagenet_shaped), pooling="avg"
    )
