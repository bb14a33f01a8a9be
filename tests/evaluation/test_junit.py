"""JUnit reports of parity runs: a suite for each comparison, a case for each rule."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from medkit.evaluation.junit import write_junit
from medkit.evaluation.parity import Parity, check_parity
from parityruns import BAD, GOOD, options


def test_junit_holds_a_suite_for_each_comparison_and_a_case_for_each_rule(tmp_path: Path) -> None:
    write_junit(Parity((GOOD, BAD), ()), tmp_path / "parity.xml")
    root = ElementTree.parse(tmp_path / "parity.xml").getroot()
    assert root.tag == "testsuites"
    good, bad = root
    assert good.get("name") == "pneumonia/model-fp32.onnx on r"
    assert (good.get("tests"), good.get("failures")) == (str(len(GOOD.gates)), "0")
    assert not list(good.iter("failure"))
    assert bad.get("failures") == str(len(BAD.failures))
    messages = [failure.get("message") for failure in bad.iter("failure")]
    assert messages == list(BAD.failures)


def test_every_case_of_a_junit_report_has_a_name_of_its_own(
    tiny_exported: Path, tiny_data: Path, tmp_path: Path
) -> None:
    write_junit(check_parity(options(tiny_exported, tiny_data)), tmp_path / "parity.xml")
    cases = ElementTree.parse(tmp_path / "parity.xml").getroot().iter("testcase")
    names = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(names) == len(set(names)) > 50


def test_characters_that_xml_cannot_hold_are_replaced(tmp_path: Path) -> None:
    broken = GOOD.failing("broken by \x00 and \udcff, not by é")
    write_junit(Parity((broken,), ()), tmp_path / "parity.xml")
    (failure,) = ElementTree.parse(tmp_path / "parity.xml").getroot().iter("failure")
    assert failure.get("message") == "broken by ? and ?, not by é"
