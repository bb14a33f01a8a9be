"""What a benchmark measures and tells; no figure of time is asserted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medkit import benchmark as module
from medkit.benchmark import (
    Benchmark,
    BenchmarkOptions,
    PeerResult,
    Result,
    run_benchmark,
    write_benchmark,
    write_chart,
)
from medkit.errors import MedkitError, NoImagesError, UsageError
from medkit.peers import PEERS, Peer

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
def images(tmp_path: Path) -> Path:
    """Three grey images, and a file that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        pixels = np.full((40, 50), 60 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_INFERENCE_SECONDS", 0.02)


# What follows from the measurements


def test_the_packed_limit_is_decoding_and_inference_without_a_gap() -> None:
    assert FOUND.packed_seconds(RESULT) == pytest.approx(2 + 4)
    assert FOUND.share(RESULT) == pytest.approx(6 / 5)
    assert FOUND.share_after_start(RESULT) == pytest.approx(6 / 4.6)


def test_reports_hold_every_figure_and_what_follows(tmp_path: Path) -> None:
    write_benchmark(FOUND, tmp_path / "b.json")
    stored = json.loads((tmp_path / "b.json").read_text())
    (result,) = stored["results"]
    assert result["rate"] == pytest.approx(400)
    assert result["packed_seconds"] == pytest.approx(6)
    assert result["peak_bytes"] == 200_000_000
    assert stored["peers"] == [{"name": "Keras", "seconds": 45.0, "peak_bytes": None}]
    assert stored["machine"] == {"processor": "A Chip"}


def test_the_chart_is_an_svg_whose_names_are_text(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_chart(FOUND, tmp_path / "b.svg")
    text = (tmp_path / "b.svg").read_text()
    assert text.startswith("<?xml")
    for name in ("medkit, model-int8.tflite on LiteRT", "Keras"):
        assert name in text


# Measuring


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


def test_a_tool_that_fails_is_told_and_does_not_end_the_benchmark(
    tiny_exported: Path, images: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    litert = "LiteRT, one image at a time"  # which the torn image makes fail
    monkeypatch.setattr(module, "PEERS", {litert: PEERS[litert]})
    found = run_benchmark(BenchmarkOptions(images, repeats=1, peers=True, trained=tiny_exported))
    assert found.peers == ()
    assert "failed" in found.absent[0]


@pytest.mark.parametrize(
    "name", ["LiteRT, one image at a time", "ONNX Runtime, one image at a time", "Keras"]
)
def test_each_tool_classifies_every_image(tiny_exported: Path, images: Path, name: str) -> None:
    peer = PEERS[name]
    for package in peer.packages:
        pytest.importorskip(package)
    (images / "torn.jpg").unlink()
    assert peer.run(images, tiny_exported / "pneumonia" / peer.file, 1, 1) == 3


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


def test_a_process_that_fails_is_an_error_with_its_last_line() -> None:
    code = "import sys; sys.exit('first\\nthe reason')"
    with pytest.raises(MedkitError, match="^x y failed: the reason$"):
        module._run([sys.executable, "-c", code, "x", "y"])


def test_a_process_does_not_outlive_an_interruption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []
    popen = module.subprocess.Popen

    class Interrupted(popen):  # type: ignore[misc,valid-type]
        def wait(self, timeout: float | None = None) -> int:
            if not started:
                started.append(self)
                raise KeyboardInterrupt
            return int(super().wait(timeout))

    monkeypatch.setattr(module.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        module._run([sys.executable, "-c", "import time; time.sleep(600)"])
    assert started[0].returncode is not None


def test_a_tool_that_passes_images_over_is_told_and_not_compared(
    tiny_exported: Path, images: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_run", lambda command: (1.0, None, "2"))
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
