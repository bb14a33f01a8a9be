"""Model cards and bundles: what is believed, and what is refused."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medkit.bundles import (
    ModelCard,
    export_name,
    file_record,
    load_bundle,
    replacing,
    sha256_of,
    trained_folder,
    write_manifest,
)
from medkit.decisions import BALANCED, HIGH_SENSITIVITY, OperatingPoint, OperatingPoints
from medkit.errors import ContractMismatchError, ModelFileError, UsageError
from medkit.images import InputContract, contract_for
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task

WHERE = Path("model.tflite")
BOTH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def points(task: Task = PNEUMONIA) -> OperatingPoints:
    """Return operating points as training chooses them."""
    balanced = (task.alert, 0.4375) if task.binary else ()
    return {
        BALANCED: OperatingPoint(BALANCED, *balanced),
        HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, task.alert, 0.125),
    }


def stored(task: Task = PNEUMONIA, **changes: Any) -> dict[str, Any]:
    """Return the same operating points as JSON holds them, ``balanced`` with other values."""
    found = {name: point.to_dict() for name, point in points(task).items()}
    return {**found, BALANCED: {**found[BALANCED], **changes}}


def card(task: Task = PNEUMONIA) -> ModelCard:
    contract = contract_for(task).to_dict()
    return ModelCard(task.name, task.labels, contract, 1.25, points(task), "int8", "0.1.0", "ab12")


def edited(**changes: Any) -> str:
    """Return the JSON of a card with other values; ``None`` takes a key away."""
    values = {**json.loads(card().to_json()), **changes}
    return json.dumps({key: value for key, value in values.items() if value is not None})


def bundle_of(trained: Path, task: Task = PNEUMONIA, **changes: Any) -> Path:
    """Write a bundle whose files are no models; return its folder."""
    folder = trained / task.name
    folder.mkdir(parents=True)
    for name in ("model.keras", "model-int8.tflite", "model-int8.onnx"):
        (folder / name).write_bytes(f"bytes of {name}".encode())
    manifest = {
        "labels": list(task.labels),
        "contract": contract_for(task).to_dict(),
        "temperature": 1.25,
        "operating_points": stored(task),
        "files": {"model.keras": file_record(folder / "model.keras")},
        "exports": {
            name: file_record(folder / name) for name in ("model-int8.tflite", "model-int8.onnx")
        },
    }
    write_manifest(folder, {**manifest, **changes})
    return folder


# Values that JSON can hold and no model can obey.
NO_TEMPERATURES = [0, -1, "warm", [1], math.inf, math.nan]
NO_POINTS = [
    {},
    [],
    "balanced",
    {BALANCED: None},
    {BALANCED: {"label": None}},
    {HIGH_SENSITIVITY: {"label": "PNEUMONIA", "threshold": 0.5}},
    stored(label=None),
    stored(threshold=None),
    stored(label="melanoma"),
    stored(threshold=1.001),
    stored(threshold=-0.001),
    stored(threshold=math.nan),
    stored(threshold="half"),
]


# Cards


@BOTH
def test_a_card_survives_json(task: Task) -> None:
    assert ModelCard.from_json(card(task).to_json(), WHERE) == card(task)
    assert ModelCard.from_json(card(task).to_json().encode(), WHERE) == card(task)


@BOTH
def test_a_card_knows_its_contract(task: Task) -> None:
    read = ModelCard.from_json(card(task).to_json(), WHERE)
    assert read.input_contract == contract_for(task)


def test_the_same_card_gives_the_same_json() -> None:
    assert card().to_json() == replace(card()).to_json()
    assert "\n" not in card().to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"card"',
        b"\xff\xfe",
        "{}",
        card().to_json()[:-9],
        "[" * 100_000,
        edited(labels=None),
        edited(labels=7),
        edited(task=None),
        edited(task="brain"),
        edited(task=["pneumonia"]),
        edited(contract=None),
        edited(contract="none"),
        edited(contract=[1]),
        edited(version=None),
        edited(colour="red"),
        edited(temperature=None),
        edited(operating_points=None),
        *(edited(temperature=value) for value in NO_TEMPERATURES),
        *(edited(operating_points=value) for value in NO_POINTS),
    ],
)
def test_a_damaged_card_is_refused_in_one_line(text: str | bytes) -> None:
    with pytest.raises(ModelFileError, match=r"^model\.tflite: its medkit card .*") as caught:
        ModelCard.from_json(text, WHERE)
    assert "cannot be read" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_foreign_labels_are_refused_and_both_sides_are_named() -> None:
    for labels in (["healthy", "sick"], list(reversed(PNEUMONIA.labels)), list(SKIN.labels), []):
        with pytest.raises(ModelFileError) as caught:
            ModelCard.from_json(edited(labels=labels), WHERE)
        assert f"its labels {labels} are not those of task pneumonia" in str(caught.value)
        assert str(list(PNEUMONIA.labels)) in str(caught.value)


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (replace(contract_for(PNEUMONIA), width=224).to_dict(), "width 224 instead of 128"),
        (contract_for(SKIN).to_dict(), "channels 3 instead of 1"),
        ({**contract_for(PNEUMONIA).to_dict(), "hash": "0"}, "hash '0' instead of"),
        ({}, "width None instead of 128"),
    ],
)
def test_a_foreign_contract_is_refused(contract: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractMismatchError, match=rf"^model\.tflite was made for .*{message}"):
        ModelCard.from_json(edited(contract=contract), WHERE)


# Bundles


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
        exports[path.name] = file_record(path)
    exports["model-int8.onnx"] = file_record(folder / "model-int8.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, {**manifest, "exports": exports})
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
    bundle_of(tmp_path, contract=InputContract(channels=1, orientation="as-stored").to_dict())
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


# Writing


def test_a_record_is_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_record(tmp_path / "a") == {
        "bytes": 3,
        "sha256": hashlib.sha256(b"abc").hexdigest(),
    }


def test_a_file_that_is_not_there_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="gone cannot be read: No such file"):
        sha256_of(tmp_path / "gone")


def test_a_replaced_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model.onnx"
    with replacing(target) as temporary:
        assert (temporary.parent, temporary.suffix) == (target.parent, ".onnx")
        assert temporary.name.startswith(".")
        temporary.write_text("first")
        assert not target.exists()
    with replacing(target) as temporary:
        temporary.write_text("second")
        assert target.read_text() == "first"
    assert target.read_text() == "second"
    assert os.listdir(target.parent) == ["model.onnx"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_old_file_stays_when_the_block_raises(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def write() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_block_that_raises_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), replacing(tmp_path / "a.json"):
        raise ValueError("stop")
    assert os.listdir(tmp_path) == []


def test_a_replaced_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a.json"):
            pass
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_a_manifest_is_readable_json(tmp_path: Path) -> None:
    write_manifest(tmp_path, {"title": "Röntgen", "files": {}})
    text = (tmp_path / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"title": "Röntgen", "files": {}}
    assert "Röntgen" in text
    assert text.endswith("}\n")
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_a_card_of_the_first_version_is_read_with_its_threshold() -> None:
    values = json.loads(edited(temperature=None, operating_points=None))
    for threshold, label in ((0.25, "PNEUMONIA"), (None, None)):
        old = ModelCard.from_json(json.dumps({**values, "threshold": threshold}), WHERE)
        assert old.temperature == 1
        assert old.operating_points == {BALANCED: OperatingPoint(BALANCED, label, threshold)}
        assert old.source_sha256 == "ab12"


@pytest.mark.parametrize("threshold", ["high", 1.5, []])
def test_a_threshold_of_the_first_version_that_cannot_be_obeyed_is_refused(threshold: Any) -> None:
    values = json.loads(edited(temperature=None, operating_points=None))
    with pytest.raises(ModelFileError, match="its medkit card cannot be read"):
        ModelCard.from_json(json.dumps({**values, "threshold": threshold}), WHERE)
