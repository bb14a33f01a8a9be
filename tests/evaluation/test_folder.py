"""Evaluation: which images, which model, which figures, and what is refused before any work."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

import medkit.evaluation
from medkit.cli.app import app
from medkit.datasets.labels import read_labels_map
from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.errors import DatasetLayoutError, MissingExtraError, ModelFileError, UsageError
from medkit.evaluation.folder import (
    EvaluateOptions,
    Evaluation,
    evaluate_folder,
    write_evaluations,
)
from medkit.files import sha256_of, write_json
from medkit.images.contract import InputContract
from medkit.models.bundle import file_record
from medkit.models.card import ModelCard
from medkit.models.figures import Figures
from medkit.models.formats import export_name
from medkit.models.manifest import ExportEntry, Manifest, write_manifest
from medkit.models.points import OperatingPoint
from medkit.models.runtimes.loading import load_model
from medkit.records import read_record
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task

TEMPERATURE = 2.0

# Likely pneumonia at high sensitivity only: with the temperature its probability is 0.187.
DOUBTFUL = 90

COLOURS = [(r, g, b) for r in (40, 128, 215) for g in (40, 128, 215) for b in (128,)]
"""The skin models decide for the class whose colour is nearest."""

ALTERNATIVES = (
    ("litert", "int8", "model-int8.tflite", "LiteRT"),
    ("litert", "fp32", "model-fp32.tflite", "LiteRT"),
    ("onnx", "fp32", "model-fp32.onnx", "ONNX Runtime"),
    ("keras", "int8", "model.keras", "Keras"),
)


def weights(task: Task) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make a layer by which bright X-rays have pneumonia, and skin is told by its colour."""
    if task.binary:
        return np.float32([[20]]), np.float32([-10])
    centres = np.float32(COLOURS) / 255
    return 60 * centres.T, -30 * (centres**2).sum(axis=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make bundles whose models look at the mean of an image; not to be changed.

    Under the name of the int8 TFLite export lies a copy of the fp32 one.
    """
    import keras

    from medkit.training.archive import save_archive
    from medkit_exporters.formats.registry import known_exporters
    from medkit_exporters.quantize.source import open_source
    from medkit_exporters.settings import Settings

    trained = tmp_path_factory.mktemp("models")
    for task in TASKS.values():
        contract, folder = task.contract, trained / task.name
        dense = keras.layers.Dense(*((1, "sigmoid") if task.binary else (9, "softmax")))
        model = keras.Sequential(
            [
                keras.Input(contract.shape, dtype="uint8"),
                keras.layers.Rescaling(1 / 255),
                keras.layers.GlobalAveragePooling2D(),
                dense,
            ]
        )
        dense.set_weights(weights(task))
        threshold = OperatingPoint(BALANCED, task.alert, 0.5)
        points = {
            BALANCED: threshold if task.binary else OperatingPoint(BALANCED),
            HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, task.alert, 0.125),
        }
        labels = task.labels
        card = ModelCard(task.name, labels, contract, TEMPERATURE, points, "original", "1")
        original = folder / "model.keras"
        save_archive(model, card, original)
        card = dataclasses.replace(card, precision="fp32", source_sha256=sha256_of(original))
        for name, known in known_exporters().items():
            exporter = known.load()
            content = exporter.convert(open_source(original), Settings("fp32"), None)
            path = folder / export_name(name, "fp32")
            path.write_bytes(exporter.attach_card(content, card))
        shutil.copy(folder / "model-fp32.tflite", folder / "model-int8.tflite")
        files = {path.name: file_record(path) for path in sorted(folder.iterdir())}
        manifest = Manifest(
            labels=labels,
            contract=contract,
            temperature=TEMPERATURE,
            operating_points=points,
            files={original.name: files.pop(original.name)},
            exports={
                name: ExportEntry(record.bytes, record.sha256, "fp32")
                for name, record in files.items()
            },
        )
        write_manifest(folder, manifest)
    return trained


def grey(path: Path, level: int) -> Path:
    """Write an X-ray of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (50, 40), level).save(path)
    return path


