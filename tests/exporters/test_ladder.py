"""The ladder: which rungs are tried, in which order, and what is left behind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.defaults import BALANCED
from medkit.errors import ExportError, UsageError
from medkit.evaluation.comparison import Comparison, compare
from medkit.evaluation.outputs import Images, ModelRun, Outputs
from medkit.models.bundle import load_bundle
from medkit.models.formats import PRECISIONS
from medkit.models.operators.summary import check_promise, summarise_operators
from medkit.models.points import OperatingPoint
from medkit.models.runtimes.loading import load_model
from medkit.tasks import PNEUMONIA
from medkit_exporters import ExportOptions, export_models
from medkit_exporters.ladder import LADDERS, Attempt
from medkit_exporters.settings import Settings

pytest.importorskip("keras")

from medkit_exporters.formats.onnx import OnnxExporter
from medkit_exporters.formats.tflite import TFLiteExporter

EXPORTERS = {"tflite": TFLiteExporter, "onnx": OnnxExporter}
NAMES = [rung.name for rung in LADDERS["int8"]]


def export(trained: Path, data: Path, kind: str, **others: Any) -> Any:
    options = ExportOptions(
        (PNEUMONIA,), (kind,), data=data, trained=trained, calibration_images=8, **others
    )
    notes: list[str] = []
    (file,) = export_models(options, notes.append)
    return file, notes


def failing_until(
    monkeypatch: pytest.MonkeyPatch, kind: str, accepted: Callable[[Settings, int], bool]
) -> list[tuple[Settings, int]]:
    """Make conversions fail but for accepted settings; return those that were asked for."""
    exporter = EXPORTERS[kind]
    convert, asked = exporter.convert, []

    def picky(self: Any, source: Any, settings: Settings, images: Any, *others: Any) -> bytes:
        count = 0 if images is None else len(images)
        asked.append((settings, count))
        if not accepted(settings, count):
            raise ExportError("broken")
        return convert(self, source, settings, images, *others)

    monkeypatch.setattr(exporter, "convert", picky)
    return asked


def test_rungs_give_up_precision_step_by_step() -> None:
    precisions = [rung.settings.precision for rung in LADDERS["int8"]]
    assert precisions == ["int8", "int8", "int8", "mixed", "int16", "mixed", "fp16"]
    assert len(set(NAMES)) == len(NAMES)
    assert set(precisions) <= set(PRECISIONS)
    for asked, ladder in LADDERS.items():
        assert ladder[0].settings.precision == asked


@pytest.mark.parametrize("kind", list(EXPORTERS))
@pytest.mark.parametrize("kept", range(1, len(NAMES)))
def test_the_first_rung_that_passes_is_kept_under_its_own_name(
    trained_copy: Path,
    tiny_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    kept: int,
) -> None:
    rung = LADDERS["int8"][kept]
    count = 8 * rung.times_images if rung.settings.calibrated else 0

    def accepted(settings: Settings, images: int) -> bool:
        return settings == rung.settings and min(count, 17) == images

    failing_until(monkeypatch, kind, accepted)
    file, notes = export(trained_copy, tiny_data, kind)
    assert [attempt.rung for attempt in file.attempts] == NAMES[: kept + 1]
    assert [attempt.passed for attempt in file.attempts] == [False] * kept + [True]
    assert file.path.name == f"model-{rung.settings.precision}.{kind}"
    assert file.precision == load_model(file.path).card.precision == rung.settings.precision
    check_promise(summarise_operators(file.path), file.precision)
    written = {path.name for path in (trained_copy / "pneumonia").glob("model-*")}
    assert written == {file.path.name}
    entry = load_bundle(PNEUMONIA, trained_copy).manifest.exports[file.path.name]
    assert [step.rung for step in entry.ladder] == NAMES[: kept + 1]
    assert entry.ladder[0].failures == ("broken",)
    # Out loud: each rung is announced, with why the one before was left.
    assert sum("after broken" in note for note in notes) == kept
    assert any(note.endswith(f"{NAMES[0]}") for note in notes)


def test_more_images_are_more_of_the_training_images(
    trained_copy: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = failing_until(monkeypatch, "tflite", lambda settings, count: count == 17)
    file, _ = export(trained_copy, tiny_data, "tflite")
    assert file.attempts[-1].rung == "more calibration images"
    # 35 training images make two disjoint sets of 17, where 4 times 8 were asked for.
    assert {count for settings, count in asked} == {8, 17}


def test_a_rung_that_would_repeat_another_is_left_out(
    trained_copy: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_until(monkeypatch, "tflite", lambda settings, count: settings.precision == "fp16")
    options = ExportOptions((PNEUMONIA,), ("tflite",), data=tiny_data, trained=trained_copy)
    (file,) = export_models(options)
    tried = [attempt.rung for attempt in file.attempts]
    assert tried == [name for name in NAMES if name != "more calibration images"]


def test_a_file_that_the_ladder_left_is_not_preferred_to_the_one_that_was_kept(
    exported_copy: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported_copy / "pneumonia"
    assert (folder / "model-int8.tflite").is_file()
    failing_until(monkeypatch, "tflite", lambda settings, count: settings.precision == "int16")
    file, _ = export(exported_copy, tiny_data, "tflite")
    assert file.path.name == "model-int16.tflite"
    assert not (folder / "model-int8.tflite").exists()
    bundle = load_bundle(PNEUMONIA, exported_copy)
    assert "model-int8.tflite" not in bundle.manifest.exports
    assert bundle.smallest_export() == file.path
    assert bundle.smallest_export("onnx") == folder / "model-int8.onnx"


def test_if_no_rung_passes_nothing_is_written_and_each_is_told(
    exported_copy: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_until(monkeypatch, "tflite", lambda settings, count: False)
    before = {path.name: path.read_bytes() for path in (exported_copy / "pneumonia").iterdir()}
    with pytest.raises(ExportError) as raised:
        export(exported_copy, tiny_data, "tflite")
    assert all(f"{name}: broken" in str(raised.value) for name in NAMES)
    after = {path.name: path.read_bytes() for path in (exported_copy / "pneumonia").iterdir()}
    assert after == before


def test_rules_are_refitted_to_the_quantised_scores(tiny_exported: Path) -> None:
    bundle = load_bundle(PNEUMONIA, tiny_exported)
    exports = bundle.manifest.exports
    for name, entry in exports.items():
        card = load_model(tiny_exported / "pneumonia" / name).card
        assert entry.operating_points == card.operating_points
        own = (entry.graph_temperature, entry.operating_points)
        original = (bundle.temperature, bundle.operating_points)
        assert (own == original) is (entry.precision != "int8")


def test_another_calibration_set_is_compared_with_the_first(tiny_exported: Path) -> None:
    exports = load_bundle(PNEUMONIA, tiny_exported).manifest.exports
    for entry in exports.values():
        (step,) = entry.ladder
        assert step.passed
        assert step.validation is not None
        assert step.validation.agreement > 0.9
        assert (step.spread is not None) is (entry.precision == "int8")


def scores(*values: float) -> Outputs:
    positive = np.array(values, dtype=np.float32)
    points = {BALANCED: OperatingPoint(BALANCED, "PNEUMONIA", 0.5)}
    return Outputs(np.stack([1 - positive, positive], axis=1), points)


def compared(*after: float) -> Comparison:
    images = Images([str(index) for index in range(4)], np.array([0, 1, 0, 1]))
    return compare(
        PNEUMONIA, ModelRun("f", "int8", "r"), scores(0.1, 0.9, 0.2, 0.8), scores(*after), images
    )


def test_an_attempt_fails_by_its_error_its_comparison_or_its_spread() -> None:
    good, bad = compared(0.1, 0.9, 0.2, 0.8), compared(0.9, 0.1, 0.8, 0.2)
    plain = Attempt("r", "int8", "m", 8, comparison=good, spread=good)
    assert plain.passed
    assert not Attempt("r", "int8", "m", 8, error="no file").passed
    assert not Attempt("r", "int8", "m", 8, comparison=bad, spread=good).passed
    spread = Attempt("r", "int8", "m", 8, comparison=good, spread=bad)
    assert spread.failures[0].startswith("against other calibration images: agreement")
    json.dumps(dataclasses.asdict(spread.to_record()), allow_nan=False)


@pytest.mark.parametrize("drop", [-0.1, 100.1, float("nan")])
def test_a_drop_that_is_no_share_is_refused_at_once(
    trained_copy: Path, tiny_data: Path, drop: float
) -> None:
    with pytest.raises(UsageError, match="accepted: 0 to 100"):
        export(trained_copy, tiny_data, "tflite", max_drop=drop)
