from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from exporters.foreignfiles import (
    SIZE,
    card_for,
    pixels,
    run_onnx,
    saved,
    sigmoid,
    softmax,
    torch_like,
)
from medkit.errors import ModelFileError, UsageError
from medkit.models.runtimes.loading import load_model
from medkit_exporters.adoption.base import LOGITS, SIGMOID, SOFTMAX
from medkit_exporters.adoption.onnx_file import OnnxFile, open_onnx
from medkit_exporters.adoption.opening import Asked
from medkit_exporters.adoption.pixels import PIXEL_RULES


def opened(folder: Path, content: bytes, size: tuple[int, int] | None = None) -> OnnxFile:
    return open_onnx(saved(folder, content, "foreign.onnx"), Asked(size))


def refused(folder: Path, content: bytes) -> str:
    with pytest.raises(ModelFileError) as caught:
        opened(folder, content)
    line = str(caught.value)
    assert line.startswith(str(folder / "foreign.onnx"))
    assert "\n" not in line
    return line


def changed(content: bytes, **fields: Any) -> bytes:
    """Return an ONNX file whose input or output is another."""
    model = onnx.load_from_string(content)
    for name, values in fields.items():
        field = getattr(model.graph, name)
        del field[:]
        field.extend(values)
    return bytes(model.SerializeToString())


def in_integers(content: bytes, folder: Path, form: str, activations: str = "QUInt8") -> bytes:
    """Quantise a file as ONNX Runtime's guide does."""
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            values = pixels().transpose(0, 3, 1, 2)[:, np.newaxis] / np.float32(255)
            self._feeds: Iterator[dict[str, Any]] = ({"input": value} for value in values)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    plain, made = saved(folder, content, "plain.onnx"), folder / "made.onnx"
    logging.disable(logging.WARNING)  # it recommends a step before this one
    try:
        if form == "dynamic":
            quantization.quantize_dynamic(plain, made)
        else:
            quantization.quantize_static(
                plain,
                made,
                Images(),
                quant_format=quantization.QuantFormat[form],
                activation_type=quantization.QuantType[activations],
                weight_type=quantization.QuantType.QInt8,
            )
    finally:
        logging.disable(logging.NOTSET)
    return made.read_bytes()


@pytest.mark.parametrize("batch", [1, "n"])
@pytest.mark.parametrize(
    ("channels", "name"), [(1, "0..1"), (1, "-1..1"), (3, "imagenet"), (3, "caffe")]
)
def test_channels_first_and_a_fixed_batch_become_last_and_free(
    tmp_path: Path, batch: int | str, channels: int, name: str
) -> None:
    rule, images = PIXEL_RULES[name], pixels(channels)
    content = torch_like(channels, batch=batch)
    model = opened(tmp_path, content)
    assert model.facts.ending == LOGITS
    assert not model.facts.remarks
    path = model.write(tmp_path, card_for(channels, temperature=1.5), rule, SOFTMAX)
    logits = run_onnx(content, rule.apply(images))
    np.testing.assert_allclose(model.predict(rule.apply(images)), logits, rtol=0, atol=1e-4)
    found = load_model(path).predict(images)
    np.testing.assert_allclose(found, softmax(logits / 1.5), rtol=0, atol=2e-6)
    if name in ("imagenet", "caffe"):
        wrong = softmax(run_onnx(content, rule.apply(images[..., ::-1])) / 1.5)
        assert abs(wrong - found).max() > 0.01


@pytest.mark.parametrize(
    ("operator", "told", "ending"),
    [
        ("Softmax", SOFTMAX, SOFTMAX),
        ("Sigmoid", SIGMOID, SIGMOID),
        ("LogSoftmax", LOGITS, SOFTMAX),
    ],
)
def test_each_ending_is_known(tmp_path: Path, operator: str, told: str, ending: str) -> None:
    rule, images = PIXEL_RULES["0..1"], pixels()
    model = opened(tmp_path, torch_like(ending=operator))
    assert model.facts.ending == told
    written = load_model(model.write(tmp_path, card_for(temperature=2.0), rule, ending))
    logits = run_onnx(torch_like(), rule.apply(images)) / 2
    expected = sigmoid(logits) if ending == SIGMOID else softmax(logits)
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-6)


