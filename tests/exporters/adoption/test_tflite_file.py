from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from exporters.foreignfiles import (
    SIZE,
    Function,
    card_for,
    converted,
    network,
    pixels,
    run_tflite,
    saved,
    sigmoid,
    softmax,
    with_metadata,
)
from medkit.errors import ModelFileError, UsageError
from medkit.models.runtimes.litert import LiteRTModel
from medkit.models.runtimes.loading import load_model
from medkit_exporters.adoption.base import LOGITS, SIGMOID, SOFTMAX
from medkit_exporters.adoption.opening import Asked
from medkit_exporters.adoption.pixels import PIXEL_RULES
from medkit_exporters.adoption.tflite_file import TFLiteFile, open_tflite

STEP = 1 / 256
"""Of a probability in 8 bits."""


def opened(folder: Path, content: bytes, size: tuple[int, int] | None = None) -> TFLiteFile:
    return open_tflite(saved(folder, content, "foreign.tflite"), Asked(size))


def refused(folder: Path, content: bytes) -> str:
    with pytest.raises(ModelFileError) as caught:
        opened(folder, content)
    line = str(caught.value)
    assert line.startswith(str(folder / "foreign.tflite"))
    assert "\n" not in line
    return line


def functional(outputs: Any, channels: int = 3) -> Any:
    """Return a Keras network of one input, given what is computed from it."""
    import keras

    taken = keras.Input((SIZE, SIZE, channels))
    return keras.Model(taken, outputs(keras.layers, taken))


@pytest.mark.parametrize("kind", ["float32", "float16", "dynamic"])
@pytest.mark.parametrize(("channels", "name"), [(1, "0..255"), (1, "-1..1"), (3, "0..1")])
def test_a_file_in_floats_gives_what_it_gave_on_pixels_that_numpy_made(
    tmp_path: Path, kind: str, channels: int, name: str
) -> None:
    rule, images = PIXEL_RULES[name], pixels(channels)
    content = converted(network(channels), kind)
    model = opened(tmp_path, content)
    written = load_model(model.write(tmp_path, card_for(channels), rule, SOFTMAX))
    expected = run_tflite(content, rule.apply(images))
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.predict(rule.apply(images)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["imagenet", "caffe"])
def test_colours_reach_a_file_in_the_order_that_the_rule_says(tmp_path: Path, name: str) -> None:
    rule, images = PIXEL_RULES[name], pixels()
    content = converted(network())
    written = load_model(opened(tmp_path, content).write(tmp_path, card_for(), rule, SOFTMAX))
    expected = run_tflite(content, rule.apply(images))
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-6)
    assert abs(expected - run_tflite(content, rule.apply(images[..., ::-1]))).max() > 0.1


@pytest.mark.parametrize("numbers", ["float32", "uint8", "int8"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_in_integers_gives_what_it_gave_but_for_a_step(
    tmp_path: Path, numbers: str, channels: int
) -> None:
    rule, images = PIXEL_RULES["0..1"], pixels(channels)
    content = converted(network(channels), "int8", numbers=numbers)
    model = opened(tmp_path, content)
    written = load_model(model.write(tmp_path, card_for(channels), rule, SOFTMAX))
    found = written.predict(images)
    np.testing.assert_allclose(found, run_tflite(content, rule.apply(images)), rtol=0, atol=STEP)
    np.testing.assert_allclose(found, model.predict(rule.apply(images)), rtol=0, atol=1e-6)
    assert written.card.precision == model.facts.precision == "int8"
    # Its range tells what the pixels were.
    assert model.facts.pixels == rule
    assert not model.facts.takes_bytes


@pytest.mark.parametrize("numbers", ["float32", "int8"])
def test_logits_in_integers_get_a_softmax_in_floats(tmp_path: Path, numbers: str) -> None:
    rule, images = PIXEL_RULES["0..1"], pixels()
    content = converted(network(ending=None), "int8", numbers=numbers)
    model = opened(tmp_path, content)
    assert model.facts.ending == LOGITS
    written = load_model(model.write(tmp_path, card_for(temperature=1.5), rule, SOFTMAX))
    expected = softmax(run_tflite(content, rule.apply(images)) / 1.5)
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-6)


def test_one_sigmoid_gets_a_column_for_each_of_two_labels(tmp_path: Path) -> None:
    rule, images = PIXEL_RULES["0..1"], pixels()
    content = converted(network(outputs=1, ending=None))
    model = opened(tmp_path, content)
    card = card_for(outputs=1, temperature=0.8)
    written = load_model(model.write(tmp_path, card, rule, SIGMOID))
    second = sigmoid(run_tflite(content, rule.apply(images)) / 0.8)
    expected = np.concatenate([1 - second, second], axis=1)
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-6)


