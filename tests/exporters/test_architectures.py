"""The matrix of docs/architectures.md: a quick part of it, and its tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tf2onnx")

DOCS = Path(__file__).resolve().parents[2] / "docs"

layers = keras.layers


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """Give the scripts' modules, which lie beside the pages that they make."""
    sys.path.insert(0, str(DOCS))
    try:
        import architecture_networks
        import architecture_records
        import make_architectures

        yield architecture_networks, architecture_records, make_architectures
    finally:
        sys.path.remove(str(DOCS))


def squeeze_and_excitation(size: int) -> Any:
    """Build a block of EfficientNet's: swish, and channels that are weighed by their means."""
    pixels = keras.Input((size, size, 3), dtype="uint8")
    x = layers.Conv2D(8, 3, strides=2, padding="same")(layers.Rescaling(1 / 127.5, -1)(pixels))
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    s = layers.Conv2D(4, 1, activation="swish")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(s)])
    x = layers.Conv2D(16, 3, strides=2, activation="swish")(x)
    return keras.Model(
        pixels, layers.Dense(3, activation="softmax")(layers.GlobalMaxPooling2D()(x))
    )


def nested(size: int) -> Any:
    """Build a Functional model in a Sequential one, with augmentation before it."""
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    body = keras.Model(inputs, layers.Conv2D(16, 3, strides=2, activation="relu")(x))
    return keras.Sequential(
        [
            keras.Input((size, size, 3), dtype="uint8"),
            layers.RandomFlip("horizontal"),
            layers.Rescaling(1 / 127.5, -1),
            body,
            layers.GlobalMaxPooling2D(),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module", params=["nested", "squeeze_and_excitation", "small ViT"])
def record(request: pytest.FixtureRequest, scripts: Any, tmp_path_factory: Any) -> Any:
    networks, _, make = scripts
    builders = {
        "nested": nested,
        "squeeze_and_excitation": squeeze_and_excitation,
        "small ViT": lambda size: networks.vision_transformer(size, width=24, blocks=1),
    }
    network = networks.Network(request.param, builders[request.param], size=48, rate=2e-3)
    return make.make_record(network, tmp_path_factory.mktemp("matrix"), training=96, judging=30)


def test_each_network_learned_and_became_every_file(record: Any) -> None:
    assert record.accuracy > 0.7
    assert list(record.cells) == ["tflite", "onnx"]
    for cells in record.cells.values():
        assert list(cells) == ["fp32", "fp16", "int8"]
        assert [cell.error for cell in cells.values()] == ["", "", ""]
        assert all(cell.agreement >= 28 / 30 and cell.time_ratio > 0 for cell in cells.values())
        assert cells["fp32"].largest_difference <= 1e-4
        assert cells["fp16"].largest_difference <= 1e-2
        assert cells["fp16"].bytes < cells["fp32"].bytes


def test_8_bits_were_enough_somewhere_on_the_ladder_before_half_precision(record: Any) -> None:
    for cells in record.cells.values():
        assert cells["int8"].precision in ("int8", "mixed", "int16")
        assert cells["int8"].integer_share > 0.9


def test_a_record_is_read_as_it_was_written_and_fills_the_tables(
    record: Any, scripts: Any, tmp_path: Path
) -> None:
    _, records, _ = scripts
    records.write(record, tmp_path)
    assert records.read_all(tmp_path) == [record]
    assert f"| {record.network} | 48 |" in records.matrix("tflite", tmp_path)


def test_a_file_that_could_not_be_made_says_why(scripts: Any, tmp_path: Path) -> None:
    _, records, _ = scripts
    made = records.Cell("fp32", "as trained", bytes=4000, agreement=1.0, time_ratio=1.0)
    mixed = replace(made, precision="mixed", failed=("8 bits throughout: AUC a | b",))
    refused = records.Cell(error="no ONNX has such a layer")
    cells = {
        "tflite": {"fp32": made, "fp16": made, "int8": mixed},
        "onnx": {"fp32": refused, "fp16": refused, "int8": refused},
    }
    records.write(records.Record("one, two", 64, 1000, 0.9, {"tflite": 2.0}, cells), tmp_path)
    assert (tmp_path / "one-two.json").is_file()
    assert records.matrix("onnx", tmp_path).endswith(
        "no file | no file | no file | - | - | - | - |"
    )
    assert "mixed, 1.00 of the size, 1.00 of the time" in records.matrix("tflite", tmp_path)
    reasons = records.reasons(tmp_path).splitlines()[2:]
    assert reasons[0] == "| one, two | tflite | int8 | mixed | 8 bits throughout: AUC a / b |"
    assert reasons[1:] == [
        f"| one, two | onnx | {asked} | no file | no ONNX has such a layer |"
        for asked in ("fp32", "fp16", "int8")
    ]


def test_made_images_are_the_same_on_every_run(scripts: Any) -> None:
    networks, _, _ = scripts
    first, labels = networks.draw_images(6, 32, 7)
    again, _ = networks.draw_images(6, 32, 7)
    assert (first == again).all()
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert first.shape == (6, 32, 32, 3)
