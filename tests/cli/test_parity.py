"""``medkit parity``: its options, its exit status, and the reports that it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import medkit.evaluation.parity
from commandruns import captured_parity, run
from medkit.evaluation.parity import ParityOptions
from medkit.tasks import SKIN


def test_parity_takes_every_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = captured_parity(monkeypatch)
    assert run("parity").exit_code == 0
    line = f"parity skin --data d --samples s --trained t --json {tmp_path}/p.json"
    reports = ("--junit", tmp_path / "p.xml", "--html", tmp_path / "p.html")
    assert run(*line.split(), *reports).exit_code == 0
    assert calls == [
        ParityOptions(),
        ParityOptions((SKIN,), Path("d"), Path("s"), Path("t")),
    ]
    assert json.loads((tmp_path / "p.json").read_text())[0]["agreement"] == 0.95
    (suite,) = ElementTree.parse(tmp_path / "p.xml").getroot()
    assert suite.get("tests") == "1"
    assert "Every rule holds." in (tmp_path / "p.html").read_text()


def test_a_broken_budget_exits_1_and_still_writes_the_reports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    captured_parity(monkeypatch, "agreement 95.00% is below 97% (1 of 20 decided differently)")
    reports = {option: tmp_path / f"p.{option}" for option in ("json", "junit", "html")}
    arguments = [part for option, path in reports.items() for part in (f"--{option}", path)]
    result = run("parity", *arguments)
    assert result.exit_code == 1
    line = "FAIL pneumonia/model-int8.tflite on LiteRT: agreement 95.00% is below 97%"
    assert line in result.stdout
    assert json.loads(reports["json"].read_text())[0]["passed"] is False
    (suite,) = ElementTree.parse(reports["junit"]).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert "Rules are broken" in reports["html"].read_text()


@pytest.mark.parametrize("option", ["--json", "--junit", "--html"])
def test_a_report_that_cannot_be_written_is_wrong_usage_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str
) -> None:
    calls = captured_parity(monkeypatch)
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file/report"):
        result = run("parity", option, path)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith("medkit: error: ")
    assert calls == []


def test_parity_on_samples_alone_says_that_it_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    captured_parity(monkeypatch)
    result = run("parity", "--samples", "s")
    assert result.exit_code == 0
    assert "no data sets, so samples only" in result.stderr
    assert "MEDKIT_DATA" in result.stderr
    assert "samples only" not in run("parity", "skin", "--samples", "s", "--data", "d").stderr


@pytest.mark.parametrize("failures", [(), ("agreement 5.00% is below 97%",)])
def test_verdict_and_figures_of_parity_fit_80_columns(
    monkeypatch: pytest.MonkeyPatch, failures: tuple[str, ...]
) -> None:
    captured_parity(monkeypatch, *failures)
    lines = run("parity", env={"COLUMNS": "80"}).stdout.splitlines()
    verdict = "FAIL" if failures else "pass"
    assert lines.count(f"{verdict} model-int8.tflite on LiteRT") == 1
    (line,) = [line for line in lines if line.startswith("AUC ")]
    assert line.split() == ["AUC", "0.9900", "0.9800", "-0.0100", "-0.0300", "to", "+0.0100"]


def test_a_page_that_could_not_be_written_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr(
        medkit.evaluation.parity, "check_parity", lambda *given: pytest.fail("too late")
    )
    result = run("parity", "--data", tmp_path, "--html", tmp_path / "p.html")
    assert result.exit_code == 1
    assert "jinja2 is needed to write a page" in result.stderr


def test_two_spellings_of_one_report_are_one_file(tmp_path: Path) -> None:
    other = tmp_path / ".." / tmp_path.name / "p.json"
    result = run("parity", "--data", ".", "--json", tmp_path / "p.json", "--junit", other)
    assert result.exit_code == 2
    assert "is named for two reports" in result.stderr