def test_several_sigmoids_keep_their_columns(tmp_path: Path) -> None:
    rule, images = PIXEL_RULES["0..1"], pixels()
    content = converted(network(ending="sigmoid"))
    model = opened(tmp_path, content)
    assert model.facts.ending == SIGMOID
    written = load_model(model.write(tmp_path, card_for(), rule, SIGMOID))
    expected = run_tflite(content, rule.apply(images))
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-6)


def test_the_file_that_is_written_is_final(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    content = converted(network())
    card = card_for(temperature=1.5)
    path = opened(tmp_path, content).write(tmp_path, card, PIXEL_RULES["0..1"], SOFTMAX)
    found = load_model(path).card
    assert path.name == "model-fp32.tflite"
    assert (found.temperature, found.precision) == (1.0, "fp32")
    assert found.source_sha256 == hashlib.sha256(content).hexdigest()
    interpreter = Interpreter(model_path=str(path))
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["probabilities"]}
    }
    given = interpreter.get_signature_runner()(image=pixels()[:2])["probabilities"]
    logits = np.log(run_tflite(content, pixels()[:2].astype(np.float32) / 255))
    np.testing.assert_allclose(given, softmax(logits / 1.5), rtol=0, atol=1e-6)


def test_a_batch_of_one_becomes_free_where_the_graph_allows_it(tmp_path: Path) -> None:
    rule, images = PIXEL_RULES["0..1"], pixels()
    content = converted(network(), fixed=True)
    model = opened(tmp_path, content)
    path = model.write(tmp_path, card_for(), rule, SOFTMAX)
    expected = run_tflite(content, rule.apply(images))
    np.testing.assert_allclose(load_model(path).predict(images), expected, rtol=0, atol=1e-6)
    assert not model.facts.remarks
    (taken,) = LiteRTModel(path)._interpreter.get_input_details()
    assert taken["shape_signature"].tolist() == [-1, SIZE, SIZE, 3]


def test_a_graph_that_cannot_take_more_runs_image_by_image(tmp_path: Path) -> None:
    import tensorflow as tf

    made = network(ending=None, outputs=4)

    def two_rows(values: Any) -> Any:
        rows = tf.matmul(tf.reshape(made(values), [2, 2]), [[0.0, 1.0], [2.0, 0.5]])
        return tf.nn.softmax(tf.reshape(rows, [1, 4])[:, :3])

    content = converted(Function(two_rows, (1, SIZE, SIZE, 3)), fixed=True)
    rule, images = PIXEL_RULES["0..1"], pixels()
    model = opened(tmp_path, content)
    assert "one image at a time" in model.facts.remarks[0]
    expected = run_tflite(content, rule.apply(images))
    np.testing.assert_allclose(model.predict(rule.apply(images)), expected, rtol=0, atol=1e-6)
    path = model.write(tmp_path, card_for(), rule, SOFTMAX)
    np.testing.assert_allclose(load_model(path).predict(images), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["imagenet", "caffe"])
