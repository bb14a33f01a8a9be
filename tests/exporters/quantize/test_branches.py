"""Ranges of branches: where the rectified sum is off the least, in both formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from medkit_exporters.quantize.branches import best_range, branch_ranges, layers_in  # noqa: E402

layers = keras.layers
RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (24, 16, 16, 1), dtype=np.uint8)


def network(rectified: bool = True) -> Any:
    """Build a network of which one branch reaches far deeper than a rectified sum can tell."""
    keras.utils.set_random_seed(1)
    pixels = keras.Input((16, 16, 1), dtype="uint8")
    first = layers.Conv2D(6, 3, strides=2, bias_initializer="ones")(
        layers.Rescaling(1 / 255)(pixels)
    )
    first = layers.ReLU()(first)
    branch = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same", name="deep")(first))
    both = layers.Add(name="sum")([first, branch])
    both = layers.ReLU()(both) if rectified else both
    model = keras.Model(pixels, layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(both)))
    kernel, bias = model.get_layer("deep").get_weights()
    model.get_layer("deep").set_weights([-2 * np.abs(kernel), bias + 6])
    return model


def sum_error(own: Any, other: Any, top: float, ends: tuple[float, float]) -> float:
    step = (ends[1] - ends[0]) / 255
    zero = np.rint(-ends[0] / step)
    rounded = (np.clip(np.rint(own / step) + zero, 0, 255) - zero) * step
    return float(np.square(np.clip(rounded + other, 0, top) - np.clip(own + other, 0, top)).mean())


def test_what_cannot_change_a_rectified_sum_is_left_out() -> None:
    own = np.concatenate([RNG.uniform(-18, -7, 5000), RNG.uniform(-6, 6, 5000)])
    other = RNG.uniform(0, 6, 10_000)
    low, high = best_range(own, other, 6.0)
    assert -7 < low < 0 < high <= 6
    assert sum_error(own, other, 6.0, (low, high)) < sum_error(own, other, 6.0, (-18, 6)) / 3


def test_what_hardly_ever_counts_gives_way_to_finer_steps() -> None:
    own, other = RNG.normal(0, 1, 500_000), np.abs(RNG.normal(0, 1, 500_000))
    own[0], other[0] = -12.0, 12.0
    low, high = best_range(own, other, np.inf)
    assert -8 < low < -1
    assert 1 < high < 10


def test_a_branch_that_fills_its_range_keeps_it() -> None:
    own, other = RNG.uniform(-1, 2, 20_000), np.full(20_000, 3.0)
    assert best_range(own, other, 6.0) == pytest.approx((-1, 2), abs=0.2)


def test_a_branch_that_never_fires_has_a_range_that_can_be_divided_by() -> None:
    low, high = best_range(np.zeros(10), np.ones(10), 6.0)
    assert low <= 0 < high


def test_only_branches_of_their_own_that_end_in_a_convolution_get_a_range() -> None:
    ((addition,), skipped) = branch_ranges(network(), IMAGES)
    assert addition.name == "sum"
    (branch,) = addition.branches
    assert branch.layers[-1] == "deep"
    assert branch.range[0] < 0 < branch.range[1]
    assert skipped == ()
    assert branch_ranges(network(rectified=False), IMAGES) == (
        [],
        ("branches: 1 of 1 additions left as they are: no ReLU alone reads them (1)",),
    )


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_both_formats_take_the_range_and_still_compute_the_same(kind: str) -> None:
    pytest.importorskip("onnx")
    from medkit_exporters.calibration import span_full_range
    from medkit_exporters.formats.registry import get_exporter
    from medkit_exporters.quantize.source import Source
    from medkit_exporters.settings import EXTREMES, Settings

    model, images = network(), span_full_range(IMAGES)
    exporter = get_exporter(kind).load()
    source = Source(path=None, card=None, model=model)  # type: ignore[arg-type]
    content = exporter.convert(source, Settings("int8", EXTREMES), images)
    ((addition,), _) = branch_ranges(model, images)
    wanted = addition.branches[0].range
    assert stored_steps(kind, content) == pytest.approx((wanted[1] - wanted[0]) / 255, rel=1e-5)
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(run(kind, content), expected, atol=4e-3)


def test_names_of_tensors_are_read_without_the_numbers_that_tensorflow_adds() -> None:
    name = "functional_1/re_lu_1_2/Relu6;functional_1/my_sum_1/Add;functional_1/deep_1/Conv2D:0"
    assert layers_in(name) == {"functional", "re_lu_1", "my_sum", "deep"}
    assert layers_in("pixels") == set()


def test_an_addition_that_a_file_does_not_have_is_told_and_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from medkit_exporters.calibration import span_full_range
    from medkit_exporters.formats import tflite_edits, tflite_file
    from medkit_exporters.formats.registry import get_exporter
    from medkit_exporters.quantize.branches import Addition
    from medkit_exporters.quantize.source import Source
    from medkit_exporters.settings import EXTREMES, Settings

    source = Source(path=None, card=None, model=network())  # type: ignore[arg-type]
    images = span_full_range(IMAGES)
    # Branches are found by the converter's names, which the finished file no longer has.
    monkeypatch.setattr(tflite_file, "compact", lambda content: content)
    content = get_exporter("tflite").load().convert(source, Settings("int8", EXTREMES), images)
    ((addition,), _) = branch_ranges(source.model, images)
    edited = tflite_edits.clip_branches(content, [addition, Addition("other", addition.branches)])
    assert edited.skipped == ("branches: 1 of 2 additions are not found in the file",)
    assert edited.content == tflite_edits.clip_branches(content, [addition]).content


def stored_steps(kind: str, content: bytes) -> float:
    """Return the step of the addition's second input."""
    if kind == "onnx":
        import onnx

        graph = onnx.load_from_string(content).graph
        constants = {x.name: onnx.numpy_helper.to_array(x) for x in graph.initializer}
        producers = {name: node for node in graph.node for name in node.output}
        (addition,) = (node for node in graph.node if node.op_type == "Add")
        return float(constants[producers[addition.input[1]].input[1]])
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    (addition,) = (
        op
        for op in graph.operators
        if model.operatorCodes[op.opcodeIndex].builtinCode == schema.BuiltinOperator.ADD
    )
    return float(graph.tensors[addition.inputs[1]].quantization.scale[0])


def run(kind: str, content: bytes) -> Any:
    """Run a file without a card on all images."""
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: IMAGES})[0]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(taken["index"], IMAGES.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], IMAGES)
    interpreter.invoke()
    return interpreter.get_tensor(given["index"])


def test_a_hidden_dense_layer_is_not_taken_for_the_logits() -> None:
    from medkit_exporters.calibration import span_full_range
    from medkit_exporters.formats.tflite import TFLiteExporter
    from medkit_exporters.quantize.source import Source
    from medkit_exporters.settings import Settings

    keras.utils.set_random_seed(2)
    pixels = keras.Input((16, 16, 1), dtype="uint8")
    x = layers.Conv2D(6, 3, strides=2)(layers.Rescaling(1 / 255)(pixels))
    x = layers.Flatten()(layers.ReLU()(x))
    x = layers.Dense(8, activation="relu")(x)
    model = keras.Model(pixels, layers.Dense(3, "softmax")(x))
    source = Source(path=None, card=None, model=model)  # type: ignore[arg-type]
    content = TFLiteExporter().convert(source, Settings("int8"), span_full_range(IMAGES))
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(run("tflite", content), expected, atol=0.02)
