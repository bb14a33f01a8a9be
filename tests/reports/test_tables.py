"""Tables of figures: which columns and rows they have, and what stands where nothing is known."""

from __future__ import annotations

from mademanifests import made, typed
from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.evaluation.metrics import DEDUPLICATED
from medkit.reports.modelcard import render_card
from medkit.reports.tables import (
    ClassRow,
    class_rows,
    counts_measured,
    figure_columns,
    figure_rows,
    point_rows,
    with_interval,
)
from medkit.tasks import PNEUMONIA, SKIN


def test_a_threshold_is_told_with_its_label() -> None:
    points = typed(made(SKIN)).metrics["test"]
    threshold = points[HIGH_SENSITIVITY].threshold
    assert [(row.name, row.rule) for row in point_rows(SKIN, points)] == [
        (BALANCED, "the likeliest label"),
        (HIGH_SENSITIVITY, f"melanoma from {threshold:.3f}"),
    ]


def test_the_seeds_figures_stand_before_the_originals() -> None:
    columns = figure_columns(typed(made(PNEUMONIA)), ("seed", typed(made(PNEUMONIA, 41))))
    assert [column.name for column in columns] == ["seed", "original", "`model-int8.onnx`"]
    (cells,) = (row.cells for row in figure_rows(PNEUMONIA, columns) if row.name == "accuracy")
    accuracies = [column.metrics["test"][BALANCED].accuracy for column in columns]
    assert [cell.split()[0] for cell in cells] == [f"{value:.3f}" for value in accuracies]


def test_each_column_has_its_own_number_of_images() -> None:
    columns = figure_columns(typed(made(PNEUMONIA)), ("other", typed(made(PNEUMONIA, 41))), "own")
    assert [column.name for column in columns][:2] == ["other", "own"]
    rows = {row.name: row.cells for row in figure_rows(PNEUMONIA, columns)}
    for name, split in (("test images", "test"), ("images without a twin", DEDUPLICATED)):
        numbers = [column.metrics[split][BALANCED].images for column in columns]
        assert rows[name] == tuple(f"{number:,}" for number in numbers)
    rows = {row.name: row.cells for row in figure_rows(PNEUMONIA, columns[:1])}
    assert not {"test images", "images without a twin"} & set(rows)


def test_a_figure_may_lack_its_interval_or_be_missing() -> None:
    assert with_interval(0.12345, (0.1, 0.25)) == "0.123 (0.100 to 0.250)"
    assert with_interval(0.12345, None, digits=2) == "0.12"
    assert with_interval(0.0, [0.0, 0.5], digits=1) == "0.0 (0.0 to 0.5)"
    assert with_interval(None, None) == "-"


def test_a_class_without_test_images_has_dashes() -> None:
    manifest = made(SKIN)
    own = manifest["metrics"]["test"][BALANCED]
    for part in (own, own["intervals"]):
        for key in ("sensitivity", "specificity"):
            part[key]["nevus"] = None
    own["class_auc"]["nevus"] = None
    own["confusion"][SKIN.labels.index("nevus")] = [0] * 9
    test = typed(manifest).metrics["test"][BALANCED]
    row = class_rows(SKIN, test)[SKIN.labels.index("nevus")]
    assert row == ClassRow("nevus", images="0", sensitivity="-", specificity="-", auc="-")
    text = render_card(SKIN, typed(manifest))
    assert "| nevus | 0 | - | - | - |" in text
    assert "None" not in text


def test_a_file_without_figures_has_dashes_beside_one_that_has_them() -> None:
    manifest = made(PNEUMONIA)
    manifest["metrics"] = {}
    columns = figure_columns(typed(manifest))
    rows = {row.name: row.cells for row in figure_rows(PNEUMONIA, columns)}
    assert rows["accuracy"][0] == "-"
    assert rows["accuracy"][1] != "-"
    exported = manifest["exports"]["model-int8.onnx"]["metrics"]["test"][BALANCED]["images"]
    assert counts_measured(columns) == [exported]
    assert counts_measured(columns[:1]) == []


def test_of_a_bundle_without_its_original_there_are_the_exports() -> None:
    manifest = made(PNEUMONIA)
    manifest["files"] = {}
    assert [column.name for column in figure_columns(typed(manifest))] == ["`model-int8.onnx`"]