def test_channels_first_are_turned(tmp_path: Path, name: str) -> None:
    import tensorflow as tf

    made = network()
    turned = Function(lambda values: made(tf.transpose(values, [0, 2, 3, 1])), (1, 3, SIZE, SIZE))
    content = converted(turned, fixed=True)
    rule, images = PIXEL_RULES[name], pixels()
    model = opened(tmp_path, content)
    assert (model.facts.height, model.facts.channels) == (SIZE, 3)
    written = load_model(model.write(tmp_path, card_for(), rule, SOFTMAX))
    expected = run_tflite(content, rule.apply(images).transpose(0, 3, 1, 2))
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-6)


def test_a_softmax_of_several_operators_is_known_by_what_it_gives(tmp_path: Path) -> None:
    import tensorflow as tf

    made = network(ending=None)

    def by_hand(values: Any) -> Any:
        powers = tf.exp(made(values))
        return powers / tf.reduce_sum(powers, axis=1, keepdims=True)

    content = converted(Function(by_hand, (None, SIZE, SIZE, 3)))
    rule, images = PIXEL_RULES["0..1"], pixels()
    model = opened(tmp_path, content)
    assert model.facts.ending == SOFTMAX
    written = load_model(model.write(tmp_path, card_for(temperature=2.0), rule, SOFTMAX))
    expected = softmax(np.log(run_tflite(content, rule.apply(images))) / 2)
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-5)


def test_a_size_that_is_free_is_that_which_the_user_names(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(2)
    made = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    content = converted(made)
    assert opened(tmp_path, content).facts.height is None
    model = opened(tmp_path, content, (SIZE, SIZE))
    assert (model.facts.height, model.facts.width) == (SIZE, SIZE)
    rule, images = PIXEL_RULES["0..255"], pixels()
    written = load_model(model.write(tmp_path, card_for(), rule, SOFTMAX))
    np.testing.assert_allclose(
        written.predict(images), made(rule.apply(images)).numpy(), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("scale", "offset", "name"),
    [(1 / 255, 0.0, "0..255"), (1 / 127.5, -1.0, "0..255"), (2.0, -1.0, "0..1")],
)
def test_a_normalisation_in_the_graph_tells_the_pixels(
    tmp_path: Path, scale: float, offset: float, name: str
) -> None:
    made = functional(
        lambda layers, taken: layers.Dense(3, activation="softmax")(
            layers.Flatten()(layers.ReLU(max_value=9)(layers.Rescaling(scale, offset)(taken)))
        )
    )
    facts = opened(tmp_path, converted(made)).facts
    assert facts.pixels == PIXEL_RULES[name]
    assert facts.takes_bytes is (name == "0..255")


def test_labels_and_normalisation_are_read_from_metadata(tmp_path: Path) -> None:
    content = with_metadata(converted(network()), ["a b", "é", "c"], [127.5], [127.5])
    facts = opened(tmp_path, content).facts
    assert facts.labels == ("a b", "é", "c")
    assert facts.labels_from == "labels.txt in its TFLite Metadata"
    assert facts.pixels == PIXEL_RULES["-1..1"]


def test_the_range_of_integers_is_surer_than_metadata(tmp_path: Path) -> None:
    content = converted(network(), "int8", numbers="uint8")
    facts = opened(tmp_path, with_metadata(content, ["a", "b", "c"], [127.5], [127.5])).facts
    assert facts.pixels == PIXEL_RULES["0..1"]


def test_the_metadata_of_the_file_as_it_was_given_stay_out_of_the_new_one(tmp_path: Path) -> None:
    content = with_metadata(converted(network()), ["a", "b", "c"], [0.0], [255.0])
    rule, images = PIXEL_RULES["0..1"], pixels()
    written = load_model(opened(tmp_path, content).write(tmp_path, card_for(), rule, SOFTMAX))
    expected = run_tflite(content, rule.apply(images))
    np.testing.assert_allclose(written.predict(images), expected, rtol=0, atol=1e-6)


def test_labels_that_do_not_fit_are_told_and_not_used(tmp_path: Path) -> None:
    facts = opened(tmp_path, with_metadata(converted(network()), ["a", "b"])).facts
    assert not facts.labels
    assert facts.remarks == (
        "labels.txt in its TFLite Metadata holds 2 labels, and the model gives 3 values; they "
        "are not used",
    )


def test_metadata_that_are_damaged_are_told(tmp_path: Path) -> None:
    content = with_metadata(converted(network()), ["a", "b", "c"], [1.0, 2.0], [1.0])
    assert "its TFLite Metadata are damaged (2 means and 1 deviations)" in refused(
        tmp_path, content
    )


def test_a_model_with_two_inputs_or_outputs_is_refused(tmp_path: Path) -> None:
    two = functional(lambda layers, x: [layers.Dense(2)(layers.Flatten()(x)) for _ in range(2)])
    assert "has 2 outputs; accepted: classifiers of one image" in refused(tmp_path, converted(two))


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (
            lambda: functional(lambda layers, x: layers.Conv2D(2, 3)(x)),
            f"gives an array of shape (1, {SIZE - 2}, {SIZE - 2}, 2), which is no classification",
        ),
        (lambda: network(channels=4), "takes images of 4 channels"),
        (
            lambda: Function(lambda values: values * 2.0, (None, 7)),
            "takes an array of shape (free, 7), which is no image",
        ),
        (
            lambda: Function(lambda values: values[:, 0, 0] + 1.0, (8, SIZE, SIZE, 3)),
            "takes 8 images at once, no fewer and no more",
        ),
    ],
)
def test_what_is_no_classifier_of_images_is_refused(
    tmp_path: Path, made: Any, problem: str
) -> None:
    import tensorflow as tf

    model = made()
    if model.input_shape[0] == 8:  # a batch that is neither one nor free
        signature = [tf.TensorSpec(model.input_shape, tf.float32)]
        concrete = tf.function(model, input_signature=signature).get_concrete_function()
        content = bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())
    else:
        content = converted(model)
    assert problem in refused(tmp_path, content)


