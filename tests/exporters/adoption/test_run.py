"""Adoption by the command: what a model tells, what must be said, and what is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import medkit
from adoptions import LABELS, labels_file, small
from commandruns import read_csv, run
from medkit.models.bundle import load_bundle
from medkit.tasks import get_task

keras = pytest.importorskip("keras")

TOLD = ("--pixels", "0..1", "--resize", "squash:pillow-nearest", "--alert", "vessel")
"""What must be said of a model of three labels without images."""


@pytest.fixture
def adopt(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that adopts a model, which it saves first."""

    def adopted(model: Any, *options: Any, labels: Any = LABELS, name: str = "eyes") -> Any:
        path = model
        if not isinstance(model, Path):
            path = tmp_path / "model.keras"
            model.save(path)
        asked = ["adopt", path, "--name", name, "--out", tmp_path / "mine"]
        if labels:
            asked += ["--labels", labels_file(tmp_path, labels)]
        return run(*asked, *options)

    return adopted


def refused(done: Any, folder: Path, code: int = 1) -> str:
    """Return the line of an error, after which nothing is written."""
    assert done.exit_code == code, done.output
    line = done.stderr.splitlines()[-1]
    assert line.startswith("medkit: error: ")
    assert not [path for path in (folder / "mine").glob("**/*") if path.is_file()]
    return str(line.removeprefix("medkit: error: "))


def scores(out: Path, images: Any, name: str = "eyes") -> Any:
    bundle = load_bundle(name, out)
    file = next(iter(bundle.manifest.exports), "model.keras")
    return medkit.load_model(bundle.folder / file).predict(images)


def forget_own_layers() -> None:
    """Take the classes that :data:`OWN_LAYER` registers out of Keras' list again."""
    registered = keras.saving.get_custom_objects()
    for name in [name for name, value in registered.items() if value.__name__ == "Twice"]:
        del registered[name]


def noise(side: int = 32, channels: int = 3) -> Any:
    return np.random.default_rng(1).integers(0, 256, (5, side, side, channels), dtype=np.uint8)


def test_a_compiled_model_is_adopted_as_one_that_is_not(
    adopt: Callable[..., Any], tmp_path: Path
) -> None:
    within, whole = small(activation="softmax"), keras.Input((32, 32, 3))
    within.compile("sgd", "categorical_crossentropy")
    model = keras.Model(whole, within(whole))
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(1e-3, 10, 0.9)),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy", keras.metrics.AUC()],
    )
    model.fit(noise().astype(np.float32), np.eye(3)[[0, 1, 2, 0, 1]], verbose=0)
    done = adopt(model, *TOLD)
    assert done.exit_code == 0, done.output
    wanted = np.asarray(model(noise() / np.float32(255)))
    assert np.abs(scores(tmp_path / "mine", noise()) - wanted).max() < 1e-5


# Uncalibrated


def test_without_images_everything_says_that_the_model_is_uncalibrated(
    adopt: Callable[..., Any], tmp_path: Path
) -> None:
    done = adopt(small(activation="softmax"), *TOLD)
    assert done.exit_code == 0, done.output
    assert "uncalibrated: no labelled image told temperature" in done.stderr
    mine = tmp_path / "mine"
    bundle = load_bundle("eyes", mine)
    assert not bundle.calibrated
    assert bundle.manifest.chosen_on == "nothing: uncalibrated"
    assert bundle.temperature == 1
    assert bundle.operating_points["balanced"].threshold is None
    assert "**Uncalibrated**" in (mine / "eyes" / "MODEL_CARD.md").read_text()
    assert "uncalibrated" in run("tasks", "--trained", mine).stdout
    assert ", uncalibrated" in run("inspect", mine / "eyes" / "model.keras").stdout
    assert run("export", "eyes", "--fp32", "--trained", mine).exit_code == 0
    assert ", uncalibrated" in run("inspect", mine / "eyes" / "model-fp32.tflite").stdout
    Image.fromarray(noise()[0]).save(tmp_path / "image.png")
    table = tmp_path / "o.csv"
    done = run(
        "classify", tmp_path / "image.png", "--task", "eyes", "--trained", mine, "--out", table
    )
    assert "1 uncalibrated" in done.stderr
    (row,) = read_csv(table.read_text())
    assert "uncalibrated" in row["notes"].split(";")


