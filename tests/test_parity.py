"""Parity runs: whole bundles, what breaks them, and the reports."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from medkit.bundles import file_record, load_bundle, sha256_of
from medkit.comparison import ACCURACY, Comparison, Images, Outputs, compare
from medkit.decisions import BALANCED, OperatingPoint
from medkit.errors import DatasetLayoutError, ModelFileError, UsageError
from medkit.images import contract_for
from medkit.parity import (
    Parity,
    ParityOptions,
    check_parity,
    data_folder,
    write_json,
    write_junit,
)
from medkit.paritypage import write_parity_page
from medkit.splits import splits_of
from medkit.tasks import PNEUMONIA, SKIN
from modelfiles import card_of, save_onnx

# Reports


def found(before: list[float], after: list[float], labels: list[int]) -> Comparison:
    """Compare probabilities of pneumonia at a threshold of one half."""
    points = {BALANCED: OperatingPoint(BALANCED, "PNEUMONIA", 0.5)}
    outputs = []
    for scores in (before, after):
        positive = np.asarray(scores, dtype=np.float32)
        outputs.append(Outputs(np.stack([1 - positive, positive], axis=1), points))
    images = Images([f"{index}.png" for index in range(len(labels))], np.array(labels))
    return compare(PNEUMONIA, ("model-fp32.onnx", "fp32", "r"), *outputs, images)


GOOD = found([0.1, 0.9], [0.1, 0.9], [0, 1])
BAD = found([0.1, 0.9, 0.2], [0.9, 0.1, 0.8], [0, 1, 0])
NO_NUMBER = found([0.1, np.nan], [0.1, 0.9], [0, 1])


def test_json_holds_every_figure_and_every_flip(tmp_path: Path) -> None:
    write_json(Parity((GOOD, BAD), ()), tmp_path / "parity.json")
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

    write_json(Parity((NO_NUMBER,), ()), tmp_path / "parity.json")
    (record,) = json.loads((tmp_path / "parity.json").read_text(), parse_constant=refuse)
    assert record["largest_difference"] is None
    assert record["passed"] is False


def test_junit_holds_a_suite_for_each_comparison_and_a_case_for_each_rule(tmp_path: Path) -> None:
    write_junit(Parity((GOOD, BAD), ()), tmp_path / "parity.xml")
    root = ElementTree.parse(tmp_path / "parity.xml").getroot()
    assert root.tag == "testsuites"
    good, bad = root
    assert good.get("name") == "pneumonia/model-fp32.onnx on r"
    assert (good.get("tests"), good.get("failures")) == (str(len(GOOD.gates)), "0")
    assert not list(good.iter("failure"))
    assert bad.get("failures") == str(len(BAD.failures))
    messages = [failure.get("message") for failure in bad.iter("failure")]
    assert messages == list(BAD.failures)


def test_a_page_shows_gates_ladder_plots_and_flipped_images(
    exported_copy: Path, tiny_data: Path, tmp_path: Path
) -> None:
    change_onnx(exported_copy / "pneumonia/model-fp32.onnx", lambda weights: -weights)
    relist(exported_copy, "model-fp32.onnx")
    parity = check_parity(options(exported_copy, tiny_data))
    write_parity_page(parity, tmp_path / "parity.html")
    page = (tmp_path / "parity.html").read_text()
    assert "http" not in page.replace("http-equiv", ""), "the page must stand alone"
    assert "not a diagnosis" in page
    bundle = load_bundle(PNEUMONIA, exported_copy)
    files = len(bundle.manifest["exports"])
    assert page.count("<h3>") == len(parity.comparisons) > files
    # Pictures and ladder once a file, figures and gates for each runtime.
    assert page.count("<h4>Ladder</h4>") == files
    (bad,) = (item for item in parity.comparisons if not item.passed)
    assert all(line in page for line in bad.failures)
    assert len(bad.flips) > 10
    first = {item.file: item for item in reversed(parity.comparisons)}
    assert page.count('width="128"') == sum(len(item.flips) for item in first.values())
    assert bad.flips[0].name in page
    assert page.count('alt="original against export"') == files
    assert all(name in page for name in bundle.manifest["exports"])


def test_a_page_shows_an_export_that_gives_no_numbers(
    exported_copy: Path, tiny_data: Path, tmp_path: Path
) -> None:
    change_onnx(exported_copy / "pneumonia/model-fp32.onnx", lambda weights: weights * np.nan)
    relist(exported_copy, "model-fp32.onnx")
    parity = check_parity(options(exported_copy, tiny_data))
    write_parity_page(parity, tmp_path / "parity.html")
    page = (tmp_path / "parity.html").read_text()
    assert "a probability is not finite" in page
    assert "a weight is no finite number" in page


def test_names_that_are_no_text_stay_out_of_the_way_of_every_report(
    pooled_models: Path, tmp_path: Path
) -> None:
    samples = drawn_samples(tmp_path / "samples")
    odd = os.fsdecode(b"bad\xff\x01<b>.png")
    shutil.copy(samples / "skin/a.png", samples / "skin" / odd)
    parity = check_parity(ParityOptions((SKIN,), samples=samples, trained=pooled_models))
    broken = replace(parity, comparisons=(parity.comparisons[0].failing(f"broken by {odd}"),))
    for write, name in ((write_json, "p.json"), (write_junit, "p.xml"), (write_parity_page, "p")):
        write(broken, tmp_path / name)
    assert json.loads((tmp_path / "p.json").read_text())
    assert ElementTree.parse(tmp_path / "p.xml").getroot().tag == "testsuites"
    assert "<b>" not in (tmp_path / "p").read_text()


def test_a_page_of_samples_has_no_roc(tiny_exported: Path, tmp_path: Path) -> None:
    samples = drawn_samples(tmp_path / "samples")
    write_parity_page(check_parity(options(tiny_exported, samples=samples)), tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text()
    assert 'alt="ROC curves"' not in page
    assert 'alt="original against export"' in page


# Whole runs


def options(trained: Path, data: Path | None = None, **others: Any) -> ParityOptions:
    return ParityOptions(tasks=(PNEUMONIA,), data=data, trained=trained, **others)


def relist(trained: Path, name: str, task: str = "pneumonia") -> None:
    """Write a file's present hash into the manifest, as if it had been exported so."""
    path = trained / task / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["exports"][name] |= file_record(path.parent / name)
    path.write_text(json.dumps(manifest))


