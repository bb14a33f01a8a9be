"""TFLite files of others: stateful, three-dimensional, hybrid, with several signatures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.errors import ModelFileError
from medkit.models.inspection import inspect_file
from medkit.models.operators.summary import summarise_operators

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
layers = keras.layers

Convert = Callable[..., Path]


@pytest.fixture
def convert(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Convert:
    def converted(model: Any, *, quantise: bool = False, name: str = "made.tflite") -> Path:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if quantise:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        path = tmp_path / name
        path.write_bytes(converter.convert())
        return path

    return converted


@pytest.mark.filterwarnings("ignore")
def test_a_stateful_file_is_counted_round_by_round(convert: Convert) -> None:
    given = keras.Input(batch_shape=(1, 10, 4))
    model = keras.Sequential([given, layers.GRU(8, stateful=True), layers.Dense(2)])
    found = summarise_operators(convert(model))
    assert found.work == 10 * (4 + 8) * 24 + 8 * 2
    assert "ASSIGN_VARIABLE" in {item.kind for item in found.operators}
    assert not found.doubts


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["made.tflite", "MADE.TFLITE"])
def test_a_convolution_in_three_dimensions_is_counted(convert: Convert, name: str) -> None:
    stack = [keras.Input((8, 8, 8, 1)), layers.Conv3D(4, 3), layers.Flatten(), layers.Dense(2)]
    found = inspect_file(convert(keras.Sequential(stack), quantise=True, name=name))
    work = {item.kind: item.work for item in found.summary.operators if item.work}
    assert work == {"CONV_3D": 6**3 * 4 * 27, "FULLY_CONNECTED": 6**3 * 4 * 2}
    assert found.card is None


@pytest.mark.filterwarnings("ignore")
def test_integer_weights_with_floating_data_are_told_as_hybrid(convert: Convert) -> None:
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64)])
    found = summarise_operators(convert(model, quantise=True))
    assert (found.work, found.integer_share, found.hybrid_share) == (64 * 64, 0, 1)
    assert ("FULLY_CONNECTED", "float32, int8 weights", 1, 64 * 64) in found.by_kind


@pytest.mark.filterwarnings("ignore")
def test_a_dense_layer_over_the_places_of_a_map_is_counted_at_each(convert: Convert) -> None:
    """The converter folds the places into the batch, so that the file has one row of them."""
    model = keras.Sequential([keras.Input((5, 7, 4)), layers.Dense(3), layers.Dense(2)])
    assert summarise_operators(convert(model)).work == 5 * 7 * (4 * 3 + 3 * 2)


@pytest.mark.filterwarnings("ignore")
def test_each_signature_of_a_file_is_told_with_its_work(tmp_path: Path) -> None:
    class Two(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.small = tf.Variable(np.ones((4, 3), np.float32))
            self.large = tf.Variable(np.ones((4, 30), np.float32))

        @tf.function(input_signature=[tf.TensorSpec((1, 4))])
        def coarse(self, x: Any) -> Any:
            return {"y": tf.matmul(x, self.small)}

        @tf.function(input_signature=[tf.TensorSpec((1, 4))])
        def fine(self, x: Any) -> Any:
            return {"y": tf.matmul(x, self.large)}

    module = Two()
    tf.saved_model.save(
        module, tmp_path / "saved", signatures={"coarse": module.coarse, "fine": module.fine}
    )
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    path = tmp_path / "two.tflite"
    path.write_bytes(converter.convert())
    assert summarise_operators(path).parts == {"coarse": 12, "fine": 120}


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "made.tflite"
    for content in (b"", b"hello", b"\x1c\0\0\0TFL3" + b"\xff" * 99):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=str(path)):
            summarise_operators(path)
