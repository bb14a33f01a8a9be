"""Networks of every kind that people build: exported alike, and what was skipped is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("onnx")

from exporters.networks import NETWORKS, all_layers, build, images_for  # noqa: E402
from medkit.defaults import BALANCED  # noqa: E402
from medkit.errors import ExportError  # noqa: E402
from medkit.images.contract import InputContract  # noqa: E402
from medkit.models.card import ModelCard  # noqa: E402
from medkit.models.operators.summary import check_promise  # noqa: E402
from medkit.models.points import OperatingPoint  # noqa: E402
from medkit.training import archive  # noqa: E402
from medkit_exporters.calibration import span_full_range  # noqa: E402
from medkit_exporters.formats.registry import known_exporters  # noqa: E402
from medkit_exporters.quantize.bias import shift_logits  # noqa: E402
from medkit_exporters.quantize.caps import cap_activations  # noqa: E402
from medkit_exporters.quantize.equalise import equalise  # noqa: E402
from medkit_exporters.quantize.fold import fold_rescaling  # noqa: E402
from medkit_exporters.quantize.network import Rewritten, flat  # noqa: E402
from medkit_exporters.quantize.rounding import round_together  # noqa: E402
from medkit_exporters.quantize.source import Source, open_source  # noqa: E402
from medkit_exporters.settings import Settings  # noqa: E402

layers = keras.layers
EXPORTERS = {name: known.load() for name, known in known_exporters().items()}

REFUSED = {
    ("ends_in_pooling", "tflite", "int8"): "ELU .* computes in float32, not in int8",
    ("unusual_layers", "onnx", "fp32"): "conversion to ONNX failed: No Op registered",
    ("unusual_layers", "onnx", "int8"): "conversion to ONNX failed: No Op registered",
}
"""What a converter or a runtime cannot do, and how the export says so."""

SKIPPED = {
    "hidden_dense": "equalise: 1 of 3 groups of channels left as they are: Flatten writes them (1)",
    "mobilenet": "equalise: 42 of 42 groups of channels left as they are: ReLU6 writes them (35), "
    "DepthwiseConv2D reads them (17), no plain ReLU writes them (7)",
    "separable": "rounding: 2 of 4 layers with weights rounded one by one: SeparableConv2D (2)",
    "densenet": "equalise: 3 of 4 groups of channels left as they are: BatchNormalization writes "
    "them (3)",
    "efficientnet": "rounding: 1 of 6 layers with weights rounded one by one: DepthwiseConv2D (1)",
    "layer_norm": "rounding: 1 of 5 layers with weights rounded one by one: DepthwiseConv2D (1)",
    "channels_alone": "rounding: 2 of 5 layers with weights rounded one by one: DepthwiseConv2D "
    "(2)",
    "parallel": "fold: the rescaling of the pixels stays a step of its own: 3 layers read its "
    "result",
    "unusual_layers": "rounding: 2 of 3 layers with weights rounded one by one: Conv2D with "
    "dilation (1), Conv2D in groups (1)",
    "larger": "rounding: 1 of 2 layers with weights rounded one by one: BatchNormalization without "
    "scale or offset after it (1)",
    "ends_in_convolution": "equalise: 2 of 2 groups of channels left as they are: hard_silu writes "
    "them (1), Flatten writes them (1)",
    "ends_in_pooling": "equalise: 2 of 2 groups of channels left as they are: elu writes them (1), "
    "no plain ReLU writes them (1)",
    "augmented": "equalise: 1 of 1 groups of channels left as they are: silu writes them (1)",
    "as_from_caffe": "equalise: 1 of 1 groups of channels left as they are: Rescaling writes them "
    "(1)",
    "transformer": "rounding: 2 of 6 layers with weights rounded one by one: EinsumDense (1), "
    "MultiHeadAttention (1)",
    "functions": "equalise: 2 of 2 groups of channels left as they are: TrueDivide writes them "
    "(1), Relu writes them (1)",
}
"""A line that tells what the rewriting of a network skipped; for the others there is none."""

SKIPPED_IN_FILE = {
    "three_summands": "branches: 1 of 1 additions left as they are: they add other than two "
    "tensors of one shape (1)",
    "mobilenet": "branches: 10 of 10 additions left as they are: no ReLU alone reads them (10)",
    "efficientnet": "branches: 1 of 1 additions left as they are: no ReLU alone reads them (1)",
}


@dataclass(frozen=True)
class Case:
    """A network, images, its outputs, and the copy that is converted to integers.

    The weights are those before any step.
    """

    name: str
    model: Any
    weights: list[Any]
    images: Any
    expected: Any
    suited: Rewritten


@pytest.fixture(scope="module", params=list(NETWORKS))
def case(request: pytest.FixtureRequest) -> Case:
    model = build(request.param)
    images = images_for(model)
    weights, expected = [array.copy() for array in model.get_weights()], outputs(model, images)
    folded = fold_rescaling(model)
    equalised = equalise(folded.model, images)
    rounded = round_together(equalised.model, images)
    skipped = (*folded.skipped, *equalised.skipped, *rounded.skipped)
    suited = Rewritten(rounded.model, skipped)
    return Case(request.param, model, weights, images, expected, suited)


def outputs(model: Any, images: Any) -> Any:
    return np.asarray(model(images, training=False))


def as_source(model: Any) -> Source:
    return Source(path=None, card=None, model=model)  # type: ignore[arg-type]


def run(kind: str, content: bytes, images: Any) -> Any:
    """Run a file that has no card."""
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (taken,) = session.get_inputs()
        return session.run(None, {taken.name: images})[0]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(taken["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(given["index"])


def export(case: Case, kind: str, precision: str) -> tuple[bytes, list[str]]:
    lines: list[str] = []
    model = case.model if precision == "fp32" else case.suited.model
    calibration = None if precision == "fp32" else span_full_range(case.images)
    content = EXPORTERS[kind].convert(
        as_source(model), Settings(precision), calibration, lines.append
    )
    return content, lines


def test_every_step_keeps_what_the_network_computes(case: Case) -> None:
    flattened = flat(case.model)
    folded = fold_rescaling(case.model).model
    for model in (
        flattened,
        folded,
        equalise(case.model, case.images).model,
        equalise(folded, case.images).model,
        shift_logits(case.model, np.zeros(max(2, case.expected.shape[1]))),
    ):
        np.testing.assert_allclose(outputs(model, case.images), case.expected, atol=1e-5)
    # These cut off and round; they must do no more.
    capped = cap_activations(case.model, case.images).model
    np.testing.assert_allclose(outputs(capped, case.images), case.expected, atol=5e-3)
    np.testing.assert_allclose(outputs(case.suited.model, case.images), case.expected, atol=5e-3)


def test_no_step_changes_the_given_network(case: Case) -> None:
    cap_activations(case.model, case.images)
    shift_logits(case.model, np.arange(max(2, case.expected.shape[1])))
    for weights, old in zip(case.model.get_weights(), case.weights, strict=True):
        np.testing.assert_array_equal(weights, old)
    np.testing.assert_array_equal(outputs(case.model, case.images), case.expected)


def test_a_flat_network_has_single_layers_that_are_called_once(case: Case) -> None:
    flattened = flat(case.model)
    assert flat(flattened) is flattened
    names = [layer.name for layer in flattened.layers]
    assert len(set(names)) == len(names)
    assert all_layers(flattened) == flattened.layers
    for layer in flattened.layers:
        assert len(layer._inbound_nodes) == 1
        product = isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.SeparableConv2D)
        assert not product or layer.activation.__name__ == "linear"
    last = flattened.layers[-1]
    assert last.activation.__name__ == ("sigmoid" if case.name == "sigmoid_apart" else "softmax")


def test_the_pixels_reach_the_first_convolution_as_they_are_whatever_prepared_them(
    case: Case,
) -> None:
    if case.name not in ("as_from_caffe", "as_from_torch", "augmented"):
        return
    first = next(layer for layer in case.suited.model.layers if isinstance(layer, layers.Conv2D))
    seen = np.asarray(keras.Model(case.suited.model.input, first.input)(case.images))
    inside = (seen.shape[1] - case.images.shape[1]) // 2
    inner = slice(inside, inside + case.images.shape[1])
    np.testing.assert_array_equal(seen[:, inner, inner, :3], case.images)


def test_an_end_of_another_kind_becomes_a_dense_layer_of_the_same_logits() -> None:
    for name, inputs in (("ends_in_convolution", 12), ("ends_in_pooling", 3)):
        last = flat(build(name)).layers[-1]
        assert (type(last), last.kernel.shape) == (layers.Dense, (inputs, 3))


def test_what_the_steps_skip_is_told(case: Case) -> None:
    expected = SKIPPED.get(case.name)
    assert (expected in case.suited.skipped) if expected else (case.suited.skipped == ())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", list(EXPORTERS))
def test_a_file_computes_as_keras_does_or_is_refused_with_the_reason(
    case: Case, kind: str, precision: str
) -> None:
    refusal = REFUSED.get((case.name, kind, precision))
    if refusal is not None:
        with pytest.raises(ExportError, match=refusal):
            export(case, kind, precision)
        return
    content, lines = export(case, kind, precision)
    check_promise(EXPORTERS[kind].summarise(content), precision)
    found = run(kind, content, case.images)
    if precision == "fp32":
        np.testing.assert_allclose(found, case.expected, atol=1e-4)
        assert lines == []
        return
    assert np.abs(found - case.expected).mean() < 0.02
    if case.name in SKIPPED_IN_FILE:
        assert SKIPPED_IN_FILE[case.name] in lines


def test_where_8_bits_are_refused_some_layers_can_stay_in_float() -> None:
    model = build("ends_in_pooling")
    images = images_for(model)
    settings = Settings("mixed", float_head=True)
    content = EXPORTERS["tflite"].convert(as_source(model), settings, span_full_range(images))
    np.testing.assert_allclose(run("tflite", content, images), outputs(model, images), atol=0.05)


@pytest.mark.parametrize(
    "name", ["transfer_learning", "mobilenet", "separable", "densenet", "efficientnet"]
)
def test_archives_of_plain_layers_are_opened(name: str, tmp_path: Path) -> None:
    model = build(name)
    points = {BALANCED: OperatingPoint(BALANCED)}
    contract = InputContract(width=32, height=32, channels=3)
    card = ModelCard("mine", ("a", "b", "c"), contract, 1.0, points, "original", "0")
    archive.save_archive(model, card, tmp_path / "model.keras")
    images = images_for(model)
    opened = open_source(tmp_path / "model.keras").model
    np.testing.assert_array_equal(outputs(opened, images), outputs(model, images))


# Networks that are refused


def ending(*last: Any) -> Any:
    return keras.Sequential([keras.Input((8, 8, 1), dtype="uint8"), layers.Flatten(), *last])


class OfItsOwn(keras.Model):  # type: ignore[misc]
    """Computes by code that no exporter can read."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3, activation="softmax")

    def call(self, images: Any) -> Any:
        return self.dense(keras.ops.reshape(images, (-1, 64)))


