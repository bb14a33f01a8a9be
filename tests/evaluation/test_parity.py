"""Parity runs: whole bundles, what breaks them, and the report as JSON."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import medkit.evaluation.parity
from medkit.datasets.location import data_folder
from medkit.datasets.splits import FOREIGN_DATA, splits_of
from medkit.defaults import BALANCED
from medkit.errors import DatasetLayoutError, MissingExtraError, ModelFileError, UsageError
from medkit.evaluation.parity import (
    ONLY_BYTES,
    Parity,
    ParityOptions,
    check_parity,
    write_parity_json,
)
from medkit.evaluation.rules import ACCURACY
from medkit.files import sha256_of
from medkit.images.contract import InputContract
from medkit.models.bundle import load_bundle
from medkit.tasks import PNEUMONIA, SKIN
from modelfiles import card_of, save_onnx
from parityruns import BAD, GOOD, NO_NUMBER, drawn_samples, options, relist


def test_json_holds_every_figure_and_every_flip(tmp_path: Path) -> None:
    write_parity_json(Parity((GOOD, BAD), ()), tmp_path / "parity.json")
    good, bad = json.loads((tmp_path / "parity.json").read_text())
    assert good["passed"] is True
    assert good["failures"] == good["flips"] == []
    assert good["changes"]["accuracy"] == {
        "before": 1.0, "after": 1.0, "low": 0.0, "high": 0.0, "difference": 0.0
    }  # fmt: skip
    assert bad["passed"] is False
    assert bad["failures"] == list(BAD.failures)
    assert [flip["name"] for flip in bad["flips"]] == ["0.png", "1.png", "2.png"]
    assert bad["flips"][0]["before"] == pytest.approx(0.1)


def test_json_stays_json_where_there_is_no_number(tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    write_parity_json(Parity((NO_NUMBER,), ()), tmp_path / "parity.json")
    (record,) = json.loads((tmp_path / "parity.json").read_text(), parse_constant=refuse)
    assert record["largest_difference"] is None
    assert record["passed"] is False


# Whole runs


def test_honest_exports_pass_on_every_runtime(tiny_exported: Path, tiny_data: Path) -> None:
    notes: list[str] = []
    results = check_parity(options(tiny_exported, tiny_data), notes.append).comparisons
    bundle = load_bundle(PNEUMONIA, tiny_exported)
    exports = bundle.manifest.exports
    assert list(dict.fromkeys(item.file for item in results)) == list(exports)
    runtimes = {Path(item.file).suffix: set() for item in results}
    for item in results:
        runtimes[Path(item.file).suffix].add(item.runtime)
        assert item.failures == ()
        assert item.precision == exports[item.file].precision
        assert item.images == 20 + len(splits_of(bundle, tiny_data).validation)
    assert runtimes[".tflite"] >= {"LiteRT", "LiteRT without XNNPACK"}
    assert runtimes[".onnx"] >= {"ONNX Runtime"}
    assert sum(note.startswith("pneumonia: through ") for note in notes) == len(results)


def test_test_and_validation_images_are_compared_together(
    tiny_exported: Path, tiny_data: Path
) -> None:
    parity = check_parity(options(tiny_exported, tiny_data))
    metrics = load_bundle(PNEUMONIA, tiny_exported).manifest.metrics
    parts = [metrics[split][BALANCED] for split in ("test", "validation")]
    right = sum(part.accuracy * part.images for part in parts)
    total = sum(part.images for part in parts)
    for item in parity.comparisons:
        assert item.changes[ACCURACY].before == pytest.approx(right / total)
    names = parity.evidence[0].images.names
    assert sum(name.startswith("test/") for name in names) == 20
    assert sum(name.startswith("train/") for name in names) == total - 20


def test_a_test_image_that_calibrated_is_told_even_where_data_are_not_as_trained(
    exported_copy: Path, tiny_data: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(tiny_data / "chest_xray", tmp_path / "data"))
    leaked, gone = sorted((data / "test/NORMAL").iterdir())[:2]
    digest = sha256_of(leaked)
    gone.unlink()
    path = exported_copy / "pneumonia/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["exports"]["model-int8.onnx"]["calibration"]["files"][0] = digest
    path.write_text(json.dumps(manifest))
    found = check_parity(options(exported_copy, data))
    lines = next(item for item in found.comparisons if item.file == "model-int8.onnx").failures
    assert any(leaked.name in line and "calibration images" in line for line in lines)
    assert found.remarks == (f"pneumonia: {FOREIGN_DATA}", f"pneumonia: {ONLY_BYTES}")


def own_folder(tiny_data: Path, root: Path) -> Path:
    """Lay a user's labelled folder out: the made test images, with a patient's folder."""
    for label, name in (("NORMAL", "Normal"), ("PNEUMONIA", "sick")):
        shutil.copytree(tiny_data / "chest_xray/test" / label, root / name)
    first = min((root / "Normal").iterdir())
    (root / "Normal/patient1").mkdir()
    first.rename(root / "Normal/patient1" / first.name)
    Image.new("L", (9, 9), 40).save(root / "loose.png")
    return root


def test_a_labelled_folder_of_ones_own_is_compared_with_its_labels(
    tiny_exported: Path, tiny_data: Path, tmp_path: Path
) -> None:
    data = own_folder(tiny_data, tmp_path / "mine")
    with pytest.raises(DatasetLayoutError, match=r"no class of the task: \['sick'\]"):
        check_parity(options(tiny_exported, data))
    found = check_parity(options(tiny_exported, data, spellings={"sick": "PNEUMONIA"}))
    assert found.passed
    for item in found.comparisons:
        assert item.images == 20
        assert set(item.changes) >= {"accuracy", "AUC", "sensitivity"}
    assert found.remarks == (
        "pneumonia: 1 of 20 images lie in folders below their class folders, such as "
        "Normal/patient1/IM-0500-0000.jpeg",
        "pneumonia: left out: 1 image beside the class folders: loose.png",
        f"pneumonia: {ONLY_BYTES}",
    )


def test_a_model_that_was_trained_elsewhere_is_compared_on_the_test_split_of_a_set(
    exported_copy: Path, tiny_data: Path
) -> None:
    bundle = load_bundle(PNEUMONIA, exported_copy)
    bundle.with_manifest(replace(bundle.manifest, recipe=None))
    for item in check_parity(options(exported_copy, tiny_data)).comparisons:
        assert item.images == 20


def test_an_image_that_calibrated_and_is_measured_is_told(
    exported_copy: Path, tiny_data: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(tiny_data / "chest_xray/test", tmp_path / "mine"))
    path = exported_copy / "pneumonia/manifest.json"
    manifest = json.loads(path.read_text())
    digest = sha256_of(min((data / "NORMAL").iterdir()))
    manifest["exports"]["model-int8.onnx"]["calibration"]["files"][0] = digest
    path.write_text(json.dumps(manifest))
    parity = check_parity(options(exported_copy, data))
    found = next(item for item in parity.comparisons if item.file == "model-int8.onnx")
    told = "calibration images are measured here, such as NORMAL/"
    assert any(told in line for line in found.failures)
    # A manifest holds no pixels of training images.
    assert parity.remarks == (f"pneumonia: {ONLY_BYTES}",)


def test_samples_without_labels_compare_decisions_only(tiny_exported: Path, tmp_path: Path) -> None:
    (tmp_path / "pneumonia").mkdir()
    for index in range(5):
        Image.new("L", (40, 60), 40 * index).save(tmp_path / f"pneumonia/{index}.png")
    (tmp_path / "pneumonia/README.md").write_text("no image")
    for item in check_parity(options(tiny_exported, samples=tmp_path)).comparisons:
        assert item.passed
        assert item.images == 5
        assert item.changes == {}


def test_data_come_before_samples(tiny_exported: Path, tiny_data: Path, tmp_path: Path) -> None:
    parity = check_parity(options(tiny_exported, tiny_data, samples=tmp_path / "missing"))
    assert min(item.images for item in parity.comparisons) > 20


def test_untrained_exports_decide_like_their_originals(pooled_models: Path, tmp_path: Path) -> None:
    samples = drawn_samples(tmp_path)
    found = check_parity(ParityOptions(samples=samples, trained=pooled_models))
    assert {(item.task, item.failures) for item in found.comparisons} == {
        ("pneumonia", ()),
        ("skin", ()),
    }


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"source_sha256": "ab12"}, "has source model ab12, and its bundle [0-9a-f]{64};"),
        ({"temperature": 1.25}, "has temperature 1.25, and its bundle 1.5;"),
        (
            {"operating_points": {"balanced": {"label": "nevus", "threshold": 0.5}}},
            "has operating points .*nevus.*, and its bundle .*melanoma",
        ),
        ({"precision": "fp16"}, "has precision fp16, and its bundle fp32;"),
        (
            {"contract": InputContract(width=96, height=128, channels=3).to_dict()},
            f"has input contract [0-9a-f]{{16}}, and its bundle {SKIN.contract.hash};",
        ),
    ],
    ids=["source", "temperature", "operating points", "precision", "input contract"],
)
def test_an_export_that_would_decide_by_other_rules_is_refused(
    pooled_models: Path, tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    import onnx

    trained = Path(shutil.copytree(pooled_models, tmp_path / "trained"))
    path = trained / "skin/model-fp32.onnx"
    model = onnx.load(path)
    card = card_of(model)
    card.value = json.dumps({**json.loads(card.value), **change})
    if "contract" in change:  # a runtime refuses a card that does not fit its network
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 96
        del model.graph.value_info[:]
    save_onnx(model, path)
    relist(trained, path.name, "skin")
    samples = drawn_samples(tmp_path / "samples")
    with pytest.raises(ModelFileError, match=rf"fp32\.onnx {what}.* export it again$"):
        check_parity(ParityOptions((SKIN,), samples=samples, trained=trained))


def test_an_original_of_another_input_contract_than_its_bundle_is_refused(
    pooled_models: Path, tmp_path: Path
) -> None:
    trained = Path(shutil.copytree(pooled_models, tmp_path / "trained"))
    other = InputContract(width=96, height=128, channels=3)
    bundle = load_bundle(SKIN, trained)
    bundle.with_manifest(replace(bundle.manifest, contract=other))
    samples = drawn_samples(tmp_path / "samples")
    with pytest.raises(ModelFileError, match=r"model\.keras has input contract .* restore it$"):
        check_parity(ParityOptions((SKIN,), samples=samples, trained=trained))


@pytest.mark.parametrize("name", ["model-int8.tflite", "model-fp16.onnx", "model.keras"])
@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_a_listed_file_that_is_missing_or_damaged_ends_the_run(
    exported_copy: Path, tiny_data: Path, name: str, fault: str
) -> None:
    path = exported_copy / "pneumonia" / name
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match=rf"{name} is {fault}"):
        check_parity(options(exported_copy, tiny_data))


def test_without_images_the_way_to_them_is_told(tiny_exported: Path) -> None:
    with pytest.raises(UsageError) as raised:
        check_parity(options(tiny_exported))
    for word in ("Kaggle", "chest_xray", "skin_cancer_isic", "--data DIR", "MEDKIT_DATA"):
        assert word in str(raised.value)


def test_a_bundle_without_exports_is_wrong_usage(tiny_trained: Path, tiny_data: Path) -> None:
    with pytest.raises(UsageError, match="make one with: medkit export pneumonia --int8"):
        check_parity(options(tiny_trained, tiny_data))


def test_data_or_samples_that_are_not_there_are_wrong_usage(
    tiny_exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetLayoutError, match="found nothing"):
        check_parity(options(tiny_exported, tmp_path))
    with pytest.raises(UsageError, match="no sample image in .*pneumonia"):
        check_parity(options(tiny_exported, samples=tmp_path))


def test_a_sample_that_cannot_be_read_is_named(tiny_exported: Path, tmp_path: Path) -> None:
    (tmp_path / "pneumonia").mkdir()
    (tmp_path / "pneumonia/broken.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"broken\.png: not an image"):
        check_parity(options(tiny_exported, samples=tmp_path))


def test_hidden_files_among_samples_are_left_out(tiny_exported: Path, tmp_path: Path) -> None:
    (tmp_path / "pneumonia").mkdir()
    Image.new("L", (9, 9), 40).save(tmp_path / "pneumonia/a.png")
    (tmp_path / "pneumonia/._a.png").write_bytes(b"a Mac's note on a.png")
    (tmp_path / "pneumonia/folder.png").mkdir()
    for item in check_parity(options(tiny_exported, samples=tmp_path)).comparisons:
        assert item.images == 1


def test_the_shipped_samples_can_all_be_read() -> None:
    from medkit.images.reading import load_tensor

    for task in (PNEUMONIA, SKIN):
        paths = list((Path(__file__).parents[1] / "samples" / task.name).iterdir())
        assert paths
        for path in paths:
            assert load_tensor(path, task.contract).shape == task.contract.shape


def test_the_data_folder_is_the_given_one_or_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEDKIT_DATA", "named")
    assert data_folder(Path("given")) == Path("given")
    assert data_folder(None) == Path("named")
    monkeypatch.setenv("MEDKIT_DATA", "")
    assert data_folder(None) is None
    monkeypatch.delenv("MEDKIT_DATA")
    assert data_folder(None) is None


def test_a_bundle_copied_elsewhere_compares_alike(
    tiny_exported: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_exported, tmp_path / "elsewhere")
    monkeypatch.setenv("MEDKIT_TRAINED", str(tmp_path / "elsewhere"))
    elsewhere = check_parity(ParityOptions(tasks=(PNEUMONIA,), data=tiny_data))
    assert elsewhere.comparisons == check_parity(options(tiny_exported, tiny_data)).comparisons


@pytest.mark.parametrize("module", ["scipy", "sklearn", "tensorflow", "onnxruntime", "onnx"])
def test_what_is_not_installed_is_told_before_an_image_is_read(
    pooled_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    def read(*_: Any) -> None:
        raise AssertionError("an image was read")

    samples = drawn_samples(tmp_path)
    monkeypatch.setattr(medkit.evaluation.parity, "load_tensor", read)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match="is not installed"):
        check_parity(ParityOptions(samples=samples, trained=pooled_models))
