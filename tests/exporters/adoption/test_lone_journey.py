"""Whole journeys of lone exported files, from their file to a CSV, and what needs an original."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from adoptions import LABELS, as_trained, labels_file, make_images, trained
from commandruns import read_csv, run
from exporters.foreignfiles import converted, run_tflite, torch_like, with_metadata
from medkit.models.bundle import load_bundle
from medkit.models.decisions import apply_temperature
from medkit.models.runtimes.loading import load_model, usual_runtime


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make images, a Keras model of theirs, and a lone TFLite file with labels inside."""
    folder = tmp_path_factory.mktemp("elsewhere")
    model = trained(make_images(folder / "data"))
    model.save(folder / "fundus.h5")
    content = converted(model, fixed=True)
    (folder / "fundus.tflite").write_bytes(with_metadata(content, LABELS))
    return folder


@pytest.fixture(scope="module")
def lone(elsewhere: Path) -> Path:
    """Adopt the lone file without its original, and return the folder of models."""
    out = elsewhere / "lone"
    done = run(
        *("adopt", elsewhere / "fundus.tflite", "--name", "fundus", "--out", out),
        *("--data", elsewhere / "data", "--alert", "vessel"),
    )
    assert done.exit_code == 0, done.output
    return out


def test_a_lone_file_ends_in_a_csv(lone: Path, elsewhere: Path) -> None:
    bundle = load_bundle("fundus", lone)
    assert bundle.task.labels == LABELS
    assert set(bundle.manifest.exports) == {"model-fp32.tflite"}
    assert not bundle.has_original
    adoption = bundle.manifest.adoption
    assert adoption is not None
    assert adoption.pixels == "imagenet"
    assert bundle.contract.resize == "squash:pillow-nearest"
    table = elsewhere / "preds.csv"
    done = run(
        *("classify", elsewhere / "data", "--task", "fundus", "--trained", lone, "--out", table)
    )
    assert done.exit_code == 0, done.output
    rows = {row["path"]: row for row in read_csv(table.read_text())}
    # The file as it was given, on the pixels that it was trained on.
    paths = sorted((elsewhere / "data").rglob("*.png"))[::9]
    given = run_tflite(
        (elsewhere / "fundus.tflite").read_bytes(), np.stack([as_trained(each) for each in paths])
    )
    temperature = bundle.manifest.exports["model-fp32.tflite"].graph_temperature
    assert temperature == bundle.temperature
    expected = apply_temperature(given, bundle.temperature, multi_label=False)
    found = [
        [
            float(rows[each.relative_to(elsewhere / "data").as_posix()][f"p_{label}"])
            for label in LABELS
        ]
        for each in paths
    ]
    assert np.abs(np.array(found) - expected).max() < 1e-4


def test_the_card_names_the_file_as_it_was_given(lone: Path, elsewhere: Path) -> None:
    given = hashlib.sha256((elsewhere / "fundus.tflite").read_bytes()).hexdigest()
    card = load_model(lone / "fundus" / "model-fp32.tflite").card
    assert card.source_sha256 == given
    assert load_bundle("fundus", lone).sources == (given,)
    assert given in run("inspect", lone / "fundus" / "model-fp32.tflite").stdout


def test_a_lone_file_is_evaluated_listed_and_reported(lone: Path, elsewhere: Path) -> None:
    figures = elsewhere / "figures.json"
    done = run(
        *("evaluate", "fundus", "--data", elsewhere / "data", "--trained", lone),
        *("--json", figures),
    )
    assert done.exit_code == 0, done.output
    (found,) = json.loads(figures.read_text())
    assert found["file"] == "model-fp32.tflite"
    done = run("tasks", "--trained", lone)
    assert "fp32" in done.stdout
    assert "original" not in done.stdout
    page = elsewhere / "report.html"
    assert run("report", "fundus", "--trained", lone, "--out", page).exit_code == 0
    assert "model-fp32.tflite" in page.read_text()


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (("parity", "fundus", "--data"), "parity"),
        (("export", "fundus", "--fp32", "--data"), "export"),
        (("report", "fundus", "--data"), "a report on images"),
    ],
)
def test_what_needs_an_original_says_so_in_a_line(
    lone: Path, elsewhere: Path, command: tuple[str, ...], what: str
) -> None:
    more = ("--out", elsewhere / "page.html") if command[0] == "report" else ()
    done = run(*command, elsewhere / "data", "--trained", lone, *more)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        f"medkit: error: {what} needs the Keras original, and {lone / 'fundus'} has none, because "
        "model-fp32.tflite was adopted without it; adopt it again with --original MODEL"
    )