def test_the_card_of_a_calibrated_file_has_no_new_word() -> None:
    card = medkit.load_bundle("pneumonia").export_path()
    stored = json.loads(medkit.load_model(card).card.to_json())
    assert "calibrated" not in stored


# What a model tells


@pytest.mark.parametrize(
    ("ending", "apart"),
    [("softmax", False), ("softmax", True), (None, False)],
)
def test_three_outputs_are_probabilities_whatever_they_end_in(
    adopt: Callable[..., Any], tmp_path: Path, ending: str | None, *, apart: bool
) -> None:
    model = small(activation=None if apart else ending)
    if apart:
        model = keras.Sequential([model, keras.layers.Softmax()])
    said = () if ending else ("--one-label",)
    done = adopt(model, *TOLD, *said)
    assert done.exit_code == 0, done.output
    raw = np.asarray(model(noise() / np.float32(255)))
    if ending is None:
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        raw = powers / powers.sum(axis=1, keepdims=True)
    assert np.abs(scores(tmp_path / "mine", noise()) - raw).max() < 1e-5


def test_a_compiled_model_is_adopted_without_its_optimizer_and_loss(
    adopt: Callable[..., Any], tmp_path: Path
) -> None:
    def own_loss(truth: Any, given: Any) -> Any:
        return keras.losses.categorical_crossentropy(truth, given)

    model = small(activation="softmax")
    model.compile("adam", own_loss, metrics=["accuracy"])
    model.fit(noise() / np.float32(255), np.eye(3)[[0, 1, 2, 0, 1]], verbose=0)
    done = adopt(model, *TOLD)
    assert done.exit_code == 0, done.output
    raw = np.asarray(model(noise() / np.float32(255)))
    assert np.abs(scores(tmp_path / "mine", noise()) - raw).max() < 1e-5


@pytest.mark.parametrize("ending", ["sigmoid", None])
def test_one_output_is_the_second_of_two_labels(
    adopt: Callable[..., Any], tmp_path: Path, ending: str | None
) -> None:
    model = small(units=1, activation=ending)
    done = adopt(model, *TOLD[:4], labels=("well", "ill"))
    assert done.exit_code == 0, done.output
    task = get_task("eyes", tmp_path / "mine")
    assert (task.positive, task.alert) == ("ill", "ill")
    raw = np.asarray(model(noise() / np.float32(255)))
    if ending is None:
        raw = 1 / (1 + np.exp(-raw))
    found = scores(tmp_path / "mine", noise())
    assert np.abs(found - np.concatenate([1 - raw, raw], axis=1)).max() < 1e-5


@pytest.mark.parametrize("rule", ["0..255", "0..1", "-1..1", "imagenet", "caffe", "120/60"])
def test_pixels_go_into_the_graph(adopt: Callable[..., Any], tmp_path: Path, rule: str) -> None:
    model = small(activation="softmax")
    done = adopt(model, *TOLD, "--pixels", rule)
    assert done.exit_code == 0, done.output
    values = {
        "0..255": lambda x: x,
        "0..1": lambda x: x / 255,
        "-1..1": lambda x: x / 127.5 - 1,
        "imagenet": lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "caffe": lambda x: x[..., ::-1] - [103.939, 116.779, 123.68],
        "120/60": lambda x: (x - 120) / 60,
    }[rule](noise().astype(np.float64))
    raw = np.asarray(model(values.astype(np.float32)))
    assert np.abs(scores(tmp_path / "mine", noise()) - raw).max() < 1e-5


def test_weights_stay_to_the_bit(adopt: Callable[..., Any], tmp_path: Path) -> None:
    model = small(activation="softmax")
    assert adopt(model, *TOLD).exit_code == 0
    kept = medkit.load_model(tmp_path / "mine" / "eyes" / "model.keras").network  # type: ignore[attr-defined]
    for old, new in zip(model.get_weights(), kept.get_weights()[-4:], strict=True):
        assert np.array_equal(old, new)


