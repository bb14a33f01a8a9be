"""The report of a trained model: complete in itself, and true to the manifest."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medkit.cli.app import app
from medkit.defaults import BALANCED
from medkit.errors import DatasetLayoutError, MissingExtraError, ModelFileError
from medkit.models.bundle import load_bundle
from medkit.models.manifest import Manifest, write_manifest
from medkit.reports.report import MISTAKES, ReportOptions, overlay, write_report
from medkit.reports.tables import with_interval
from medkit.tasks import PNEUMONIA, TaskNotes, shipped_folder
from medkit.wording import Remark

pytest.importorskip("keras")


@pytest.fixture(scope="module")
def page(
    tiny_exported: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Write a report once, of a bundle that has a seed's manifest, too; give text and bundle."""
    folder = tmp_path_factory.mktemp("report")
    trained = Path(shutil.copytree(tiny_exported, folder / "trained"))
    shutil.copy(trained / "pneumonia/manifest.json", trained / "pneumonia/seed.json")
    bundle = load_bundle(PNEUMONIA, trained)
    # A threshold that nothing reaches: every sick image is a mistake.
    points = bundle.operating_points
    strict = {**points, BALANCED: replace(points[BALANCED], threshold=1.0)}
    write_manifest(bundle.folder, replace(bundle.manifest, operating_points=strict))
    told: list[str] = []
    options = ReportOptions(PNEUMONIA, folder / "report.html", tiny_data, trained)
    assert write_report(options, told.append) == options.out
    assert any("explaining" in line for line in told)
    return options.out.read_text(), trained


