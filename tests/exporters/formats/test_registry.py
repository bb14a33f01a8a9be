"""The registry of exporters: known before they are imported, and open to others."""

from __future__ import annotations

import subprocess
import sys

import pytest

from medkit.errors import UsageError
from medkit.models.formats import export_formats
from medkit.models.runtimes.registry import runtimes_for
from medkit_exporters.formats import registry
from medkit_exporters.formats.registry import (
    KnownExporter,
    get_exporter,
    known_exporters,
    register_exporter,
)


def test_every_format_of_exports_has_an_exporter() -> None:
    assert list(known_exporters()) == list(export_formats())
    for name, known in known_exporters().items():
        assert known.name == name
        assert known.suffix == export_formats()[name].suffix
    assert [known.runtime for known in known_exporters().values()] == ["LiteRT", "ONNX Runtime"]


def test_an_exporter_needs_what_reads_and_runs_its_files_as_well() -> None:
    assert get_exporter("tflite").all_needs == runtimes_for(".tflite")[0].needs
    assert {"tf2onnx", "onnx", "onnxruntime"} <= set(get_exporter("onnx").all_needs)


def test_exporters_are_known_without_their_libraries() -> None:
    code = (
        "import sys; from medkit_exporters.formats.registry import known_exporters; "
        "known_exporters(); "
        "print(sorted({'tensorflow', 'keras', 'onnx', 'tf2onnx', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown format 'coreml'; accepted: tflite, onnx"):
        get_exporter("coreml")


def test_a_second_exporter_for_a_format_and_one_for_no_format_are_refused() -> None:
    with pytest.raises(ValueError, match="there is an exporter for 'onnx' already"):
        register_exporter(KnownExporter("onnx", "mine:Exporter"))
    with pytest.raises(ValueError, match="'coreml' is no format of exports"):
        register_exporter(KnownExporter("coreml", "mine:Exporter"))


def test_another_exporter_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_EXPORTERS", registry._EXPORTERS[:1])
    register_exporter(KnownExporter("onnx", "builtins:dict", needs=("scipy",)))
    assert list(known_exporters()) == ["tflite", "onnx"]
    assert "scipy" in get_exporter("onnx").all_needs
    assert get_exporter("onnx").load() == {}
