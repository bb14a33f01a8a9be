"""What medkit says of a model file, its own or another's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medkit.cli.app import app
from medkit.errors import ModelFileError
from medkit.models.bundle import load_bundle
from medkit.models.inspection import inspect_file, write_inspection
from medkit.models.operators.summary import summarise_operators

onnx = pytest.importorskip("onnx")

FILES = pytest.mark.parametrize("name", ["model-int8.tflite", "model-int8.onnx", "model.keras"])


@FILES
def test_a_file_of_medkit_shows_its_card_and_hash(tiny_exported: Path, name: str) -> None:
    path = tiny_exported / "pneumonia" / name
    found = inspect_file(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.bytes == path.stat().st_size
    assert found.card is not None
    assert not found.problem
    manifest = load_bundle("pneumonia", tiny_exported).manifest
    told = manifest.exports.get(name, manifest)  # an int8 file has points of its own
    assert found.card.labels == ("NORMAL", "PNEUMONIA")
    assert found.card.operating_points == told.operating_points
    assert found.summary == summarise_operators(path)


def test_a_file_of_others_is_taken_apart_all_the_same(tiny_exported: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_exported / "pneumonia/model-int8.onnx")
    del model.metadata_props[:]
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    found = inspect_file(path)
    assert found.card is None
    assert str(path) in found.problem
    assert found.summary.integer_share == 1


def test_everything_is_written_as_json(tiny_exported: Path, tmp_path: Path) -> None:
    found = inspect_file(tiny_exported / "pneumonia/model-int8.tflite")
    write_inspection(found, tmp_path / "found.json")
    stored = json.loads((tmp_path / "found.json").read_text())
    assert stored["sha256"] == found.sha256
    assert stored["card"]["labels"] == ["NORMAL", "PNEUMONIA"]
    assert stored["census"]["integer_share"] == 1
    assert len(stored["census"]["operators"]) == len(found.summary.operators)


def test_the_command_tells_people_what_computes_in_what(tiny_exported: Path) -> None:
    path = tiny_exported / "pneumonia/model-int8.tflite"
    told = CliRunner().invoke(app, ["inspect", str(path)], catch_exceptions=False)
    assert told.exit_code == 0
    for part in (
        str(path),
        inspect_file(path).sha256,
        "NORMAL, PNEUMONIA",
        "CONV_2D",
        "100.0% in integers",
        "in floating point: LOGISTIC",
    ):
        assert part in told.stdout


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.tflite"):
        inspect_file(tmp_path / "gone.tflite")
