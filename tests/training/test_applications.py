"""The networks of keras.applications, with the normalisation that each expects."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from medkit.errors import UsageError, WeightsUnavailableError  # noqa: E402
from medkit.images.contract import InputContract  # noqa: E402
from medkit.models.recipe import Recipe, Stage  # noqa: E402
from medkit.tasks import Task  # noqa: E402
from medkit.training.applications import (  # noqa: E402
    APPLICATIONS,
    add_application,
    expects_blue_first,
    normalise,
)
from medkit.training.networks import build_network, is_backbone, needs_imagenet  # noqa: E402
from medkit.training.stages import begin_stage  # noqa: E402

SHAPE = (32, 40, 3)


def module_of(name: str) -> Any:
    """Return the module of a network, which has its ``preprocess_input``."""
    home = inspect.getmodule(getattr(keras.applications, name))
    assert home is not None
    return importlib.import_module(home.__name__)


def pixels(shape: tuple[int, ...] = SHAPE) -> Any:
    return np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)


def test_every_network_of_keras_is_known_and_no_other() -> None:
    there = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(APPLICATIONS) == there


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_layers_do_what_preprocess_input_does(name: str) -> None:
    raw = keras.Input(SHAPE, dtype="uint8")
    done = normalise(name, raw)
    given = pixels().astype(np.float32)
    expected = module_of(name).preprocess_input(given.copy())
    if done is raw:
        assert np.array_equal(expected, given)
        return
    found = np.asarray(keras.Model(raw, done)(pixels()))
    if expects_blue_first(name):
        found = found[..., ::-1]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def reference(name: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Build a network as Keras does with weights that it has downloaded, which are random."""
    keras.utils.set_random_seed(1)
    made = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=SHAPE)
    for layer in made.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.set_weights(
                [np.array([0.48, 0.45, 0.4]), np.array([0.22, 0.23, 0.21]), np.array(0)]
            )
    made.save_weights(path)
    monkeypatch.setattr(module_of(name).file_utils, "get_file", lambda *_, **__: str(path))
    return getattr(keras.applications, name)(
        include_top=False, weights="imagenet", input_shape=SHAPE, pooling="avg"
    )


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
@pytest.mark.parametrize("from_file", [True, False])
@pytest.mark.parametrize(
    "name", ["VGG16", "MobileNetV2", "DenseNet121", "EfficientNetB0", "MobileNetV3Small"]
)
def test_raw_bytes_give_the_features_of_keras_own_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, from_file: bool
) -> None:
    path = tmp_path / "some.weights.h5"
    own = reference(name, path, monkeypatch)
    given = module_of(name).preprocess_input(pixels().astype(np.float32))
    expected = own.predict(given, verbose=0)
    raw = keras.Input(SHAPE, dtype="uint8", name="pixels")
    features = add_application(name, raw, path if from_file else None, from_scratch=False)
    found = keras.Model(raw, features).predict(pixels(), verbose=0)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_grey_is_repeated() -> None:
    keras.utils.set_random_seed(1)
    raw = keras.Input((32, 32, 1), dtype="uint8", name="pixels")
    model = keras.Model(raw, add_application("MobileNetV2", raw, None, from_scratch=True))
    assert model.get_layer("repeat_grey").output.shape == (None, 32, 32, 3)
    assert model.predict(pixels((32, 32, 1)), verbose=0).shape == (2, 1280)


@pytest.mark.parametrize(("name", "least"), [("InceptionV3", "75x75"), ("Xception", "71x71")])
def test_a_size_that_a_network_does_not_take_is_one_line(name: str, least: str) -> None:
    raw = keras.Input((64, 48, 3), dtype="uint8", name="pixels")
    for scratch in (True, False):
        with pytest.raises(UsageError) as caught:
            add_application(name, raw, None, from_scratch=scratch)
        message = str(caught.value)
        assert message.startswith(f"{name} does not take images of 48x64 pixels (")
        assert least in message
        assert message.endswith("; choose another --size")
        assert "\n" not in message


def test_weights_of_another_network_are_one_line(tmp_path: Path, imagenet_shaped: Path) -> None:
    raw = keras.Input(SHAPE, dtype="uint8", name="pixels")
    junk = tmp_path / "junk.h5"
    junk.write_bytes(b"no weights")
    for path in (imagenet_shaped, junk):
        with pytest.raises(WeightsUnavailableError) as caught:
            add_application("MobileNetV2", raw, path, from_scratch=False)
        assert str(caught.value).startswith(f"{path} does not hold MobileNetV2's weights without")


def test_a_missing_download_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "https://storage.googleapis.com/tensorflow/x/mobilenet_v2_no_top.h5"

    def no_network(*_: object, **__: object) -> str:
        raise Exception(f"URL fetch failure on {address}: None -- no such name")

    monkeypatch.setattr(module_of("MobileNetV2").file_utils, "get_file", no_network)
    raw = keras.Input(SHAPE, dtype="uint8", name="pixels")
    with pytest.raises(WeightsUnavailableError) as caught:
        add_application("MobileNetV2", raw, None, from_scratch=False)
    assert str(caught.value) == (
        f"the ImageNet weights of MobileNetV2 cannot be downloaded; fetch {address} on a machine "
        "with a network and give it with --weights FILE, or begin without: --weights none"
    )


def test_the_head_learns_first_and_normalisation_keeps_its_statistics() -> None:
    task = Task("t", "t", ("a", "b", "c"), InputContract(32, 32, 3), None, "a")
    recipe = Recipe("own", "MobileNetV2", 8, (), dropout=0.2, from_scratch=True)
    model = build_network(task, recipe, None)
    trained = Recipe("own", "MobileNetV2", 8, ())
    assert needs_imagenet(trained)
    assert not needs_imagenet(recipe)
    begin_stage(model, task, trained, Stage(1, 1e-3, free_from=None))
    assert {layer.name for layer in model.layers if layer.trainable_weights} == {"probabilities"}
    begin_stage(model, task, trained, Stage(1, 1e-3, free_from=""))
    learning = [layer for layer in model.layers if layer.trainable_weights]
    assert len(learning) > 50
    assert not any(isinstance(each, keras.layers.BatchNormalization) for each in learning)
    heads = [each.name for each in model.layers if not is_backbone(each, "MobileNetV2")]
    assert heads == ["pixels", "head_dropout", "probabilities"]
