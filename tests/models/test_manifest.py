"""Manifests: what is believed, what is refused, and what is written."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundles import BOTH, NO_POINTS, NO_TEMPERATURES, bundle_of
from medkit.errors import ModelFileError
from medkit.models.bundle import load_bundle
from medkit.models.manifest import ExportEntry, FileRecord, read_manifest, write_manifest
from medkit.tasks import PNEUMONIA, Task, trained_folder


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"labels": ["NORMAL"]}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (bundle_of(tmp_path) / "manifest.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"manifest\.json cannot be read as a manifest"):
        load_bundle(PNEUMONIA, tmp_path)


@pytest.mark.parametrize("key", ["labels", "contract", "temperature", "operating_points", "files"])
def test_a_manifest_without_a_needed_part_is_refused(tmp_path: Path, key: str) -> None:
    path = bundle_of(tmp_path) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[key]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelFileError, match=rf"cannot be read as a manifest .*'{key}'"):
        load_bundle(PNEUMONIA, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", None),
        ("contract", None),
        ("contract", [1]),
        ("temperature", None),
        ("operating_points", None),
        ("files", 5),
        ("files", {"model.keras": 7}),
        ("files", {"model.keras": {"sha256": "none"}}),
        ("files", {"model.keras": {"bytes": 1, "sha256": "00ff"}}),
        ("exports", [1]),
        ("exports", {"model-int8.tflite": 7}),
        ("exports", {"model-int8.tflite": {"sha256": 7}}),
        *(("temperature", value) for value in NO_TEMPERATURES),
        *(("operating_points", value) for value in NO_POINTS),
    ],
)
def test_a_manifest_that_cannot_be_obeyed_is_refused_in_one_line(
    tmp_path: Path, key: str, value: Any
) -> None:
    bundle_of(tmp_path, **{key: value})
    with pytest.raises(ModelFileError, match=r"cannot be read as a manifest") as caught:
        load_bundle(PNEUMONIA, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_manifest_is_readable_json(tmp_path: Path) -> None:
    manifest = replace(load_bundle(PNEUMONIA, bundle_of(tmp_path).parent).manifest, task="Röntgen")
    folder = tmp_path / "new"
    write_manifest(folder, manifest)
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    assert "Röntgen" in text
    assert text.endswith("}\n")
    assert read_manifest(folder / "manifest.json") == manifest
    assert os.listdir(folder) == ["manifest.json"]


@BOTH
@pytest.mark.parametrize("name", ["manifest.json", "seed.json"])
def test_nothing_is_lost_of_a_shipped_manifest_that_is_read_and_written(
    tmp_path: Path, task: Task, name: str
) -> None:
    path = trained_folder() / task.name / name
    manifest = read_manifest(path)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path / "manifest.json") == manifest
    before = json.loads(path.read_text(encoding="utf-8"))
    after = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    recipes = before.pop("recipe"), after.pop("recipe")  # a recipe's form may change
    assert recipes[0]["name"] == recipes[1]["name"]
    before["data"].setdefault("audit", {})
    assert after == before
    if name == "manifest.json":
        assert list(after) == list(before)


ENTRY = {"bytes": 3, "sha256": "0f" * 32, "precision": "fp16"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"temperature": "warm"}, "temperature is 'warm', not a number"),
        ({"files": {"model.keras": {"bytes": 1}}}, "files.model.keras has no field 'sha256'"),
        ({"exports": {"a": {"bytes": "1"}}}, "exports.a.bytes is '1', not a whole number"),
        (
            {"exports": {"a": {**ENTRY, "graph_temperature": 0}}},
            "exports.a: temperature 0.0 is no positive number",
        ),
        ({"seed": True}, "seed is True, not a whole number"),
        ({"metrics": {"test": {"balanced": 3}}}, "metrics.test.balanced is 3, not an object"),
    ],
)
def test_what_is_wrong_with_a_field_is_said_in_one_line(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    path = bundle_of(tmp_path, **changes) / "manifest.json"
    with pytest.raises(ModelFileError) as caught:
        read_manifest(path)
    assert str(caught.value) == f"{path} cannot be read as a manifest ({problem}); restore it"


def test_an_export_takes_the_place_of_others(tmp_path: Path) -> None:
    manifest = load_bundle(PNEUMONIA, bundle_of(tmp_path).parent).manifest
    entry = ExportEntry(3, "0f" * 32, "fp16")
    changed = manifest.with_export("model-fp16.onnx", entry, instead_of=("model-int8.onnx",))
    assert list(changed.exports) == ["model-int8.tflite", "model-fp16.onnx"]
    assert changed.listed["model-fp16.onnx"] == FileRecord(3, "0f" * 32)
    assert "model-int8.onnx" in manifest.exports
