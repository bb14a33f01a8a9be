"""Which Keras archives are opened: all of Keras' own layers, and none that carries code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from medkit.errors import ModelFileError  # noqa: E402
from medkit.models.runtimes.keras import load_keras  # noqa: E402
from medkit.models.runtimes.keras_layers import _LAYERS, foreign_objects  # noqa: E402

layers = keras.layers

SMALLEST_OF_EACH_FAMILY = {
    "ConvNeXtTiny": 64,
    "DenseNet121": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "InceptionResNetV2": 96,
    "InceptionV3": 96,
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Large": 64,
    "MobileNetV3Small": 64,
    "NASNetMobile": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "VGG16": 64,
    "Xception": 96,
}
"""Side of the images by network. The larger networks of a family repeat the same layers."""

CARRIES_CODE = {
    "FlaxLayer",
    "JaxLayer",
    "Lambda",
    "TFSMLayer",
    "TorchModuleWrapper",
}


def saved(model: Any, path: Path) -> Path:
    """Save a network as Keras does, with an empty card, and without packing its weights."""
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("medkit.json", "{}")
    return path


@pytest.mark.parametrize("name", SMALLEST_OF_EACH_FAMILY)
def test_every_family_of_keras_applications_is_opened(name: str, tmp_path: Path) -> None:
    shape = (SMALLEST_OF_EACH_FAMILY[name],) * 2 + (3,)
    model = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=shape)
    opened = load_keras(saved(model, tmp_path / "model.keras"))
    image = np.random.default_rng(0).uniform(0, 255, (1, *shape)).astype(np.float32)
    expected, found = (np.asarray(network(image, training=False)) for network in (model, opened))
    np.testing.assert_array_equal(found, expected)


def augmented() -> Any:
    """Build a network as tutorials do, with augmentation inside."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Resizing(24, 24),
            layers.RandomFlip("horizontal", seed=1),
            layers.RandomRotation(0.1),
            layers.RandomZoom(0.1),
            layers.RandomContrast(0.1),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomBrightness(0.1),
            layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 1.0, 4.0]),
            layers.Conv2D(4, 3, kernel_regularizer="l2", kernel_constraint="max_norm"),
            layers.GroupNormalization(2),
            layers.PReLU(),
            layers.UpSampling2D(),
            layers.GlobalMaxPooling2D(),
            layers.UnitNormalization(),
            layers.Dense(3, activation=layers.LeakyReLU(0.1)),
            layers.Softmax(),
        ]
    )


def transformer() -> Any:
    """Build an attention block, with an embedding."""
    pixels = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 4, 4, kernel_initializer="lecun_normal")(pixels)
    x = layers.Permute((2, 1))(layers.Reshape((16, 8))(x))
    x = layers.Permute((2, 1))(x)
    x = x + layers.Embedding(16, 8)(keras.ops.ones_like(x[:, :, 0], dtype="int32"))
    x = x + layers.MultiHeadAttention(2, 4)(layers.LayerNormalization()(x), x)
    x = layers.EinsumDense("abc,cd->abd", (None, 8), activation="gelu")(x)
    return keras.Model(pixels, layers.Dense(3, "softmax")(layers.GlobalAveragePooling1D()(x)))


def arithmetic() -> Any:
    """Build a network with functions of keras.ops and activations of several origins."""
    import tensorflow as tf

    pixels = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.ops.cast(pixels, "float32") / 127.5 - 1.0
    for activation in (keras.activations.gelu, keras.ops.silu, tf.nn.relu, "hard_swish", "mish"):
        x = layers.Conv2D(4, 3, padding="same", activation=activation)(x)
    x = x * keras.ops.sigmoid(keras.ops.mean(x, axis=(1, 2), keepdims=True))
    x = x * np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    x = keras.ops.concatenate([x[:, 1:, :, :2], keras.ops.sqrt(keras.ops.abs(x[:, 1:]))], -1)
    x = layers.Dense(3)(keras.ops.max(x, axis=(1, 2)))
    return keras.Model(pixels, keras.ops.softmax(x))


@pytest.mark.parametrize("build", [augmented, transformer, arithmetic])
def test_layers_and_functions_of_keras_itself_are_opened(
    build: Callable[[], Any], tmp_path: Path
) -> None:
    model = build()
    opened = load_keras(saved(model, tmp_path / "model.keras"))
    images = np.random.default_rng(0).integers(0, 255, (2, *model.input_shape[1:]))
    pixels = images.astype(model.inputs[0].dtype)
    expected, found = (np.asarray(network(pixels, training=False)) for network in (model, opened))
    np.testing.assert_array_equal(found, expected)


def test_every_accepted_layer_exists_in_keras() -> None:
    assert {name for name in _LAYERS if not hasattr(layers, name)} == set()


def test_layers_that_bring_code_or_read_files_are_not_accepted() -> None:
    assert {name for name in CARRIES_CODE if not hasattr(layers, name)} == set()
    reading = {"IntegerLookup", "StringLookup", "TextVectorization"}
    assert (CARRIES_CODE | reading).isdisjoint(_LAYERS)


class Doubled(layers.Layer):  # type: ignore[misc]
    """A layer of somebody's own."""

    def call(self, x: Any) -> Any:
        return x + x


@keras.saving.register_keras_serializable("mine")
def my_activation(x: Any) -> Any:
    return keras.ops.relu(x)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (lambda: layers.Lambda(lambda x: x + 1, output_shape=(4,)), "'Lambda' of keras.layers"),
        (Doubled, "'Doubled' of "),
        (lambda: layers.Activation(my_activation), "'mine>my_activation' of builtins"),
    ],
    ids=["lambda", "own layer", "own function"],
)
@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_code_is_refused_before_keras_reads_it(
    layer: Callable[[], Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras reads it"))
    inside = keras.Sequential([keras.Input((4,)), layer()])
    model = keras.Sequential([keras.Input((4,)), inside, layers.Dense(2)])
    path = saved(model, tmp_path / "model.keras")
    with pytest.raises(ModelFileError, match="which could run code") as refused:
        load_keras(path)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"class_name": "function", "module": "builtins", "config": "eval"}, ("eval", "builtins")),
        ({"class_name": "function", "module": "os", "config": "relu"}, ("relu", "os")),
        (
            {"class_name": "function", "module": "keras.activations", "config": {"a": 1}},
            ("{'a': 1}", "keras.activations"),
        ),
        ({"class_name": "__lambda__", "config": {"value": ""}}, ("__lambda__", "None")),
        ({"class_name": "__typespec__", "module": "os"}, ("__typespec__", "os")),
        ({"class_name": "Dense"}, ("Dense", "None")),
        ({"class_name": "Map", "module": "keras.src.ops.core"}, ("Map", "keras.src.ops.core")),
    ],
)
def test_what_is_hidden_anywhere_in_a_configuration_is_found(
    config: dict[str, Any], found: tuple[str, str]
) -> None:
    hidden = {"layers": [{"config": {"deep": [[json.loads(json.dumps(config))]]}}]}
    assert list(foreign_objects(hidden)) == [found]
