"""What a benchmark measures and tells; no figure of time is asserted."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medkit import load_model
from medkit.benchmark import run as module
from medkit.benchmark.options import BenchmarkOptions
from medkit.benchmark.peers import PEERS, Peer
from medkit.benchmark.process import Timed
from medkit.benchmark.result import Benchmark, PeerResult, Result
from medkit.benchmark.run import run_benchmark
from medkit.errors import MedkitError, NoImagesError, UsageError

RESULT = Result("model-int8.tflite", "LiteRT", 500.0, 0.4, 5.0, 200_000_000)


FOUND = Benchmark(
    "skin",
    2000,
    2,
    1000.0,
    (RESULT,),
    (PeerResult("Keras", 45.0, None),),
    ("timm: timm is not there",),
    {"processor": "A Chip"},
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_INFERENCE_SECONDS", 0.02)


def test_a_rate_is_of_one_batch_at_least(
    monkeypatch: pytest.MonkeyPatch, tiny_exported: Path
) -> None:
    monkeypatch.setattr(module, "_INFERENCE_SECONDS", 0.0)
    model = load_model(tiny_exported / "pneumonia" / "model-int8.tflite")
    tensors = np.zeros((1, *model.card.contract.shape), np.uint8)
    assert module._inference_rate([model], tensors, 1) > 0


def test_every_export_that_passed_is_measured_on_every_runtime(
    tiny_exported: Path, images: Path, quick: None
) -> None:
    notes: list[str] = []
    options = BenchmarkOptions(images, repeats=1, threads=2, batch_size=2, trained=tiny_exported)
    found = run_benchmark(options, notes.append)
    assert (found.task, found.images, found.cores) == ("pneumonia", 4, 2)
    measured = {(result.file, result.runtime) for result in found.results}
    assert ("model-int8.tflite", "LiteRT") in measured
    assert ("model-int8.onnx", "ONNX Runtime") in measured
    for result in found.results:
        assert result.inference_rate > 0
        assert result.start_seconds > 0
        assert result.seconds > 0
        if sys.platform != "win32":
            assert 10**7 < (result.peak_bytes or 0) < 10**10
    assert found.decode_rate > 0
    assert any("round 1 of 1" in note for note in notes)


def test_other_tools_run_if_they_are_there_and_are_named_if_not(
    tiny_exported: Path, images: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "torn.jpg").unlink()
    litert = "LiteRT, one image at a time"
    absent = Peer(lambda *_: 0, ("no_such_package",), "model.keras")
    monkeypatch.setattr(module, "PEERS", {litert: PEERS[litert], "Other": absent})
    options = BenchmarkOptions(images, repeats=1, peers=True, trained=tiny_exported)
    found = run_benchmark(options)
    assert [peer.name for peer in found.peers] == [litert]
    assert found.absent == ("Other: no_such_package is not there",)


def test_other_tools_run_for_a_task_that_is_not_built_in(
    own_models: Path, images: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "torn.jpg").unlink()
    litert = "LiteRT, one image at a time"
    peer = replace(PEERS[litert], file="model-fp32.tflite")
    monkeypatch.setattr(module, "PEERS", {litert: peer, "timm": PEERS["timm"]})
    asked = BenchmarkOptions(images, "hues", repeats=1, peers=True, trained=own_models)
    found = run_benchmark(asked)
    assert [peer.name for peer in found.peers] == [litert]
    assert found.absent == ()  # timm has no network for it


def test_files_that_no_data_were_compared_on_are_measured_and_that_is_told(
    own_models: Path, images: Path, quick: None
) -> None:
    notes: list[str] = []
    asked = BenchmarkOptions(images, "brightness", repeats=1, trained=own_models)
    found = run_benchmark(asked, notes.append)
    assert {result.file for result in found.results} == {"model-fp32.tflite", "model-fp32.onnx"}
    assert "no export has passed parity on data, so every one is measured" in notes


@pytest.mark.parametrize("task", ["auto", "pneumonia"])
def test_models_that_are_not_there_are_told_before_images_are_made(
    own_models: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setattr(module, "_folder", None)
    with pytest.raises(MedkitError, match="name the task with --task|no trained pneumonia model"):
        run_benchmark(BenchmarkOptions(task=task, trained=own_models))


def test_a_tool_that_fails_is_told_and_does_not_end_the_benchmark(
    tiny_exported: Path, images: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    litert = "LiteRT, one image at a time"  # which the torn image makes fail
    monkeypatch.setattr(module, "PEERS", {litert: PEERS[litert]})
    found = run_benchmark(BenchmarkOptions(images, repeats=1, peers=True, trained=tiny_exported))
    assert found.peers == ()
    assert "failed" in found.absent[0]


def test_without_a_folder_images_are_made_and_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MADE_IMAGES", 2)
    kept: list[Path] = []

    def measure(options: Any, folder: Path, found: Any, *others: Any) -> Benchmark:
        kept.extend(item.path for item in found)
        with Image.open(kept[0]) as image:
            assert image.size == (600, 450)
        return FOUND

    monkeypatch.setattr(module, "_measure", measure)
    assert run_benchmark(BenchmarkOptions()) is FOUND
    assert len(kept) == 2
    assert not any(path.exists() for path in kept)


def test_a_tool_that_passes_images_over_is_told_and_not_compared(
    tiny_exported: Path, images: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_process", lambda command: Timed(1.0, None, "2"))
    (images / "torn.jpg").unlink()
    litert = "LiteRT, one image at a time"
    monkeypatch.setattr(module, "PEERS", {litert: PEERS[litert]})
    found = run_benchmark(BenchmarkOptions(images, repeats=1, peers=True, trained=tiny_exported))
    assert found.peers == ()
    assert found.absent == (f"{litert}: {litert} classified 2 of 3",)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": "brain"}, "unknown task 'brain'; accepted: auto, pneumonia, skin"),
        ({"repeats": 0}, "0 repeats are too few"),
        ({"threads": 300}, "300 threads; accepted: 1 to 256"),
        ({"batch_size": 0}, "batch size 0; accepted: 1 to 1024"),
    ],
)
def test_options_that_cannot_be_obeyed_are_refused_first(
    images: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run_benchmark(BenchmarkOptions(images, **wrong))


def test_a_folder_without_an_image_that_can_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoImagesError):
        run_benchmark(BenchmarkOptions(tmp_path))
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="none of the images can be decoded"):
        run_benchmark(BenchmarkOptions(tmp_path))