@pytest.mark.parametrize("option", [("--precision", "int8"), ("--runtime", "onnx")])
def test_a_file_that_is_not_there_is_not_to_be_exported(
    lone: Path, elsewhere: Path, option: tuple[str, str]
) -> None:
    done = run("evaluate", "fundus", "--data", elsewhere / "data", "--trained", lone, *option)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].endswith(
        f"{lone / 'fundus'} holds model-fp32.tflite, adopted as it is; name a runtime and a "
        "precision that fit it, or none"
    )


def test_a_lone_onnx_file_runs_on_its_own_runtime(elsewhere: Path) -> None:
    path = elsewhere / "tiles.onnx"
    path.write_bytes(
        torch_like(ending="Softmax", properties={"names": str(dict(enumerate("abc")))})
    )
    out = elsewhere / "tiles"
    done = run(
        *("adopt", path, "--name", "tiles", "--out", out, "--alert", "b"),
        *("--pixels", "imagenet", "--resize", "squash:pillow-bilinear-antialias"),
    )
    assert done.exit_code == 0, done.output
    assert usual_runtime(load_bundle("tiles", out)).name == "onnx"
    table = elsewhere / "tiles.csv"
    done = run(
        *("classify", elsewhere / "data" / "disc", "--task", "tiles", "--trained", out),
        *("--out", table),
    )
    assert done.exit_code == 0, done.output
    assert len(read_csv(table.read_text())) == 60


@pytest.mark.parametrize("told", [True, False])
def test_parity_compares_a_lone_file_with_the_original_that_was_named(
    elsewhere: Path, tmp_path: Path, told: bool
) -> None:
    out = tmp_path / "both"
    data = ("--data", elsewhere / "data")
    how = data if told else ("--pixels", "imagenet", "--resize", "squash:pillow-nearest")
    done = run(
        *("adopt", elsewhere / "fundus.tflite", "--name", "fundus", "--out", out),
        *("--original", elsewhere / "fundus.h5", "--alert", "vessel", *how),
    )
    assert done.exit_code == 0, done.output
    bundle = load_bundle("fundus", out)
    assert bundle.has_original
    assert len(bundle.sources) == 2
    result = tmp_path / "parity.json"
    done = run("parity", "fundus", *data, "--trained", out, "--json", result)
    assert done.exit_code == 0, done.output
    found = json.loads(result.read_text())
    assert {each["file"] for each in found} == {"model-fp32.tflite"}
    assert max(each["largest_difference"] for each in found) < 1e-3


def refusal(*arguments: Any) -> str:
    done = run(*arguments)
    assert done.exit_code in (1, 2), done.output
    return str(done.stderr.splitlines()[-1])


def test_what_is_no_original_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    rest = ("--name", "fundus", "--out", tmp_path / "out", "--alert", "vessel")
    rest = (*rest, "--labels", labels_file(tmp_path), "--pixels", "0..1")
    rest = (*rest, "--resize", "squash:pillow-nearest")
    exported, keras = elsewhere / "fundus.tflite", elsewhere / "fundus.h5"
    assert "--original is for .tflite and .onnx files" in refusal(
        "adopt", keras, "--original", keras, *rest
    )
    assert "is an exported file itself" in refusal("adopt", exported, "--original", exported, *rest)
    for channels, outputs, problem in (
        (3, 4, "has 4 outputs, and "),
        (1, 3, "has 1 channels, and "),
    ):
        other = tmp_path / "other.keras"
        network(channels, outputs).save(other)
        assert problem in refusal("adopt", exported, "--original", other, *rest)
    assert not (tmp_path / "out").exists()


def network(channels: int, outputs: int) -> Any:
    """Return a Keras network of the size that the exported file takes."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((224, 224, channels)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(outputs, activation="softmax"),
        ]
    )