def test_one_sigmoid_gets_a_column_for_each_of_two_labels(tmp_path: Path) -> None:
    rule, images = PIXEL_RULES["0..1"], pixels()
    model = opened(tmp_path, torch_like(outputs=1, ending="Sigmoid"))
    written = load_model(model.write(tmp_path, card_for(outputs=1), rule, SIGMOID))
    second = run_onnx(torch_like(outputs=1, ending="Sigmoid"), rule.apply(images))
    expected = np.concatenate([1 - second, second], axis=1)
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-6)


def test_half_precision_is_taken_and_named(tmp_path: Path) -> None:
    rule, images = PIXEL_RULES["imagenet"], pixels()
    content = torch_like(ending="Softmax", half=True)
    model = opened(tmp_path, content)
    path = model.write(tmp_path, card_for(), rule, SOFTMAX)
    assert path.name == "model-fp16.onnx"
    expected = run_onnx(content, rule.apply(images))
    np.testing.assert_allclose(load_model(path).predict(images), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
def test_integers_keep_their_logits(tmp_path: Path, form: str, activations: str) -> None:
    rule, images = PIXEL_RULES["0..1"], pixels()
    content = in_integers(torch_like(batch="n"), tmp_path, form, activations)
    model = opened(tmp_path, content)
    assert model.facts.precision == "int8"
    written = load_model(model.write(tmp_path, card_for(), rule, SOFTMAX))
    expected = softmax(run_onnx(content, rule.apply(images)))
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_a_softmax_in_integers_is_computed_in_floats(tmp_path: Path, form: str) -> None:
    rule, images = PIXEL_RULES["0..1"], pixels()
    content = in_integers(torch_like(batch="n", ending="Softmax"), tmp_path, form)
    model = opened(tmp_path, content)
    assert (model.facts.ending, model.facts.precision) == (SOFTMAX, "int8")
    written = load_model(model.write(tmp_path, card_for(), rule, SOFTMAX))
    expected = run_onnx(content, rule.apply(images))
    # The runtime's softmax of integers is a step or less from that of its logits.
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1.3 / 256)


def test_ranges_that_are_fixed_at_run_time_belong_to_one_image(tmp_path: Path) -> None:
    rule, images = PIXEL_RULES["0..1"], pixels()
    content = in_integers(torch_like(batch="n"), tmp_path, "dynamic")
    model = opened(tmp_path, content)
    assert "one image at a time" in model.facts.remarks[0]
    assert model.facts.remarks[1].startswith("it counts as mixed: ")
    path = model.write(tmp_path, card_for(), rule, SOFTMAX)
    assert path.name == "model-mixed.onnx"
    expected = softmax(run_onnx(content, rule.apply(images)))
    np.testing.assert_allclose(load_model(path).predict(images), expected, rtol=0, atol=1e-6)


def test_a_graph_that_cannot_take_more_runs_image_by_image(tmp_path: Path) -> None:
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(torch_like(outputs=4))
    graph = model.graph
    turned = np.array([[0.0, 1.0], [2.0, 0.5]], np.float32)
    for name, values in (("two", np.array([2, 2])), ("one", np.array([1, 4])), ("turn", turned)):
        graph.initializer.append(numpy_helper.from_array(values, name))
    graph.node[-1].output[0] = "scores"
    graph.node.append(helper.make_node("Reshape", ["scores", "two"], ["rows"]))
    graph.node.append(helper.make_node("MatMul", ["rows", "turn"], ["turned"]))
    graph.node.append(helper.make_node("Reshape", ["turned", "one"], ["logits"]))
    content = bytes(model.SerializeToString())
    rule, images = PIXEL_RULES["0..1"], pixels()
    made = opened(tmp_path, content)
    assert "one image at a time" in made.facts.remarks[0]
    card = card_for(outputs=4)
    card = type(card)(**{**vars(card), "labels": ("a", "b", "c", "d")})
    path = made.write(tmp_path, card, rule, SOFTMAX)
    expected = softmax(run_onnx(content, rule.apply(images)))
    np.testing.assert_allclose(load_model(path).predict(images), expected, rtol=0, atol=1e-6)


