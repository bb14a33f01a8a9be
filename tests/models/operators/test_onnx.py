"""ONNX files of others: integers of every kind are counted as integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.errors import ModelFileError
from medkit.models.inspection import inspect_file
from medkit.models.operators.summary import OperatorSummary, summarise_operators

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

CONV, GEMM = 30 * 30 * 8 * 27, 8 * 2
KERNEL, MATRIX = np.ones((8, 3, 3, 3), np.int8), np.ones((2, 8), np.int8)


def scalars(*names: str) -> dict[str, Any]:
    """Make a scale of 0.5 for each name, and a zero point of 0."""
    made: dict[str, Any] = {}
    for name in names:
        made |= {f"{name}_s": np.float32(0.5), f"{name}_z": np.int8(0)}
    return made


def saved(
    path: Path,
    nodes: list[Any],
    constants: dict[str, Any],
    shape: tuple[Any, ...] = ("N", 3, 32, 32),
    dtype: int = TensorProto.FLOAT,
) -> OperatorSummary:
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=9), path)
    return summarise_operators(path)


def test_a_qoperator_file_is_counted_as_integers(tmp_path: Path) -> None:
    node, own = helper.make_node, {"domain": "com.microsoft"}
    nodes = [
        node("QuantizeLinear", ["x", "x_s", "x_z"], ["xq"]),
        node("QLinearConv", ["xq", "x_s", "x_z", "w", "w_s", "w_z", "c_s", "c_z"], ["cq"]),
        node("QLinearGlobalAveragePool", ["cq", "c_s", "c_z", "p_s", "p_z"], ["pq"], **own),
        node("Flatten", ["pq"], ["fq"]),
        node(
            "QGemm",
            ["fq", "p_s", "p_z", "b", "b_s", "b_z", "", "y_s", "y_z"],
            ["yq"],
            transB=1,
            **own,
        ),
        node("DequantizeLinear", ["yq", "y_s", "y_z"], ["y"]),
    ]
    constants = {**scalars("x", "w", "c", "p", "b", "y"), "w": KERNEL, "b": MATRIX}
    found = saved(tmp_path / "made.onnx", nodes, constants)
    assert {item.kind: item.work for item in found.operators if item.work} == {
        "QLinearConv": CONV,
        "QGemm": GEMM,
    }
    assert found.integer_share == 1
    assert found.floating == ()
    assert inspect_file(tmp_path / "made.onnx").card is None


def test_a_file_quantised_as_it_runs_is_counted_as_integers(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        node("ConvInteger", ["xq", "w", "xz", "w_z"], ["c"]),
        node("Cast", ["c"], ["cf"], to=TensorProto.FLOAT),
        node("GlobalAveragePool", ["cf"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("DynamicQuantizeLinear", ["f"], ["fq", "fs", "fz"]),
        node("MatMulInteger", ["fq", "b", "fz", "b_z"], ["m"]),
        node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    constants = {"w": KERNEL, "b": MATRIX.T, "w_z": np.int8(0), "b_z": np.int8(0)}
    found = saved(tmp_path / "made.onnx", nodes, constants)
    assert {item.kind: item.work for item in found.operators if item.work} == {
        "ConvInteger": CONV,
        "MatMulInteger": GEMM,
    }
    assert found.integer_share == 1


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "options"),
    [
        ("DynamicQuantizeMatMul", ["x", "b", "b_s", "b_z"], "y", {}),
        ("QLinearMatMul", ["xq", "x_s", "x_z", "b", "b_s", "b_z", "y_s", "y_z"], "yq", {}),
        ("MatMulIntegerToFloat", ["xq", "b", "x_s", "b_s"], "y", {}),
    ],
)
def test_products_of_integers_with_other_names_are_counted(
    tmp_path: Path, kind: str, inputs: list[str], output: str, options: dict[str, Any]
) -> None:
    nodes = [helper.make_node("QuantizeLinear", ["x", "x_s", "x_z"], ["xq"])]
    domain = "" if kind == "QLinearMatMul" else "com.microsoft"
    nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **options))
    if output != "y":
        nodes.append(helper.make_node("DequantizeLinear", [output, "y_s", "y_z"], ["y"]))
    constants = {**scalars("x", "b", "y"), "b": np.ones((4, 3), np.int8)}
    found = saved(tmp_path / "made.onnx", nodes, constants, ("N", 4))
    assert (found.work, found.integer_share) == (12, 1)


def test_four_bit_weights_with_floating_data_are_told_as_hybrid(tmp_path: Path) -> None:
    node = helper.make_node(
        "MatMulNBits",
        ["x", "b", "s"],
        ["y"],
        domain="com.microsoft",
        K=32,
        N=3,
        bits=4,
        block_size=32,
    )
    constants = {"b": np.ones((3, 1, 16), np.uint8), "s": np.ones(3, np.float32)}
    found = saved(tmp_path / "made.onnx", [node], constants, ("N", 32))
    assert (found.work, found.integer_share, found.hybrid_share) == (96, 0, 1)
    assert [numbers for _, numbers, _, _ in found.by_kind] == ["float32, int4 weights"]


def test_transposed_convolutions_and_recurrent_layers_are_counted(tmp_path: Path) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
    kernel = {"w": np.ones((8, 3, 3, 3), np.float32)}
    found = saved(tmp_path / "transposed.onnx", [node], kernel, (1, 8, 8, 8))
    assert found.work == 8 * 8 * 8 * 27
    node = helper.make_node("GRU", ["x", "w", "r"], ["", "y"], hidden_size=5)
    matrices = {"w": np.ones((1, 15, 4), np.float32), "r": np.ones((1, 15, 5), np.float32)}
    assert saved(tmp_path / "gru.onnx", [node], matrices, (10, 1, 4)).work == 10 * 15 * (4 + 5)


def test_an_operator_that_nobody_knows_is_told(tmp_path: Path) -> None:
    node = helper.make_node("Mystery", ["x"], ["y"], domain="elsewhere")
    (doubt,) = saved(tmp_path / "made.onnx", [node], {}).doubts
    assert doubt[0] == "Mystery"


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "made.onnx"
    for content in (b"", b"hello", b"\xff" * 99):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=str(path)):
            summarise_operators(path)
