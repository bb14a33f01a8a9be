"""``medkit benchmark``: its options, and the figures that it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import medkit.benchmark.run
from commandruns import captured, run
from medkit.benchmark.options import BenchmarkOptions
from medkit.benchmark.result import Benchmark, PeerResult, Result


def test_benchmark_takes_every_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = Result("model-int8.tflite", "LiteRT", 500.0, 0.4, 5.0, None)
    peers = (PeerResult("Keras", 45.0, 10**9),)
    found = Benchmark(
        "skin", 2000, 2, 1000.0, (result,), peers, ("timm: timm is not there",), {"processor": "X"}
    )
    calls = captured(monkeypatch, medkit.benchmark.run, "run_benchmark", found)
    assert run("benchmark").exit_code == 0
    out = tmp_path / "b.json"
    line = "benchmark scans --task skin --peers --repeats 2 --batch-size 4 --threads 3 --trained t"
    shown = run(*line.split(), "--json", out)
    assert shown.exit_code == 0
    assert calls == [
        BenchmarkOptions(),
        BenchmarkOptions(Path("scans"), "skin", 4, 3, 2, True, Path("t")),
    ]
    assert json.loads(out.read_text())["images"] == 2000
    for text in ("400/s", "120%", "9.0 times", "1,000 MB", "left out: timm: timm is not there"):
        assert text in shown.stdout
    assert all(len(text) <= 80 for text in shown.stdout.splitlines() if "─" in text)
