"""Which differences between an export and its original pass, and which do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medkit.bundles import file_record
from medkit.decisions import BALANCED, OperatingPoint
from medkit.errors import DatasetLayoutError, ModelFileError, UsageError
from medkit.images import contract_for
from medkit.parity import (
    BUDGETS,
    Comparison,
    ParityOptions,
    check_parity,
    compare,
    data_folder,
    write_json,
    write_junit,
)
from medkit.tasks import PNEUMONIA, SKIN

Scores = NDArray[np.float32]

LIKELIEST = OperatingPoint(BALANCED)


def both(positive: list[float] | NDArray[Any]) -> Scores:
    """Return the probabilities of both classes."""
    scores = np.asarray(positive, dtype=np.float32)
    return np.stack([1 - scores, scores], axis=1)


def sick_from(threshold: float) -> OperatingPoint:
    """Return the operating point that finds pneumonia from a probability on."""
    return OperatingPoint(BALANCED, "PNEUMONIA", threshold)


def held(
    original: Scores,
    exported: Scores,
    labels: list[int] | NDArray[Any] | None,
    precision: str = "int8",
) -> Comparison:
    """Compare for the two-class task at a threshold of one half."""
    truth = None if labels is None else np.asarray(labels, dtype=np.int64)
    return compare(PNEUMONIA, "f", precision, "r", original, exported, truth, sick_from(0.5))


def turned(count: int, wrong: int, right: int = 0) -> tuple[Scores, Scores, NDArray[np.int64]]:
    """Make scores of which the export decides some differently.

    Parameters
    ----------
    count
        Images, half of them of each class; the first four are decided wrongly.
    wrong, right
        Images, rightly and wrongly decided before, that the export turns.

    All scores lie close to the threshold in their order, so that AUC hardly moves.
    """
    labels = np.arange(count) % 2
    sign = np.where(labels == 1, 1.0, -1.0)
    sign[:4] *= -1
    original = 0.5 + sign * (0.001 + np.arange(count) * 1e-6)
    exported = original.copy()
    chosen = [*range(4, 4 + wrong), *range(right)]
    exported[chosen] = 1 - exported[chosen]
    return both(original), both(exported), labels


def failures(count: int, wrong: int, right: int = 0, *, labelled: bool = True) -> list[str]:
    """Return the first words of the broken rules, AUC left out."""
    original, exported, labels = turned(count, wrong, right)
    result = held(original, exported, labels if labelled else None)
    return [line.split()[0] for line in result.failures if not line.startswith("AUC")]


@pytest.mark.parametrize(
    ("count", "wrong", "passes"),
    [
        (100, 1, True),
        (100, 2, False),
        (200, 2, True),
        (200, 3, False),
        (300, 3, True),
        (300, 4, False),
        (624, 6, True),
        (624, 7, False),
        (118, 1, True),
        (118, 2, False),
        (10, 1, True),
        (10, 2, False),
    ],
)
def test_accuracy_may_move_by_one_point_or_by_one_image(
    count: int, wrong: int, passes: bool
) -> None:
    assert ("accuracy" not in failures(count, wrong)) is passes


def test_accuracy_may_not_rise_further_than_it_may_fall() -> None:
    assert failures(100, wrong=0, right=1) == []
    assert failures(100, wrong=0, right=2) == ["accuracy"]


@pytest.mark.parametrize(
    ("count", "turns", "passes"),
    [
        (100, 3, True),
        (100, 4, False),
        (200, 6, True),
        (200, 7, False),
        (118, 3, True),
        (118, 4, False),
        (20, 1, True),
        (20, 2, False),
    ],
)
def test_at_most_three_images_in_a_hundred_may_be_decided_otherwise(
    count: int, turns: int, passes: bool
) -> None:
    # Half of them for the better, so that the accuracy stays.
    right = turns // 2
    assert ("agreement" not in failures(count, turns - right, right)) is passes
    assert ("agreement" not in failures(count, turns, labelled=False)) is passes


def test_failures_say_by_how_much() -> None:
    original, exported, labels = turned(100, wrong=5)
    result = held(original, exported, labels)
    assert not result.passed
    assert result.agreement == pytest.approx(0.95)
    assert "agreement 95.00% is below 97% (5 of 100 decided differently)" in result.failures
    assert "accuracy 96.00% became 91.00%, more than 1.00% apart" in result.failures


@pytest.mark.parametrize(("swaps", "passes"), [(100, True), (101, False)])
def test_auc_may_move_by_one_hundredth(swaps: int, passes: bool) -> None:
    # Of 100 times 100 pairs, each step of the one sick image below a healthy one costs a pair.
    healthy = 0.1 + np.arange(100) * 1e-3
    sick = 0.6 + np.arange(100) * 1e-3
    original = np.concatenate([healthy, sick])
    exported = original.copy()
    crossed = min(swaps, 100)
    exported[100] = healthy[100 - crossed] - 5e-4
    if swaps > 100:
        exported[101] = healthy[99] - 5e-4
    labels = np.repeat([0, 1], 100)
    # Decided at a threshold that neither of them crosses.
    result = compare(
        PNEUMONIA, "f", "int8", "r", both(original), both(exported), labels, sick_from(0.05)
    )
    assert result.original_auc == 1
    assert result.export_auc == pytest.approx(1 - swaps / 10_000)
    assert result.failures == () if passes else result.failures[0].startswith("AUC 1.0000 became")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_probabilities_of_float_exports_are_bounded(precision: str) -> None:
    labels = [0, 1, 0, 1]
    original = both([0.1, 0.9, 0.2, 0.8])
    bound = {"fp32": 1e-4, "fp16": 1e-2, "int8": None}[precision]
    assert BUDGETS[precision].probability == bound
    for share, passes in ((0.9, True), (1.1, bound is None)):
        exported = both([0.1 + share * (bound or 0.2), 0.9, 0.2, 0.8])
        result = held(original, exported, labels, precision)
        assert result.passed is passes
        assert result.largest_difference == pytest.approx(share * (bound or 0.2), rel=1e-2)
        if not passes:
            assert result.failures[0].startswith("largest difference")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("labels", [None, [0, 1, 0]])
def test_a_probability_that_is_no_number_fails(
    value: float, side: int, labels: list[int] | None
) -> None:
    scores = [both([0.1, 0.9, 0.2]), both([0.1, 0.9, 0.2])]
    scores[side][1, 1] = value
    result = held(scores[0], scores[1], labels)
    assert result.failures == ("a probability is not finite",)
    assert result.agreement == 0


def test_without_labels_there_is_neither_accuracy_nor_auc() -> None:
    original = both([0.1, 0.9, 0.2, 0.8])
    result = held(original, original, None)
    assert result.passed
    assert (result.original_accuracy, result.export_accuracy) == (None, None)
    assert (result.original_auc, result.export_auc) == (None, None)
    assert (result.agreement, result.largest_difference, result.images) == (1, 0, 4)


def test_the_operating_point_decides_agreement() -> None:
    original, exported = both([0.3, 0.3, 0.9]), both([0.4, 0.4, 0.9])
    assert held(original, exported, None).agreement == 1
    moved = compare(PNEUMONIA, "f", "int8", "r", original, exported, None, sick_from(0.35))
    assert moved.agreement == pytest.approx(1 / 3)
    healthy = OperatingPoint(BALANCED, "NORMAL", 0.65)
    assert compare(
        PNEUMONIA, "f", "int8", "r", original, exported, None, healthy
    ).agreement == pytest.approx(1 / 3)


def test_nine_classes_are_decided_by_the_likeliest_or_by_the_label_of_the_operating_point() -> None:
    original = np.full((40, 9), 0.05, dtype=np.float32)
    original[np.arange(40), np.arange(40) % 9] = 0.6
    labels = np.arange(40) % 9
    assert compare(SKIN, "f", "int8", "r", original, original, labels, LIKELIEST).passed
    exported = np.roll(original, 1, axis=1)
    result = compare(SKIN, "f", "int8", "r", original, exported, labels, LIKELIEST)
    assert result.agreement == 0
    assert [line.split()[0] for line in result.failures] == ["agreement", "accuracy", "AUC"]
    melanoma = OperatingPoint(BALANCED, "melanoma", 0.04)
    assert compare(SKIN, "f", "int8", "r", original, exported, None, melanoma).agreement == 1


# Reports


GOOD = held(both([0.1, 0.9]), both([0.1, 0.9]), [0, 1], "fp32")
BAD = held(both([0.1, 0.9, 0.2]), both([0.9, 0.1, 0.8]), [0, 1, 0], "fp32")
NO_NUMBER = held(both([0.1, np.nan]), both([0.1, 0.9]), [0, 1])


def test_json_holds_every_figure(tmp_path: Path) -> None:
    write_json([GOOD, BAD], tmp_path / "parity.json")
    good, bad = json.loads((tmp_path / "parity.json").read_text())
    assert good == {
        "task": "pneumonia",
        "file": "f",
        "precision": "fp32",
        "runtime": "r",
        "images": 2,
        "original_accuracy": 1.0,
        "export_accuracy": 1.0,
        "original_auc": 1.0,
        "export_auc": 1.0,
        "agreement": 1.0,
        "largest_difference": 0.0,
        "failures": [],
        "passed": True,
    }
    assert bad["passed"] is False
    assert bad["failures"] == list(BAD.failures)


def test_json_stays_json_where_there_is_no_number(tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    write_json([NO_NUMBER], tmp_path / "parity.json")
    (record,) = json.loads((tmp_path / "parity.json").read_text(), parse_constant=refuse)
    assert record["largest_difference"] is None
    assert record["passed"] is False


def test_junit_holds_a_case_for_each_export(tmp_path: Path) -> None:
    write_junit([GOOD, BAD], tmp_path / "parity.xml")
    suite = ElementTree.parse(tmp_path / "parity.xml").getroot()
    assert suite.tag == "testsuite"
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    good, bad = suite
    assert (good.get("classname"), good.get("name")) == ("pneumonia", "f")
    assert list(good) == []
    (failure,) = bad
    assert failure.tag == "failure"
    assert failure.text == "\n".join(BAD.failures)
    assert failure.get("message") == "; ".join(BAD.failures)


# Whole runs


def options(trained: Path, data: Path | None = None, **others: Any) -> ParityOptions:
    return ParityOptions(tasks=(PNEUMONIA,), data=data, trained=trained, **others)


def relist(trained: Path, name: str, task: str = "pneumonia") -> None:
    """Write a file's present hash into the manifest, as if it had been exported so."""
    path = trained / task / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["exports"][name] |= file_record(path.parent / name)
    path.write_text(json.dumps(manifest))


