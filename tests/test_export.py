"""What the exported files hold and promise, from a model trained on made X-rays."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.bundles import FORMATS, PRECISIONS, ModelCard, export_name, load_bundle
from medkit.census import Census, Operator, take_census
from medkit.datasets import load_tensors, read_dataset, resolve_conflicts, split_validation
from medkit.decisions import BALANCED, OperatingPoint
from medkit.errors import DatasetLayoutError, ExportError, MedkitError, ModelFileError, UsageError
from medkit.images import contract_for
from medkit.runtimes import load_model
from medkit.tasks import PNEUMONIA, SKIN
from medkit.version import __version__
from medkit_exporters import ExportOptions, calibration, export_models
from medkit_exporters import run as module
from medkit_exporters.checks import check_integers

keras = pytest.importorskip("keras")
onnx = pytest.importorskip("onnx")

from ai_edge_litert import schema_py_generated as schema  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402
from ai_edge_litert.tools import flatbuffer_utils  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from medkit_exporters import onnx as to_onnx  # noqa: E402
from medkit_exporters import source as sources  # noqa: E402
from medkit_exporters import tflite as to_tflite  # noqa: E402

EVERY_FILE = [export_name(kind, precision) for kind in FORMATS for precision in PRECISIONS]
CONVERTERS = pytest.mark.parametrize("converter", [to_tflite, to_onnx], ids=["tflite", "onnx"])
PRODUCTS = {"Conv", "MatMul", "Gemm"}


@pytest.fixture(scope="module")
def folder(tiny_exported: Path) -> Path:
    return tiny_exported / "pneumonia"


@pytest.fixture(scope="module")
def source(tiny_trained: Path) -> Any:
    return sources.open_source(tiny_trained / "pneumonia/model.keras")


@pytest.fixture(scope="module")
def graph(folder: Path) -> Any:
    """The graph of the int8 ONNX file."""
    return onnx.load(folder / "model-int8.onnx").graph


def options(trained: Path, data: Path | None = None, **others: Any) -> ExportOptions:
    return ExportOptions(**{"tasks": (PNEUMONIA,), "trained": trained, "data": data, **others})


def fast(trained: Path, **others: Any) -> ExportOptions:
    """Ask for the file that is made soonest and needs no data."""
    return options(trained, **{"precisions": ("fp16",), "formats": ("tflite",), **others})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def interpreter(folder: Path, name: str = "model-int8.tflite") -> Any:
    return Interpreter(model_content=(folder / name).read_bytes())


def constants(graph: Any) -> dict[str, Any]:
    return {item.name: numpy_helper.to_array(item) for item in graph.initializer}


def producers(graph: Any) -> dict[str, Any]:
    return {name: node for node in graph.node for name in node.output}


# Interface of the files


def test_every_format_and_precision_is_written_and_listed_by_its_hash(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest["exports"]) == EVERY_FILE
    for name, entry in manifest["exports"].items():
        content = (folder / name).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert name == export_name(entry["format"], entry["precision"])
        assert ("calibration" in entry) == (entry["precision"] == "int8")
    assert list(load_bundle(PNEUMONIA, folder.parent).manifest["exports"]) == EVERY_FILE
    assert set(contents(folder)) == {
        *EVERY_FILE,
        *manifest["files"],
        "manifest.json",
        "MODEL_CARD.md",
    }


@pytest.mark.parametrize("name", [name for name in EVERY_FILE if name.endswith("tflite")])
def test_tflite_takes_bytes_in_batches_of_any_size(folder: Path, name: str) -> None:
    (taken,) = interpreter(folder, name).get_input_details()
    (given,) = interpreter(folder, name).get_output_details()
    assert taken["dtype"] is np.uint8
    assert taken["shape_signature"].tolist() == [-1, 128, 128, 1]
    assert given["dtype"] is np.float32
    assert given["shape_signature"].tolist() == [-1, 1]


@pytest.mark.parametrize("name", [name for name in EVERY_FILE if name.endswith("onnx")])
def test_onnx_takes_bytes_in_batches_of_any_size(folder: Path, name: str) -> None:
    model = onnx.load(folder / name)
    onnx.checker.check_model(model, full_check=True)
    ((taken,), (given,)) = model.graph.input, model.graph.output
    for value, kind, shape in (
        (taken, onnx.TensorProto.UINT8, [128, 128, 1]),
        (given, onnx.TensorProto.FLOAT, [1]),
    ):
        tensor = value.type.tensor_type
        assert tensor.elem_type == kind
        assert tensor.shape.dim[0].dim_param == "batch"
        assert [dim.dim_value for dim in tensor.shape.dim[1:]] == shape
    assert [entry.version for entry in model.opset_import if not entry.domain] == [17]


@pytest.mark.parametrize("name", EVERY_FILE)
def test_an_image_gets_the_same_probabilities_in_any_batch(
    folder: Path, name: str, tiny_test_split: Any
) -> None:
    images = tiny_test_split[0][::4]
    model = load_model(folder / name)
    together = model.predict(images)
    assert together.dtype == np.float32
    assert together.shape == (5, 2)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)
    alone = np.concatenate([model.predict(image[None]) for image in images])
    np.testing.assert_allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_lone_file_says_what_it_is_and_works(
    folder: Path, name: str, tmp_path: Path, tiny_test_split: Any
) -> None:
    lone = tmp_path / f"renamed{Path(name).suffix}"
    shutil.copy(folder / name, lone)
    model = load_model(lone)
    bundle = load_bundle(PNEUMONIA, folder.parent)
    assert model.card == ModelCard(
        task="pneumonia",
        labels=("NORMAL", "PNEUMONIA"),
        contract=contract_for(PNEUMONIA).to_dict(),
        temperature=bundle.temperature,
        operating_points=bundle.operating_points,
        precision=Path(name).stem.removeprefix("model-"),
        version=__version__,
        source_sha256=hashlib.sha256(bundle.keras_path.read_bytes()).hexdigest(),
    )
    images = tiny_test_split[0][:3]
    np.testing.assert_array_equal(model.predict(images), load_model(folder / name).predict(images))


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("fp16", 1e-2)])
@pytest.mark.parametrize("kind", list(FORMATS))
def test_float_files_compute_as_keras_does(
    folder: Path, kind: str, precision: str, bound: float, tiny_test_split: Any
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 1), dtype=np.uint8)
    images = np.concatenate([tiny_test_split[0], noise])
    original = load_model(folder / "model.keras").predict(images)
    assert np.ptp(original[:, 1]) > 0.1
    exported = load_model(folder / export_name(kind, precision)).predict(images)
    assert np.abs(exported - original).max() <= bound


@pytest.mark.parametrize("kind", list(FORMATS))
def test_int8_weighs_at_most_27_percent_of_fp32(folder: Path, kind: str) -> None:
    size = {p: (folder / export_name(kind, p)).stat().st_size for p in ("int8", "fp16", "fp32")}
    assert size["int8"] <= 0.27 * size["fp32"]
    assert size["fp16"] <= 0.52 * size["fp32"]


# Inside the int8 files


def test_raw_pixels_are_the_input_of_int8_tflite(folder: Path) -> None:
    (taken,) = interpreter(folder).get_input_details()
    assert taken["quantization"] == (1.0, 0)


def assert_raw_pixels(graph: Any) -> None:
    (taken,) = graph.input
    consumers = [node for node in graph.node if taken.name in node.input]
    assert [node.op_type for node in consumers] == ["DequantizeLinear"]
    scale, zero_point = (constants(graph)[name] for name in consumers[0].input[1:])
    assert scale.item() == 1.0
    assert zero_point.item() == 0
    assert zero_point.dtype == np.uint8


def test_raw_pixels_are_the_input_of_int8_onnx(graph: Any) -> None:
    assert_raw_pixels(graph)


def test_every_product_of_int8_tflite_is_integer_with_a_scale_for_each_channel(
    folder: Path,
) -> None:
    loaded = interpreter(folder)
    details = {item["index"]: item for item in loaded.get_tensor_details()}
    products = [
        operator
        for operator in loaded._get_ops_details()
        if operator["op_name"] in ("CONV_2D", "FULLY_CONNECTED")
    ]
    assert [operator["op_name"] for operator in products] == ["CONV_2D"] * 7 + ["FULLY_CONNECTED"]
    for operator in products:
        taken, weights = (details[index] for index in operator["inputs"][:2])
        assert taken["dtype"] is np.int8
        assert weights["dtype"] is np.int8
        scales = weights["quantization_parameters"]["scales"]
        assert len(scales) == weights["shape"][0]
        assert len(set(scales.tolist())) > 1 or len(scales) == 1
        assert not weights["quantization_parameters"]["zero_points"].any()


def test_the_probability_of_int8_tflite_is_computed_in_float(folder: Path) -> None:
    loaded = interpreter(folder)
    last = loaded._get_ops_details()[-1]
    details = {item["index"]: item for item in loaded.get_tensor_details()}
    names = [operator["op_name"] for operator in loaded._get_ops_details()]
    assert names.count("LOGISTIC") == 1
    assert last["op_name"] == "LOGISTIC"
    assert [details[i]["dtype"] for i in (*last["inputs"], *last["outputs"])] == [np.float32] * 2


def test_every_product_of_int8_onnx_takes_unsigned_values_and_signed_weights_by_channel(
    graph: Any,
) -> None:
    made, known = producers(graph), constants(graph)
    products = [node for node in graph.node if node.op_type in PRODUCTS]
    assert [node.op_type for node in products].count("Conv") == 7
    assert len(products) == 8
    for node in products:
        taken, weights = (made[name] for name in node.input[:2])
        assert (taken.op_type, weights.op_type) == ("DequantizeLinear",) * 2
        assert known[taken.input[2]].dtype == np.uint8
        values, scales, zero_points = (known[name] for name in weights.input)
        assert values.dtype == zero_points.dtype == np.int8
        assert not zero_points.any()
        (axis,) = [item.i for item in weights.attribute if item.name == "axis"]
        assert scales.shape == (values.shape[axis],)
        if node.op_type == "Conv":
            assert axis == 0
            assert len(set(scales.tolist())) > 1


def test_a_skin_model_ends_in_a_softmax_over_nine_classes(tmp_path: Path) -> None:
    from medkit.training import RECIPES, archive, networks

    recipe = RECIPES["pneumonia", "default"]
    keras.utils.set_random_seed(2)
    model = networks.build_network(SKIN, recipe, None)
    points = {BALANCED: OperatingPoint(BALANCED)}
    card = ModelCard(
        "skin", SKIN.labels, contract_for(SKIN).to_dict(), 1.0, points, "original", "0"
    )
    archive.save_archive(model, card, tmp_path / "model.keras")
    skin = sources.open_source(tmp_path / "model.keras")
    images = np.random.default_rng(1).integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)
    original = load_model(tmp_path / "model.keras").predict(images)
    spanning = calibration.span_full_range(images)
    for kind, converter in (("tflite", to_tflite), ("onnx", to_onnx)):
        path = tmp_path / f"model.{kind}"
        content = converter.convert(skin, "int8", spanning)
        path.write_bytes(converter.attach_card(content, card))
        exported = load_model(path).predict(images)
        assert exported.shape == (4, 9)
        np.testing.assert_allclose(exported.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(exported, original, atol=0.03)


# The promises are checked


def test_a_float_tflite_file_does_not_pass_for_int8(folder: Path) -> None:
    content = (folder / "model-fp32.tflite").read_bytes()
    with pytest.raises(ExportError, match=r"must be uint8 with \(1.0, 0\)"):
        to_tflite._check_int8(content)
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    tensor = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [1.0], [0]
    pretending = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    with pytest.raises(ExportError, match="CONV_2D .* computes in float32, not in int8"):
        to_tflite._check_int8(pretending)


def test_a_float_onnx_file_does_not_pass_for_int8(folder: Path) -> None:
    check_integers(take_census(folder / "model-int8.onnx"))
    with pytest.raises(ExportError, match="Conv .* computes in float32, not in int8"):
        check_integers(take_census(folder / "model-fp32.onnx"))


def test_products_of_16_bits_do_not_pass_for_int8() -> None:
    wide = Operator("wide", "CONV_2D", "int16", 9)
    with pytest.raises(ExportError, match="CONV_2D wide computes in int16, not in int8"):
        check_integers(Census((wide,), {}))


def test_images_that_do_not_span_the_pixels_never_make_a_scaled_input(source: Any) -> None:
    dull = np.random.default_rng(0).integers(100, 150, (4, 128, 128, 1), dtype=np.uint8)
    with pytest.raises(ExportError, match="raw pixels fit"):
        to_tflite.convert(source, "int8", dull)
    assert_raw_pixels(onnx.load_from_string(to_onnx.convert(source, "int8", dull)).graph)


@CONVERTERS
def test_int8_without_calibration_images_is_refused(source: Any, converter: Any) -> None:
    with pytest.raises(ExportError, match="needs calibration images"):
        converter.convert(source, "int8", None)


def test_an_original_that_ends_in_no_probability_is_refused(tmp_path: Path) -> None:
    from medkit.training import archive

    model = keras.Sequential([keras.Input((128, 128, 1), dtype="uint8"), keras.layers.Flatten()])
    contract = contract_for(PNEUMONIA).to_dict()
    points = {BALANCED: OperatingPoint(BALANCED)}
    card = ModelCard("pneumonia", PNEUMONIA.labels, contract, 1.0, points, "original", "0")
    archive.save_archive(model, card, tmp_path / "model.keras")
    with pytest.raises(ExportError, match="ends in Flatten; accepted: a Dense layer"):
        sources.open_source(tmp_path / "model.keras")


# Replacing what is there


def test_an_export_replaces_the_file_and_its_entry_and_leaves_the_others(
    exported_copy: Path,
) -> None:
    folder = exported_copy / "pneumonia"
    name = "model-fp16.tflite"
    before = contents(folder)
    (folder / name).write_bytes(b"an older export")
    notes: list[str] = []
    (written,) = export_models(fast(exported_copy), notes.append)
    after = contents(folder)
    told = ("manifest.json", "MODEL_CARD.md")
    assert {path: after[path] for path in after if path not in told} == {
        path: before[path] for path in before if path not in told
    }
    was, now = (json.loads(files["manifest.json"]) for files in (before, after))
    # Without data the new file is not measured, and the old one's figures are not its own.
    assert was["exports"][name].pop("metrics")
    assert now == was
    assert name in before["MODEL_CARD.md"].decode()
    assert name not in after["MODEL_CARD.md"].decode()
    assert written.path == folder / name
    assert (written.task, written.format, written.precision) == ("pneumonia", "tflite", "fp16")
    assert written.bytes == len(after[name])
    assert written.ratio == pytest.approx(len(after[name]) / len(after["model.keras"]))
    assert written.milliseconds > 0
    assert notes == ["pneumonia: loading model.keras", "pneumonia: converting to tflite fp16"]


@pytest.mark.parametrize("fault", ["conversion", "card", "trial"])
def test_a_failed_conversion_leaves_the_older_file_alone(
    exported_copy: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def fail(*arguments: Any) -> Any:
        raise ExportError("a broken promise")

    (exported_copy / "pneumonia/model-fp16.tflite").write_bytes(b"an older export")
    before = contents(exported_copy / "pneumonia")
    if fault == "trial":
        monkeypatch.setattr(module, "time_one_image", fail)
    else:
        name = {"conversion": "convert", "card": "attach_card"}[fault]
        monkeypatch.setattr(to_tflite, name, fail)
    with pytest.raises(ExportError, match="a broken promise"):
        export_models(fast(exported_copy))
    assert contents(exported_copy / "pneumonia") == before


def test_a_file_that_no_runtime_takes_gets_no_name(
    trained_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(trained_copy / "pneumonia")
    monkeypatch.setattr(
        to_tflite, "attach_card", lambda content, card: content[: len(content) // 2]
    )
    with pytest.raises(ModelFileError):
        export_models(fast(trained_copy))
    assert contents(trained_copy / "pneumonia") == before


# Calibration


def eligible(data: Path) -> dict[str, Any]:
    """Split the made X-rays as the training of seed 0 did."""
    dataset = read_dataset(PNEUMONIA, data / "chest_xray")
    kept, _ = resolve_conflicts(dataset, "drop")
    training, validation = split_validation(kept, 0.15, 0)
    return {"train": training, "validation": validation, "test": dataset.test}


def drawn(monkeypatch: pytest.MonkeyPatch, trained: Path, data: Path, **asked: int) -> Any:
    """Draw a calibration set; return the items that were read, and the set."""
    read: list[Any] = []

    def load(items: Any, contract: Any) -> Any:
        read.extend(items)
        return load_tensors(items, contract)

    monkeypatch.setattr(calibration, "load_tensors", load)
    bundle = load_bundle(PNEUMONIA, trained)
    return read, calibration.draw_calibration_set(bundle, data, **asked)


@pytest.mark.parametrize("seed", range(3))
def test_calibration_draws_training_images_evenly_over_the_classes(
    monkeypatch: pytest.MonkeyPatch, tiny_trained: Path, tiny_data: Path, seed: int
) -> None:
    splits = eligible(tiny_data)
    read, chosen = drawn(monkeypatch, tiny_trained, tiny_data, count=12, seed=seed)
    assert Counter(item.label for item in read) == {0: 6, 1: 6}
    assert {item.name for item in read} <= {item.name for item in splits["train"]}
    held_out = {item.sha256 for name in ("validation", "test") for item in splits[name]}
    assert not {item.sha256 for item in read} & held_out
    digest = hashlib.sha256("\n".join(sorted(item.sha256 for item in read)).encode()).hexdigest()
    assert chosen.record == {"images": 12, "seed": seed, "sha256": digest}


def test_a_large_calibration_set_is_the_training_split_and_nothing_more(
    monkeypatch: pytest.MonkeyPatch, tiny_trained: Path, tiny_data: Path
) -> None:
    splits = eligible(tiny_data)
    read, chosen = drawn(monkeypatch, tiny_trained, tiny_data, count=10_000)
    assert sorted(item.name for item in read) == sorted(item.name for item in splits["train"])
    assert chosen.record["images"] == len(chosen.images) == len(splits["train"])


def test_a_leaked_test_image_never_calibrates_even_if_it_was_trained_on(
    monkeypatch: pytest.MonkeyPatch, trained_copy: Path, tiny_data: Path
) -> None:
    path = trained_copy / "pneumonia/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["recipe"] |= {"clean": False, "validation_fraction": 0.0}
    path.write_text(json.dumps(manifest))
    read, _ = drawn(monkeypatch, trained_copy, tiny_data, count=10_000)
    assert len(read) == 40
    assert not {"leak.jpeg", "both.jpeg"} & {item.path.name for item in read}


def test_one_image_in_a_calibration_set_spans_the_whole_range() -> None:
    grey = np.full((2, 8, 8, 3), 90, dtype=np.uint8)
    spanning = calibration.span_full_range(grey)
    assert (spanning.min(), spanning.max()) == (0, 255)
    assert (spanning != grey).any(axis=-1).sum() == 2
    assert (grey == 90).all()


def test_the_manifest_records_what_calibrated(
    monkeypatch: pytest.MonkeyPatch, tiny_exported: Path, tiny_data: Path
) -> None:
    exports = json.loads((tiny_exported / "pneumonia/manifest.json").read_text())["exports"]
    _, chosen = drawn(monkeypatch, tiny_exported, tiny_data, count=12, seed=0)
    for name in ("model-int8.tflite", "model-int8.onnx"):
        assert exports[name]["calibration"].items() >= chosen.record.items()


# Exports that cannot be


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"formats": ("tflite", "coreml")}, "unknown format 'coreml'; accepted: tflite, onnx"),
        ({"formats": ()}, "no format; accepted: tflite, onnx"),
        ({"precisions": ("int4",)}, "unknown precision 'int4'; accepted: int8, fp16, fp32"),
        ({"precisions": ()}, "no precision; accepted"),
        ({"data": None}, "--data DIR or MEDKIT_DATA, or ask for --fp16"),
        ({"calibration_images": 0}, "0 calibration images; accepted: 1 or more"),
        ({"calibration_images": -5}, "-5 calibration images"),
        ({"seed": -1}, "seed -1; accepted: 0 to"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_opened(
    tiny_trained: Path,
    tiny_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(sources, "open_source", None)
    asked = {"precisions": ("int8",), "data": tiny_data, **wrong}
    with pytest.raises(UsageError, match=message):
        export_models(options(tiny_trained, **asked))


def test_data_of_another_shape_are_refused(tiny_trained: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetLayoutError, match="no pneumonia data in .*: found nothing"):
        export_models(options(tiny_trained, tmp_path))


def test_a_missing_bundle_is_told_with_the_way_to_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="train one with: medkit train pneumonia"):
        export_models(fast(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_original_is_refused(
    trained_copy: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    path = trained_copy / "pneumonia/model.keras"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content[:-100] if damage == "cut" else content)
    if damage == "gone":
        path.unlink()
    monkeypatch.setattr(sources, "open_source", None)
    message = "is missing" if damage == "gone" else "is damaged or was replaced"
    with pytest.raises(MedkitError, match=rf"model\.keras {message}"):
        export_models(fast(trained_copy))
