"""What the exported files hold and promise, from a model trained on made X-rays."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.datasets.splits import splits_of
from medkit.defaults import BALANCED
from medkit.errors import (
    DatasetLayoutError,
    ExportError,
    MedkitError,
    MissingExtraError,
    ModelFileError,
    UsageError,
)
from medkit.models.bundle import load_bundle
from medkit.models.card import ModelCard
from medkit.models.formats import export_formats, export_name
from medkit.models.operators.summary import INTEGERS, PRODUCTS, check_promise, summarise_operators
from medkit.models.points import OperatingPoint
from medkit.models.runtimes.loading import load_model
from medkit.tasks import PNEUMONIA, SKIN
from medkit.version import __version__
from medkit.wording import Remark
from medkit_exporters import ExportOptions, export_models
from medkit_exporters import run as module
from medkit_exporters.calibration import draw_calibration_sets, span_full_range
from medkit_exporters.ladder import LADDERS
from medkit_exporters.settings import Settings

keras = pytest.importorskip("keras")
onnx = pytest.importorskip("onnx")

from ai_edge_litert.interpreter import Interpreter  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from medkit_exporters.formats import tflite_edits  # noqa: E402
from medkit_exporters.formats.onnx import OnnxExporter  # noqa: E402
from medkit_exporters.formats.tflite import TFLiteExporter  # noqa: E402
from medkit_exporters.formats.tflite_edits import LOGIT_COPIES  # noqa: E402
from medkit_exporters.quantize import source as sources  # noqa: E402

CONVERTERS = {"tflite": TFLiteExporter(), "onnx": OnnxExporter()}
EVERY_FILE = [export_name(kind, precision) for kind in CONVERTERS for precision in LADDERS]
FALLBACKS = [
    Settings("int16"),
    Settings("mixed", float_head=True),
    Settings("mixed", float_head=True, float_share=1 / 4),
]


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


@pytest.fixture(scope="module")
def calibration(tiny_trained: Path, tiny_data: Path) -> Any:
    """Training images of the original."""
    splits = splits_of(load_bundle(PNEUMONIA, tiny_trained), tiny_data)
    return draw_calibration_sets(splits, PNEUMONIA.contract, 12, 0)[0].images


@pytest.fixture(scope="module", params=list(CONVERTERS))
def kind(request: pytest.FixtureRequest) -> str:
    """Each format in turn, so that a file is converted once for all tests of it."""
    return str(request.param)


@pytest.fixture(
    scope="module", params=FALLBACKS, ids=["16 bits", "float head", "worst layers in float"]
)
def fallback(
    request: pytest.FixtureRequest,
    kind: str,
    source: Any,
    calibration: Any,
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Settings, Path]:
    """What an export falls back on where 8 bits throughout will not do: how, and the file."""
    settings, converter = request.param, CONVERTERS[kind]
    card = dataclasses.replace(source.card, precision=settings.precision)
    path = tmp_path_factory.mktemp("fallback") / f"model{export_formats()[kind].suffix}"
    content, _ = converter.finalise(converter.convert(source, settings, calibration), card)
    path.write_bytes(content)
    return settings, path


def options(trained: Path, data: Path | None = None, **others: Any) -> ExportOptions:
    return ExportOptions(**{"tasks": (PNEUMONIA,), "trained": trained, "data": data, **others})


def fast(trained: Path, **others: Any) -> ExportOptions:
    """Ask for the file that is made soonest and needs no data."""
    return options(trained, **{"precisions": ("fp16",), "formats": ("tflite",), **others})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def interpreter(path: Path) -> Any:
    return Interpreter(model_content=path.read_bytes())


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
    assert list(load_bundle(PNEUMONIA, folder.parent).manifest.exports) == EVERY_FILE
    assert set(contents(folder)) == {
        *EVERY_FILE,
        *manifest["files"],
        "manifest.json",
        "MODEL_CARD.md",
    }


def assert_takes_bytes_in_any_batch(path: Path) -> None:
    """Check that a file takes uint8 X-rays and gives float32, both with a free batch size."""
    if path.suffix == ".tflite":
        loaded = interpreter(path)
        ((taken,), (given,)) = loaded.get_input_details(), loaded.get_output_details()
        assert taken["dtype"] is np.uint8
        assert taken["shape_signature"].tolist() == [-1, 128, 128, 1]
        assert given["dtype"] is np.float32
        assert given["shape_signature"].tolist() == [-1, 2]
        return
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    ((taken,), (given,)) = model.graph.input, model.graph.output
    for value, kind, shape in (
        (taken, onnx.TensorProto.UINT8, [128, 128, 1]),
        (given, onnx.TensorProto.FLOAT, [2]),
    ):
        tensor = value.type.tensor_type
        assert tensor.elem_type == kind
        assert tensor.shape.dim[0].dim_param == "batch"
        assert [dim.dim_value for dim in tensor.shape.dim[1:]] == shape


@pytest.mark.parametrize("name", EVERY_FILE)
def test_every_file_takes_bytes_in_batches_of_any_size(folder: Path, name: str) -> None:
    assert_takes_bytes_in_any_batch(folder / name)


@pytest.mark.parametrize("name", [name for name in EVERY_FILE if name.endswith("onnx")])
def test_onnx_files_need_no_operators_newer_than_those_of_2022(folder: Path, name: str) -> None:
    model = onnx.load(folder / name)
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
    entry = bundle.manifest.exports[name]
    assert model.card == ModelCard(
        task="pneumonia",
        labels=("NORMAL", "PNEUMONIA"),
        contract=PNEUMONIA.contract,
        temperature=entry.temperature,
        operating_points=entry.operating_points,
        precision=Path(name).stem.removeprefix("model-"),
        version=__version__,
        source_sha256=hashlib.sha256(bundle.keras_path.read_bytes()).hexdigest(),
    )
    images = tiny_test_split[0][:3]
    np.testing.assert_array_equal(model.predict(images), load_model(folder / name).predict(images))


@pytest.mark.parametrize("name", EVERY_FILE)
def test_only_quantised_files_have_rules_of_their_own(folder: Path, name: str) -> None:
    bundle = load_bundle(PNEUMONIA, folder.parent)
    card = load_model(folder / name).card
    own = bundle.manifest.exports[name].graph_temperature, card.operating_points
    assert (own == (bundle.temperature, bundle.operating_points)) == ("int8" not in name)
    assert set(card.operating_points) == set(bundle.operating_points)


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("fp16", 1e-2)])
@pytest.mark.parametrize("kind", list(CONVERTERS))
def test_float_files_compute_as_keras_does(
    folder: Path, kind: str, precision: str, bound: float, tiny_test_split: Any
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 1), dtype=np.uint8)
    images = np.concatenate([tiny_test_split[0], noise])
    original = load_model(folder / "model.keras").predict(images)
    assert np.ptp(original[:, 1]) > 0.1
    exported = load_model(folder / export_name(kind, precision)).predict(images)
    assert np.abs(exported - original).max() <= bound


@pytest.mark.parametrize("kind", list(CONVERTERS))
def test_int8_weighs_at_most_26_percent_of_fp32(folder: Path, kind: str) -> None:
    size = {p: (folder / export_name(kind, p)).stat().st_size for p in ("int8", "fp16", "fp32")}
    # To a tenth of a percent: names, signature and temperature are 0.02 % of the int8 file.
    assert round(size["int8"] / size["fp32"], 3) <= 0.26
    assert size["fp16"] <= 0.52 * size["fp32"]


# Inside the int8 files


def test_raw_pixels_are_the_input_of_int8_tflite(folder: Path) -> None:
    (taken,) = interpreter(folder / "model-int8.tflite").get_input_details()
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
    loaded = interpreter(folder / "model-int8.tflite")
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
        copies = LOGIT_COPIES if operator["op_name"] == "FULLY_CONNECTED" else 1
        assert len(scales) == weights["shape"][0] / copies
        assert len(set(scales.tolist())) > 1 or len(scales) == 1
        assert not weights["quantization_parameters"]["zero_points"].any()


def test_the_probability_of_int8_tflite_is_computed_in_float(folder: Path) -> None:
    loaded = interpreter(folder / "model-int8.tflite")
    operators = loaded._get_ops_details()
    last = operators[-1]
    details = {item["index"]: item for item in loaded.get_tensor_details()}
    names = [operator["op_name"] for operator in operators]
    assert names[-5:] == ["FULLY_CONNECTED", "DEQUANTIZE", "MEAN", "MUL", "LOGISTIC"]
    assert names.count("LOGISTIC") == 1
    assert [details[i]["dtype"] for i in (*last["inputs"], *last["outputs"])] == [np.float32] * 2


def test_the_logits_of_int8_tflite_are_finer_than_8_bits(
    source: Any,
    calibration: Any,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_test_split: Any,
) -> None:
    images, labels = tiny_test_split
    ends = [images[labels == label][0].astype(np.float64) for label in (0, 1)]
    shares = np.linspace(0.4, 0.6, 200)[:, np.newaxis, np.newaxis, np.newaxis]
    blends = ((1 - shares) * ends[0] + shares * ends[1]).round().astype(np.uint8)
    original = load_model(folder / "model.keras")
    card = dataclasses.replace(original.card, precision="int8")

    def logits_of(model: Any) -> Any:
        scores = model.predict(blends)[:, 1].astype(np.float64)
        return np.log(scores / (1 - scores))

    def converted(name: str) -> Any:
        path = tmp_path / name
        content = TFLiteExporter().convert(source, Settings("int8"), calibration)
        path.write_bytes(TFLiteExporter().attach_card(content, card))
        return logits_of(load_model(path))

    refined = converted("refined.tflite")
    monkeypatch.setattr(tflite_edits, "refine_logits", tflite_edits.Edited)
    coarse = converted("coarse.tflite")
    levels = np.unique(coarse.round(4))
    step = np.diff(levels).min()
    assert len(np.unique(refined.round(4))) > 3 * len(levels)
    assert np.abs(refined - coarse).max() <= 0.51 * step


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
    card = ModelCard("skin", SKIN.labels, SKIN.contract, 1.0, points, "original", "0")
    archive.save_archive(model, card, tmp_path / "model.keras")
    skin = sources.open_source(tmp_path / "model.keras")
    images = np.random.default_rng(1).integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)
    original = load_model(tmp_path / "model.keras").predict(images)
    spanning = span_full_range(images)
    for kind, converter in CONVERTERS.items():
        path = tmp_path / f"model.{kind}"
        content = converter.convert(skin, Settings("int8"), spanning)
        path.write_bytes(converter.attach_card(content, card))
        exported = load_model(path).predict(images)
        assert exported.shape == (4, 9)
        np.testing.assert_allclose(exported.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(exported, original, atol=0.03)


# What is fallen back on


def test_a_fallback_keeps_the_promise_of_its_precision(fallback: tuple[Settings, Path]) -> None:
    settings, path = fallback
    census = summarise_operators(path)
    check_promise(census, settings.precision)
    products = [item for item in census.operators if item.kind in PRODUCTS]
    floating = [item for item in products if item.computes_in not in INTEGERS]
    if settings.precision == "int16":
        assert {item.computes_in.removeprefix("u") for item in products} == {"int16"}
    elif settings.float_share:
        # The worst two of eight; the last may be one of them.
        assert products[-1] in floating
        assert 2 <= len(floating) <= 3
    else:
        assert floating == [products[-1]]


def test_a_fallback_takes_bytes_in_batches_of_any_size(
    fallback: tuple[Settings, Path], tiny_test_split: Any
) -> None:
    _, path = fallback
    assert summarise_operators(path).pixels.raw
    assert_takes_bytes_in_any_batch(path)
    images = tiny_test_split[0][:5]
    model = load_model(path)
    alone = np.concatenate([model.predict(image[None]) for image in images])
    np.testing.assert_allclose(alone, model.predict(images), atol=1e-5)


def test_a_fallback_computes_nearly_as_keras_does(
    fallback: tuple[Settings, Path], folder: Path, tiny_test_split: Any
) -> None:
    settings, path = fallback
    images = tiny_test_split[0]
    original = load_model(folder / "model.keras").predict(images)
    bound = {"int16": 0.01, "mixed": 0.05}[settings.precision]
    assert np.abs(load_model(path).predict(images) - original).max() <= bound


# The promises are checked


@pytest.mark.parametrize(
    ("made", "called", "message"),
    [
        ("fp32", "int8", "computes in float32, not in int8"),
        ("fp32", "int16", "computes in float32, not in int16"),
        ("fp32", "mixed", "no product computes in integers"),
        ("int8", "int16", "computes in int8, not in int16"),
        ("int8", "fp32", "computes in int8, not in floating point"),
    ],
)
def test_a_file_does_not_pass_for_another(
    folder: Path, kind: str, made: str, called: str, message: str
) -> None:
    census = summarise_operators(folder / export_name(kind, made))
    check_promise(census, made)
    with pytest.raises(ExportError, match=message):
        check_promise(census, called)


def test_images_that_do_not_span_the_pixels_never_make_a_scaled_input(source: Any) -> None:
    dull = np.random.default_rng(0).integers(100, 150, (4, 128, 128, 1), dtype=np.uint8)
    with pytest.raises(ExportError, match="raw pixels fit"):
        TFLiteExporter().convert(source, Settings("int8"), dull)
    made = OnnxExporter().convert(source, Settings("int8"), dull)
    assert_raw_pixels(onnx.load_from_string(made).graph)


@pytest.mark.parametrize("precision", ["int8", "int16", "mixed"])
def test_integers_without_calibration_images_are_refused(
    source: Any, kind: str, precision: str
) -> None:
    with pytest.raises(ExportError, match=f"{precision} needs calibration images"):
        CONVERTERS[kind].convert(source, Settings(precision), None)


def test_an_original_that_ends_in_no_probability_is_refused(tmp_path: Path) -> None:
    from medkit.training import archive

    model = keras.Sequential([keras.Input((128, 128, 1), dtype="uint8"), keras.layers.Flatten()])
    points = {BALANCED: OperatingPoint(BALANCED)}
    card = ModelCard(
        "pneumonia", PNEUMONIA.labels, PNEUMONIA.contract, 1.0, points, "original", "0"
    )
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
    (judged,), (unjudged,) = (files["exports"][name].pop("ladder") for files in (was, now))
    assert judged["validation"]["images"] == 6
    assert unjudged == {**judged, "validation": None}
    assert now == was
    assert name in before["MODEL_CARD.md"].decode()
    assert name not in after["MODEL_CARD.md"].decode()
    assert written.path == folder / name
    assert (written.task, written.format, written.precision) == ("pneumonia", "tflite", "fp16")
    assert written.bytes == len(after[name])
    assert written.ratio == pytest.approx(len(after[name]) / len(after["model.keras"]))
    assert written.milliseconds > 0
    kept = load_bundle(PNEUMONIA, exported_copy).manifest.exports[name]
    assert tuple(attempt.to_record() for attempt in written.attempts) == kept.ladder
    assert [note for note in notes if isinstance(note, Remark)] == notes[1:2]
    assert notes == [
        "pneumonia: loading model.keras",
        "pneumonia: without data nothing is compared; medkit parity does it",
        "pneumonia: tflite fp16: half precision",
    ]


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
        monkeypatch.setattr(TFLiteExporter, name, fail)
    with pytest.raises(ExportError, match="a broken promise"):
        export_models(fast(exported_copy))
    assert contents(exported_copy / "pneumonia") == before


def test_a_file_that_no_runtime_takes_gets_no_name(
    trained_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(trained_copy / "pneumonia")
    monkeypatch.setattr(
        TFLiteExporter, "attach_card", lambda self, content, card: content[: len(content) // 2]
    )
    with pytest.raises(ExportError, match="or a damaged one"):
        export_models(fast(trained_copy))
    assert contents(trained_copy / "pneumonia") == before


# Exports that cannot be


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"formats": ("tflite", "coreml")}, "unknown format 'coreml'; accepted: tflite, onnx"),
        ({"formats": ()}, "no format; accepted: tflite, onnx"),
        (
            {"precisions": ("int4",)},
            "unknown precision 'int4'; did you mean int8[?] accepted",
        ),
        ({"precisions": ("mixed",)}, "unknown precision 'mixed'; accepted: int8, fp16, fp32"),
        ({"precisions": ()}, "no precision; accepted"),
        ({"data": None}, "--data DIR or MEDKIT_DATA, or ask for --fp16"),
        ({"calibration_images": 0}, "0 calibration images; accepted: 1 or more"),
        ({"calibration_images": -5}, "-5 calibration images"),
        ({"seed": -1}, "seed -1; accepted: 0 to"),
        ({"max_drop": -0.5}, "a drop of -0.5 points; accepted: 0 to 100"),
        ({"max_drop": float("nan")}, "a drop of nan points"),
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


def test_a_network_that_gives_no_numbers_is_refused_without_any_data(trained_copy: Path) -> None:
    from medkit.models.bundle import file_record
    from medkit.training import archive

    folder = trained_copy / "pneumonia"
    original = sources.open_source(folder / "model.keras")
    kernel, *others = original.model.layers[-1].get_weights()
    original.model.layers[-1].set_weights([np.full_like(kernel, np.nan), *others])
    archive.save_archive(original.model, original.card, folder / "model.keras")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.keras"] = dataclasses.asdict(file_record(folder / "model.keras"))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for kind in CONVERTERS:
        with pytest.raises(ExportError, match="a weight is no finite number"):
            export_models(fast(trained_copy, formats=(kind,)))
    assert not list(folder.glob("model-*"))


def test_a_precision_that_the_ladder_ended_at_is_made_once(
    trained_copy: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = TFLiteExporter.convert

    def halves_only(exporter: Any, source: Any, settings: Settings, *others: Any) -> bytes:
        if settings.calibrated:
            raise ExportError("broken")
        return convert(exporter, source, settings, *others)

    monkeypatch.setattr(TFLiteExporter, "convert", halves_only)
    asked = {"precisions": ("int8", "fp16"), "formats": ("tflite",), "calibration_images": 8}
    (file,) = export_models(options(trained_copy, tiny_data, **asked))
    assert file.precision == "fp16"
    entry = load_bundle(PNEUMONIA, trained_copy).manifest.exports["model-fp16.tflite"]
    assert len(entry.ladder) == 7
    assert "model-fp16.tflite" in (trained_copy / "pneumonia/MODEL_CARD.md").read_text()


def test_a_network_that_would_need_too_much_memory_gets_a_file_of_another_rung(
    trained_copy: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medkit_exporters import candidates

    def too_large(*given: Any) -> Any:
        raise MemoryError("Unable to allocate 24.7 GiB for an array")

    monkeypatch.setattr(candidates, "round_together", too_large)
    asked = {"precisions": ("int8",), "formats": ("tflite",), "calibration_images": 8}
    (file,) = export_models(options(trained_copy, tiny_data, **asked))
    assert file.precision == "fp16"
    for attempt in file.attempts[:-1]:
        assert attempt.failures == (
            "it needs more memory than there is (Unable to allocate 24.7 GiB for an array)",
        )


def test_what_a_conversion_skips_is_noted_and_recorded(
    trained_copy: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medkit_exporters import candidates

    fold = candidates.fold_rescaling

    def leaving_something(model: Any) -> Any:
        return dataclasses.replace(fold(model), skipped=("fold: something stays",))

    monkeypatch.setattr(candidates, "fold_rescaling", leaving_something)
    notes: list[str] = []
    asked = {"precisions": ("int8",), "formats": ("tflite",), "calibration_images": 8}
    (file,) = export_models(options(trained_copy, tiny_data, **asked), notes.append)
    assert notes.count("pneumonia: tflite: fold: something stays") == 1
    entry = load_bundle(PNEUMONIA, trained_copy).manifest.exports[file.path.name]
    assert entry.ladder[-1].skipped == ("fold: something stays",)


def test_the_files_of_the_made_network_skip_nothing(folder: Path) -> None:
    exports = load_bundle(PNEUMONIA, folder.parent).manifest.exports
    assert all(attempt.skipped == () for entry in exports.values() for attempt in entry.ladder)


@pytest.mark.parametrize("module", ["tensorflow", "scipy", "sklearn", "jinja2", "tf2onnx"])
def test_a_package_that_is_absent_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    from medkit import extras

    monkeypatch.setattr(extras, "is_installed", lambda name: name != module)
    # There is no bundle in this folder, but that is not looked at yet.
    with pytest.raises(MissingExtraError, match=r"medkit-edge\[export\]"):
        export_models(options(tmp_path, precisions=("fp32",)))