def lesion(path: Path, label: str) -> Path:
    """Write an image of the colour by which a model decides for a label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (50, 40), COLOURS[SKIN.labels.index(label)]).save(path)
    return path


def xrays(root: Path) -> Path:
    """Lay out class folders: of five images three are decided rightly."""
    for level in (10, 60, 200):
        grey(root / f"NORMAL/{level}.png", level)
    for level in (DOUBTFUL, 240):
        grey(root / f"PNEUMONIA/{level}.png", level)
    return root


def probability(level: int) -> float:
    """Return the probability of pneumonia that a model computes for a grey."""
    return float(1 / (1 + np.exp((10 - 20 * level / 255) / TEMPERATURE)))


def refused(options: EvaluateOptions, kind: type[Exception] = UsageError) -> str:
    """Return why an evaluation is refused."""
    with pytest.raises(kind) as caught:
        evaluate_folder(options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reading an image fail the test."""

    def read(*_: Any) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr(medkit.evaluation.folder, "load_tensor", read)


# Which images


def test_class_folders_are_evaluated_as_they_lie(models: Path, tmp_path: Path) -> None:
    found = evaluate_folder(EvaluateOptions(PNEUMONIA, xrays(tmp_path), trained=models))
    assert (found.task, found.file, found.runtime) == (PNEUMONIA, "model-int8.tflite", "LiteRT")
    assert found.folder == tmp_path
    assert found.names == (
        "NORMAL/10.png",
        "NORMAL/200.png",
        "NORMAL/60.png",
        "PNEUMONIA/240.png",
        f"PNEUMONIA/{DOUBTFUL}.png",
    )
    assert found.labels.tolist() == [0, 0, 0, 1, 1]
    expected = [probability(level) for level in (10, 200, 60, 240, DOUBTFUL)]
    assert found.probabilities[:, 1] == pytest.approx(expected, abs=1e-3)
    assert found.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert found.unreadable == ()
    figures = found.figures
    assert (figures.images, figures.operating_point) == (5, BALANCED)
    assert figures.confusion == ((2, 1), (1, 1))
    assert figures.accuracy == pytest.approx(3 / 5)
    assert figures.sensitivity == pytest.approx({"NORMAL": 2 / 3, "PNEUMONIA": 1 / 2})
    assert figures.auc == pytest.approx(5 / 6)


def test_every_image_keeps_its_probabilities_over_several_batches(
    models: Path, tmp_path: Path
) -> None:
    levels = [(37 * number) % 251 for number in range(40)]
    for number, level in enumerate(levels):
        grey(tmp_path / f"NORMAL/{number:02}.png", level)
    found = evaluate_folder(EvaluateOptions(PNEUMONIA, tmp_path, trained=models))
    assert found.names == tuple(f"NORMAL/{number:02}.png" for number in range(40))
    expected = [probability(level) for level in levels]
    assert found.probabilities[:, 1] == pytest.approx(expected, abs=1e-3)