@pytest.mark.parametrize(
    ("begin", "tells"),
    [
        ([keras.layers.Rescaling(1 / 255)], True),
        ([keras.layers.RandomFlip(), keras.layers.Rescaling(1 / 127.5, -1)], True),
        ([keras.layers.Normalization(mean=[120.0] * 3, variance=[3000.0] * 3)], True),
        ([keras.layers.Normalization(mean=[0.5] * 3, variance=[0.06] * 3)], False),
        ([keras.layers.Rescaling(255.0)], False),
        ([], False),
    ],
)
def test_a_normalisation_in_the_graph_tells_the_pixels(
    adopt: Callable[..., Any], tmp_path: Path, begin: list[Any], *, tells: bool
) -> None:
    model = keras.Sequential([keras.Input((32, 32, 3)), *begin, small(activation="softmax")])
    done = adopt(model, *TOLD[2:])
    if tells:
        assert done.exit_code == 0, done.output
        assert load_bundle("eyes", tmp_path / "mine").manifest.adoption.pixels == "0..255"  # type: ignore[union-attr]
    else:
        line = refused(done, tmp_path, 2)
        assert "does not tell which pixels it was trained on" in line
        assert "--pixels (0..255, 0..1, -1..1, imagenet, caffe, or MEAN/STD)" in line


@pytest.mark.parametrize("name", ["EfficientNetB0", "MobileNetV3Small"])
def test_networks_with_their_own_normalisation_inside_take_bytes(
    adopt: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    body = getattr(keras.applications, name)(
        weights=None, input_shape=(32, 32, 3), include_top=False, pooling="avg"
    )
    taken = keras.Input((32, 32, 3))
    done = adopt(
        keras.Model(taken, keras.layers.Dense(3, activation="softmax")(body(taken))), *TOLD[2:]
    )
    assert done.exit_code == 0, done.output
    assert "pixels 0..255" in done.stderr


def test_a_free_size_is_asked_for(adopt: Callable[..., Any], tmp_path: Path) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.Conv2D(4, 3),
            layers.GlobalMaxPooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    line = refused(adopt(model, *TOLD), tmp_path, 2)
    assert "takes images of any size; say with --size WIDTHxHEIGHT" in line
    assert "accepted: sides of 32 to 1,024" in refused(
        adopt(model, *TOLD, "--size", "16x64"), tmp_path, 2
    )
    assert adopt(model, *TOLD, "--size", "96x64").exit_code == 0
    assert get_task("eyes", tmp_path / "mine").contract.shape == (64, 96, 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "disc\nhealthy\nvessel\n\n"),
        ("class_names.json", '["disc", "healthy", "vessel"]'),
        ("class_indices.json", '{"vessel": 2, "disc": 0, "healthy": 1}'),
        ("class_names.json", '{"1": "healthy", "0": "disc", "2": "vessel"}'),
    ],
)
def test_labels_are_read_from_a_file_beside_the_model(
    adopt: Callable[..., Any], tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    done = adopt(small(activation="softmax"), *TOLD, labels=())
    assert done.exit_code == 0, done.output
    assert get_task("eyes", tmp_path / "mine").labels == LABELS


# Files


def as_keras_2(config: Any) -> Any:
    """Return a configuration as Keras 2.10 wrote it: without modules and dtype policies."""
    if isinstance(config, list):
        return [as_keras_2(item) for item in config]
    if not isinstance(config, dict):
        return config
    changed = {
        key: as_keras_2(value)
        for key, value in config.items()
        if key not in ("module", "registered_name", "build_config", "optional")
    }
    if isinstance(config.get("dtype"), dict):
        changed["dtype"] = "float32"
    if "batch_shape" in changed:
        changed["batch_input_shape"] = changed.pop("batch_shape")
    return changed


def test_an_h5_file_of_keras_2_is_adopted(adopt: Callable[..., Any], tmp_path: Path) -> None:
    import h5py

    model, path = small(activation="softmax"), tmp_path / "old.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = as_keras_2(json.loads(file.attrs["model_config"]))
        assert "module" not in json.dumps(config)
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.10.0"
    done = adopt(path, *TOLD)
    assert done.exit_code == 0, done.output
    raw = np.asarray(model(noise() / np.float32(255)))
    assert np.abs(scores(tmp_path / "mine", noise()) - raw).max() < 1e-5


def rewritten(path: Path, change: Callable[[str], str]) -> Path:
    """Return an archive whose configuration was changed."""
    target = path.with_name("changed.keras")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = change(content.decode()).encode()
            archive.writestr(name, content)
    return target


def test_an_archive_of_keras_2_13_is_adopted(adopt: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "old.keras"
    taken = keras.Input((32, 32, 3))
    keras.Model(taken, small(activation="softmax")(taken)).save(path)
    old = rewritten(
        path,
        lambda text: text.replace("keras.src.models.functional", "keras.src.engine.functional"),
    )
    assert adopt(old, *TOLD).exit_code == 0


def test_weights_alone_are_told_in_one_line(adopt: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "the.weights.h5"
    small().save_weights(path)
    assert "holds weights alone" in refused(adopt(path, *TOLD), tmp_path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_that_is_none_is_told_in_one_line(
    adopt: Callable[..., Any], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"nothing of the kind" * 100)
    assert "or a damaged one" in refused(adopt(path, *TOLD), tmp_path)


OWN_LAYER = """
import keras

@keras.saving.register_keras_serializable(package="lab")
class Twice(keras.layers.Layer):
    def call(self, values):
        return values * 2
"""


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_layer_of_ones_own_is_named_and_needs_trust(
    adopt: Callable[..., Any], tmp_path: Path, suffix: str
) -> None:
    code = tmp_path / "layers.py"
    code.write_text(OWN_LAYER)
    defined: dict[str, Any] = {}
    exec(OWN_LAYER, defined)
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), defined["Twice"](), small(activation="softmax")]
    )
    path = tmp_path / f"own{suffix}"
    model.save(path)
    raw = np.asarray(model(noise() / np.float32(255)))
    forget_own_layers()
    line = refused(adopt(path, *TOLD), tmp_path)
    assert "holds 'Twice'" in line
    assert "--trust-code FILE.py" in line
    empty = tmp_path / "empty.py"
    empty.write_text("")
    line = refused(adopt(path, *TOLD, "--trust-code", empty), tmp_path)
    assert "empty.py does not define it" in line
    done = adopt(path, *TOLD, "--trust-code", code)
    forget_own_layers()
    assert done.exit_code == 0, done.output
    # The file of the bundle needs no code.
    assert not (tmp_path / "mine" / "eyes" / "model.keras").exists()
    assert np.abs(scores(tmp_path / "mine", noise()) - raw).max() < 1e-5


def test_a_lambda_is_refused_whatever_is_trusted(adopt: Callable[..., Any], tmp_path: Path) -> None:
    code = tmp_path / "layers.py"
    code.write_text(OWN_LAYER)
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Lambda(lambda x: x), small(activation="softmax")]
    )
    for said in ((), ("--trust-code", code)):
        assert "'Lambda'" in refused(adopt(model, *TOLD, *said), tmp_path)


