"""Model files of all three kinds behind one interface, and files that are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medkit.errors import ContractMismatchError, MissingExtraError, ModelFileError, UsageError
from medkit.models.bundle import load_bundle
from medkit.models.card import read_card
from medkit.models.formats import format_of
from medkit.models.runtimes import registry
from medkit.models.runtimes.base import both_classes
from medkit.models.runtimes.loading import load_model, models_of
from medkit.models.runtimes.registry import runtimes
from medkit.models.seal import sealed
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task
from medkit.training.recipes import RECIPES
from medkit_exporters.formats.registry import get_exporter
from medkit_exporters.quantize.source import open_source
from medkit_exporters.settings import Settings
from modelfiles import save_onnx, unsealed

BOTH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)

FILES = {".tflite": "model-fp32.tflite", ".onnx": "model-fp32.onnx", ".keras": "model.keras"}
RUNTIMES = {".tflite": "LiteRT", ".onnx": "ONNX Runtime", ".keras": "Keras"}

EACH_KIND = pytest.mark.parametrize(
    "suffix", dict.fromkeys(known.suffix for known in runtimes().values())
)


def pictures(task: Task, count: int = 16) -> NDArray[np.uint8]:
    """Draw images of different brightness and colour."""
    rng = np.random.default_rng(1)
    means = rng.uniform(0, 255, (count, 1, 1, task.channels))
    noise = rng.normal(0, 20, (count, *task.contract.shape))
    return (means + noise).clip(0, 255).astype(np.uint8)


def by_hand(
    task: Task, trained: Path, images: NDArray[np.uint8], temperature: float
) -> NDArray[np.float64]:
    """Compute the probabilities of the pooled model with nothing but numpy."""
    import keras

    model = keras.saving.load_model(trained / task.name / "model.keras", compile=False)
    kernel, bias = model.layers[-1].get_weights()
    logits = (images.mean(axis=(1, 2)) / 255 @ kernel.astype(np.float64) + bias) / temperature
    if task.binary:
        sick = 1 / (1 + np.exp(-logits))
        return np.concatenate([1 - sick, sick], axis=1)
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def refusal(path: Path) -> str:
    """Return why a model file is refused."""
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# Predictions


@BOTH
@EACH_KIND
def test_every_runtime_gives_the_probabilities_of_the_network(
    pooled_models: Path, task: Task, suffix: str
) -> None:
    images = pictures(task)
    model = load_model(pooled_models / task.name / FILES[suffix])
    found = model.predict(images)
    assert found.dtype == np.float32
    assert found.shape == (16, len(task.labels))
    np.testing.assert_allclose(found, by_hand(task, pooled_models, images, 1.5), atol=1e-4)
    assert np.ptp(found, axis=0).max() > 0.05, "the images must differ for this to mean anything"


@BOTH
@EACH_KIND
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_every_runtime_divides_the_logits_by_the_temperature_in_the_card(
    pooled_models: Path, tmp_path: Path, task: Task, suffix: str, temperature: float
) -> None:
    images, path = pictures(task), tmp_path / f"model{suffix}"
    other_card(
        pooled_models / task.name,
        path,
        b'"temperature":1.5',
        f'"temperature":{temperature}'.encode(),
    )
    found = load_model(path).predict(images)
    assert found.dtype == np.float32
    expected = by_hand(task, pooled_models, images, temperature)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected - by_hand(task, pooled_models, images, 1.5)).max() > 0.01


@BOTH
@EACH_KIND
def test_the_batch_size_changes_nothing_and_may_change_between_calls(
    pooled_models: Path, task: Task, suffix: str
) -> None:
    images = pictures(task)
    model = load_model(pooled_models / task.name / FILES[suffix])
    alone = np.concatenate([model.predict(images[index : index + 1]) for index in range(16)])
    for size in (1, 3, 16, 3, 1):
        np.testing.assert_allclose(model.predict(images[:size]), alone[:size], atol=1e-4)


@EACH_KIND
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((128, 128, 1), "uint8"),
        ((0, 128, 128, 1), "uint8"),
        ((1, 64, 64, 1), "uint8"),
        ((1, 128, 128, 3), "uint8"),
        ((1, 128, 128, 1), "float32"),
    ],
)
def test_arrays_that_break_the_input_contract_are_refused(
    pooled_models: Path, suffix: str, shape: tuple[int, ...], dtype: str
) -> None:
    model = load_model(pooled_models / "pneumonia" / FILES[suffix])
    with pytest.raises(UsageError, match=r"accepted: uint8 of shape \(n, 128, 128, 1\)"):
        model.predict(np.zeros(shape, dtype))


def test_batches_larger_than_the_keras_runtime_takes_at_once_are_put_together(
    pooled_models: Path,
) -> None:
    images = np.concatenate([pictures(PNEUMONIA)] * 5)
    model = load_model(pooled_models / "pneumonia/model.keras")
    found = model.predict(images)
    assert found.shape == (80, 2)
    np.testing.assert_allclose(found[64:], found[:16], atol=1e-4)


@EACH_KIND
def test_one_sigmoid_score_is_completed_to_both_classes(pooled_models: Path, suffix: str) -> None:
    model = load_model(pooled_models / "pneumonia" / FILES[suffix])
    found = model.predict(pictures(PNEUMONIA, 3))
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_the_number_of_threads_changes_no_decision(pooled_models: Path, suffix: str) -> None:
    images, path = pictures(SKIN), pooled_models / "skin" / FILES[suffix]
    default = load_model(path).predict(images)
    for threads in (1, 2):
        np.testing.assert_allclose(load_model(path, threads).predict(images), default, atol=1e-4)


def test_threads_come_too_late_for_a_running_tensorflow(pooled_models: Path) -> None:
    path = pooled_models / "skin/model.keras"
    load_model(path)
    with pytest.raises(ModelFileError, match="give --threads to a fresh process"):
        load_model(path, threads=7)


def test_the_score_is_of_the_second_class() -> None:
    completed = both_classes(np.array([[0.25], [1.0]], np.float32))
    assert completed.tolist() == [[0.75, 0.25], [0.0, 1.0]]
    two = np.array([[0.3, 0.7]], np.float32)
    assert both_classes(two) is two


@BOTH
@EACH_KIND
def test_a_model_brings_its_card(pooled_models: Path, task: Task, suffix: str) -> None:
    path = pooled_models / task.name / FILES[suffix]
    model = load_model(path)
    assert model.path == path
    assert (
        model.runtime == {".tflite": "LiteRT", ".onnx": "ONNX Runtime", ".keras": "Keras"}[suffix]
    )
    assert (model.card.task, model.card.labels) == (task.name, task.labels)
    assert model.card.contract == task.contract
    bundle = load_bundle(task, pooled_models)
    assert model.card.temperature == bundle.temperature == 1.5
    assert model.card.operating_points == bundle.operating_points
    assert list(model.card.operating_points) == ["balanced", "high-sensitivity"]
    assert model.card.precision == ("original" if suffix == ".keras" else "fp32")


@BOTH
@pytest.mark.parametrize(
    ("name", "runtimes"),
    [
        ("model-fp32.tflite", ["LiteRT", "LiteRT without XNNPACK"]),
        ("model-fp32.onnx", ["ONNX Runtime"]),
    ],
)
def test_every_runtime_that_can_run_a_file_computes_the_same(
    pooled_models: Path, monkeypatch: pytest.MonkeyPatch, task: Task, name: str, runtimes: list[str]
) -> None:
    # Whether OpenVINO is there or not.
    monkeypatch.setattr(registry, "is_installed", lambda module: module != "openvino")
    images = pictures(task)
    models = list(models_of(pooled_models / task.name / name))
    assert [model.runtime for model in models] == runtimes
    for model in models:
        expected = by_hand(task, pooled_models, images, 1.5)
        np.testing.assert_allclose(model.predict(images), expected, atol=1e-4)


def test_openvino_computes_as_onnx_runtime_does(pooled_models: Path) -> None:
    pytest.importorskip(
        "openvino", reason="OpenVINO was not checked: it is an extra that is not installed"
    )
    path, images = pooled_models / "skin/model-fp32.onnx", pictures(SKIN)
    first, second = models_of(path)
    assert second.runtime == "OpenVINO"
    np.testing.assert_allclose(second.predict(images), first.predict(images), atol=1e-4)


def test_a_further_runtime_that_cannot_run_a_file_is_left_out_and_told(
    pooled_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medkit.models.runtimes import openvino

    def refuse(path: Path, threads: int | None) -> Any:
        raise ModelFileError(f"{path.name} cannot be loaded by OpenVINO: too new")

    monkeypatch.setattr(registry, "is_installed", lambda module: True)
    monkeypatch.setattr(registry, "require", lambda purpose, *modules: None)
    monkeypatch.setattr(openvino, "OpenVINOModel", refuse)
    notes: list[str] = []
    models = list(models_of(pooled_models / "skin/model-fp32.onnx", notes.append))
    assert [model.runtime for model in models] == ["ONNX Runtime"]
    assert notes == ["left out: model-fp32.onnx cannot be loaded by OpenVINO: too new"]


# Refusals


@EACH_KIND
def test_a_missing_model_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"gone{suffix}"
    assert refusal(path) == f"no model file {path}; check the path"
    path.mkdir()
    assert refusal(path) == f"no model file {path}; check the path"


@EACH_KIND
def test_a_suffix_in_capitals_is_the_same(pooled_models: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"MODEL{suffix.upper()}"
    shutil.copyfile(pooled_models / "skin" / FILES[suffix], path)
    given = load_model(pooled_models / "skin" / FILES[suffix])
    images = np.zeros((1, *given.card.contract.shape), np.uint8)
    assert np.array_equal(load_model(path).predict(images), given.predict(images))


@pytest.mark.parametrize("name", ["model.h5", "model", "model.tflite.gz"])
def test_other_suffixes_are_refused_with_those_accepted(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match="accepted: .tflite, .onnx, .keras$"):
        load_model(tmp_path / name)


def test_threads_beyond_what_runtimes_bear_are_refused(tmp_path: Path) -> None:
    for threads in (0, -1, 257, 100_000):
        with pytest.raises(UsageError, match="accepted: 1 to 256"):
            load_model(tmp_path / "model.tflite", threads)


@EACH_KIND
def test_a_model_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    path.touch()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(path) == f"{path} cannot be read: Permission denied"


@EACH_KIND
def test_a_model_in_a_folder_that_may_not_be_entered_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    assert refusal(path) == f"{path} cannot be read: Permission denied"


@EACH_KIND
@pytest.mark.parametrize(
    "content",
    [b"", b"TFL3", b"\x00" * 7, b"\x1c\x00\x00\x00TFL3", b"PK\x03\x04", b"\xff" * 5000,
     np.random.default_rng(0).bytes(5000), b"a text that is no model\n" * 40],
    ids=["empty", "mark", "short", "head", "zip", "ones", "random", "text"],
)  # fmt: skip
def test_bytes_that_are_no_model_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    says = {".tflite": "TFLite file", ".onnx": "ONNX Runtime", ".keras": "is no Keras archive"}
    if suffix in says.keys() - {".keras"}:
        assert "is no model file of medkit: it has no seal" in refusal(path)
        path.write_bytes(sealed(content, format_of(path).seal))
    assert says[suffix] in refusal(path)


def test_what_is_no_tflite_file_is_not_called_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(sealed(b"a text that is no model", format_of(path).seal))
    assert refusal(path) == f"{path} is no TFLite file"


@BOTH
@EACH_KIND
def test_a_truncated_model_is_refused_wherever_it_ends(
    pooled_models: Path, tmp_path: Path, task: Task, suffix: str
) -> None:
    content = (pooled_models / task.name / FILES[suffix]).read_bytes()
    path = tmp_path / f"model{suffix}"
    for share in (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98):
        path.write_bytes(content[: int(share * len(content))])
        refusal(path)


def test_a_keras_archive_with_a_damaged_member_is_refused(
    pooled_models: Path, tmp_path: Path
) -> None:
    original = pooled_models / "skin/model.keras"
    with zipfile.ZipFile(original) as archive:
        starts = {info.filename: info.header_offset for info in archive.infolist()}
    assert {"medkit.json", "config.json", "model.weights.h5"} <= starts.keys()
    for name, start in starts.items():
        content = bytearray(original.read_bytes())
        first = start + 30 + len(name)  # a local header of 30 bytes and the name
        content[first : first + 20] = bytes(byte ^ 0x55 for byte in content[first : first + 20])
        path = tmp_path / "model.keras"
        path.write_bytes(content)
        refusal(path)


def test_an_original_whose_parts_do_not_fit_is_refused_in_one_line(
    pooled_models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.keras"
    changes = (b'"units": 9', b'"units": 8')
    edit_member(pooled_models / "skin/model.keras", path, "config.json", *changes)
    assert "cannot be loaded by Keras" in refusal(path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b'"class_name": "Rescaling"', b'"class_name": "TFSMLayer"', "'TFSMLayer' of keras.layers"),
        (b'"class_name": "Zeros"', b'"class_name": "get"', "'get' of keras.initializers"),
        (
            b'"module": "keras.layers", "class_name": "Dense"',
            b'"module": "keras.utils", "class_name": "get_file"',
            "'get_file' of keras.utils",
        ),
        (
            b'"activation": "softmax"',
            b'"activation": {"module": "os", "class_name": "function", "config": "system"}',
            "'system' of os",
        ),
        (b'"module": "keras.layers"', b'"module": "subprocess"', "of subprocess, which could"),
    ],
)
def test_an_original_that_names_anything_but_plain_layers_is_refused_before_keras_reads_it(
    pooled_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: bytes,
    new: bytes,
    named: str,
) -> None:
    import keras

    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras reads it"))
    path = tmp_path / "model.keras"
    edit_member(pooled_models / "skin/model.keras", path, "config.json", old, new)
    message = refusal(path)
    assert " holds '" in message
    assert named in message
    assert "which could run code" in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"class_name": "Rescaling"', b'"class_name": ["Rescaling"]'),
        (b'"module": "keras.layers"', b'"module": ["keras.layers"]'),
        (b'"class_name": "Functional"', b'"class_name": {"a": 1}'),
        (b'"units": 9', b'"units": ' + b"[" * 100_000),
    ],
)
def test_strange_configurations_are_refused_in_one_line(
    pooled_models: Path, tmp_path: Path, old: bytes, new: bytes
) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(pooled_models / "skin/model.keras") as archive:
        old = old if old in archive.read("config.json") else b'"class_name": "Sequential"'
    edit_member(pooled_models / "skin/model.keras", path, "config.json", old, new)
    refusal(path)


@pytest.mark.parametrize("name", ["config.json", "../config.json", "notes.txt"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_further_members_is_refused(
    pooled_models: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "model.keras"
    shutil.copy(pooled_models / "skin/model.keras", path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "{}")
    assert "its members are not config.json, medkit.json" in refusal(path)


@EACH_KIND
def test_a_network_that_does_not_fit_its_card_is_refused(
    pooled_models: Path, tmp_path: Path, suffix: str
) -> None:
    skin = pooled_models / "skin" / FILES[suffix]
    card = read_card(pooled_models / "pneumonia" / FILES[suffix])
    path = tmp_path / f"model{suffix}"
    if suffix == ".keras":
        with zipfile.ZipFile(skin) as archive:
            own = archive.read("medkit.json")
        edit_member(skin, path, "medkit.json", own, card.to_json().encode())
    else:
        exporter = get_exporter(suffix.removeprefix(".")).load()
        content = exporter.convert(
            open_source(pooled_models / "skin/model.keras"), Settings("fp32"), None
        )
        path.write_bytes(exporter.attach_card(content, card))
    message = refusal(path)
    assert "takes images of shape [128, 128, 3] and gives [9]" in message
    assert "its card promises [128, 128, 1] and 2 labels" in message


def test_an_onnx_file_with_weights_in_another_one_is_refused(
    pooled_models: Path, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(pooled_models / "skin/model-fp32.onnx")
    onnx.save(
        model,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert (tmp_path / "weights.bin").exists()
    save_onnx(onnx.load(tmp_path / "model.onnx", load_external_data=False), tmp_path / "model.onnx")
    assert "has its weights in another file" in refusal(tmp_path / "model.onnx")


@pytest.mark.parametrize("key", list(RECIPES))
def test_every_recipes_network_is_made_of_what_is_accepted(
    key: tuple[str, str], tmp_path: Path, pooled_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medkit.models.runtimes.keras import check_archive
    from medkit.training.archive import save_archive
    from medkit.training.networks import build_network

    task = TASKS[key[0]]
    card = load_model(pooled_models / task.name / "model.keras").card
    network = build_network(task, RECIPES[key], untrained_weights(tmp_path, RECIPES[key]))
    save_archive(network, card, tmp_path / "model.keras")
    check_archive(tmp_path / "model.keras")


def untrained_weights(folder: Path, recipe: Any) -> Path | None:
    """Write ResNet50's weights as they begin, where a recipe asks for ImageNet's."""
    import keras

    if "resnet" not in recipe.network:
        return None
    path = folder / "begin.weights.h5"
    keras.applications.ResNet50(include_top=False, weights=None).save_weights(path)
    return path


def test_no_code_from_a_file_runs(pooled_models: Path, tmp_path: Path) -> None:
    import keras

    from medkit.training.archive import save_archive

    model = keras.Sequential(
        [
            keras.Input(SKIN.contract.shape, dtype="uint8"),
            keras.layers.Lambda(lambda pixels: pixels[:, 0, 0, 0:1] * 1.0),
        ]
    )
    card = load_model(pooled_models / "skin/model.keras").card
    save_archive(model, card, tmp_path / "model.keras")
    assert "Lambda" in refusal(tmp_path / "model.keras")


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_names_inside_a_file_that_are_no_text_are_refused_in_silence(
    pooled_models: Path, tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content = (pooled_models / "skin" / FILES[suffix]).read_bytes()
    path = tmp_path / f"model{suffix}"
    for count in (1, -1):  # a name that nothing else has, and one that all agree on
        unreadable = unsealed(content, suffix).replace(b"pixels", b"\xff" * 6, count)
        path.write_bytes(sealed(unreadable, format_of(path).seal))
        refusal(path)
    assert capfd.readouterr().out == ""


def test_a_zip_that_is_no_keras_archive_is_refused(pooled_models: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no model")
    assert "carries no medkit card" in refusal(path)
    with zipfile.ZipFile(pooled_models / "skin/model.keras") as original:
        card = original.read("medkit.json")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("medkit.json", card)
    assert "is no Keras archive, or a damaged one" in refusal(path)


@pytest.mark.parametrize("suffix", [".keras", ".tflite", ".onnx"])
def test_a_model_that_medkit_did_not_write_is_refused(
    pooled_models: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"foreign{suffix}"
    without_card(pooled_models / "skin", path)
    if suffix != ".keras":
        assert "is no model file of medkit" in refusal(path)
        path.write_bytes(sealed(path.read_bytes(), format_of(path).seal))
    assert refusal(path) == (
        f"{path} carries no medkit card (task, labels, input contract); "
        "accepted: files written by 'medkit train' and 'medkit export'"
    )


def without_card(folder: Path, path: Path) -> None:
    """Write a model as its converter leaves it, before medkit adds a card."""
    if path.suffix == ".keras":
        with (
            zipfile.ZipFile(folder / "model.keras") as source,
            zipfile.ZipFile(path, "w") as target,
        ):
            for name in source.namelist():
                if name != "medkit.json":
                    target.writestr(name, source.read(name))
    else:
        exporter = get_exporter(path.suffix.removeprefix(".")).load()
        path.write_bytes(
            exporter.convert(open_source(folder / "model.keras"), Settings("fp32"), None)
        )


@EACH_KIND
def test_a_model_for_other_preprocessing_is_refused(
    pooled_models: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    other_card(pooled_models / "skin", path, b'"squash', b'"squish')
    with pytest.raises(ContractMismatchError, match="resize 'squish.* instead of GEOMETRY:KERNEL"):
        load_model(path)


@EACH_KIND
def test_a_model_with_foreign_labels_is_refused(
    pooled_models: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    other_card(pooled_models / "skin", path, b'"nevus"', b'"naevi"')
    assert "'naevi'" in refusal(path)
    assert "are not those of task skin" in refusal(path)


def other_card(folder: Path, path: Path, old: bytes, new: bytes) -> None:
    """Copy a model and change its card, by as many bytes as there were."""
    original = folder / FILES[path.suffix]
    assert len(old) == len(new)
    if path.suffix == ".keras":
        edit_member(original, path, "medkit.json", old, new)
    else:
        content = unsealed(original.read_bytes(), path.suffix)
        assert content.count(old) == 1
        path.write_bytes(sealed(content.replace(old, new), format_of(path).seal))


def edit_member(original: Path, path: Path, member: str, old: bytes, new: bytes) -> None:
    """Copy a Keras archive and change one of its members."""
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == member:
                assert old in content
                content = content.replace(old, new)
            target.writestr(name, content)


# Libraries


@pytest.mark.parametrize(
    ("suffix", "module", "install"),
    [
        (
            ".tflite",
            "ai_edge_litert",
            'ai-edge-litert is needed to run .tflite files .*"medkit-edge"',
        ),
        (".onnx", "onnxruntime", 'onnxruntime is needed .*"medkit-edge\\[onnx\\]"'),
        (".keras", "tensorflow", 'tensorflow is needed .*"medkit-edge\\[keras\\]"'),
    ],
)
def test_a_runtime_that_is_not_installed_is_named_with_its_extra(
    pooled_models: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, module: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=install):
        load_model(pooled_models / "skin" / FILES[suffix])


def test_openvino_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r'openvino is needed .*"medkit-edge\[openvino\]"'):
        registry.get_runtime("openvino").require()


@pytest.mark.parametrize(
    ("suffix", "absent"),
    [
        (".tflite", {"onnxruntime", "onnx", "tensorflow", "keras"}),
        (".onnx", {"ai_edge_litert", "onnx", "tensorflow", "keras"}),
    ],
)
def test_a_runtime_imports_no_other(pooled_models: Path, suffix: str, absent: set[str]) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from medkit.models.runtimes.loading import load_model\n"
        "load_model(Path(sys.argv[1])); print(*sys.modules)"
    )
    path = pooled_models / "skin" / FILES[suffix]
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert not absent & set(done.stdout.split())


def test_a_relative_path_loads(
    pooled_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix, name in FILES.items():
        shutil.copy(pooled_models / "skin" / name, tmp_path / f"ein Modell ü{suffix}")
    monkeypatch.chdir(tmp_path)
    for name in sorted(os.listdir()):
        assert load_model(Path(name)).card.task == SKIN.name
