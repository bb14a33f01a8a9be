"""Bundles: what is believed, and what is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundles import BOTH, bundle_of, points
from medkit.errors import ContractMismatchError, ModelFileError, UsageError
from medkit.images.contract import RULES
from medkit.models.bundle import file_record, load_bundle, task_beside
from medkit.models.formats import export_name
from medkit.models.manifest import ExportEntry, FileRecord, read_manifest, write_manifest
from medkit.tasks import PNEUMONIA, SKIN, Task, trained_folder, write_task
from owntasks import OWN

HUES, _ = OWN


@BOTH
def test_a_bundle_gives_its_task_files_and_ways_to_decide(tmp_path: Path, task: Task) -> None:
    folder = bundle_of(tmp_path, task)
    for asked in (task, task.name):
        bundle = load_bundle(asked, tmp_path)
        assert (bundle.folder, bundle.task) == (folder, task)
        assert bundle.keras_path == folder / "model.keras"
        assert bundle.temperature == 1.25
        assert bundle.operating_points == points(task)
        assert bundle.export_path() == folder / "model-int8.tflite"
        assert bundle.export_path("onnx") == folder / "model-int8.onnx"


def test_an_export_that_is_not_there_is_answered_with_the_command_that_makes_it(
    tmp_path: Path,
) -> None:
    bundle_of(tmp_path)
    with pytest.raises(
        ModelFileError,
        match=r"medkit export pneumonia --fp16 --format onnx --trained .* --data DIR$",
    ):
        load_bundle(PNEUMONIA, tmp_path).export_path("onnx", "fp16")


@pytest.mark.parametrize("precision", ["int16", "mixed"])
def test_what_int8_falls_back_on_is_made_by_asking_for_int8(tmp_path: Path, precision: str) -> None:
    bundle_of(tmp_path)
    with pytest.raises(ModelFileError, match="medkit export pneumonia --int8 --format tflite"):
        load_bundle(PNEUMONIA, tmp_path).export_path("tflite", precision)


@pytest.mark.parametrize(
    ("listed", "smallest"),
    [
        (["fp32", "mixed", "int8"], "int8"),
        (["fp32", "fp16", "int16", "mixed"], "mixed"),
        (["fp32", "fp16", "int16"], "int16"),
        (["fp32", "fp16"], "fp16"),
    ],
)
def test_the_smallest_export_of_a_format_is_found(
    tmp_path: Path, listed: list[str], smallest: str
) -> None:
    exports = {}
    folder = bundle_of(tmp_path)
    for precision in listed:
        path = folder / export_name("tflite", precision)
        path.write_bytes(b"bytes")
        exports[path.name] = ExportEntry(**vars(file_record(path)), precision=precision)
    record = file_record(folder / "model-int8.onnx")
    exports["model-int8.onnx"] = ExportEntry(**vars(record), precision="int8")
    manifest = read_manifest(folder / "manifest.json")
    write_manifest(folder, replace(manifest, exports=exports))
    bundle = load_bundle(PNEUMONIA, tmp_path)
    assert bundle.smallest_export() == folder / f"model-{smallest}.tflite"
    assert bundle.smallest_export("onnx") == folder / "model-int8.onnx"


def test_without_any_export_the_int8_one_is_told_to_be_made(tmp_path: Path) -> None:
    folder = bundle_of(tmp_path, exports={})
    (folder / "model-int8.tflite").unlink()
    with pytest.raises(ModelFileError, match="medkit export pneumonia --int8 --format tflite"):
        load_bundle(PNEUMONIA, tmp_path).smallest_export()


@pytest.mark.parametrize("position", [0, 5, -1])
def test_a_changed_byte_is_refused(tmp_path: Path, position: int) -> None:
    folder = bundle_of(tmp_path)
    for name in ("model.keras", "model-int8.tflite"):
        content = bytearray((folder / name).read_bytes())
        content[position] ^= 1
        (folder / name).write_bytes(content)
    bundle = load_bundle(PNEUMONIA, tmp_path)
    with pytest.raises(ModelFileError, match="model.keras is damaged or was replaced"):
        bundle.verify(bundle.keras_path)
    with pytest.raises(ModelFileError, match="model-int8.tflite is damaged or was replaced"):
        bundle.export_path("tflite", "int8")


def test_an_unchanged_file_passes(tmp_path: Path) -> None:
    folder = bundle_of(tmp_path)
    for name in ("model.keras", "model-int8.tflite", "model-int8.onnx"):
        load_bundle(PNEUMONIA, tmp_path).verify(folder / name)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    folder = bundle_of(tmp_path)
    (folder / "model.keras").unlink()
    with pytest.raises(ModelFileError, match=r"model\.keras is missing, though manifest\.json"):
        load_bundle(PNEUMONIA, tmp_path).verify(folder / "model.keras")


def test_a_file_that_the_manifest_does_not_list_is_refused(tmp_path: Path) -> None:
    folder = bundle_of(tmp_path)
    (folder / "model-fp16.tflite").write_bytes(b"bytes")
    with pytest.raises(ModelFileError, match=r"model-fp16\.tflite is not listed in .*manifest"):
        load_bundle(PNEUMONIA, tmp_path).export_path("tflite", "fp16")


def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundle_of(tmp_path)
    bundle = load_bundle(PNEUMONIA, tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "name")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelFileError, match=r"model\.keras cannot be read: Permission denied$"):
        bundle.verify(folder / "model.keras")


def test_without_a_bundle_the_command_that_trains_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFileError, match=r"no trained skin model in .*skin; .*medkit train skin$"
    ):
        load_bundle(SKIN, tmp_path)


def test_an_unknown_task_has_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown task 'brain'; accepted: pneumonia, skin"):
        load_bundle("brain", tmp_path)


def test_a_folder_in_place_of_the_manifest_is_refused(tmp_path: Path) -> None:
    (bundle_of(tmp_path) / "manifest.json").unlink()
    (tmp_path / "pneumonia/manifest.json").mkdir()
    with pytest.raises(ModelFileError, match=r"manifest\.json cannot be read as a manifest"):
        load_bundle(PNEUMONIA, tmp_path)


def test_a_bundle_of_other_labels_is_refused(tmp_path: Path) -> None:
    bundle_of(tmp_path, labels=["PNEUMONIA", "NORMAL"])
    with pytest.raises(ModelFileError, match=r"labels \['PNEUMONIA', 'NORMAL'\] are not those"):
        load_bundle(PNEUMONIA, tmp_path)


def test_a_bundle_for_other_preprocessing_is_refused(tmp_path: Path) -> None:
    bundle_of(tmp_path, contract=replace(PNEUMONIA.contract, orientation="as-stored").to_dict())
    with pytest.raises(ContractMismatchError, match="orientation 'as-stored' instead of 'exif'"):
        load_bundle(PNEUMONIA, tmp_path)


def test_the_environment_names_another_folder_of_bundles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundle_of(tmp_path / "theirs")
    bundle_of(tmp_path / "given")
    monkeypatch.setenv("MEDKIT_TRAINED", str(tmp_path / "theirs"))
    assert trained_folder() == tmp_path / "theirs"
    assert load_bundle(PNEUMONIA).folder == folder
    assert load_bundle(PNEUMONIA, tmp_path / "given").folder == tmp_path / "given/pneumonia"


def test_a_bundle_of_ones_own_is_opened_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = bundle_of(tmp_path / "medkit/models", HUES)
    write_task(folder, HUES)
    assert load_bundle("hues").folder == load_bundle(HUES).folder == folder
    assert task_beside(folder / "model-int8.tflite", "hues") == HUES
    assert task_beside(tmp_path / "model-int8.tflite", "hues") == HUES


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"width": 100}, "width 100, and its models were made for 96"),
        ({"channels": 1}, "channels 1, and its models were made for 3"),
        ({"colour": RULES["colour"][1]}, "colour '.*', and its models were made for '"),
    ],
)
def test_a_description_of_other_pixels_than_the_models_take_is_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    folder = bundle_of(tmp_path, HUES)
    write_task(folder, replace(HUES, contract=replace(HUES.contract, **changes)))
    with pytest.raises(ModelFileError, match=f"hues: its task has {problem}"):
        load_bundle("hues", tmp_path)


def test_a_description_of_several_labels_is_refused_for_models_of_one(tmp_path: Path) -> None:
    folder = bundle_of(tmp_path, HUES)
    write_task(folder, replace(HUES, multi_label=True, positive=None))
    with pytest.raises(ModelFileError, match="is multi-label, and its models are one label an im"):
        load_bundle("hues", tmp_path)


def test_a_rule_that_a_description_leaves_out_is_that_of_the_models(tmp_path: Path) -> None:
    older = replace(HUES.contract, colour=RULES["colour"][1])
    write_task(bundle_of(tmp_path, HUES, contract=older.to_dict()), HUES)
    assert load_bundle("hues", tmp_path).contract == older


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_name_the_models_that_ship_are_used(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("MEDKIT_TRAINED", raising=False)
    if value is not None:
        monkeypatch.setenv("MEDKIT_TRAINED", value)
    assert trained_folder().name == "trained"
    assert trained_folder().is_absolute()


def test_export_names() -> None:
    assert export_name("tflite", "int8") == "model-int8.tflite"
    assert export_name("onnx", "fp16") == "model-fp16.onnx"


def test_a_record_is_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_record(tmp_path / "a") == FileRecord(3, hashlib.sha256(b"abc").hexdigest())