def test_bytes_go_into_a_file_that_takes_them(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    model = onnx.load_from_string(torch_like())
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["floats" if name == "input" else name for name in node.input]
    graph.node.insert(0, helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT))
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    content = bytes(model.SerializeToString())
    rule, images = PIXEL_RULES["0..255"], pixels()
    made = opened(tmp_path, content)
    assert made.facts.takes_bytes
    assert made.facts.pixels == rule
    written = load_model(made.write(tmp_path, card_for(), rule, SOFTMAX))
    expected = softmax(run_onnx(content, images.astype(np.float32)))
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=2e-6)
    with pytest.raises(UsageError, match="takes bytes as they are"):
        made.write(tmp_path, card_for(), PIXEL_RULES["0..1"], SOFTMAX)
    with pytest.raises(UsageError, match="takes bytes as they are"):
        made.predict(PIXEL_RULES["0..1"].apply(images))


def test_a_file_from_tensorflow_keeps_channels_last(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    from exporters.foreignfiles import network

    made, rule, images = network(), PIXEL_RULES["imagenet"], pixels()
    path = tmp_path / "foreign.onnx"
    tf2onnx = pytest.importorskip("tf2onnx")
    tensorflow = pytest.importorskip("tensorflow")
    signature = [tensorflow.TensorSpec((None, SIZE, SIZE, 3), tensorflow.float32, name="x")]
    function = tensorflow.function(made, input_signature=signature)
    logging.disable(logging.WARNING)
    try:
        tf2onnx.convert.from_function(function, signature, opset=15, output_path=str(path))
    finally:
        logging.disable(logging.NOTSET)
    written = load_model(open_onnx(path, Asked()).write(tmp_path, card_for(), rule, SOFTMAX))
    expected = keras.ops.convert_to_numpy(made(rule.apply(images)))
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=2e-6)


def test_the_file_that_is_written_is_final(tmp_path: Path) -> None:
    import onnxruntime

    # Inside, a value is called like the input of a final file.
    content = torch_like(ending="Softmax", properties={"author": "someone"})
    rule = PIXEL_RULES["0..1"]
    path = opened(tmp_path, content).write(tmp_path, card_for(temperature=1.5), rule, SOFTMAX)
    card = load_model(path).card
    assert (card.temperature, card.precision) == (1.0, "fp32")
    assert card.source_sha256 == hashlib.sha256(content).hexdigest()
    session = onnxruntime.InferenceSession(path)
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == (
        "image",
        "tensor(uint8)",
        ["batch", SIZE, SIZE, 3],
    )
    assert (given.name, given.shape) == ("probabilities", ["batch", 3])
    assert set(session.get_modelmeta().custom_metadata_map) == {"medkit", "medkit_sha256"}


@pytest.mark.parametrize(
    ("properties", "source"),
    [
        ({"names": "{0: 'cat', 1: \"the dog's\", 2: 'é'}", "task": "classify"}, "names"),
        ({"class_names": '["cat", "the dog\'s", "é"]'}, "class_names"),
        ({"labels": "cat\nthe dog's\né\n"}, "labels"),
        ({"config": '{"id2label": {"1": "the dog\'s", "0": "cat", "2": "é"}}'}, "config"),
        ({"label2id": '{"the dog\'s": 1, "cat": 0, "é": 2}'}, "label2id"),
        ({"pretrained_cfg": '{"label_names": ["cat", "the dog\'s", "é"]}'}, "pretrained_cfg"),
    ],
)
def test_labels_are_read_from_metadata(
    tmp_path: Path, properties: dict[str, str], source: str
) -> None:
    facts = opened(tmp_path, torch_like(properties=properties)).facts
    assert facts.labels == ("cat", "the dog's", "é")
    assert facts.labels_from == f"its metadata property {source}"