def of_its_own() -> Any:
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, OfItsOwn()(inputs))


def two_inputs() -> Any:
    inputs = [keras.Input((8,)), keras.Input((8,))]
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Add()(inputs)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ending(layers.Dense(3)), "a Dense layer of 3 units with the activation linear"),
        (
            lambda: ending(layers.Dense(1, activation="softmax")),
            "a Dense layer of 1 units with the activation softmax",
        ),
        (ending, "the network ends in Flatten; accepted: a Dense layer"),
        (of_its_own, "OfItsOwn .* computes by code of its own; accepted: Sequential"),
        (two_inputs, "the network has 2 inputs; accepted: one"),
    ],
    ids=["logits", "one softmax", "features", "code", "two inputs"],
)
@pytest.mark.parametrize("kind", list(EXPORTERS))
def test_a_network_that_gives_no_probabilities_or_cannot_be_read_is_refused(
    kind: str, make: Any, message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        EXPORTERS[kind].convert(as_source(make()), Settings("fp32"), None)


def test_a_layer_with_very_many_inputs_is_rounded_plainly() -> None:
    inputs = keras.Input((80, 80, 1), dtype="uint8")
    features = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(features))
    rounded = round_together(model, images_for(model, 2))
    assert rounded.skipped == (
        "rounding: 1 of 1 layers with weights rounded one by one: 6400 inputs (1)",
    )
    for weights, old in zip(rounded.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, old)
