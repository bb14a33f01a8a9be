"""The census: operators, their numbers, and their work, counted by hand for networks made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.errors import ExportError, ModelFileError, UsageError
from medkit.models.operators.summary import (
    Operator,
    OperatorSummary,
    Pixels,
    check_promise,
    summarise_operators,
)

keras = pytest.importorskip("keras")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from medkit_exporters.formats import tflite_edits as flatbuffer  # noqa: E402
from medkit_exporters.formats.registry import get_exporter  # noqa: E402
from medkit_exporters.quantize import source as sources  # noqa: E402
from medkit_exporters.settings import Settings  # noqa: E402

FORMATS = pytest.mark.parametrize("suffix", ["tflite", "onnx"])
RAW = Pixels("uint8")


def operator(kind: str, computes_in: str, work: int = 0, **others: str) -> Operator:
    return Operator(f"a {kind}", kind, computes_in, work, **others)


def work_of_layers(path: Path, kind: Any) -> int:
    """Count the work of a Keras network's layers of a kind."""
    total = 0
    for layer in keras.saving.load_model(path).layers:
        if isinstance(layer, kind):
            total += int(np.prod(layer.output.shape[1:]) * np.prod(layer.kernel.shape[:-1]))
    return total


@FORMATS
def test_an_int8_file_does_all_its_work_in_integers(tiny_exported: Path, suffix: str) -> None:
    census = summarise_operators(tiny_exported / f"pneumonia/model-int8.{suffix}")
    assert census.integer_share == 1
    kinds = {"tflite": ["MEAN", "MUL", "LOGISTIC"], "onnx": ["Mul", "Sigmoid"]}[suffix]
    assert [item.kind for item in census.floating] == kinds
    assert all(item.reason for item in census.floating)
    assert census.pixels.raw
    assert {item.computes_in for item in census.operators if item.work} == {"int8"}


@FORMATS
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_other_files_do_none(tiny_exported: Path, suffix: str, precision: str) -> None:
    census = summarise_operators(tiny_exported / f"pneumonia/model-{precision}.{suffix}")
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
    original = folder / "model.keras"
    convolutions = work_of_layers(original, keras.layers.Conv2D)
    assert convolutions > 1e7
    if "int8" in name:
        # The first convolution reads a second channel, which holds the pixels' offset.
        first = next(x for x in keras.saving.load_model(original).layers if hasattr(x, "kernel"))
        convolutions += int(np.prod(first.output.shape[1:])) * 9
    # The int8 TFLite file computes its logits several times.
    copies = flatbuffer.LOGIT_COPIES if name == "model-int8.tflite" else 1
    logits = work_of_layers(original, keras.layers.Dense)
    assert summarise_operators(folder / name).work == convolutions + copies * logits


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
    census = summarise_operators(path)
    (product,) = census.floating
    assert (product.name, product.computes_in, product.work) == ("product", "float32", 12)
    assert census.integer_share == 0
    assert product.reason == ""