def test_a_folder_larger_than_memory_gives_the_same(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (xrays(tmp_path) / "NORMAL/broken.png").write_bytes(b"no image")
    options = EvaluateOptions(PNEUMONIA, tmp_path, trained=models)
    at_once = evaluate_folder(options)
    monkeypatch.setattr(medkit.evaluation.folder, "_IN_MEMORY", 2)
    in_parts = evaluate_folder(options)
    assert in_parts.names == at_once.names
    assert in_parts.unreadable == at_once.unreadable
    np.testing.assert_array_equal(in_parts.labels, at_once.labels)
    np.testing.assert_allclose(in_parts.probabilities, at_once.probabilities, atol=1e-6)


def test_some_of_the_classes_are_enough(models: Path, tmp_path: Path) -> None:
    for number, label in enumerate(("nevus", "melanoma", "nevus", "vascular lesion")):
        lesion(tmp_path / label / f"{number}.png", label)
    lesion(tmp_path / "nevus/wrong.png", "melanoma")
    (tmp_path / "dermatofibroma").mkdir()
    found = evaluate_folder(EvaluateOptions(SKIN, tmp_path, trained=models))
    figures = found.figures
    assert [SKIN.labels[label] for label in found.labels] == [
        "melanoma", "nevus", "nevus", "nevus", "vascular lesion",
    ]  # fmt: skip
    assert figures.accuracy == pytest.approx(4 / 5)
    assert figures.balanced_accuracy == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert figures.sensitivity["nevus"] == pytest.approx(2 / 3)
    assert figures.sensitivity["dermatofibroma"] is None
    assert figures.class_auc["dermatofibroma"] is None
    assert figures.intervals.sensitivity["dermatofibroma"] is None
    assert figures.specificity["dermatofibroma"] == 1


def test_images_of_one_class_have_no_area_and_everything_else(models: Path, tmp_path: Path) -> None:
    grey(tmp_path / "PNEUMONIA/a.png", 240)
    figures = evaluate_folder(EvaluateOptions(PNEUMONIA, tmp_path, trained=models)).figures
    assert (figures.accuracy, figures.auc, figures.intervals.auc) == (1, None, None)


@pytest.mark.parametrize("inside", [False, True], ids=["the set", "a folder that holds it"])
def test_of_a_data_set_with_splits_the_official_test_split_is_used(
    models: Path, tmp_path: Path, inside: bool
) -> None:
    root = tmp_path / SKIN.published.folders[0] if inside else tmp_path
    for label in SKIN.labels:
        lesion(root / "Test" / label / "right.png", label)
        wrong = SKIN.labels[SKIN.labels.index(label) - 1]
        lesion(root / "Train" / label / "wrong.png", wrong)
    found = evaluate_folder(EvaluateOptions(SKIN, tmp_path, trained=models))
    assert found.folder == root / "Test"
    assert (found.figures.images, found.figures.accuracy) == (9, 1)


def test_images_in_patients_folders_are_measured(models: Path, tmp_path: Path) -> None:
    grey(tmp_path / "NORMAL/60.png", 60)
    grey(tmp_path / "NORMAL/patient1/200.png", 200)
    grey(tmp_path / "NORMAL/patient1/left/10.png", 10)
    grey(tmp_path / "PNEUMONIA/patient1/240.png", 240)
    found = evaluate_folder(EvaluateOptions(PNEUMONIA, tmp_path, trained=models))
    assert found.names == (
        "NORMAL/60.png",
        "NORMAL/patient1/200.png",
        "NORMAL/patient1/left/10.png",
        "PNEUMONIA/patient1/240.png",
    )
    assert found.figures.confusion == ((2, 1), (0, 1))
    assert found.remarks == (
        "3 of 4 images lie in folders below their class folders, such as NORMAL/patient1/200.png",
    )


def test_every_image_without_a_label_is_named(models: Path, tmp_path: Path) -> None:
    xrays(tmp_path)
    grey(tmp_path / ".cache/a.png", 1)
    grey(tmp_path / "loose.png", 1)
    grey(tmp_path / "also loose.png", 1)
    grey(tmp_path / "NORMAL/.b.png", 1)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX/._a.png").write_bytes(b"a Mac's note on a.png")
    (tmp_path / "NORMAL/notes.txt").write_text("no image")
    (tmp_path / "results").mkdir()
    found = evaluate_folder(EvaluateOptions(PNEUMONIA, tmp_path, trained=models))
    assert found.figures.images == 5
    assert {each.name for each in found.left_out} == {
        ".cache/a.png", "NORMAL/.b.png", "also loose.png", "loose.png",
    }  # fmt: skip
    assert found.remarks == (
        "left out: 2 images in hidden files and folders, such as .cache/a.png",
        "left out: 2 images beside the class folders, such as also loose.png",
        "passed over: 1 .txt",
    )
    write_evaluations([found], tmp_path / "e.json")
    (stored,) = json.loads((tmp_path / "e.json").read_text())
    assert {"image": "loose.png", "reason": "beside the class folders"} in stored["left_out"]


def test_class_folders_are_matched_in_any_case_and_by_a_map(models: Path, tmp_path: Path) -> None:
    for folder, level in (("Normal", 60), ("normal", 200), ("lungs_sick", 240), ("covid", 1)):
        grey(tmp_path / folder / f"{level}.png", level)
    options = EvaluateOptions(PNEUMONIA, tmp_path, trained=models)
    assert "['covid', 'lungs_sick']" in refused(options, DatasetLayoutError)
    spellings = read_labels_map(["Lungs_Sick=pneumonia", "covid="], [PNEUMONIA])
    found = evaluate_folder(dataclasses.replace(options, spellings=spellings))
    assert found.names == ("Normal/60.png", "normal/200.png", "lungs_sick/240.png")
    assert found.labels.tolist() == [0, 0, 1]
    assert found.remarks == (
        "left out: 1 image in folders that the labels map leaves out: covid/1.png",
    )


def test_a_file_whose_content_is_an_image_is_measured_whatever_its_suffix(
    models: Path, tmp_path: Path
) -> None:
    xrays(tmp_path)
    grey(tmp_path / "NORMAL/1.png", 1).rename(tmp_path / "NORMAL/1")
    grey(tmp_path / "NORMAL/2.png", 1).rename(tmp_path / "NORMAL/2.dat")
    found = evaluate_folder(EvaluateOptions(PNEUMONIA, tmp_path, trained=models))
    assert found.figures.images == 7


def test_what_cannot_be_decoded_is_named_and_in_no_figure(models: Path, tmp_path: Path) -> None:
    options = EvaluateOptions(PNEUMONIA, xrays(tmp_path), trained=models)
    whole = evaluate_folder(options)
    (tmp_path / "NORMAL/15.png").write_bytes(b"no image")
    found = evaluate_folder(options)
    ((name, error),) = found.unreadable
    assert name == "NORMAL/15.png"
    assert "not an image of an accepted format" in error
    assert found.figures == whole.figures
    assert found.names == whole.names
    assert np.array_equal(found.labels, whole.labels)


def test_nothing_but_broken_files_is_an_error(models: Path, tmp_path: Path) -> None:
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "NORMAL/a.png").write_bytes(b"no image")
    options = EvaluateOptions(PNEUMONIA, tmp_path, trained=models)
    assert "can be decoded" in refused(options, DatasetLayoutError)


