"""The parity page: gates, ladder, plots and the images that flipped."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from medkit.errors import MissingExtraError
from medkit.evaluation.junit import write_junit
from medkit.evaluation.parity import Parity, ParityOptions, check_parity, write_parity_json
from medkit.models.bundle import load_bundle
from medkit.reports.parity_page import write_parity_page
from medkit.tasks import PNEUMONIA, SKIN
from parityruns import GOOD, change_onnx, drawn_samples, options, relist


def test_a_page_shows_gates_ladder_plots_and_flipped_images(
    exported_copy: Path, tiny_data: Path, tmp_path: Path
) -> None:
    change_onnx(exported_copy / "pneumonia/model-fp32.onnx", lambda weights: -weights)
    relist(exported_copy, "model-fp32.onnx")
    parity = check_parity(options(exported_copy, tiny_data))
    write_parity_page(parity, tmp_path / "parity.html")
    page = (tmp_path / "parity.html").read_text()
    assert "http" not in page.replace("http-equiv", ""), "the page must stand alone"
    assert "not a diagnosis" in page
    bundle = load_bundle(PNEUMONIA, exported_copy)
    files = len(bundle.manifest.exports)
    assert page.count("<h3>") == len(parity.comparisons) > files
    # Pictures and ladder once a file, figures and gates for each runtime.
    assert page.count("<h4>Ladder</h4>") == files
    (bad,) = (item for item in parity.comparisons if not item.passed)
    assert all(line in page for line in bad.failures)
    assert len(bad.flips) > 10
    first = {item.file: item for item in reversed(parity.comparisons)}
    assert page.count('width="128"') == sum(len(item.flips) for item in first.values())
    assert bad.flips[0].name in page
    assert page.count('alt="original against export"') == files
    assert all(name in page for name in bundle.manifest.exports)
    # A fall has the same sign in the table of figures, in that of gates, and in the text.
    fall = f"{bad.changes['accuracy'].difference:+.4g}"
    assert fall.startswith("-")
    assert f'<td>accuracy, change</td><td class="n">{fall}</td><td class="n">-0' in page
    assert f"a change of {bad.changes['accuracy'].difference:+.4f}, beyond -0" in page
    for item in parity.comparisons:
        for gate in item.gates:
            figure, _, what = gate.name.partition(", ")
            if what == "change" and figure in item.changes:
                assert gate.value == item.changes[figure].difference


def test_a_page_shows_an_export_that_gives_no_numbers(
    exported_copy: Path, tiny_data: Path, tmp_path: Path
) -> None:
    change_onnx(exported_copy / "pneumonia/model-fp32.onnx", lambda weights: weights * np.nan)
    relist(exported_copy, "model-fp32.onnx")
    parity = check_parity(options(exported_copy, tiny_data))
    write_parity_page(parity, tmp_path / "parity.html")
    page = (tmp_path / "parity.html").read_text()
    assert "a probability is not finite" in page
    assert "a weight is no finite number" in page


def test_a_page_of_samples_has_no_roc(tiny_exported: Path, tmp_path: Path) -> None:
    samples = drawn_samples(tmp_path / "samples")
    write_parity_page(check_parity(options(tiny_exported, samples=samples)), tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text()
    assert 'alt="ROC curves"' not in page
    assert 'alt="original against export"' in page


def test_names_that_are_no_text_stay_out_of_the_way_of_every_report(
    pooled_models: Path, tmp_path: Path
) -> None:
    samples = drawn_samples(tmp_path / "samples")
    odd = os.fsdecode(b"bad\xff\x01<b>.png")
    shutil.copy(samples / "skin/a.png", samples / "skin" / odd)
    parity = check_parity(ParityOptions((SKIN,), samples=samples, trained=pooled_models))
    broken = replace(parity, comparisons=(parity.comparisons[0].failing(f"broken by {odd}"),))
    for write, name in (
        (write_parity_json, "p.json"),
        (write_junit, "p.xml"),
        (write_parity_page, "p"),
    ):
        write(broken, tmp_path / name)
    assert json.loads((tmp_path / "p.json").read_text())
    assert ElementTree.parse(tmp_path / "p.xml").getroot().tag == "testsuites"
    assert "<b>" not in (tmp_path / "p").read_text()


@pytest.mark.parametrize("module", ["jinja2", "matplotlib", "sklearn"])
def test_what_is_not_installed_is_told_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match="needed to write a page and is not installed"):
        write_parity_page(Parity((GOOD,), ()), tmp_path / "p.html")
    assert not list(tmp_path.iterdir())