def test_a_saved_model_becomes_a_lone_file(adopt: Callable[..., Any], tmp_path: Path) -> None:
    model = small(activation="softmax")
    model.export(tmp_path / "served", verbose=False)
    done = adopt(tmp_path / "served", *TOLD)
    assert done.exit_code == 0, done.output
    assert "holds a graph and no layers" in done.stderr
    manifest = load_bundle("eyes", tmp_path / "mine").manifest
    assert list(manifest.exports) == ["model-fp32.tflite"]
    raw = np.asarray(model(noise() / np.float32(255)))
    assert np.abs(scores(tmp_path / "mine", noise()) - raw).max() < 1e-5


def test_a_saved_model_that_reads_files_is_not_run(
    adopt: Callable[..., Any], tmp_path: Path
) -> None:
    import tensorflow as tf

    (tmp_path / "seen.txt").write_text("x")

    class Reader(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32)])  # type: ignore[untyped-decorator]
        def serve(self, images: Any) -> Any:
            size = tf.strings.length(tf.io.read_file(str(tmp_path / "seen.txt")))
            return tf.reduce_mean(images, [1, 2]) + tf.cast(size, tf.float32)

    module = Reader()
    tf.saved_model.save(module, str(tmp_path / "reader"), {"serving_default": module.serve})
    line = refused(adopt(tmp_path / "reader", *TOLD, "--one-label"), tmp_path)
    assert "holds the operation ReadFile, which does more than compute" in line
    (tmp_path / "empty").mkdir()
    assert "is no SavedModel" in refused(adopt(tmp_path / "empty", *TOLD), tmp_path)