# Which images are refused


@pytest.mark.usefixtures("unread")
def test_a_folder_that_is_no_class_is_refused_and_named(models: Path, tmp_path: Path) -> None:
    grey(xrays(tmp_path) / "pneunomia/a.png", 1)
    message = refused(EvaluateOptions(PNEUMONIA, tmp_path, trained=models), DatasetLayoutError)
    assert "no class of the task: ['pneunomia']" in message
    assert "accepted: ['NORMAL', 'PNEUMONIA']; rename it" in message
    assert message.endswith("; did you mean 'PNEUMONIA'?")
    assert "--labels-map 'pneunomia=LABEL'" in message


@pytest.mark.usefixtures("unread")
def test_a_folder_that_is_no_class_is_named_in_a_test_split_too(
    models: Path, tmp_path: Path
) -> None:
    for split in ("train", "test"):
        xrays(tmp_path / split)
    grey(tmp_path / "test/pneunomia/a.png", 1)
    message = refused(EvaluateOptions(PNEUMONIA, tmp_path, trained=models), DatasetLayoutError)
    assert "pneunomia" in message


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("name", ["", "cat/1.png", "test/NORMAL/1.png", ".hidden/NORMAL/1.png"])
def test_a_folder_without_a_class_is_refused(models: Path, tmp_path: Path, name: str) -> None:
    if name:
        grey(tmp_path / name, 1)
    message = refused(EvaluateOptions(PNEUMONIA, tmp_path, trained=models), DatasetLayoutError)
    assert f"no class folder of pneumonia in {tmp_path}" in message
    assert "expected some of ['NORMAL', 'PNEUMONIA'], or train/ and test/ with them" in message
    assert message.endswith("a folder 'chest_xray' or 'pneumonia' that holds one of these")


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_folder_is_refused(models: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    options = EvaluateOptions(PNEUMONIA, tmp_path / name, trained=models)
    assert f"{name} is no folder" in refused(options, DatasetLayoutError)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("NORMAL/PNEUMONIA/a.png", "has the name of another class than the folder that it lies in"),
        ("NORMAL/train/a.png", "has the name of a split and lies in a class folder"),
        ("train/NORMAL/a.png", "holds folders that are no class of the task: ['train']"),
    ],
)
def test_a_label_that_cannot_be_told_is_refused(
    models: Path, tmp_path: Path, name: str, told: str
) -> None:
    grey(xrays(tmp_path) / name, 1)
    options = EvaluateOptions(PNEUMONIA, tmp_path, trained=models)
    assert told in refused(options, DatasetLayoutError)


