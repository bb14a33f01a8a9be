"""Final files: raw bytes in, calibrated probabilities out, in a runtime that knows no card."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medkit import ClassifyOptions, predict_paths
from medkit.errors import ExportError, MissingExtraError
from medkit.evaluation.parity import ParityOptions, check_parity
from medkit.models.bundle import load_bundle
from medkit.models.card import read_card
from medkit.models.manifest import ExportEntry
from medkit.models.operators.summary import summarise_operators
from medkit.models.runtimes.loading import load_model
from medkit.tasks import PNEUMONIA, TASKS, Task, shipped_folder
from medkit_exporters import ExportOptions, export_models, finalise_exports

pytest.importorskip("keras")
onnx = pytest.importorskip("onnx")

from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: E402

from medkit_exporters.formats.registry import known_exporters  # noqa: E402
from medkit_exporters.formats.tflite import TFLiteExporter  # noqa: E402

SAMPLES = Path(__file__).parents[1] / "samples"
EXPORTERS = {name: known.load() for name, known in known_exporters().items()}
FORMATS = pytest.mark.parametrize("kind", list(EXPORTERS))
BOTH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
FILES = [
    f"model-{precision}.{kind}" for kind in EXPORTERS for precision in ("int8", "fp16", "fp32")
]


def plain(path: Path, images: NDArray[np.uint8], kernels: Any = OpResolverType.AUTO) -> Any:
    """Return what a runtime alone computes, asked by the names of input and output."""
    if path.suffix == ".tflite":
        interpreter = Interpreter(model_path=str(path), experimental_op_resolver_type=kernels)
        assert interpreter.get_signature_list() == {
            "serving_default": {"inputs": ["image"], "outputs": ["probabilities"]}
        }
        return interpreter.get_signature_runner("serving_default")(image=images)["probabilities"]
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"image": images})[0]


def noise(task: Task) -> NDArray[np.uint8]:
    """Return noise, the lighter the later."""
    images = np.random.default_rng(0).integers(0, 256, (4, *task.contract.shape), dtype=np.uint8)
    return images // np.array([64, 4, 2, 1], np.uint8).reshape(4, 1, 1, 1)


def finalised(path: Path, folder: Path, **changes: Any) -> Path:
    """Write a final copy of a file, whose card had ``changes`` before."""
    card = dataclasses.replace(read_card(path), **changes)
    content, final = EXPORTERS[path.suffix[1:]].finalise(path.read_bytes(), card)
    copy = folder / path.name
    copy.write_bytes(content)
    assert read_card(copy) == final
    return copy


@pytest.mark.parametrize("name", FILES)
def test_a_runtime_that_knows_no_card_gives_what_medkit_gives(
    tiny_exported: Path, name: str, tiny_test_split: Any
) -> None:
    path = tiny_exported / "pneumonia" / name
    images = np.concatenate([tiny_test_split[0], noise(PNEUMONIA)])
    found = plain(path, images)
    assert found.shape == (len(images), 2)
    np.testing.assert_allclose(found, load_model(path).predict(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_the_manifest_keeps_the_temperature_that_a_graph_has(
    tiny_exported: Path, name: str
) -> None:
    bundle = load_bundle(PNEUMONIA, tiny_exported)
    entry = bundle.manifest.exports[name]
    assert entry.temperature == read_card(bundle.folder / name).temperature == 1
    assert entry.graph_temperature is not None
    assert entry.graph_temperature != 1
    if "int8" not in name:
        assert entry.graph_temperature == bundle.temperature


@BOTH
@FORMATS
def test_the_temperature_of_a_card_moves_into_the_graph(
    pooled_models: Path, tmp_path: Path, task: Task, kind: str
) -> None:
    old = pooled_models / task.name / f"model-fp32.{kind}"
    assert read_card(old).temperature == 1.5
    new, images = finalised(old, tmp_path), noise(task)
    expected = load_model(old).predict(images)
    np.testing.assert_allclose(plain(new, images), expected, rtol=0, atol=1e-6)
    hotter = finalised(old, tmp_path, temperature=3.0)
    assert np.abs(plain(hotter, images) - expected).max() > 0.01


def test_litert_gives_the_same_without_xnnpack(pooled_models: Path, tmp_path: Path) -> None:
    for task in TASKS.values():
        images = noise(task)
        path = finalised(pooled_models / task.name / "model-fp32.tflite", tmp_path)
        others = plain(path, images, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
        np.testing.assert_allclose(others, plain(path, images), rtol=0, atol=1e-6)


@FORMATS
def test_at_temperature_1_nothing_is_computed_that_was_not(
    pooled_models: Path, tmp_path: Path, kind: str
) -> None:
    old = pooled_models / "skin" / f"model-fp32.{kind}"
    new = finalised(old, tmp_path, temperature=1.0)
    before, after = (summarise_operators(path).operators for path in (old, new))
    assert [item.kind for item in after] == [item.kind for item in before]


@FORMATS
def test_a_final_file_stays_as_it_is(tiny_exported: Path, tmp_path: Path, kind: str) -> None:
    path = tiny_exported / "pneumonia" / f"model-int8.{kind}"
    assert finalised(path, tmp_path).read_bytes() == path.read_bytes()


def test_half_precision_ends_before_the_temperature(tiny_exported: Path) -> None:
    operators = summarise_operators(tiny_exported / "pneumonia/model-fp16.onnx").operators
    types = {item.kind: item.computes_in for item in operators}
    assert types["Conv"] == "float16"
    assert types["Mul"] == types["Sigmoid"] == "float32"


def test_a_file_that_ends_in_no_activation_is_refused(pooled_models: Path) -> None:
    from medkit_exporters.formats.tflite_file import read, write

    card = read_card(pooled_models / "skin/model-fp32.tflite")
    model = read((pooled_models / "skin/model-fp32.tflite").read_bytes())
    graph = model.subgraphs[0]
    graph.outputs = graph.operators.pop().inputs
    with pytest.raises(ExportError, match="TFLite file does not end in a softmax or a sigmoid"):
        EXPORTERS["tflite"].finalise(write(model), card)
    model = onnx.load(pooled_models / "skin/model-fp32.onnx")
    model.graph.node[-1].op_type = "Relu"
    del model.graph.node[-1].attribute[:]
    with pytest.raises(ExportError, match="ONNX file does not end in a softmax or a sigmoid"):
        EXPORTERS["onnx"].finalise(model.SerializeToString(), card)


def test_what_the_ladder_judges_is_the_final_file(
    trained_copy: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finalise = TFLiteExporter.finalise

    def too_hot(self: Any, content: bytes, card: Any) -> Any:
        return finalise(self, content, dataclasses.replace(card, temperature=1000.0))

    monkeypatch.setattr(TFLiteExporter, "finalise", too_hot)
    options = ExportOptions(
        (PNEUMONIA,), ("tflite",), ("fp32",), data=tiny_data, trained=trained_copy
    )
    with pytest.raises(ExportError, match="no file decides like the original"):
        export_models(options)


# Files of earlier versions


def entries(trained: Path, task: Task) -> dict[str, ExportEntry]:
    return load_bundle(task, trained).manifest.exports


@BOTH
def test_a_bundle_of_an_earlier_version_becomes_final_and_classifies_the_same(
    pooled_models: Path, tmp_path: Path, task: Task
) -> None:
    trained = Path(shutil.copytree(pooled_models, tmp_path / "trained"))
    before = entries(trained, task)
    assert {entry.graph_temperature for entry in before.values()} == {None}
    bundle = finalise_exports(load_bundle(task, trained))
    for name, entry in entries(trained, task).items():
        bundle.verify(bundle.folder / name)
        assert entry.sha256 != before[name].sha256
        assert (entry.temperature, entry.graph_temperature) == (1, 1.5)
        assert entry.operating_points == bundle.operating_points
        assert_same_rows(task, pooled_models / task.name / name, bundle.folder / name)
    again = finalise_exports(bundle)
    assert again.manifest == bundle.manifest


@BOTH
def test_the_shipped_files_classify_the_samples_as_before_when_they_are_final(
    tmp_path: Path, task: Task
) -> None:
    trained = tmp_path / "trained"
    shipped = shipped_folder() / task.name
    shutil.copytree(shipped, trained / task.name)
    bundle = finalise_exports(load_bundle(task, trained))
    for name, entry in bundle.manifest.exports.items():
        assert entry.graph_temperature is not None
        assert entry.graph_temperature != 1
        assert_same_rows(task, shipped / name, bundle.folder / name)
        images = noise(task)
        expected = load_model(shipped / name).predict(images)
        np.testing.assert_allclose(plain(bundle.folder / name, images), expected, rtol=0, atol=1e-6)
    report = check_parity(ParityOptions((task,), samples=SAMPLES, trained=trained))
    assert report.passed


def assert_same_rows(task: Task, before: Path, after: Path) -> None:
    """Compare what two files say of the sample images."""
    samples = (SAMPLES / task.name,)
    old, new = (
        list(predict_paths(ClassifyOptions(inputs=samples, task=task.name, model=path)))
        for path in (before, after)
    )
    assert len(old) == len(new) > 5
    for first, second in zip(old, new, strict=True):
        assert first.label == second.label
        found, expected = (
            [row.probabilities[label] for label in task.labels] for row in (second, first)
        )
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_file_that_would_answer_otherwise_stays_as_it_was(
    pooled_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Path(shutil.copytree(pooled_models, tmp_path / "trained"))
    path = trained / "pneumonia/model-fp32.tflite"
    before = path.read_bytes()
    finalise = TFLiteExporter.finalise

    def colder(self: Any, content: bytes, card: Any) -> Any:
        return finalise(self, content, dataclasses.replace(card, temperature=1.4))

    monkeypatch.setattr(TFLiteExporter, "finalise", colder)
    with pytest.raises(ExportError, match=r"probabilities differ by .*; export it again"):
        finalise_exports(load_bundle(PNEUMONIA, trained))
    assert path.read_bytes() == before
    entry = load_bundle(PNEUMONIA, trained).manifest.exports[path.name]
    assert entry.graph_temperature is None


def test_a_package_that_is_absent_is_told_before_any_file_is_read(
    pooled_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medkit import extras

    monkeypatch.setattr(extras, "is_installed", lambda name: name != "tensorflow")
    with pytest.raises(MissingExtraError, match=r"medkit-edge\[export\]"):
        finalise_exports(load_bundle(PNEUMONIA, pooled_models))