def test_shares_and_kinds_are_summed_up() -> None:
    census = OperatorSummary(
        (
            operator("CONV_2D", "int8", 60),
            operator("CONV_2D", "int8", 20),
            operator("CONV_2D", "float32", 20),
            operator("DEQUANTIZE", "float32"),
            operator("ADD", "int8"),
        ),
        {},
        RAW,
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
    assert OperatorSummary((operator("ADD", "int8"),), {}, RAW).integer_share == 0


# What a precision promises


@pytest.mark.parametrize(
    ("precision", "computes_in"),
    [
        ("int8", "int8"),
        ("int16", "int16"),
        ("int16", "uint16"),
        ("mixed", "int8"),
        ("fp16", "float16"),
        ("fp32", "float32"),
    ],
)
def test_products_in_the_numbers_of_the_precision_keep_its_promise(
    precision: str, computes_in: str
) -> None:
    product = operator("CONV_2D", computes_in, 9)
    last = operator("LOGISTIC", "float32")
    check_promise(OperatorSummary((product, last), {}, RAW), precision)
    check_promise(OperatorSummary((product, last), {}, Pixels("uint8", 1.0, 0)), precision)


def test_attention_multiplies_two_activations_which_are_uint8_in_an_onnx_file() -> None:
    attention, last = operator("MatMul", "uint8", 9), operator("Softmax", "float32")
    check_promise(OperatorSummary((attention, last), {}, RAW), "int8")


@pytest.mark.parametrize(
    ("precision", "operators", "message"),
    [
        ("int8", [("CONV_2D", "int16", 9)], "CONV_2D a CONV_2D computes in int16, not in int8"),
        ("int8", [("CONV_2D", "uint8", 9)], "computes in uint8, not in int8"),
        ("int8", [("CONV_2D", "int8", 9), ("Conv", "float32", 1)], r"float32.*90% of the work"),
        ("int8", [("CONV_2D", "int8", 9), ("ADD", "float32", 0)], "ADD a ADD computes in float32"),
        ("int16", [("CONV_2D", "int8", 9)], "computes in int8, not in int16"),
        ("int16", [("CONV_2D", "int16", 9), ("ADD", "float32", 0)], "ADD a ADD computes in"),
        ("mixed", [("CONV_2D", "float32", 9), ("ADD", "int8", 0)], "no product computes in int"),
        ("fp16", [("Conv", "float16", 9), ("MatMul", "int8", 1)], "MatMul .* not in floating"),
        ("fp32", [("CONV_2D", "int8", 9)], "computes in int8, not in floating point"),
    ],
)
def test_other_numbers_break_the_promise_of_a_precision(
    precision: str, operators: list[tuple[str, str, int]], message: str
) -> None:
    census = OperatorSummary(tuple(operator(*item) for item in operators), {}, RAW)
    with pytest.raises(ExportError, match=message):
        check_promise(census, precision)


def test_the_operator_with_the_most_such_work_is_named() -> None:
    sizes = {"CONV_2D": 3, "FULLY_CONNECTED": 7, "DEPTHWISE_CONV_2D": 5}
    census = OperatorSummary(
        tuple(operator(kind, "float32", work) for kind, work in sizes.items()), {}, RAW
    )
    with pytest.raises(ExportError, match=r"FULLY_CONNECTED a FULLY_CONNECTED .*3 such operators"):
        check_promise(census, "int8")


@pytest.mark.parametrize("precision", ["int8", "int16", "mixed", "fp16", "fp32"])
@pytest.mark.parametrize(
    "pixels",
    [
        Pixels("uint8", 0.5, 0),
        Pixels("uint8", 1.0, 128),
        Pixels("int8", 1.0, 0),
        Pixels("float32"),
    ],
)
def test_an_input_that_is_not_raw_pixels_breaks_every_promise(
    precision: str, pixels: Pixels
) -> None:
    with pytest.raises(ExportError, match=f"the input is {pixels.dtype} .* so that raw pixels fit"):
        check_promise(OperatorSummary((operator("ADD", "int8"),), {}, pixels), precision)


@pytest.mark.parametrize("precision", ["int8", "int16", "mixed", "fp16", "fp32"])
def test_a_product_without_sound_weights_breaks_every_promise(precision: str) -> None:
    numbers = {"int8": "int8", "int16": "int16", "mixed": "int8"}.get(precision, "float32")
    product = operator("CONV_2D", numbers, 9, fault="all its weights are zero")
    with pytest.raises(ExportError, match="CONV_2D a CONV_2D: all its weights are zero"):
        check_promise(OperatorSummary((product,), {}, RAW), precision)


@pytest.fixture(scope="module")
def spoiled() -> Callable[[float], Any]:
    """Give a network of two products, a weight of whose first is given; 0 stands for all."""

    def spoil(weight: float) -> Any:
        keras.utils.set_random_seed(0)
        pixels = keras.Input((16, 16, 1), dtype="uint8")
        layer = keras.layers.Conv2D(4, 3, activation="relu")
        pooled = keras.layers.GlobalAveragePooling2D()(layer(keras.layers.Rescaling(1.0)(pixels)))
        model = keras.Model(pixels, keras.layers.Dense(1, "sigmoid")(pooled))
        kernel, bias = layer.get_weights()
        kernel[0, 0, 0, 0] = weight
        layer.set_weights([kernel * (weight != 0), bias])
        return sources.Source(Path("model.keras"), None, model)

    return spoil


@FORMATS
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize(
    ("weight", "fault"),
    [(0.5, ""), (0.0, "all its weights are zero"), (np.nan, "a weight is no finite number")],
)
def test_weights_that_are_all_zero_or_not_finite_are_found_in_a_file(
    spoiled: Callable[[float], Any], suffix: str, precision: str, weight: float, fault: str
) -> None:
    exporter: Any = get_exporter(suffix).load()
    census = exporter.summarise(exporter._convert_floats(spoiled(weight), Settings(precision)))
    assert [item.fault for item in census.operators if item.work] == [fault, ""]


@FORMATS
def test_no_int8_file_is_made_of_weights_that_are_all_zero(
    spoiled: Callable[[float], Any], suffix: str
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), dtype=np.uint8)
    images[0, 0, :2, 0] = 0, 255
    exporter = get_exporter(suffix).load()
    with pytest.raises(ExportError, match="all its weights are zero"):
        exporter.convert(spoiled(0.0), Settings("int8"), images)


@pytest.mark.parametrize("name", ["model.txt", "model", "model.pb"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"accepted: \.tflite, \.onnx, \.keras, \.h5"):
        summarise_operators(tmp_path / name)


@pytest.mark.parametrize("name", ["model-int8.tflite", "model-int8.onnx", "model.keras"])
def test_damaged_files_are_named(tiny_exported: Path, tmp_path: Path, name: str) -> None:
    content = (tiny_exported / "pneumonia" / name).read_bytes()
    for number, damaged in enumerate((b"", content[: len(content) // 2], b"\xff" * 999)):
        path = tmp_path / f"{number}{Path(name).suffix}"
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError, match=str(path)):
            summarise_operators(path)
