"""Whole journeys: a Keras model that was trained elsewhere, from its file to a CSV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adoptions import LABELS, as_trained, labels_file, make_images, trained
from commandruns import read_csv, run
from medkit.models.bundle import load_bundle
from medkit.models.decisions import apply_temperature
from medkit.tasks import get_task

pytest.importorskip("keras")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make images, and a model of theirs as an ``.h5`` of 224 pixels with ImageNet's mean."""
    folder = tmp_path_factory.mktemp("elsewhere")
    data = make_images(folder / "data")
    trained(data).save(folder / "fundus.h5")
    labels_file(folder)
    return folder


@pytest.fixture(scope="module")
def adopted(elsewhere: Path) -> tuple[Path, Any]:
    """Adopt it, and return the folder of models with what the command said."""
    out = elsewhere / "mine"
    done = run(
        *("adopt", elsewhere / "fundus.h5", "--name", "fundus", "--data", elsewhere / "data"),
        *("--labels", elsewhere / "the-labels.txt", "--alert", "vessel", "--out", out),
    )
    return out, done


def test_pixels_and_resize_are_found_by_measuring(adopted: tuple[Path, Any]) -> None:
    out, done = adopted
    assert done.exit_code == 0, done.output
    task = get_task("fundus", out)
    assert task.labels == LABELS
    assert task.alert == "vessel"
    assert task.contract.shape == (224, 224, 3)
    assert task.images == "any"  # some of the made images are nearly grey
    assert task.contract.resize == "squash:pillow-nearest"
    assert task.contract.decoder == "pillow:first-frame:full-scale"
    manifest = load_bundle("fundus", out).manifest
    assert manifest.adoption is not None
    assert manifest.adoption.pixels == "imagenet"
    assert manifest.adoption.calibrated
    tried = {each.pixels for each in manifest.adoption.measured}
    assert tried == {"0..255", "0..1", "-1..1", "imagenet", "caffe"}
    assert manifest.chosen_on == "validation"
    assert set(manifest.metrics) == {"validation", "test"}
    assert {"model.keras", "splits.csv"} == set(manifest.files)


def test_the_table_is_on_the_terminal_and_in_the_card(adopted: tuple[Path, Any]) -> None:
    out, done = adopted
    lines = done.stderr.splitlines()
    best = next(line for line in lines if line.rstrip().endswith("best"))
    assert best.split()[:2] == ["imagenet", "squash:pillow-nearest"]
    assert lines[-2] == f"next: medkit export fundus --fp16 --trained {out}"
    card = (out / "fundus" / "MODEL_CARD.md").read_text()
    assert "| imagenet | `squash:pillow-nearest` |" in card
    assert "adopted from | `fundus.h5`, with pixels imagenet" in card


def test_the_exports_give_what_the_original_pipeline_gives(
    adopted: tuple[Path, Any], elsewhere: Path
) -> None:
    import keras

    out, _ = adopted
    done = run("export", "fundus", "--fp32", "--trained", out)
    assert done.exit_code == 0, done.output
    original = keras.models.load_model(elsewhere / "fundus.h5", compile=False)
    paths = sorted((elsewhere / "data").rglob("*.png"))[::9]
    given = np.asarray(original(np.stack([as_trained(path) for path in paths])))
    temperature = load_bundle("fundus", out).temperature
    expected = apply_temperature(given, temperature, multi_label=False)
    for runtime in ("litert", "onnx", "keras"):
        rows = out / f"{runtime}.jsonl"
        done = run(
            *("classify", elsewhere / "data", "--task", "fundus", "--trained", out),
            *("--out", rows, "--runtime", runtime),
        )
        assert done.exit_code == 0, done.output
        by_path = {row["path"]: row for row in map(json.loads, rows.read_text().splitlines())}
        names = [path.relative_to(elsewhere / "data").as_posix() for path in paths]
        found = [[by_path[name][f"p_{label}"] for label in LABELS] for name in names]
        assert np.abs(np.array(found) - expected).max() < 1e-4


def test_an_int8_file_ends_in_a_csv(adopted: tuple[Path, Any], elsewhere: Path) -> None:
    out, _ = adopted
    data = elsewhere / "data"
    done = run("export", "fundus", "--int8", "--format", "tflite", "--data", data, "--trained", out)
    assert done.exit_code == 0, done.output
    table = elsewhere / "preds.csv"
    done = run("classify", data, "--task", "fundus", "--trained", out, "--out", table)
    assert done.exit_code == 0, done.output
    rows = read_csv(table.read_text())
    right = [row["label"] == row["path"].split("/")[0] for row in rows]
    assert np.mean(right) > 0.9
    assert not any("uncalibrated" in row["notes"] for row in rows)


def test_labels_in_a_wrong_order_are_refused(elsewhere: Path, tmp_path: Path) -> None:
    disc, healthy, vessel = LABELS
    labels = labels_file(tmp_path, (disc, vessel, healthy))
    asked = (
        *("adopt", elsewhere / "fundus.h5", "--name", "fundus", "--data", elsewhere / "data"),
        *("--labels", labels, "--alert", "vessel", "--out", tmp_path / "mine"),
    )
    for said in ((), ("--pixels", "imagenet", "--resize", "squash:pillow-nearest")):
        done = run(*asked, *said)
        assert done.exit_code == 2, done.output
        line = done.stderr.splitlines()[-1]
        assert "the labels stand in another order than the model's outputs: " in line
        assert "disc, healthy, vessel" in line.partition(" is right in ")[0]
        assert not (tmp_path / "mine" / "fundus").exists()


def test_too_few_images_measure_nothing(elsewhere: Path, tmp_path: Path) -> None:
    for label in LABELS:
        place = tmp_path / "few" / label
        place.mkdir(parents=True)
        for path in sorted((elsewhere / "data" / label).iterdir())[:4]:
            (place / path.name).write_bytes(path.read_bytes())
    asked = (
        *("adopt", elsewhere / "fundus.h5", "--name", "fundus", "--data", tmp_path / "few"),
        *("--labels", elsewhere / "the-labels.txt", "--alert", "vessel", "--out", tmp_path),
    )
    for said in ((), ("--accept-tie",), ("--pixels", "imagenet")):
        done = run(*asked, *said)
        assert done.exit_code != 0
        assert "images to measure pixels and resize with" in done.stderr.splitlines()[-1]
    done = run(*asked, "--pixels", "imagenet", "--resize", "squash:pillow-nearest")
    assert done.exit_code == 0, done.output


def test_a_model_that_tells_nothing_is_remarked_where_its_pixels_were_said(
    elsewhere: Path, tmp_path: Path
) -> None:
    for label in LABELS:
        (tmp_path / "mixed" / label).mkdir(parents=True)
    for number, path in enumerate(sorted((elsewhere / "data").rglob("*.png"))):
        place = tmp_path / "mixed" / LABELS[number % 3]
        (place / f"{number}.png").write_bytes(path.read_bytes())
    asked = (
        *("adopt", elsewhere / "fundus.h5", "--name", "fundus", "--data", tmp_path / "mixed"),
        *("--labels", elsewhere / "the-labels.txt", "--alert", "vessel", "--out", tmp_path),
        *("--resize", "squash:pillow-nearest"),
    )
    assert "no better than chance on" in run(*asked).stderr.splitlines()[-1]
    done = run(*asked, "--pixels", "imagenet")
    assert done.exit_code == 0, done.output
    assert "no better than chance on" in done.stderr