def test_operators_of_tensorflow_are_refused_by_their_name(tmp_path: Path) -> None:
    content = converted(network(), "flex")
    assert "needs the operator FlexIdentity, which LiteRT does not have" in refused(
        tmp_path, content
    )


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    made = network()
    weights = made.layers[0].get_weights()
    weights[1][3] = np.nan
    made.layers[0].set_weights(weights)
    assert "holds a NaN in " in refused(tmp_path, converted(made))


@pytest.mark.parametrize("length", [0, 5, 700, -1000])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    assert "is no .tflite file, or a damaged one" in refused(
        tmp_path, converted(network())[:length]
    )


def test_what_does_not_fit_the_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = opened(tmp_path, converted(network(channels=1)))
    place = tmp_path / "bundle"
    for card, name, ending, problem in (
        (card_for(3), "0..1", SOFTMAX, "and 1 channels, not of"),
        (card_for(1), "caffe", SOFTMAX, "pixels caffe are for colour images"),
        (card_for(1), "0..1", SIGMOID, "ends in softmax, and cannot end in sigmoid"),
    ):
        with pytest.raises(UsageError, match=problem):
            model.write(place, card, PIXEL_RULES[name], ending)
    with pytest.raises(UsageError, match="takes images of 32 x 32 pixels, not of 64 x 64"):
        opened(tmp_path, converted(network(channels=1)), (64, 64))
    assert not place.exists()


def test_a_lone_file_is_opened_and_written_without_tensorflow(tmp_path: Path) -> None:
    path = saved(tmp_path, converted(network()), "foreign.tflite")
    code = (
        "import sys; from pathlib import Path\n"
        "from exporters.foreignfiles import card_for\n"
        "from medkit_exporters.adoption.opening import Asked\n"
        "from medkit_exporters.adoption.pixels import PIXEL_RULES\n"
        "from medkit_exporters.adoption.tflite_file import open_tflite\n"
        "path = Path(sys.argv[1])\n"
        "model = open_tflite(path, Asked())\n"
        "model.write(path.parent, card_for(), PIXEL_RULES['0..1'], 'softmax')\n"
        "print(sorted({'tensorflow', 'keras', 'tf2onnx', 'onnx'} & set(sys.modules)))\n"
    )
    tests = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r})\n{code}", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
