"""Keras files of any origin: counted by hand, and never run."""

from __future__ import annotations

import builtins
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.errors import ModelFileError
from medkit.models.inspection import inspect_file
from medkit.models.operators.keras import read_operators
from medkit.models.operators.summary import summarise_operators

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")
layers = keras.layers

SUFFIXES = pytest.mark.parametrize("suffix", [".keras", ".h5", ".KERAS", ".H5"])


@pytest.fixture(autouse=True)
def fresh_names() -> None:
    keras.backend.clear_session()


def saved(model: Any, folder: Path, suffix: str = ".keras") -> Path:
    path = folder / f"model{suffix}"
    plain = folder / f"saved{suffix.lower()}"
    model.save(plain)
    plain.rename(path)
    return path


def functional() -> Any:
    pixels = keras.Input((16, 12, 3), name="pixels")
    stem = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(pixels)  # 8 x 6
    deep = layers.DepthwiseConv2D(3, padding="same", name="deep")(stem)
    both = layers.Add(name="both")([stem, layers.ReLU()(deep)])
    wide = layers.Conv2D(8, 3, groups=2, name="wide")(both)  # 6 x 4
    flat = layers.Flatten()(layers.MaxPooling2D()(wide))  # 3 x 2 x 8
    return keras.Model(pixels, layers.Dense(5, name="scores")(flat))


FUNCTIONAL = {
    "stem": 8 * 6 * 4 * 9 * 3,
    "deep": 8 * 6 * 4 * 9,
    "wide": 6 * 4 * 8 * 9 * 2,
    "scores": 48 * 5,
}


@SUFFIXES
@pytest.mark.filterwarnings("ignore")  # Keras calls .h5 a legacy
def test_the_layers_of_a_plain_network_are_counted(tmp_path: Path, suffix: str) -> None:
    found = inspect_file(saved(functional(), tmp_path, suffix))
    assert {item.name: item.work for item in found.summary.operators if item.work} == FUNCTIONAL
    assert found.summary.tensors == {"float32": 8}
    assert found.card is None
    assert not found.summary.doubts


@pytest.mark.filterwarnings("ignore")
def test_a_file_of_keras_2_keeps_no_shapes_and_is_counted_all_the_same(tmp_path: Path) -> None:
    """Its inputs are named by layer, and it tells the shape of the network's input only."""
    path = tmp_path / "old.h5"
    model = functional()
    config = json.loads(model.to_json())

    def older(item: Any) -> Any:
        if isinstance(item, list):
            return [older(value) for value in item]
        if not isinstance(item, dict):
            return item
        if item.get("class_name") == "__keras_tensor__":
            return [*item["config"]["keras_history"], {}]
        dropped = ("build_config", "module", "registered_name")
        return {key: older(value) for key, value in item.items() if key not in dropped}

    old = older(config)
    for layer in old["config"]["layers"]:
        calls = [call["args"][0] for call in layer["inbound_nodes"]]
        layer["inbound_nodes"] = [call if isinstance(call[0], list) else [call] for call in calls]
        shape = layer["config"].pop("batch_shape", None)
        if shape is not None:
            layer["config"]["batch_input_shape"] = shape
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(old)
        file.create_dataset("model_weights/stem/stem/kernel:0", data=np.zeros((3, 3)))
    found = summarise_operators(path)
    assert {item.name: item.work for item in found.operators if item.work} == FUNCTIONAL
    assert found.tensors == {"float64": 1}


def test_networks_within_networks_and_layers_that_are_called_twice_are_counted(
    tmp_path: Path,
) -> None:
    shared = layers.Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(6), layers.Dense(4)], name="inner")
    given = keras.Input((4,))
    model = keras.Model(given, shared(inner(shared(given))))
    found = summarise_operators(saved(model, tmp_path))
    assert [item.work for item in found.operators if item.kind == "Dense"] == [16, 16, 24, 24]


@pytest.mark.parametrize(
    ("made", "shape", "work"),
    [
        (lambda: layers.Conv1D(4, 3, padding="causal"), (10, 2), 10 * 4 * 3 * 2),
        (lambda: layers.Conv3D(4, 3), (8, 8, 8, 1), 6**3 * 4 * 27),
        (lambda: layers.Conv2D(4, 3, dilation_rate=2), (9, 9, 2), 25 * 4 * 9 * 2),
        (lambda: layers.SeparableConv2D(5, 3), (6, 6, 2), 16 * 2 * 9 + 16 * 2 * 5),
        (lambda: layers.Conv2DTranspose(5, 3, strides=2), (4, 4, 2), 16 * 2 * 9 * 5),
        (lambda: layers.LSTM(8), (10, 4), 10 * (4 + 8) * 4 * 8),
        (lambda: layers.GRU(8), (10, 4), 10 * (4 + 8) * 3 * 8),
        (lambda: layers.Bidirectional(layers.SimpleRNN(8)), (10, 4), 2 * 10 * (4 + 8) * 8),
        (lambda: layers.TimeDistributed(layers.Dense(3)), (10, 4), 10 * 4 * 3),
        (lambda: layers.Dense(3), (7, 10, 4), 7 * 10 * 4 * 3),
        (lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 3)), (7, 4), 7 * 4 * 3),
    ],
)
def test_the_work_of_a_layer_is_that_of_its_formula(
    tmp_path: Path, made: Any, shape: tuple[int, ...], work: int
) -> None:
    model = keras.Sequential([keras.Input(shape), made()])
    assert summarise_operators(saved(model, tmp_path)).work == work