def test_honest_exports_pass_on_the_official_test_split(
    tiny_exported: Path, tiny_data: Path
) -> None:
    notes: list[str] = []
    results = check_parity(options(tiny_exported, tiny_data), notes.append)
    manifest = json.loads((tiny_exported / "pneumonia/manifest.json").read_text())
    assert [item.file for item in results] == list(manifest["exports"])
    assert {item.runtime for item in results} == {"LiteRT", "ONNX Runtime"}
    for item in results:
        assert item.failures == ()
        assert item.precision == manifest["exports"][item.file]["precision"]
        assert item.images == 20
        figures = manifest["metrics"]["test"][BALANCED]
        assert item.original_accuracy == figures["accuracy"]
        assert item.original_auc == pytest.approx(figures["auc"], abs=1e-12)
    assert sum(note.startswith("pneumonia: through ") for note in notes) == 6


def test_samples_without_labels_compare_decisions_only(tiny_exported: Path, tmp_path: Path) -> None:
    (tmp_path / "pneumonia").mkdir()
    for index in range(5):
        Image.new("L", (40, 60), 40 * index).save(tmp_path / f"pneumonia/{index}.png")
    (tmp_path / "pneumonia/README.md").write_text("no image")
    for item in check_parity(options(tiny_exported, samples=tmp_path)):
        assert item.passed
        assert item.images == 5
        assert item.original_accuracy is item.export_auc is None


