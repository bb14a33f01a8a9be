"""The fastest way to run a task: among what passed parity, measured once, remembered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medkit.errors import ModelFileError, UsageError
from medkit.models import fastest as module
from medkit.models.fastest import ModelChoice, fastest_choice, passed_choices, processor_name
from medkit.models.manifest import ComparisonRecord, ExportEntry, RungRecord
from medkit.models.runtimes import registry
from medkit.tasks import PNEUMONIA

COMPARED = ComparisonRecord(9, 1.0, {})


def rung(passed: bool, validation: ComparisonRecord | None) -> list[RungRecord]:
    return [RungRecord("8 bits", "int8", "", 0, 1, passed, (), validation)]


PASSED, FAILED, NOT_COMPARED = rung(True, COMPARED), rung(False, COMPARED), rung(True, None)


class Bundle:
    """A bundle whose exports are told by their ladders."""

    task = PNEUMONIA
    folder = Path("pneumonia")

    def __init__(self, **ladders: Any) -> None:
        suffixes = {"tflite": ".tflite", "onnx": ".onnx"}
        self.verified: list[str] = []
        exports = {}
        for name, ladder in ladders.items():
            precision, kind = name.split("_")
            exports[f"model-{precision}{suffixes[kind]}"] = ExportEntry(
                0, name.encode().hex().zfill(64), precision, ladder=tuple(ladder)
            )
        self.manifest = SimpleNamespace(exports=exports)

    def verify(self, path: Path) -> None:
        self.verified.append(path.name)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Install three runtimes, of which ONNX Runtime is fastest; return where answers are kept."""
    delays = {"litert": 0.004, "onnx": 0.0, "openvino": 0.008}
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock.now)

    def load(path: Path, threads: int | None, runtime: str) -> Any:
        def predict(images: Any) -> Any:
            clock.now += 0.001 + delays[runtime]
            return np.zeros((len(images), 2))

        contract = SimpleNamespace(shape=(8, 8, 1))
        return SimpleNamespace(card=SimpleNamespace(contract=contract), predict=predict)

    monkeypatch.setattr(module, "load_model", load)
    monkeypatch.setattr(registry, "is_installed", lambda module: module != "tensorflow")
    monkeypatch.setattr(module, "_cache_file", lambda: tmp_path / "medkit" / "fastest.json")
    return tmp_path / "medkit" / "fastest.json"


def test_only_what_passed_parity_on_data_takes_part(store: Path) -> None:
    bundle: Any = Bundle(int8_tflite=PASSED, fp16_tflite=FAILED, int8_onnx=NOT_COMPARED)
    assert list(passed_choices(bundle)) == [
        ModelChoice(Path("pneumonia/model-int8.tflite"), "litert")
    ]
    with pytest.raises(UsageError, match="no export in pneumonia has passed parity"):
        fastest_choice(Bundle(int8_onnx=FAILED), 16, 1)  # type: ignore[arg-type]


def test_the_fastest_is_measured_once_and_remembered(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle: Any = Bundle(int8_tflite=PASSED, int8_onnx=PASSED)
    best = ModelChoice(Path("pneumonia/model-int8.onnx"), "onnx")
    assert fastest_choice(bundle, 16, 1) == best
    (key,) = json.loads(store.read_text())
    assert key.startswith(processor_name())
    monkeypatch.setattr(module, "load_model", None)
    bundle.verified.clear()
    assert fastest_choice(bundle, 16, 1) == best
    assert bundle.verified == ["model-int8.onnx"]


@pytest.mark.parametrize("change", ["file", "processor", "threads", "batch"])
def test_it_is_measured_anew_when_what_it_depends_on_changes(
    store: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    bundle: Any = Bundle(int8_tflite=PASSED, int8_onnx=PASSED)
    fastest_choice(bundle, 16, 1)
    if change == "file":
        exports = bundle.manifest.exports
        exports["model-int8.onnx"] = replace(exports["model-int8.onnx"], sha256="00" * 32)
    if change == "processor":
        monkeypatch.setattr(module, "processor_name", lambda: "Another Chip")
    fastest_choice(bundle, 8 if change == "batch" else 16, 2 if change == "threads" else 1)
    assert len(json.loads(store.read_text())) == 2


@pytest.mark.parametrize("content", ["", "[]", "{ torn"])
def test_a_damaged_memory_is_made_anew(store: Path, content: str) -> None:
    store.parent.mkdir()
    store.write_text(content)
    fastest_choice(Bundle(int8_tflite=PASSED, int8_onnx=PASSED), 16, 1)  # type: ignore[arg-type]
    assert len(json.loads(store.read_text())) == 1


def test_a_cache_that_cannot_be_written_is_done_without(store: Path) -> None:
    store.parent.write_text("a file where the folder would be")
    bundle: Any = Bundle(int8_tflite=PASSED, int8_onnx=PASSED)
    assert fastest_choice(bundle, 16, 1).runtime == "onnx"


def test_a_runtime_that_refuses_a_file_is_passed_over(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = module.load_model

    def picky(path: Path, threads: int | None, runtime: str) -> Any:
        if runtime == "onnx":
            raise ModelFileError("not here")
        return load(path, threads, runtime)

    monkeypatch.setattr(module, "load_model", picky)
    bundle: Any = Bundle(int8_tflite=PASSED, int8_onnx=PASSED)
    assert fastest_choice(bundle, 16, 1).runtime == "litert"


def test_measuring_ends_in_time_whatever_the_number_of_ways(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded = module.load_model, []

    def slow(path: Path, threads: int | None, runtime: str) -> Any:
        loaded.append(runtime)
        model = load(path, threads, runtime)
        for _ in range(400):  # as long as it takes to compile a network
            model.predict(np.zeros((1, 8, 8, 1)))
        return model

    monkeypatch.setattr(module, "load_model", slow)
    bundle: Any = Bundle(int8_tflite=PASSED, fp16_tflite=PASSED, int8_onnx=PASSED, fp16_onnx=PASSED)
    fastest_choice(bundle, 16, 1)
    assert loaded == ["litert"]