def test_honest_exports_pass_on_every_runtime(tiny_exported: Path, tiny_data: Path) -> None:
    notes: list[str] = []
    results = check_parity(options(tiny_exported, tiny_data), notes.append).comparisons
    bundle = load_bundle(PNEUMONIA, tiny_exported)
    exports = bundle.manifest["exports"]
    assert list(dict.fromkeys(item.file for item in results)) == list(exports)
    runtimes = {Path(item.file).suffix: set() for item in results}
    for item in results:
        runtimes[Path(item.file).suffix].add(item.runtime)
        assert item.failures == ()
        assert item.precision == exports[item.file]["precision"]
        assert item.images == 20 + len(splits_of(bundle, tiny_data).validation)
    assert runtimes[".tflite"] >= {"LiteRT", "LiteRT without XNNPACK"}
    assert runtimes[".onnx"] >= {"ONNX Runtime"}
    assert sum(note.startswith("pneumonia: through ") for note in notes) == len(results)


def test_test_and_validation_images_are_compared_together(
    tiny_exported: Path, tiny_data: Path
) -> None:
    parity = check_parity(options(tiny_exported, tiny_data))
    metrics = load_bundle(PNEUMONIA, tiny_exported).manifest["metrics"]
    parts = [metrics[split][BALANCED] for split in ("test", "validation")]
    right = sum(part["accuracy"] * part["images"] for part in parts)
    total = sum(part["images"] for part in parts)
    for item in parity.comparisons:
        assert item.changes[ACCURACY].before == pytest.approx(right / total)
    names = parity.evidence[0].images.names
    assert sum(name.startswith("test/") for name in names) == 20
    assert sum(name.startswith("train/") for name in names) == total - 20


def test_every_case_of_a_junit_report_has_a_name_of_its_own(
    tiny_exported: Path, tiny_data: Path, tmp_path: Path
) -> None:
    write_junit(check_parity(options(tiny_exported, tiny_data)), tmp_path / "parity.xml")
    cases = ElementTree.parse(tmp_path / "parity.xml").getroot().iter("testcase")
    names = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(names) == len(set(names)) > 50


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
    notes: list[str] = []
    found = check_parity(options(exported_copy, data), notes.append).comparisons
    lines = next(item for item in found if item.file == "model-int8.onnx").failures
    assert any(leaked.name in line and "calibration images" in line for line in lines)
    assert any("other files than the model was trained on" in note for note in notes)


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


def change_onnx(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the weights of an ONNX file's last product."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    (last,) = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    (weights,) = [item for item in model.graph.initializer if item.name == last.input[1]]
    changed = change(numpy_helper.to_array(weights))
    weights.CopyFrom(numpy_helper.from_array(np.asarray(changed), weights.name))
    save_onnx(model, path)


def drawn_samples(folder: Path) -> Path:
    """Write one image for each task, into a folder of its own."""
    for task in (PNEUMONIA, SKIN):
        (folder / task.name).mkdir(parents=True)
        Image.new("RGB", (40, 60), (200, 120, 90)).save(folder / task.name / "a.png")
    return folder


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
    ],
    ids=["source", "temperature", "operating points", "precision"],
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
    save_onnx(model, path)
    relist(trained, path.name, "skin")
    samples = drawn_samples(tmp_path / "samples")
    with pytest.raises(ModelFileError, match=rf"fp32\.onnx {what}.* export it again$"):
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
    from medkit.images import load_tensor

    for task in (PNEUMONIA, SKIN):
        paths = list((Path(__file__).parent / "samples" / task.name).iterdir())
        assert paths
        for path in paths:
            assert load_tensor(path, contract_for(task)).shape == contract_for(task).shape


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
