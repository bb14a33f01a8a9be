"""Formats of model files: names, suffixes, and the card in a file of each."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medkit.errors import MissingExtraError, UsageError
from medkit.models.bundle import load_bundle
from medkit.models.card import ModelCard
from medkit.models.formats import (
    KERAS,
    export_formats,
    export_name,
    format_of,
    load,
    register_format,
    suffixes,
)
from medkit.tasks import SKIN


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.tflite", "tflite"),
        ("a.b/model.v2.ONNX", "onnx"),
        ("Model.Keras", "keras"),
    ],
)
def test_the_suffix_tells_the_format_in_any_case(name: str, expected: str) -> None:
    assert format_of(Path(name)).name == expected


@pytest.mark.parametrize("name", ["model", "model.pb", "model.tflite.gz", ".onnx"])
def test_a_file_of_no_format_is_refused_with_the_suffixes_accepted(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        format_of(Path(name))
    assert str(caught.value) == f"{name} is no model file; accepted: .tflite, .onnx, .keras, .h5"


def test_exports_are_named_by_precision_and_format_and_originals_are_none() -> None:
    assert list(export_formats()) == ["tflite", "onnx"]
    assert export_name("tflite", "int8") == "model-int8.tflite"
    assert export_name("onnx", "fp16") == "model-fp16.onnx"
    assert not KERAS.exported


@pytest.mark.parametrize("name", ["model-fp32.tflite", "model-fp32.onnx", "model.keras"])
def test_each_format_reads_the_card_and_lists_the_operators_of_its_files(
    pooled_models: Path, name: str
) -> None:
    path = pooled_models / "skin" / name
    found = format_of(path)
    card = ModelCard.from_json(found.read_card(path), path)
    assert (card.task, card.labels, card.temperature) == (SKIN.name, SKIN.labels, 1.5)
    assert card.operating_points == load_bundle(SKIN, pooled_models).operating_points
    assert any(operator.work for operator in load(found.operators)(path).operators)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("model.onnx", "onnx", "inspect"), ("model.keras", "h5py", "inspect")],
)
def test_a_package_that_a_format_needs_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    found = format_of(Path(name))
    with pytest.raises(MissingExtraError, match=rf"look into {found.suffix} files.*\[{extra}\]"):
        found.require()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suffix": ".pb"}, "there is a model format 'keras' already"),
        ({"name": "pb"}, r"\.keras files belong to the model format 'keras'"),
    ],
)
def test_a_format_whose_name_or_suffix_is_taken_is_refused_and_replaces_nothing(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        register_format(replace(KERAS, **changes))
    assert suffixes() == (".tflite", ".onnx", ".keras", ".h5")
    assert format_of(Path("model.keras")) is KERAS
