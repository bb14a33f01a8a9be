"""The census: operators, their numbers, and their work, counted by hand for networks made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.census import Census, Operator, take_census
from medkit.errors import ModelFileError, UsageError

keras = pytest.importorskip("keras")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FORMATS = pytest.mark.parametrize("suffix", ["tflite", "onnx"])


def operator(kind: str, computes_in: str, work: int = 0) -> Operator:
    return Operator(f"a {kind}", kind, computes_in, work)


def work_of_layers(path: Path) -> int:
    """Count the work of a Keras network's convolutions and dense layers."""
    total = 0
    for layer in keras.saving.load_model(path).layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            total += int(np.prod(layer.output.shape[1:]) * np.prod(layer.kernel.shape[:-1]))
    return total


@FORMATS
def test_an_int8_file_does_all_its_work_in_integers(tiny_exported: Path, suffix: str) -> None:
    census = take_census(tiny_exported / f"pneumonia/model-int8.{suffix}")
    assert census.integer_share == 1
    assert [item.kind.lower() for item in census.floating] in (["logistic"], ["sigmoid"])
    assert all(item.reason for item in census.floating)
    assert {item.computes_in for item in census.operators if item.work} == {"int8"}


@FORMATS
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_other_files_do_none(tiny_exported: Path, suffix: str, precision: str) -> None:
    census = take_census(tiny_exported / f"pneumonia/model-{precision}.{suffix}")
    assert census.integer_share == 0
    working = {item.computes_in for item in census.operators if item.work}
    # TFLite stores half precision and computes in single.
    half = precision == "fp16" and suffix == "onnx"
    assert working == {"float16" if half else "float32"}
    assert {item.reason for item in census.floating if item.work} == {""}


@pytest.mark.parametrize(
    "name",
    [
        "model.keras",
        "model-int8.tflite",
        "model-fp16.tflite",
        "model-fp32.tflite",
        "model-int8.onnx",
        "model-fp16.onnx",
        "model-fp32.onnx",
    ],
)
def test_the_work_is_the_layers_work_in_every_format(tiny_exported: Path, name: str) -> None:
    folder = tiny_exported / "pneumonia"
    expected = work_of_layers(folder / "model.keras")
    assert expected > 1e7
    assert take_census(folder / name).work == expected


def test_one_floating_operand_makes_a_product_floating(tmp_path: Path) -> None:
    """Weights of 8 bits that are multiplied in floating point: int8 by name only."""

    def constant(name: str, array: Any) -> Any:
        return numpy_helper.from_array(np.asarray(array), name)

    nodes = [
        helper.make_node("DequantizeLinear", ["weights", "scale", "zero"], ["loose"]),
        helper.make_node("MatMul", ["pixels", "loose"], ["scores"], name="product"),
    ]
    graph = helper.make_graph(
        nodes,
        "pretender",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [
            constant("weights", np.ones((4, 3), np.int8)),
            constant("scale", np.float32(0.5)),
            constant("zero", np.int8(0)),
        ],
    )
    path = tmp_path / "pretender.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    census = take_census(path)
    (product,) = census.floating
    assert (product.name, product.computes_in, product.work) == ("product", "float32", 12)
    assert census.integer_share == 0
    assert product.reason == ""


def test_shares_and_kinds_are_summed_up() -> None:
    census = Census(
        (
            operator("CONV_2D", "int8", 60),
            operator("CONV_2D", "int8", 20),
            operator("CONV_2D", "float32", 20),
            operator("DEQUANTIZE", "float32"),
            operator("ADD", "int8"),
        ),
        {},
    )
    assert census.work == 100
    assert census.integer_share == 0.8
    assert [item.work for item in census.floating] == [20]
    assert census.by_kind == [
        ("CONV_2D", "int8", 2, 80),
        ("CONV_2D", "float32", 1, 20),
        ("ADD", "int8", 1, 0),
        ("DEQUANTIZE", "float32", 1, 0),
    ]


def test_a_file_without_products_has_no_share() -> None:
    assert Census((operator("ADD", "int8"),), {}).integer_share == 0


@pytest.mark.parametrize("name", ["model.txt", "model", "model.h5"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"accepted: \.tflite, \.onnx, \.keras"):
        take_census(tmp_path / name)


@pytest.mark.parametrize("name", ["model-int8.tflite", "model-int8.onnx", "model.keras"])
def test_damaged_files_are_named(tiny_exported: Path, tmp_path: Path, name: str) -> None:
    content = (tiny_exported / "pneumonia" / name).read_bytes()
    for number, damaged in enumerate((b"", content[: len(content) // 2], b"\xff" * 999)):
        path = tmp_path / f"{number}{Path(name).suffix}"
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError, match=str(path)):
            take_census(path)
