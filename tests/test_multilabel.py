"""A multi-label model from its bundle to exports, parity, rows, figures and pages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import medkit
from commandruns import read_csv, run
from medkit.tasks import Task
from multilabels import LUNGS, PAIR, TASKS, drawn, write_bundle, write_images
from trainingruns import MakeRecorder

keras = pytest.importorskip("keras")

from medkit.errors import ExportError, UsageError  # noqa: E402
from medkit.models.card import read_card  # noqa: E402
from medkit.training import TrainOptions, train_model  # noqa: E402
from medkit.training.archive import save_archive  # noqa: E402
from medkit_exporters.quantize.source import open_source  # noqa: E402

BOTH = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's environment out."""
    for name in ("MEDKIT_DATA", "MEDKIT_TRAINED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make 400 images of each task, with a table."""
    folder = tmp_path_factory.mktemp("data")
    for task in TASKS:
        write_images(folder / task.name, task, *drawn(task, 400, 3))
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make bundles: ``lungs`` with int8 files, both with others."""
    folder = tmp_path_factory.mktemp("trained")
    for task in TASKS:
        write_bundle(folder, task, data / task.name)
        done = run("export", task.name, "--fp16", "--fp32", "--trained", folder)
        assert done.exit_code == 0, done.output
    asked = ["export", "lungs", "--int8", "--data", data / "lungs", "--trained", folder]
    done = run(*asked)
    assert done.exit_code == 0, done.output
    return folder


def test_an_int8_file_passes_the_ladder_with_thresholds_of_its_own(trained: Path) -> None:
    bundle = medkit.load_bundle("lungs", trained)
    for name in ("model-int8.tflite", "model-int8.onnx"):
        entry = bundle.manifest.exports[name]
        (rung,) = entry.ladder
        assert rung.passed
        assert entry.graph_temperature is not None
        assert entry.graph_temperature > 1.05
        own = entry.operating_points or {}
        assert len(own["balanced"].thresholds or ()) == 3
        assert own != bundle.operating_points
        assert entry.metrics is not None
        assert entry.metrics["test"]["balanced"].thresholds is not None


@BOTH
def test_every_export_decides_like_the_original(
    trained: Path, data: Path, tmp_path: Path, task: Task
) -> None:
    asked = ["parity", task.name, "--data", data / task.name, "--trained", trained]
    done = run(*asked, "--json", tmp_path / "p.json", "--html", tmp_path / "p.html")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "p.json").read_text())
    assert {item["file"] for item in found} >= {"model-fp16.tflite", "model-fp32.onnx"}
    assert len({item["file"] for item in found}) == (6 if task == LUNGS else 4)
    assert all(item["passed"] and item["agreement"] > 0.97 for item in found)
    assert all(set(item["changes"]) >= {"accuracy", "AUC", "sensitivity"} for item in found)
    shown = f"ROC of {task.alert}" if task.alert else "each point a label of an image"
    assert task.alert or shown in (tmp_path / "p.html").read_text()


@BOTH
def test_a_row_holds_the_labels_above_their_thresholds(
    trained: Path, data: Path, tmp_path: Path, task: Task
) -> None:
    common = ["classify", data / task.name / "img", "--task", task.name, "--trained", trained]
    done = run(*common, "--runtime", "onnx", "--out", tmp_path / "o.csv")
    assert done.exit_code == 0, done.output
    rows = read_csv((tmp_path / "o.csv").read_text())
    assert len(rows) == 400
    by_text: dict[str, int] = {}
    card = medkit.load_model(
        next((trained / task.name).glob(f"model-{'int8' if task == LUNGS else 'fp16'}.onnx"))
    ).card
    thresholds = card.operating_points["balanced"].thresholds
    assert thresholds is not None
    for row in rows:
        scores = [float(row[f"p_{label.replace(' ', '_')}"]) for label in task.labels]
        above = [
            (label, score)
            for label, score, least in zip(task.labels, scores, thresholds, strict=True)
            if score >= least
        ]
        assert row["status"] == "ok"
        assert row["label"] == ";".join(label for label, _ in above)
        highest = max([score for _, score in above] or scores)
        assert float(row["confidence"]) == pytest.approx(highest)
        by_text[row["label"]] = by_text.get(row["label"], 0) + 1
    assert "" in by_text
    assert any(";" in text for text in by_text)
    mass = sum(count for text, count in by_text.items() if "Mass" in text.split(";"))
    lines = [line.split() for line in done.stderr.splitlines()]
    assert [task.name, "Mass", str(mass)] in lines
    assert [task.name, "no", "label", str(by_text[""])] in lines


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_run_is_continued_as_if_it_had_not_stopped(
    trained: Path, data: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"o{suffix}"
    common = ["classify", data / "lungs/img", "--task", "lungs", "--trained", trained]
    whole = run(*common, "--out", out)
    assert whole.exit_code == 0, whole.output
    before = out.read_bytes()
    out.write_bytes(b"".join(before.splitlines(keepends=True)[:-150]))
    done = run(*common, "--out", out, "--resume")
    assert done.exit_code == 0, done.output
    assert out.read_bytes() == before

    def table(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("lungs  ")]

    assert len(table(done.stderr)) == 4
    assert table(done.stderr) == table(whole.stderr)


def test_python_gives_the_same_rows(trained: Path, data: Path) -> None:
    asked = medkit.ClassifyOptions((data / "lungs/img",), task="lungs", trained=trained)
    rows = list(medkit.predict_paths(asked))
    table = medkit.to_frame(rows)
    assert table["label"].isna().sum() == sum(row.label == "" for row in rows) > 0
    assert table["label"].str.contains(";").sum() > 0
    assert table["confidence"].notna().all()


@BOTH
def test_evaluate_measures_label_by_label(
    trained: Path, data: Path, tmp_path: Path, task: Task
) -> None:
    asked = ["evaluate", task.name, "--data", data / task.name / "labels.csv"]
    asked += ["--trained", trained, "--precision", "fp16", "--json", tmp_path / "e.json"]
    done = run(*asked)
    assert done.exit_code == 0, done.output
    (found,) = json.loads((tmp_path / "e.json").read_text())
    figures = found["figures"]
    # The images that the thresholds were chosen on are left out, as are those for training.
    assert 100 < figures["images"] < 140
    areas = [figures["class_auc"][label] for label in task.labels]
    assert figures["auc"] == pytest.approx(np.mean(areas))
    assert min(areas) > 0.8
    assert "all labels right" in done.stdout
    assert "mean AUC" in done.stdout
    texts = {image["label"] for image in found["images"]}
    assert "" in texts
    assert "Effusion;Mass" in texts


@BOTH
def test_pages_and_cards_show_each_label(
    trained: Path, data: Path, tmp_path: Path, task: Task
) -> None:
    asked = ["report", task.name, "--data", data / task.name, "--trained", trained]
    done = run(*asked, "--out", tmp_path / "r.html")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "r.html").read_text()
    card = (trained / task.name / "MODEL_CARD.md").read_text()
    named = f"sensitivity for {task.alert}" if task.alert else "sensitivity, mean of the labels"
    for text in (page, card):
        assert named in text
        assert "all labels right" in text
        assert "mean AUC" in text
        assert "Effusion from 0." in text
    assert "no label, called" in page or "called <span" in page
    assert "Grad-CAM" in page


def test_inspect_tasks_and_benchmark_take_it(
    trained: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("inspect", trained / "pair/model-fp16.onnx", "--json", tmp_path / "i.json")
    assert done.exit_code == 0, done.output
    stored = json.loads((tmp_path / "i.json").read_text())["card"]["operating_points"]
    assert list(stored["balanced"]) == ["name", "thresholds"]
    done = run("inspect", trained / "pair/model-fp16.onnx")
    assert "balanced: Effusion from 0." in done.stdout
    done = run("tasks", "--trained", trained, "--json", tmp_path / "t.json")
    assert done.exit_code == 0, done.output
    listed = json.loads((tmp_path / "t.json").read_text())["tasks"]
    assert [task["multi_label"] for task in listed] == [True, True]
    monkeypatch.setattr("medkit.benchmark.run._INFERENCE_SECONDS", 0.02)
    few = tmp_path / "few"
    few.mkdir()
    for number in range(4):
        shutil.copy(data / f"pair/img/00{number}.png", few)
    done = run("benchmark", few, "--task", "pair", "--trained", trained, "--repeats", "1")
    assert done.exit_code == 0, done.output


def test_what_does_not_take_it_says_so_in_one_line(
    trained: Path, data: Path, tmp_path: Path, recorder: MakeRecorder
) -> None:
    done = run("train", "lungs", "--data", data / "lungs", "--out", trained)
    assert done.exit_code == 2
    told = "lungs is a multi-label task, and medkit trains tasks with one label for each image"
    assert told in done.stderr
    with pytest.raises(UsageError, match=told):
        train_model(TrainOptions(LUNGS, data / "lungs", out=tmp_path / "out"), recorder())
    done = run("audit", data / "lungs", "--task", "lungs", "--trained", trained)
    assert done.exit_code == 2
    assert "audit reads class folders, and the multi-label task lungs has a table" in done.stderr
    empty = tmp_path / "empty"
    (empty / "Mass").mkdir(parents=True)
    shutil.copy(data / "lungs/img/000.png", empty / "Mass")
    done = run("evaluate", "lungs", "--data", empty, "--trained", trained)
    assert done.exit_code == 2
    assert "no table of labels in" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_task_that_forgot_that_it_is_multi_label_is_refused(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(trained / "pair", mine / "pair")
    described = mine / "pair/task.toml"
    text = described.read_text()
    assert "multi_label = true\n" in text
    described.write_text(text.replace("multi_label = true\n", ""))
    done = run("classify", data / "pair/img", "--task", "pair", "--trained", mine, "--out", "-")
    assert done.exit_code == 1
    assert "its task is one label an image, and its models are multi-label; co" in done.stderr
    assert PAIR.multi_label


def test_an_original_that_decides_otherwise_than_its_card_is_not_exported(
    trained: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(trained / "lungs", mine / "lungs")
    original = mine / "lungs/model.keras"
    card = read_card(original)
    softmax = keras.Sequential(
        [
            keras.Input(LUNGS.contract.shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(3, "softmax"),
        ]
    )
    original.unlink()
    save_archive(softmax, card, original)
    with pytest.raises(ExportError, match="3 softmax units, which do not decide 3 labels of a mul"):
        open_source(original)