def test_a_saved_model_that_touches_files_by_other_operations_is_not_run(
    adopt: Callable[..., Any], tmp_path: Path
) -> None:
    import tensorflow as tf

    secret, written = tmp_path / "secret", tmp_path / "written"
    secret.write_bytes(np.arange(3, dtype=np.float32).tobytes())

    class Grasping(tf.Module):  # type: ignore[misc]
        def __init__(self, touch: Callable[[Any], Any]) -> None:
            super().__init__()
            self.touch = touch

        @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32)])  # type: ignore[untyped-decorator]
        def serve(self, images: Any) -> Any:
            return tf.nn.softmax(self.touch(tf.reduce_mean(images, [1, 2])))

    touches: dict[str, Callable[[Any], Any]] = {
        "ImmutableConst": lambda x: (
            x
            + tf.raw_ops.ImmutableConst(dtype=tf.float32, shape=[3], memory_region_name=str(secret))
        ),
        "DebugIdentity": lambda x: tf.raw_ops.DebugIdentity(
            input=x, tensor_name="x:0", debug_urls=[f"file://{written}"]
        ),
        "GenerateVocabRemapping": lambda x: (
            x
            + tf.cast(
                tf.raw_ops.GenerateVocabRemapping(
                    new_vocab_file=str(secret),
                    old_vocab_file=str(secret),
                    new_vocab_offset=0,
                    num_new_vocab=1,
                )[1],
                tf.float32,
            )
        ),
    }
    for name, touch in touches.items():
        module = Grasping(touch)
        tf.saved_model.save(module, str(tmp_path / name), {"serving_default": module.serve})
        shutil.rmtree(written, ignore_errors=True)
        line = refused(adopt(tmp_path / name, *TOLD), tmp_path)
        assert f"holds the operation {name}, which does more than compute" in line
        assert not written.exists()


def test_a_saved_model_with_functions_that_run_at_loading_is_not_loaded(
    adopt: Callable[..., Any], tmp_path: Path
) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    small(activation="softmax").export(tmp_path / "served", verbose=False)
    path = tmp_path / "served" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    nodes = model.meta_graphs[0].object_graph_def.nodes
    nodes.add().resource.device = ""
    path.write_bytes(model.SerializeToString())
    assert "functions that run as it is loaded" in refused(adopt(path.parent, *TOLD), tmp_path)
    model.meta_graphs[0].ClearField("object_graph_def")
    path.write_bytes(model.SerializeToString())
    assert "was saved by TensorFlow 1" in refused(adopt(path.parent, *TOLD), tmp_path)


# Bad input


def two_inputs() -> Any:
    left, right = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    joined = keras.layers.Add()([left, right])
    return keras.Model([left, right], small(activation="softmax")(joined))


def two_outputs() -> Any:
    taken = keras.Input((32, 32, 3))
    model = small(activation="softmax")
    return keras.Model(taken, [model(taken), keras.layers.Flatten()(taken)])


def segmentation() -> Any:
    return keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(3, 1)])


