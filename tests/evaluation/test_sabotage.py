"""Exports broken on purpose: each is caught, and the message points at the cause.

The X-ray network is that of the other tests. The skin network tells lesions
by their colour, so that the order of the channels matters.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medkit.datasets.layout import read_dataset
from medkit.datasets.sampling import load_tensors
from medkit.defaults import BALANCED
from medkit.errors import ContractMismatchError, ExportError, ModelFileError
from medkit.evaluation.comparison import Comparison
from medkit.evaluation.parity import ParityOptions, check_parity
from medkit.files import sha256_of
from medkit.images.pixels import image_to_tensor
from medkit.models.bundle import file_record, load_bundle
from medkit.models.card import ModelCard
from medkit.models.formats import export_name
from medkit.models.manifest import DataRecord, ExportEntry, Manifest, write_manifest
from medkit.models.points import OperatingPoint
from medkit.models.recipe import Recipe
from medkit.tasks import PNEUMONIA, SKIN, Task
from medkit_exporters import ExportOptions, calibration, export_models
from modelfiles import card_of, save_onnx
from parityruns import relist

keras = pytest.importorskip("keras")
onnx = pytest.importorskip("onnx")
linear_model = pytest.importorskip("sklearn.linear_model")

from ai_edge_litert.tools import flatbuffer_utils  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from medkit.training.archive import save_archive  # noqa: E402
from medkit_exporters.formats.registry import known_exporters  # noqa: E402
from medkit_exporters.quantize.network import copy_network  # noqa: E402
from medkit_exporters.quantize.source import open_source  # noqa: E402
from medkit_exporters.settings import Settings  # noqa: E402

EXPORTERS: dict[str, Any] = {name: known.load() for name, known in known_exporters().items()}
BOTH = pytest.mark.parametrize("kind", list(EXPORTERS))


@pytest.fixture(scope="module")
def coloured(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fit a skin network to the mean colours of made lesions, and export it; not to be changed."""
    trained = tmp_path_factory.mktemp("coloured")
    contract = SKIN.contract
    dataset = read_dataset(SKIN, tiny_data / "skin_cancer_isic")
    images, labels = load_tensors(SKIN, dataset.train, contract)
    means = images.mean(axis=(1, 2)) / 255
    fitted = linear_model.LogisticRegression(C=1e3, max_iter=5000).fit(means, labels)
    network = keras.Sequential(
        [
            keras.Input(contract.shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            # In two steps: kernels add 16 thousand numbers up less exactly than 256.
            keras.layers.AveragePooling2D(16),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(9, "softmax"),
        ]
    )
    network.layers[-1].set_weights([fitted.coef_.T, fitted.intercept_])
    points = {BALANCED: OperatingPoint(BALANCED)}
    card = ModelCard("skin", SKIN.labels, contract, 1.0, points, "original", "0")
    folder = trained / "skin"
    save_archive(network, card, folder / "model.keras")
    write_manifest(
        folder,
        Manifest(
            labels=SKIN.labels,
            contract=contract,
            temperature=1.0,
            operating_points=points,
            recipe=Recipe("default", "pooled", 16, (), validation_fraction=0.15),
            data=DataRecord(on_conflict="drop"),
            files={"model.keras": file_record(folder / "model.keras")},
        ),
    )
    source = open_source(folder / "model.keras")
    for kind, exporter in EXPORTERS.items():
        enter(trained, SKIN, kind, "fp32", exporter.convert(source, Settings("fp32"), None))
    return trained


def enter(trained: Path, task: Task, kind: str, precision: str, content: bytes) -> None:
    """Write an export with an honest card, and list it."""
    folder = trained / task.name
    original = open_source(folder / "model.keras").card
    card = replace(original, precision=precision, source_sha256=sha256_of(folder / "model.keras"))
    path = folder / export_name(kind, precision)
    path.write_bytes(EXPORTERS[kind].attach_card(content, card))
    record = file_record(path)
    entry = ExportEntry(
        record.bytes,
        record.sha256,
        precision,
        temperature=card.temperature,
        operating_points=card.operating_points,
    )
    manifest = load_bundle(task, trained).manifest
    write_manifest(folder, manifest.with_export(path.name, entry))


def verdict(trained: Path, task: Task, data: Path, name: str) -> Comparison:
    """Return the comparison of one export on its first runtime."""
    found = check_parity(ParityOptions((task,), data, trained=trained)).comparisons
    return next(item for item in found if item.file == name)


def sabotaged(
    trained: Path, task: Task, kind: str, change: Callable[[Any], Any], precision: str = "fp32"
) -> str:
    """Export a changed network, unchecked, under the original's name; return the file's name."""
    source = open_source(trained / task.name / "model.keras")
    changed = replace(source, model=change(source.model))
    content = EXPORTERS[kind]._convert_floats(changed, Settings(precision))
    enter(trained, task, kind, precision, content)
    return export_name(kind, precision)


def with_pixels(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what puts a change of the pixels before a network."""

    def build(model: Any) -> Any:
        copy = copy_network(model)
        pixels = keras.Input(model.input_shape[1:], dtype="uint8")
        values = change(keras.ops.cast(pixels, "float32"))
        for layer in copy.layers:
            if not isinstance(layer, keras.layers.InputLayer):
                values = layer(values)
        return keras.Model(pixels, values)

    return build


@pytest.fixture
def skin(coloured: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(coloured, tmp_path / "coloured"))


def test_the_honest_files_pass(coloured: Path, tiny_data: Path) -> None:
    found = check_parity(ParityOptions((SKIN,), tiny_data, trained=coloured)).comparisons
    assert found
    for item in found:
        assert item.failures == ()
        assert item.changes["accuracy"].before > 0.8, "colours were not learned"


# The pixels


@BOTH
def test_the_wrong_channel_order(skin: Path, tiny_data: Path, kind: str) -> None:
    name = sabotaged(skin, SKIN, kind, with_pixels(lambda pixels: pixels[..., ::-1]))
    lines = verdict(skin, SKIN, tiny_data, name).failures
    assert any("red and blue are swapped" in line for line in lines)


@BOTH
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda pixels: pixels / 255, "divided by 255"),
        (lambda pixels: pixels / 127.5 - 1, "scaled to -1..1"),
        (lambda pixels: 255 - pixels, "inverted"),
    ],
    ids=["divided", "centred", "inverted"],
)
def test_wrong_scaling(
    skin: Path, tiny_data: Path, kind: str, change: Callable[[Any], Any], cause: str
) -> None:
    name = sabotaged(skin, SKIN, kind, with_pixels(change))
    lines = verdict(skin, SKIN, tiny_data, name).failures
    assert any(f"on pixels that were {cause}" in line for line in lines)


def test_an_input_quantisation_that_is_not_the_identity(
    exported_copy: Path, tiny_data: Path
) -> None:
    path = exported_copy / "pneumonia/model-int8.tflite"
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].quantization.scale = np.array([0.5], np.float32)
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    relist(exported_copy, path.name)
    lines = verdict(exported_copy, PNEUMONIA, tiny_data, path.name).failures
    assert any("scale 0.5 and zero point 0; it must be uint8 with scale 1.0" in x for x in lines)


def test_another_resize_kernel(skin: Path, tiny_data: Path) -> None:
    path = skin / "skin/model-fp32.onnx"
    model = onnx.load(path)
    card = card_of(model)
    stored = json.loads(card.value)
    stored["contract"] = {**stored["contract"], "resize": "squash:nearest", "hash": "0123"}
    card.value = json.dumps(stored)
    save_onnx(model, path)
    relist(skin, path.name, "skin")
    with pytest.raises(ContractMismatchError) as raised:
        verdict(skin, SKIN, tiny_data, path.name)
    assert "resize 'squash:nearest' instead of GEOMETRY:KERNEL with" in str(raised.value)


def test_a_resize_kernel_that_changes_under_the_same_name(
    coloured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No card can tell it, but the pixels of the golden files do."""
    import make_golden as golden

    with np.load(golden.FOLDER / golden.TENSORS) as stored:
        known = dict(stored)

    def nearest(image: Image.Image, contract: Any) -> Any:
        return image_to_tensor(image.resize((128, 128), Image.Resampling.NEAREST), contract)

    monkeypatch.setattr("medkit.images.reading.image_to_tensor", nearest)
    moved = golden.tensors(golden.FOLDER)
    assert moved.keys() == known.keys()
    assert any((moved[name] != known[name]).any() for name in known)


# The labels


@BOTH
def test_a_swapped_label_in_the_weights(skin: Path, tiny_data: Path, kind: str) -> None:
    def swap(model: Any) -> Any:
        copy = copy_network(model)
        order = [0, 4, 2, 3, 1, 5, 6, 7, 8]
        kernel, bias = copy.layers[-1].get_weights()
        copy.layers[-1].set_weights([kernel[:, order], bias[order]])
        return copy

    lines = verdict(skin, SKIN, tiny_data, sabotaged(skin, SKIN, kind, swap)).failures
    assert any("once its labels basal cell carcinoma, nevus are moved" in line for line in lines)


def test_a_swapped_label_in_the_card(skin: Path, tiny_data: Path) -> None:
    path = skin / "skin/model-fp32.onnx"
    model = onnx.load(path)
    card = card_of(model)
    stored = json.loads(card.value)
    stored["labels"][1], stored["labels"][4] = stored["labels"][4], stored["labels"][1]
    card.value = json.dumps(stored)
    save_onnx(model, path)
    relist(skin, path.name, "skin")
    with pytest.raises(ModelFileError, match="its labels .* are not those of task skin"):
        verdict(skin, SKIN, tiny_data, path.name)


# The weights


@BOTH
def test_one_layer_of_zeros(exported_copy: Path, tiny_data: Path, kind: str) -> None:
    def zero(model: Any) -> Any:
        copy = copy_network(model)
        layer = next(x for x in copy.layers[4:] if isinstance(x, keras.layers.Conv2D))
        layer.set_weights([np.zeros_like(array) for array in layer.get_weights()])
        return copy

    name = sabotaged(exported_copy, PNEUMONIA, kind, zero)
    lines = verdict(exported_copy, PNEUMONIA, tiny_data, name).failures
    assert any("all its weights are zero" in line for line in lines)


@BOTH
def test_weights_that_are_no_numbers(exported_copy: Path, tiny_data: Path, kind: str) -> None:
    def spoil(model: Any) -> Any:
        copy = copy_network(model)
        kernel, *others = copy.layers[-1].get_weights()
        copy.layers[-1].set_weights([np.full_like(kernel, np.nan), *others])
        return copy

    name = sabotaged(exported_copy, PNEUMONIA, kind, spoil)
    lines = verdict(exported_copy, PNEUMONIA, tiny_data, name).failures
    assert any("a weight is no finite number" in line for line in lines)
    assert any("a probability is not finite" in line for line in lines)


def test_weights_turned_around(exported_copy: Path, tiny_data: Path) -> None:
    """Without a cause that is tried out, the broken rules themselves are told."""
    path = exported_copy / "pneumonia/model-fp32.onnx"
    model = onnx.load(path)
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    (weights,) = [item for item in model.graph.initializer if item.name == first.input[1]]
    turned = -numpy_helper.to_array(weights)
    weights.CopyFrom(numpy_helper.from_array(turned, weights.name))
    save_onnx(model, path)
    relist(exported_copy, path.name)
    for item in check_parity(
        ParityOptions((PNEUMONIA,), tiny_data, trained=exported_copy)
    ).comparisons:
        assert item.passed is (item.file != path.name)


# The conversion


@BOTH
def test_float_compute_under_an_int8_name(exported_copy: Path, tiny_data: Path, kind: str) -> None:
    source = open_source(exported_copy / "pneumonia/model.keras")
    content = EXPORTERS[kind].convert(source, Settings("fp32"), None)
    enter(exported_copy, PNEUMONIA, kind, "int8", content)
    lines = verdict(exported_copy, PNEUMONIA, tiny_data, export_name(kind, "int8")).failures
    assert any("computes in float32, not in int8" in line for line in lines)


def faint_noise(items: Any, contract: Any) -> Any:
    """Return nearly black noise instead of the images that were asked for."""
    rng = np.random.default_rng(0)
    shape = (len(items), *contract.shape)
    return rng.integers(0, 4, shape, dtype=np.uint8)


@BOTH
def test_calibration_on_noise_never_ends_in_an_int8_file(
    trained_copy: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(calibration, "read_pixels", faint_noise)
    asked = ExportOptions(
        (PNEUMONIA,), (kind,), data=tiny_data, trained=trained_copy, calibration_images=12
    )
    (file,) = export_models(asked)
    assert file.precision == "fp16", [attempt.failures for attempt in file.attempts]
    assert all(not attempt.passed for attempt in file.attempts[:-1])
    assert all(attempt.failures for attempt in file.attempts[:-1])
    assert not (trained_copy / "pneumonia" / export_name(kind, "int8")).exists()
    exports = load_bundle(PNEUMONIA, trained_copy).manifest.exports
    assert list(exports) == [export_name(kind, "fp16")]


def test_calibration_on_images_of_no_training_folder(exported_copy: Path, tiny_data: Path) -> None:
    path = exported_copy / "pneumonia/manifest.json"
    manifest = json.loads(path.read_text())
    files = manifest["exports"]["model-int8.tflite"]["calibration"]["files"]
    stranger = read_dataset(PNEUMONIA, tiny_data / "chest_xray").test[3]
    files[0] = stranger.sha256
    path.write_text(json.dumps(manifest))
    lines = verdict(exported_copy, PNEUMONIA, tiny_data, "model-int8.tflite").failures
    assert (
        f"1 of its {len(files)} calibration images are none of the training images, such as "
        in (lines[0])
    )
    assert stranger.name in lines[0]


@BOTH
def test_a_converter_that_spoils_everything_leaves_no_file(
    trained_copy: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    exporter = type(EXPORTERS[kind])
    convert = exporter.convert

    def spoil(self: Any, source: Any, *arguments: Any) -> bytes:
        copy = copy_network(source.model)
        kernel, *others = copy.layers[-1].get_weights()
        copy.layers[-1].set_weights([-kernel, *others])
        return bytes(convert(self, replace(source, model=copy), *arguments))

    monkeypatch.setattr(exporter, "convert", spoil)
    before = {path.name: path.read_bytes() for path in (trained_copy / "pneumonia").iterdir()}
    asked = ExportOptions(
        (PNEUMONIA,), (kind,), data=tiny_data, trained=trained_copy, calibration_images=12
    )
    with pytest.raises(ExportError, match="none was written .8 bits throughout: "):
        export_models(asked)
    after = {path.name: path.read_bytes() for path in (trained_copy / "pneumonia").iterdir()}
    assert after == before