@pytest.mark.parametrize(
    "names", ["{0: 'cat', 2: 'dog'}", "__import__('os').getcwd()", "{0: f()}", "", "[" * 9999]
)
def test_metadata_that_are_no_labels_are_no_labels(tmp_path: Path, names: str) -> None:
    assert not opened(tmp_path, torch_like(properties={"names": names})).facts.labels


def test_a_size_that_is_free_is_that_which_the_user_names(tmp_path: Path) -> None:
    rule, images = PIXEL_RULES["0..1"], pixels()
    content = torch_like(size="side", batch="n")
    assert opened(tmp_path, content).facts.width is None
    model = opened(tmp_path, content, (SIZE, SIZE))
    written = load_model(model.write(tmp_path, card_for(), rule, SOFTMAX))
    expected = softmax(run_onnx(content, rule.apply(images)))
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-6)


def test_constants_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    model = onnx.load_from_string(torch_like())
    listed = helper.make_tensor_value_info("fc.bias", TensorProto.FLOAT, [3])
    content = changed(torch_like(), input=[listed, *model.graph.input])
    written = opened(tmp_path, content).write(tmp_path, card_for(), PIXEL_RULES["0..1"], SOFTMAX)
    assert load_model(written).predict(pixels()).shape == (len(pixels()), 3)


def test_inputs_and_outputs_that_are_no_classifiers_are_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    content = torch_like()
    graph = onnx.load_from_string(content).graph

    def value(name: str, kind: int, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    number = TensorProto.FLOAT
    for fields, problem in (
        ({"input": [*graph.input, value("more", number, [1])]}, "has 2 inputs; accepted"),
        ({"output": [*graph.output, value("r", number, [1, 8, 15, 15])]}, "has 2 outputs"),
        ({"output": [value("r", number, [1, 8, 15, 15])]}, "which is no classification"),
        ({"input": [value("input", number, [1, "c", 32, "w"])]}, "does not tell how many channels"),
        ({"input": [value("input", number, [1, 4, 32, 32])]}, "takes images of 4 channels"),
        ({"input": [value("input", TensorProto.DOUBLE, [1, 3, 32, 32])]}, "takes DOUBLE and"),
        ({"input": [value("input", TensorProto.INT8, [1, 3, 32, 32])]}, "int8 numbers without a"),
    ):
        assert problem in refused(tmp_path, changed(content, **fields))


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (lambda: torch_like(outputs=1, ending="Softmax"), "ends in a softmax of one value"),
        (lambda: torch_like(ending="HardSigmoid"), "gives values of 0 to 1, and ends in HardSig"),
        (lambda: torch_like()[:500], "is no .onnx file, or a damaged one"),
        (lambda: b"", "is no .onnx file, or a damaged one"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path: Path, made: Any, problem: str) -> None:
    assert problem in refused(tmp_path, made())


def test_faulty_weights_and_unknown_operators_are_refused(tmp_path: Path) -> None:
    from onnx import numpy_helper

    model = onnx.load_from_string(torch_like())
    faulty = numpy_helper.to_array(model.graph.initializer[0]).copy()
    faulty[0, 0, 0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(faulty, "conv.weight"))
    assert "holds a NaN in 'conv.weight'" in refused(tmp_path, model.SerializeToString())
    model = onnx.load_from_string(torch_like())
    model.graph.node[1].domain = "some.where"
    model.graph.node[1].op_type = "Unknown"
    model.opset_import.add(domain="some.where", version=1)
    assert "cannot be loaded by ONNX Runtime" in refused(tmp_path, model.SerializeToString())
    model = onnx.load_from_string(torch_like())
    model.opset_import[0].version = 6
    assert "is of ONNX operator set 6; accepted: 7 and" in refused(
        tmp_path, model.SerializeToString()
    )
    onnx.save(
        onnx.load_from_string(torch_like()),
        tmp_path / "foreign.onnx",
        save_as_external_data=True,
        size_threshold=0,
    )
    assert "has its weights in another file" in refused(
        tmp_path, (tmp_path / "foreign.onnx").read_bytes()
    )