@pytest.mark.usefixtures("unread")
def test_a_set_beside_class_folders_is_refused(models: Path, tmp_path: Path) -> None:
    for place in (".", "train", "test"):
        xrays(tmp_path / place)
    options = EvaluateOptions(PNEUMONIA, tmp_path, trained=models)
    assert "cannot be told which are meant" in refused(options, DatasetLayoutError)


# Which model


@pytest.mark.parametrize(("runtime", "precision", "file", "library"), ALTERNATIVES)
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_runtime_runs_the_file_that_it_stands_for_and_all_agree(
    models: Path, tmp_path: Path, task: Task, runtime: str, precision: str, file: str, library: str
) -> None:
    rng = np.random.default_rng(0)
    for label in task.labels[:4]:
        for number in range(3):
            shape = (40, 50, 3) if task is SKIN else (40, 50)
            (tmp_path / label).mkdir(exist_ok=True)
            pixels = rng.integers(0, 256, shape) * rng.uniform(0.2, 1, shape[2:])
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / label / f"{number}.png")
    options = EvaluateOptions(task, tmp_path, runtime, precision, trained=models)
    found = evaluate_folder(options)
    reference = evaluate_folder(EvaluateOptions(task, tmp_path, trained=models))
    assert (found.file, found.runtime) == (file, library)
    assert found.names == reference.names
    assert np.ptp(found.probabilities, axis=0).max() > 0.1
    assert found.probabilities == pytest.approx(reference.probabilities, abs=1e-3)
    assert found.figures.confusion == reference.figures.confusion


@pytest.mark.parametrize(("runtime", "precision", "file", "library"), ALTERNATIVES)
def test_a_model_file_of_its_own_tells_task_and_runtime(
    models: Path, tmp_path: Path, runtime: str, precision: str, file: str, library: str
) -> None:
    alone = Path(shutil.copy(models / "pneumonia" / file, tmp_path / f"mine{Path(file).suffix}"))
    data = xrays(tmp_path / "data")
    found = evaluate_folder(EvaluateOptions(None, data, model=alone))
    assert (found.task, found.file, found.runtime) == (PNEUMONIA, alone.name, library)
    bundled = EvaluateOptions(PNEUMONIA, data, runtime, precision, trained=models)
    assert np.array_equal(found.probabilities, evaluate_folder(bundled).probabilities)


def test_the_map_for_a_model_file_has_the_labels_of_its_task(models: Path, tmp_path: Path) -> None:
    file = models / "pneumonia/model-int8.tflite"
    options = EvaluateOptions(None, xrays(tmp_path), model=file, spellings={"healthy": "NORML"})
    assert refused(options) == (
        "--labels-map 'healthy=NORML': no task here has the label 'NORML'; accepted: "
        "['NORMAL', 'PNEUMONIA']; did you mean 'NORMAL'?"
    )


def test_the_operating_point_decides_and_changes_no_probability(
    models: Path, tmp_path: Path
) -> None:
    options = EvaluateOptions(PNEUMONIA, xrays(tmp_path), trained=models)
    balanced = evaluate_folder(options)
    screening = evaluate_folder(dataclasses.replace(options, operating_point=HIGH_SENSITIVITY))
    assert balanced.figures.threshold == 0.5
    assert screening.figures.threshold == 0.125
    assert screening.figures.operating_point == HIGH_SENSITIVITY
    assert balanced.figures.sensitivity["PNEUMONIA"] == 0.5
    assert screening.figures.sensitivity["PNEUMONIA"] == 1
    assert np.array_equal(balanced.probabilities, screening.probabilities)
    assert balanced.figures.auc == screening.figures.auc


def test_a_label_is_decided_from_the_threshold_of_its_operating_point(
    models: Path, tmp_path: Path
) -> None:
    # Between the two colours, and nearer to nevus: melanoma has 0.125 at least.
    between = np.average(
        [COLOURS[SKIN.labels.index(label)] for label in ("nevus", "melanoma")],
        axis=0,
        weights=[0.53, 0.47],
    )
    (tmp_path / "melanoma").mkdir()
    colour = tuple(int(level) for level in np.rint(between))
    Image.new("RGB", (50, 40), colour).save(tmp_path / "melanoma/a.png")
    options = EvaluateOptions(SKIN, tmp_path, trained=models)
    sensitivity = [
        evaluate_folder(dataclasses.replace(options, operating_point=name)).figures.sensitivity
        for name in (BALANCED, HIGH_SENSITIVITY)
    ]
    assert [each["melanoma"] for each in sensitivity] == [0, 1]


