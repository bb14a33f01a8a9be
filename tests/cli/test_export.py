"""``medkit export``: its options, and what it shows of the exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import medkit_exporters
from commandruns import captured_export, run
from medkit.tasks import PNEUMONIA, SKIN
from medkit_exporters import ExportOptions


def test_export_takes_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = captured_export(monkeypatch)
    assert run("export").exit_code == 0
    line = (
        "export skin pneumonia skin --int8 --fp16 --fp32 --format onnx --format onnx --data d "
        "--trained t --calibration-images 0 --seed 3 --max-drop 0.5"
    )
    assert run(*line.split()).exit_code == 0
    assert calls == [
        ExportOptions(),
        ExportOptions(
            tasks=(SKIN, PNEUMONIA),
            formats=("onnx",),
            precisions=("int8", "fp16", "fp32"),
            data=Path("d"),
            trained=Path("t"),
            calibration_images=0,
            seed=3,
            max_drop=0.5,
        ),
    ]


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_export_makes_the_asked_precision_only(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    calls = captured_export(monkeypatch)
    assert run("export", f"--{precision}").exit_code == 0
    assert calls[0].precisions == (precision,)


def test_the_ladder_of_an_export_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    captured_export(monkeypatch)
    lines = run("export", env={"COLUMNS": "80"}).stderr.splitlines()
    (line,) = [line for line in lines if line.startswith("more calibration images ")]
    assert line.split()[3:] == ["-0.0500", "-0.0100", "95.0%", "95.0%", "kept"]


def test_notes_may_hold_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    def noting(options: Any, note: Any) -> Any:
        note("reading [/data] and [red]")
        raise KeyboardInterrupt

    monkeypatch.setattr(medkit_exporters, "export_models", noting)
    assert "reading [/data] and [red]" in run("export").stderr