def with_nan() -> Any:
    model = small(activation="softmax")
    kernel, bias = model.layers[-1].get_weights()
    kernel[0, 0] = np.nan
    model.layers[-1].set_weights([kernel, bias])
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_inputs, "has 2 inputs; accepted: models with one input and one output"),
        (two_outputs, "has 2 outputs; accepted: models with one input and one output"),
        (segmentation, "gives values of shape (32, 32, 3) for an image, which is no classif"),
        (with_nan, "has weights that are no finite numbers, in "),
        (lambda: small(channels=4), "takes inputs of shape (32, 32, 4): 4 channels; accepted: "),
        (lambda: small(activation="tanh"), "ends in the activation tanh; accepted: softmax, "),
    ],
)
def test_a_model_that_is_no_classifier_of_images_is_refused(
    adopt: Callable[..., Any], tmp_path: Path, make: Callable[[], Any], message: str
) -> None:
    assert message in refused(adopt(make(), *TOLD), tmp_path)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (("a", "b"), (), "has 2 labels, and the model gives 3 values; accepted: 3 labels"),
        (("a", "b", "a"), (), "labels holds 'a' twice; correct it"),
        (("a", "b", "B"), (), "which one class folder or column would stand for"),
        (("a", "b/c", "d"), (), "printable characters without /"),
        ((), (), "holds no labels; name them in the order of its outputs with --labels FILE"),
        (LABELS, ("--alert", "vesel"), "unknown label 'vesel' for --alert; did you mean vessel?"),
        (LABELS, ("--alert", ""), "which label must not be missed?"),
        (LABELS, ("--name", "skin"), "the task skin is built in; choose another"),
        (LABELS, ("--name", "a/b"), "accepted: up to 64 small letters"),
        (LABELS, ("--name", "con"), "which no folder on Windows can have"),
        (LABELS, ("--pixels", "0-1"), "unknown pixel rule '0-1'; accepted: 0..255, 0..1, "),
        (LABELS, ("--pixels", "0.5/0.25"), "multiply both by 255 if they are of 0..1"),
        (LABELS, ("--pixels", "1,2/3,4"), "has 2 and 2 numbers; accepted: 1 or 3"),
        (LABELS, ("--pixels", "a/b"), "accepted: MEAN/STD, such as"),
        (LABELS, ("--resize", "nearest"), "unknown resize 'nearest'; "),
        (LABELS, ("--resize", ""), "no model tells how its images were resized"),
        (LABELS, ("--size", "64"), "--size '64'; accepted: WIDTHxHEIGHT, such as 224x224"),
        (LABELS, ("--size", "64x64"), "of 32x32 pixels, not of 64x64; leave --size out"),
        (LABELS, ("--images", "3"), "3 images to measure with; accepted: 20 or more"),
        (LABELS, ("--multi-label",), "ends in a softmax, so an image has one label"),
        (LABELS, ("--data", "nowhere"), "nowhere is no folder"),
    ],
)
def test_what_does_not_fit_is_one_line_before_any_work(
    adopt: Callable[..., Any],
    tmp_path: Path,
    labels: tuple[str, ...],
    options: tuple[str, ...],
    message: str,
) -> None:
    done = adopt(small(activation="softmax"), *TOLD, *options, labels=labels)
    assert message in refused(done, tmp_path, 2)


def test_several_logits_ask_how_many_labels_an_image_has(
    adopt: Callable[..., Any], tmp_path: Path
) -> None:
    line = refused(adopt(small(), *TOLD), tmp_path, 2)
    assert "ends in 3 logits" in line
    assert "--one-label" in line
    assert "--multi-label" in line


def test_another_suffix_is_refused_with_those_that_are_accepted(
    adopt: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"x")
    line = refused(adopt(path, *TOLD), tmp_path, 2)
    assert "accepted: .keras, .h5, .hdf5, .tflite, .onnx, and the folder of a SavedModel" in line
    assert "no model file" in refused(adopt(tmp_path / "absent.h5", *TOLD), tmp_path)


def test_a_bundle_that_is_there_stays_unless_it_may_be_replaced(
    adopt: Callable[..., Any], tmp_path: Path
) -> None:
    assert adopt(small(activation="softmax"), *TOLD).exit_code == 0
    before = (tmp_path / "mine" / "eyes" / "manifest.json").read_bytes()
    done = adopt(small(activation="softmax"), *TOLD, "--pixels", "-1..1")
    assert done.exit_code == 2
    assert "--overwrite replaces the model" in done.stderr
    assert (tmp_path / "mine" / "eyes" / "manifest.json").read_bytes() == before
    done = adopt(small(activation="softmax"), *TOLD, "--pixels", "-1..1", "--overwrite")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "mine" / "eyes" / "manifest.json").read_bytes() != before
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["eyes"]


# With images


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Make class folders of square images in three colours, 32 pixels wide."""
    rng = np.random.default_rng(0)
    for index, label in enumerate(LABELS):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(24):
            image = rng.integers(0, 120, (32, 32, 3))
            image[..., index] += 100
            Image.fromarray(image.astype(np.uint8)).save(
                tmp_path / "data" / label / f"{number}.png"
            )
    return tmp_path / "data"


def sees_colours(units: int = 3, scale: float = 40.0) -> Any:
    """Return a network of pixels of 0..1 that decides by the strongest colour."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(units, activation="softmax" if units == 3 else "sigmoid"),
        ]
    )
    kernel = np.eye(3, dtype=np.float32)[:, :units] * scale
    model.layers[-1].set_weights([kernel, np.full(units, -0.4 * scale, np.float32)])
    return model