# Which model is refused


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"runtime": "tpu"}, "unknown runtime 'tpu'; accepted: litert, onnx, openvino, keras"),
        (
            {"operating_point": "lucky"},
            "unknown operating point 'lucky'; this model has: balanced, high-sensitivity",
        ),
        ({"precision": "int4"}, "int4"),
        ({"task": None}, "name a task, or a model file"),
        ({"model": Path("mine.h5")}, "mine.h5 can only be shown"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_before_an_image_is_read(
    models: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    options = EvaluateOptions(PNEUMONIA, xrays(tmp_path), trained=models)
    assert told in refused(dataclasses.replace(options, **changes))


@pytest.mark.usefixtures("unread")
def test_a_model_of_another_task_is_refused(models: Path, tmp_path: Path) -> None:
    model = models / "skin/model-int8.tflite"
    message = refused(EvaluateOptions(PNEUMONIA, xrays(tmp_path), model=model))
    assert message == f"{model} is a model for skin, not for pneumonia"


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("changes", [{"runtime": "onnx"}, {"precision": "fp16"}])
def test_an_export_that_was_not_made_is_an_error_that_says_how(
    models: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    options = EvaluateOptions(PNEUMONIA, xrays(tmp_path), trained=models)
    message = refused(dataclasses.replace(options, **changes), ModelFileError)
    assert "make it with: medkit export pneumonia" in message


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("runtime", "name"), [("litert", "model-int8.tflite"), ("keras", "model.keras")]
)
def test_a_model_file_that_was_replaced_is_refused(
    models: Path, tmp_path: Path, runtime: str, name: str
) -> None:
    trained = Path(shutil.copytree(models, tmp_path / "trained"))
    with (trained / "pneumonia" / name).open("ab") as stream:
        stream.write(b"more")
    options = EvaluateOptions(PNEUMONIA, xrays(tmp_path / "data"), runtime, trained=trained)
    assert f"{name} is damaged or was replaced" in refused(options, ModelFileError)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("module", ["scipy", "sklearn"])
def test_what_is_not_installed_is_told_before_a_model_is_loaded(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(medkit.evaluation.folder, "load_model", load)
    monkeypatch.setitem(sys.modules, module, None)
    options = EvaluateOptions(PNEUMONIA, xrays(tmp_path), trained=models)
    message = refused(options, MissingExtraError)
    assert "needed to compute the AUC and is not installed" in message
    assert '"medkit-edge[evaluate]"' in message


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("alone", [False, True], ids=["of a bundle", "a file"])
def test_a_runtime_that_is_not_installed_is_told_before_a_model_is_loaded(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    options = EvaluateOptions(PNEUMONIA, xrays(tmp_path), "onnx", "fp32", trained=models)
    if alone:
        options = dataclasses.replace(options, model=models / "pneumonia/model-fp32.onnx")
    assert '"medkit-edge[onnx]"' in refused(options, MissingExtraError)


def test_a_task_of_ones_own_is_evaluated_by_the_contract_of_its_model(
    models: Path, tmp_path: Path
) -> None:
    """The task has another name and size, and no published data set."""
    import keras

    from medkit.training.archive import save_archive

    contract = InputContract(width=40, height=64, channels=1)
    task = Task("fracture", "fractures", ("no", "yes"), contract, "yes", "yes")
    folder = tmp_path / "trained/fracture"
    write_json(folder / "task.json", task.to_dict())
    model = keras.Sequential(
        [
            keras.Input(contract.shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.GlobalAveragePooling2D(),
            dense := keras.layers.Dense(1, "sigmoid"),
        ]
    )
    dense.set_weights(weights(PNEUMONIA))
    points = {BALANCED: OperatingPoint(BALANCED, "yes", 0.5)}
    card = ModelCard(task.name, task.labels, contract, TEMPERATURE, points, "original", "1")
    save_archive(model, card, folder / "model.keras")
    files = {"model.keras": file_record(folder / "model.keras")}
    write_manifest(folder, Manifest(task.labels, contract, TEMPERATURE, points, files))
    data = tmp_path / "data"
    grey(data / "no/a.png", 60)
    grey(data / "yes/a.png", 240)
    bundled = evaluate_folder(EvaluateOptions(task, data, "keras", trained=folder.parent))
    alone = evaluate_folder(EvaluateOptions(None, data, model=folder / "model.keras"))
    for found in (bundled, alone):
        assert (found.task, found.figures.accuracy) == (task, 1)
        assert found.probabilities[:, 1] == pytest.approx(
            [probability(60), probability(240)], abs=1e-3
        )
    empty = tmp_path / "empty"
    empty.mkdir()
    message = refused(
        EvaluateOptions(None, empty, model=folder / "model.keras"), DatasetLayoutError
    )
    assert message == (
        f"no class folder of fracture in {empty}: found nothing; expected some of ['no', 'yes'], "
        "or train/ and test/ with them, or a folder 'fracture' that holds one of these"
    )


def test_a_model_that_computes_nonsense_is_an_error(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nonsense:
        path = models / "pneumonia/model-int8.tflite"
        card = load_model(path).card
        runtime = "LiteRT"

        def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.full((len(images), 2), np.nan, np.float32)

    monkeypatch.setattr(medkit.evaluation.folder, "load_model", lambda *_, **__: Nonsense())
    options = EvaluateOptions(PNEUMONIA, xrays(tmp_path), trained=models)
    assert "not finite; do not use it" in refused(options, ModelFileError)


# JSON


def evaluated(models: Path, root: Path) -> Evaluation:
    """Evaluate five images and a broken one."""
    (xrays(root) / "NORMAL/naïve \n日本.png").write_bytes(b"no image")
    return evaluate_folder(EvaluateOptions(PNEUMONIA, root, trained=models))


def test_the_json_holds_figures_and_every_image(models: Path, tmp_path: Path) -> None:
    found = evaluated(models, tmp_path / "data")
    write_evaluations([found, found], tmp_path / "e.json")
    first, second = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert first == second
    assert (first["task"], first["file"]) == ("pneumonia", "model-int8.tflite")
    assert (first["runtime"], first["folder"]) == ("LiteRT", str(tmp_path / "data"))
    assert read_record(Figures, first["figures"]) == found.figures
    ((name, error),) = found.unreadable
    assert name == "NORMAL/naïve \n日本.png"
    assert first["unreadable"] == [{"image": name, "error": error}]
    assert [(each["image"], each["label"]) for each in first["images"]] == [
        (name, PNEUMONIA.labels[label])
        for name, label in zip(found.names, found.labels, strict=True)
    ]
    for each, row in zip(first["images"], found.probabilities, strict=True):
        assert list(each["probabilities"].values()) == pytest.approx(row)
        assert tuple(each["probabilities"]) == PNEUMONIA.labels


# The command


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's environment out."""
    for name in ("MEDKIT_DATA", "MEDKIT_TRAINED", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: Any, env: dict[str, str] | None = None) -> Any:
    """Run ``medkit evaluate`` in this process."""
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], env=env)


def test_the_command_shows_every_figure_and_what_it_is_not_for(
    models: Path, tmp_path: Path
) -> None:
    data = xrays(tmp_path / "runs[bold]")
    result = run("pneumonia", "--data", data, "--trained", models)
    assert result.exit_code == 0
    told = result.stdout
    assert f"5 images of {data}, operating point balanced" in told
    lines = [line.split() for line in told.splitlines()]
    rows = {line[0]: line[1:] for line in lines if line}
    assert rows["accuracy"] == ["0.6000", "0.2307", "to", "0.8824"]  # Wilson's interval of 3 of 5
    assert rows["AUC"][0] == "0.8333"
    assert rows["NORMAL"][:2] == ["3", "0.67"]
    assert rows["PNEUMONIA"][:2] == ["2", "0.50"]
    for words in ("balanced accuracy", "calibration error", "95 % interval", "specificity"):
        assert words in told
    assert "a prediction is not a diagnosis" in told.splitlines()[-1]


def test_the_command_exits_3_for_a_file_that_was_left_out(models: Path, tmp_path: Path) -> None:
    (xrays(tmp_path) / "NORMAL/broken.png").write_bytes(b"no image")
    result = run("pneumonia", "--data", tmp_path, "--trained", models)
    assert result.exit_code == 3
    assert "left out: NORMAL/broken.png: not an image" in result.stdout
    assert "5 images of" in result.stdout


def test_the_command_evaluates_both_tasks_unless_one_is_named(models: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        xrays(tmp_path / "data/chest_xray" / split)
    for split in ("Train", "Test"):
        lesion(tmp_path / "data/skin_cancer_isic" / split / "nevus/a.png", "nevus")
    path = tmp_path / "new/e.json"
    arguments = ["--data", tmp_path / "data", "--trained", models, "--json", path]
    assert run(*arguments).exit_code == 0
    assert [each["task"] for each in json.loads(path.read_text())] == ["pneumonia", "skin"]
    assert run("skin", *arguments, "--operating-point", HIGH_SENSITIVITY).exit_code == 0
    (skin,) = json.loads(path.read_text())
    assert (skin["task"], skin["figures"]["operating_point"]) == ("skin", HIGH_SENSITIVITY)


def test_the_command_evaluates_the_task_whose_class_folders_there_are(
    models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "e.json"
    arguments = ["--data", xrays(tmp_path / "data"), "--trained", models, "--json", path]
    result = run(*arguments)
    assert result.exit_code == 0
    assert "skin: left out" in result.stderr
    assert [each["task"] for each in json.loads(path.read_text())] == ["pneumonia"]
    (tmp_path / "data/PNEUMONIA").rename(tmp_path / "data/sick")
    (tmp_path / "data/NORMAL").rename(tmp_path / "data/Norml")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "no class folder of pneumonia or skin in" in result.stderr
    assert "--labels-map 'Norml=NORMAL'" in result.stderr


def test_the_command_takes_runtime_precision_and_model(models: Path, tmp_path: Path) -> None:
    data = xrays(tmp_path)
    for runtime, precision, file, library in ALTERNATIVES:
        options = ["--runtime", runtime, "--precision", precision, "--trained", models]
        result = run("pneumonia", "--data", data, *options)
        assert result.exit_code == 0
        assert f"pneumonia: {file} on {library}, 5 images" in result.stdout
        result = run("--data", data, "--model", models / "pneumonia" / file)
        assert result.exit_code == 0
        assert f"pneumonia: {file} on {library}, 5 images" in result.stdout


def test_the_environment_names_data_and_models(models: Path, tmp_path: Path) -> None:
    env = {"MEDKIT_DATA": str(xrays(tmp_path)), "MEDKIT_TRAINED": str(models)}
    assert run("pneumonia", env=env).exit_code == 0


@pytest.mark.usefixtures("unread")
def test_wrong_usage_exits_2_in_one_line(models: Path, tmp_path: Path) -> None:
    data = xrays(tmp_path / "data")
    rest = ["--data", data, "--trained", models]
    wrong: list[list[Any]] = [
        ["pneumonia", "--trained", models],
        ["brain", *rest],
        ["pneumonia", *rest, "--runtime", "tpu"],
        ["pneumonia", *rest, "--operating-point", "lucky"],
        ["pneumonia", "skin", *rest, "--model", models / "skin/model.keras"],
        ["pneumonia", *rest, "--model", models / "skin/model-int8.tflite"],
        ["pneumonia", *rest, "--model", "mine.h5"],
        ["skin", *rest],
        ["pneumonia", *rest, "--data", tmp_path / "missing"],
        ["pneumonia", *rest, "--json", tmp_path],
        ["pneumonia", *rest, "--json", data / "NORMAL/10.png/e.json"],
    ]
    for arguments in wrong:
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stderr.splitlines()[-1].startswith("medkit: error: ")
        assert "Traceback" not in result.stderr


def test_without_data_the_command_says_how_to_name_them(models: Path) -> None:
    result = run("pneumonia", "--trained", models)
    assert "give --data DIR, or " in result.stderr
    assert "MEDKIT_DATA" in result.stderr


def test_a_missing_model_exits_1(tmp_path: Path) -> None:
    result = run("pneumonia", "--data", xrays(tmp_path), "--trained", tmp_path / "none")
    assert result.exit_code == 1
    assert "no trained pneumonia model in" in result.stderr


def test_an_old_json_does_not_outlive_a_run_that_fails(models: Path, tmp_path: Path) -> None:
    old = tmp_path / "e.json"
    old.write_text("[]")
    result = run("skin", "--data", tmp_path, "--trained", models, "--json", old)
    assert result.exit_code == 2
    assert not old.exists()