def test_attention_is_projections_and_two_products(tmp_path: Path) -> None:
    given = keras.Input((10, 6))
    layer = layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=5)
    found = summarise_operators(saved(keras.Model(given, layer(given, given)), tmp_path))
    projections = 10 * 6 * 2 * (3 + 3 + 5) + 10 * 2 * 5 * 6
    assert found.work == projections + 2 * 10 * 10 * (3 + 5)


@keras.saving.register_keras_serializable("elsewhere")
class Bomb(layers.Layer):  # type: ignore[misc]
    """A layer of somebody else's, which tells if it is made again."""

    made = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        Bomb.made += 1

    def call(self, values: Any) -> Any:
        return values * 2


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore")
def test_layers_of_others_are_listed_and_never_made(tmp_path: Path, suffix: str) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), Bomb(name="bomb")])
    path, before = saved(model, tmp_path, suffix), Bomb.made
    found = summarise_operators(path)
    assert Bomb.made == before
    (doubted,) = (item for item in found.operators if item.doubt)
    assert doubted.kind.endswith("Bomb")
    assert found.work == 12


def test_python_code_in_a_file_is_listed_and_not_run(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2), layers.Dense(3)])
    found = summarise_operators(saved(model, tmp_path))
    assert [(kind, number) for kind, _, number in found.doubts] == [("Lambda", 1)]
    assert found.work == 12


def test_no_file_makes_tensorflow_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(functional(), tmp_path)
    plain_import = builtins.__import__

    def refusing(name: str, *others: Any) -> Any:
        assert name.partition(".")[0] not in ("tensorflow", "keras"), name
        return plain_import(name, *others)

    monkeypatch.setattr(builtins, "__import__", refusing)
    for name in ("tensorflow", "keras"):
        monkeypatch.setitem(sys.modules, name, None)
    assert inspect_file(path).summary.work == sum(FUNCTIONAL.values())


def test_mixed_precision_and_quantised_layers_tell_what_they_compute_in(tmp_path: Path) -> None:
    given = keras.Input((8,))
    mixed = layers.Dense(4, dtype="mixed_float16")(given)
    found = summarise_operators(saved(keras.Model(given, mixed), tmp_path))
    (dense,) = (item for item in found.operators if item.work)
    assert (dense.computes_in, dense.weights) == ("float16", "float32")
    policy = {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}
    config = {
        "class_name": "Sequential",
        "config": {
            "layers": [
                {
                    "class_name": "Dense",
                    "config": {"units": 4, "dtype": policy, "name": "small"},
                    "build_config": {"input_shape": [None, 8]},
                }
            ]
        },
    }
    path = tmp_path / "quantised.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    assert read_operators(path).integer_share == 1


@pytest.mark.filterwarnings("ignore")
def test_weights_alone_are_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    functional().save_weights(path)
    found = inspect_file(path)
    assert found.summary.operators == ()
    assert found.summary.tensors == {"float32": 8}


def broken(folder: Path) -> list[Path]:
    """Write files that are no Keras files, each in another way."""
    made = []
    for name, content in (
        ("text.keras", b"hello"),
        ("empty.keras", b""),
        ("text.h5", b"hello"),
        ("cut.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 99),
    ):
        made.append(folder / name)
        made[-1].write_bytes(content)
    for name, config in (("list.keras", "[1, 2]"), ("none.keras", None), ("json.keras", "{")):
        made.append(folder / name)
        with zipfile.ZipFile(made[-1], "w") as archive:
            archive.writestr("other.txt", "")
            if config is not None:
                archive.writestr("config.json", config)
    made.append(folder / "data.h5")
    with h5py.File(made[-1], "w") as file:
        file["numbers"] = [1, 2, 3]
    return made


def test_broken_files_are_one_line(tmp_path: Path) -> None:
    for path in broken(tmp_path):
        with pytest.raises(ModelFileError, match=str(path)) as caught:
            summarise_operators(path)
        assert "\n" not in str(caught.value)