def test_rules_that_measure_alike_are_asked_for_or_taken(
    adopt: Callable[..., Any], tmp_path: Path, plain: Path
) -> None:
    asked = ("--data", plain, "--alert", "disc", "--resize", "squash:pillow-nearest")
    done = adopt(sees_colours(), *asked)
    line = refused(done, tmp_path, 2)
    assert "do not tell which pixels the model was trained on" in line
    assert "say which with --pixels" in line
    assert "0..1       squash:pillow-nearest" in done.stderr
    done = adopt(sees_colours(), *asked, "--accept-tie")
    assert done.exit_code == 0, done.output


def test_resizes_that_make_the_same_pixels_are_told(
    adopt: Callable[..., Any], tmp_path: Path, plain: Path
) -> None:
    asked = ("--data", plain, "--alert", "disc", "--pixels", "0..1", "--accept-tie")
    done = adopt(sees_colours(), *asked)
    assert done.exit_code == 0, done.output
    assert "some resizes make the same pixels of these images" in done.stderr
    mine = tmp_path / "mine"
    adoption = load_bundle("eyes", mine).manifest.adoption
    assert adoption is not None
    best, *others = adoption.measured
    assert (best.resize, best.verdict) == (get_task("eyes", mine).contract.resize, "best")
    assert "same" in {each.verdict for each in others}


def test_labels_in_another_order_than_the_outputs_are_not_guessed_with(
    adopt: Callable[..., Any], tmp_path: Path, plain: Path
) -> None:
    model = sees_colours()
    done = adopt(model, "--data", plain, "--alert", "disc", labels=("vessel", "disc", "healthy"))
    line = refused(done, tmp_path, 2)
    assert "in another order than the model's outputs" in line
    assert "disc, healthy, vessel" in line.partition(" is right in ")[0]
    assert "correct --labels" in line


def test_labels_without_a_class_folder_are_refused(
    adopt: Callable[..., Any], tmp_path: Path, plain: Path
) -> None:
    shutil.rmtree(plain / "vessel")
    done = adopt(sees_colours(), "--data", plain, "--alert", "disc", "--pixels", "0..1")
    assert "has no images of vessel: found disc, healthy" in refused(done, tmp_path, 2)


def test_a_multi_label_model_is_adopted_with_a_table(
    adopt: Callable[..., Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    lines = ["image,disc,healthy,vessel"]
    (tmp_path / "data").mkdir()
    for number in range(120):
        marks = rng.integers(0, 2, 3)
        image = rng.integers(0, 120, (32, 32, 3)) + 60 * marks + rng.normal(0, 25, 3)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(tmp_path / f"data/{number}.png")
        lines.append(f"{number}.png,{','.join(map(str, marks))}")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(lines) + "\n")
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), layers.GlobalAveragePooling2D(), layers.Dense(3, "sigmoid")]
    )
    model.layers[-1].set_weights([np.eye(3, dtype=np.float32) * 20, np.full(3, -7.0, np.float32)])
    asked = ("--data", tmp_path / "data", "--resize", "squash:pillow-nearest")
    done = adopt(model, *asked)
    assert done.exit_code == 0, done.output
    bundle = load_bundle("eyes", tmp_path / "mine")
    assert bundle.task.multi_label
    assert bundle.manifest.adoption is not None
    assert bundle.manifest.adoption.pixels == "0..1"
    assert len(bundle.operating_points["balanced"].thresholds or ()) == 3
    assert run("export", "eyes", "--fp32", "--trained", tmp_path / "mine").exit_code == 0
    table = tmp_path / "o.csv"
    done = run(
        *("classify", tmp_path / "data", "--task", "eyes", "--trained", tmp_path / "mine"),
        *("--out", table),
    )
    assert done.exit_code == 0, done.output
    rows = {row["path"]: row for row in read_csv(table.read_text())}
    right = 0
    for line in lines[1:]:
        name, *marks = line.split(",")
        told = ";".join(label for label, mark in zip(LABELS, marks, strict=True) if mark == "1")
        right += rows[name]["label"] == told
    assert right > 60