def test_data_come_before_samples(tiny_exported: Path, tiny_data: Path, tmp_path: Path) -> None:
    results = check_parity(options(tiny_exported, tiny_data, samples=tmp_path / "missing"))
    assert {item.images for item in results} == {20}


def change_onnx(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the weights of an ONNX file's last product."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    (last,) = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    (weights,) = [item for item in model.graph.initializer if item.name == last.input[1]]
    changed = change(numpy_helper.to_array(weights))
    weights.CopyFrom(numpy_helper.from_array(np.asarray(changed), weights.name))
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda weights: weights * np.float32(1.05), {"largest"}),
        (lambda weights: -weights, {"largest", "agreement", "accuracy", "AUC"}),
        (lambda weights: weights * np.float32("nan"), {"a"}),
    ],
    ids=["scaled", "swapped", "not a number"],
)
def test_a_sabotaged_export_fails_and_the_honest_ones_still_pass(
    exported_copy: Path,
    tiny_data: Path,
    change: Callable[[Any], Any],
    broken: set[str],
) -> None:
    change_onnx(exported_copy / "pneumonia/model-fp32.onnx", change)
    relist(exported_copy, "model-fp32.onnx")
    for item in check_parity(options(exported_copy, tiny_data)):
        assert item.passed is (item.file != "model-fp32.onnx")
        if not item.passed:
            assert {line.split()[0] for line in item.failures} == broken


def test_swapped_labels_are_refused(exported_copy: Path, tiny_data: Path) -> None:
    import onnx

    path = exported_copy / "pneumonia/model-fp32.onnx"
    model = onnx.load(path)
    (card,) = model.metadata_props
    stored = json.loads(card.value)
    card.value = json.dumps({**stored, "labels": stored["labels"][::-1]})
    onnx.save(model, path)
    relist(exported_copy, "model-fp32.onnx")
    with pytest.raises(ModelFileError, match="its labels .* are not those of task pneumonia"):
        check_parity(options(exported_copy, tiny_data))


def drawn_samples(folder: Path) -> Path:
    """Write one image for each task, into a folder of its own."""
    for task in (PNEUMONIA, SKIN):
        (folder / task.name).mkdir(parents=True)
        Image.new("RGB", (40, 60), (200, 120, 90)).save(folder / task.name / "a.png")
    return folder


def test_untrained_exports_decide_like_their_originals(pooled_models: Path, tmp_path: Path) -> None:
    samples = drawn_samples(tmp_path)
    found = check_parity(ParityOptions(samples=samples, trained=pooled_models))
    assert [(item.task, item.failures) for item in found] == [
        (task, ()) for task in ("pneumonia", "skin") for _ in range(3)
    ]


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
    (card,) = model.metadata_props
    card.value = json.dumps({**json.loads(card.value), **change})
    onnx.save(model, path)
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
    for item in check_parity(options(tiny_exported, samples=tmp_path)):
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
    assert elsewhere == check_parity(options(tiny_exported, tiny_data))
