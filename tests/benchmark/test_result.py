"""What follows from measurements, and how it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medkit.benchmark.result import Benchmark, PeerResult, Result, write_benchmark, write_chart

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