def test_the_page_fetches_nothing(page: tuple[str, Path]) -> None:
    text, _ = page
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)""", text)
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)
    assert "http" not in text
    assert "<script" not in text


def test_the_page_holds_what_a_reader_looks_for(page: tuple[str, Path]) -> None:
    text, _ = page
    for wanted in (
        "A prediction is not a diagnosis",
        "seed against trained/pneumonia",
        "seed: loss, accuracy and AUC",
        "trained/pneumonia: loss, accuracy and AUC",
        "ROC with 95 % interval",
        "confusion on the test split of its data",
        "reliability on the test split of its data",
        "the audit found 1 under two labels",
        "Worst mistakes",
    ):
        assert wanted in text, wanted
    # It is a user's own bundle, of data that nobody published.
    assert "shipped" not in text
    for known in ("official", "Kermany", *PNEUMONIA.notes.traps):
        assert known not in text


def test_another_bundle_is_named_as_what_it_is(tiny_exported: Path, tmp_path: Path) -> None:
    against = tmp_path / "baseline"
    shutil.copytree(tiny_exported, against)
    out = tmp_path / "report.html"
    for place in (against, against / "pneumonia"):
        write_report(ReportOptions(PNEUMONIA, out, None, tiny_exported, place))
        text = out.read_text()
        assert "baseline/pneumonia against trained/pneumonia" in text
        assert '<th class="n">baseline/pneumonia</th><th class="n">trained/pneumonia</th>' in text
        assert "baseline/pneumonia: loss, accuracy and AUC" in text
        assert "shipped" not in text
        assert "student project" not in text
        assert "different test images" not in text
    bundle = load_bundle(PNEUMONIA, against)
    data = replace(bundle.manifest.data, sha256={"test": "0" * 64})
    bundle.with_manifest(replace(bundle.manifest, data=data))
    write_report(ReportOptions(PNEUMONIA, out, None, tiny_exported, against))
    assert "The two runs were measured on different test images" in out.read_text()
    with pytest.raises(ModelFileError, match="name a bundle, or a folder of bundles"):
        write_report(ReportOptions(PNEUMONIA, out, None, tiny_exported, tmp_path / "gone"))


def test_bundles_of_one_name_are_told_apart(tiny_exported: Path, tmp_path: Path) -> None:
    against, out = tmp_path / "other/trained", tmp_path / "report.html"
    shutil.copytree(tiny_exported, against)
    bundle = load_bundle(PNEUMONIA, against)
    test = bundle.manifest.metrics["test"]
    fewer = {**test, BALANCED: replace(test[BALANCED], images=7)}
    metrics = {**bundle.manifest.metrics, "test": fewer}
    bundle.with_manifest(replace(bundle.manifest, metrics=metrics))
    write_report(ReportOptions(PNEUMONIA, out, None, tiny_exported, against))
    text = out.read_text()
    own = "/".join((tiny_exported / "pneumonia").parts[-3:])
    assert f"other/trained/pneumonia against {own}" in text
    for name in ("other/trained/pneumonia", own):
        assert f'<th class="n">{name}</th>' in text
        assert f"{name}: loss, accuracy and AUC" in text
    # Each column has its own number of images.
    assert '<td>test images</td><td class="n">7</td><td class="n">20</td>' in text
    assert "one image is" not in text


def test_the_shipped_models_are_called_shipped(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    write_report(ReportOptions(PNEUMONIA, out, None, shipped_folder()))
    text = out.read_text()
    assert "seed against shipped" in text
    assert "On the official test split, 624 images, with 95 % intervals; one image is 0.16" in text
    for known in (PNEUMONIA.published.source, PNEUMONIA.notes.traps[0].split(":")[0]):
        assert known in text


def test_a_labelled_folder_of_ones_own_is_measured_and_named(
    tiny_exported: Path, tiny_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "ward"
    for label, name in (("NORMAL", "healthy"), ("PNEUMONIA", "Pneumonia/patient1")):
        shutil.copytree(tiny_data / "chest_xray/test" / label, data / name)
    min((data / "healthy").iterdir()).unlink()
    shutil.copy(min((data / "healthy").iterdir()), data / "loose.jpeg")
    out = tmp_path / "report.html"
    spellings = {"healthy": "NORMAL"}
    told: list[str] = []
    options = ReportOptions(PNEUMONIA, out, data, tiny_exported, spellings=spellings)
    write_report(options, told.append)
    remarks = [line for line in told if isinstance(line, Remark)]
    assert "left out: 1 image beside the class folders: loose.jpeg" in remarks
    text = out.read_text()
    for wanted in (
        "On the images of ward",
        "on 19 images",
        "ROC with 95 % interval",
        "confusion on the images of ward",
        "reliability on the images of ward",
        "confusion on the test split of its data",
        "10 of 19 images lie in folders below",
        "left out: 1 image beside the class folders: loose.jpeg",
        "Of the images of ward, none is decided wrongly.",
    ):
        assert wanted in text, wanted


@pytest.mark.parametrize("single", [False, True])
def test_the_official_test_split_is_told_by_its_files(
    tiny_exported: Path, tiny_data: Path, tmp_path: Path, single: bool
) -> None:
    out = tmp_path / "report.html"
    data = Path(shutil.copytree(tiny_data / "chest_xray", tmp_path / "data"))
    (data / "test/NORMAL").rename(data / "test/normal")
    given = data / "test" if single else data
    write_report(ReportOptions(PNEUMONIA, out, given, tiny_exported))
    assert "On the images of" not in out.read_text()
    min((data / "test/normal").iterdir()).unlink()
    write_report(ReportOptions(PNEUMONIA, out, given, tiny_exported))
    assert "On the images of test" in out.read_text()


def test_figures_on_the_page_are_those_of_the_manifest(page: tuple[str, Path]) -> None:
    text, trained = page
    manifest = load_bundle(PNEUMONIA, trained).manifest
    test = manifest.metrics["test"][BALANCED]
    for key in ("accuracy", "auc", "calibration_error"):
        assert with_interval(getattr(test, key), getattr(test.intervals, key)) in text
    for name in manifest.exports:
        assert name in text


def test_mistakes_are_shown_with_what_spoke_for_them(page: tuple[str, Path]) -> None:
    text, _ = page
    shown = re.findall(r'PNEUMONIA, called <span class="bad">NORMAL</span>', text)
    assert len(shown) == 10 <= MISTAKES
    assert len(re.findall(r"test/PNEUMONIA/person5\d\d_virus_\d+\.jpeg", text)) == 10


def test_without_data_the_page_says_what_is_missing(tiny_exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    write_report(ReportOptions(PNEUMONIA, out, None, tiny_exported))
    text = out.read_text()
    assert "made without labelled images" in text
    assert "ROC with 95 % interval" not in text
    assert "reliability on the test split of its data" in text


def test_of_a_model_that_was_trained_elsewhere_the_page_shows_what_is_known(
    tiny_exported: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(PNEUMONIA, tiny_exported)
    known = bundle.manifest
    task = replace(PNEUMONIA, name="fracture", layout=None, notes=TaskNotes())
    write_manifest(
        tmp_path / "fracture",
        Manifest(known.labels, known.contract, 1.0, known.operating_points, known.files),
    )
    out = tmp_path / "report.html"
    write_report(ReportOptions(task, out, None, tmp_path))
    text = out.read_text()
    assert "A prediction is not a diagnosis" in text
    assert "Trained elsewhere" in text
    assert "medkit evaluate" in text
    assert known.files["model.keras"].sha256[:16] in text
    for heading in ("How it was trained", "Operating points", "The data", "Worst mistakes"):
        assert heading not in text
    assert "None" not in text


def test_a_task_without_a_published_data_set_is_measured_on_a_labelled_folder(
    tiny_exported: Path, tiny_data: Path, tmp_path: Path
) -> None:
    task, out = replace(PNEUMONIA, layout=None), tmp_path / "r.html"
    with pytest.raises(DatasetLayoutError, match="no class folder of pneumonia in"):
        write_report(ReportOptions(task, out, tiny_data, tiny_exported))
    assert not out.exists()
    write_report(ReportOptions(task, out, tiny_data / "chest_xray/train", tiny_exported))
    assert "On the images of train" in out.read_text()
    assert "Worst mistakes" in out.read_text()


@pytest.mark.parametrize(
    ("module", "data"), [("jinja2", False), ("matplotlib", False), ("sklearn", True)]
)
def test_what_is_not_installed_is_told_before_any_work(
    tiny_exported: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    data: bool,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    told: list[str] = []
    options = ReportOptions(PNEUMONIA, tmp_path / "r.html", tiny_data if data else None)
    with pytest.raises(MissingExtraError, match="is not installed"):
        write_report(replace(options, trained=tiny_exported), told.append)
    assert told == []


def test_what_is_missing_is_an_error(tiny_exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no trained pneumonia model"):
        write_report(ReportOptions(PNEUMONIA, tmp_path / "r.html", None, tmp_path))
    with pytest.raises(DatasetLayoutError):
        write_report(ReportOptions(PNEUMONIA, tmp_path / "r.html", tmp_path, tiny_exported))
    assert not (tmp_path / "r.html").exists()


def test_the_command_writes_the_page_and_says_where(
    tiny_exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["report", "pneumonia", "--trained", str(tiny_exported)])
    assert done.exit_code == 0, done.output
    assert "written to pneumonia-report.html" in done.stderr
    assert (tmp_path / "pneumonia-report.html").is_file()


def test_the_command_refuses_where_it_cannot_write(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", "pneumonia", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "is a folder; name a file in it" in done.stderr


@pytest.mark.parametrize("channels", [1, 3])
def test_an_overlay_warms_what_is_hot_and_keeps_the_rest_darker(channels: int) -> None:
    image = np.full((8, 8, channels), 100, np.uint8)
    heat = np.zeros((8, 8), np.float32)
    heat[2, 2] = 1
    mixed = overlay(image, heat)
    assert mixed.shape == (8, 8, 3)
    assert mixed.dtype == np.uint8
    assert mixed[2, 2].sum() > 2 * mixed[5, 5].sum()
    assert len(np.unique(mixed.reshape(-1, 3), axis=0)) == 2
