"""Model cards: every number is the manifest's, and the shipped cards are up to date."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest

from medkit.bundles import Bundle
from medkit.decisions import BALANCED, HIGH_SENSITIVITY
from medkit.metrics import UNTWINNED
from medkit.modelcard import (
    CARD_FILE,
    class_rows,
    figure_columns,
    figure_rows,
    point_rows,
    render_card,
    traps,
    with_interval,
    write_card,
)
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task

ROOT = Path(__file__).resolve().parents[1]
BOTH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)

# Of the rule by which every interval is computed: the same in every card.
FIXED = {"95"}


class Numbers:
    """Gives counts, and shares above a half, that differ at each turn and with the start."""

    def __init__(self, start: int) -> None:
        self._next = start

    def count(self) -> int:
        self._next += 1
        return self._next

    def share(self) -> float:
        return 0.501 + self.count() * 0.2718 % 0.498

    def interval(self) -> list[float]:
        return [self.share(), self.share()]


def figures(task: Task, numbers: Numbers, point: str) -> dict[str, Any]:
    """Make what :func:`medkit.metrics.evaluate` gives, with figures that contradict each other."""
    by_label = {
        key: {label: numbers.share() for label in task.labels}
        for key in ("sensitivity", "specificity")
    }
    scored = [task.positive] if task.positive else task.labels
    single = ("accuracy", "balanced_accuracy", "auc", "calibration_error")
    return {
        "images": numbers.count(),
        "operating_point": point,
        "threshold": numbers.share() if task.binary or point != BALANCED else None,
        **{key: numbers.share() for key in single},
        **by_label,
        "class_auc": {label: numbers.share() for label in scored},
        "confusion": [[numbers.count() for _ in task.labels] for _ in task.labels],
        "reliability": [],
        "intervals": {
            **{key: numbers.interval() for key in single},
            **{key: {label: numbers.interval() for label in task.labels} for key in by_label},
        },
    }


def made(task: Task, start: int = 0) -> dict[str, Any]:
    """Make a manifest whose numbers all differ, and all change with the start."""
    numbers = Numbers(start)
    # First, so that they are small and one test image is a visible part of them.
    counts = {
        split: {label: numbers.count() for label in task.labels}
        for split in ("train", "validation", "test")
    }
    test = {
        name: {point: figures(task, numbers, point) for point in (BALANCED, HIGH_SENSITIVITY)}
        for name in ("test", UNTWINNED)
    }
    exported = {
        name: {point: figures(task, numbers, point) for point in (BALANCED, HIGH_SENSITIVITY)}
        for name in ("test", UNTWINNED)
    }
    kinds = ("label conflict", "duplicate", "near duplicate", "shared patient")
    return {
        "task": task.name,
        "temperature": numbers.share(),
        "metrics": test,
        "by_source": [
            {
                "label": task.labels[0],
                "source": "hospital",
                "train": numbers.count(),
                "validation": {"images": numbers.count(), "found": numbers.count()},
                "test": {"images": numbers.count(), "found": numbers.count()},
            }
        ],
        "recipe": {
            "network": "compact-cnn",
            "name": "default",
            "on_conflict": "error",
            "on_known_conflicts": "error",
        },
        "chosen_on": "validation",
        "seed": numbers.count(),
        "kept_epoch": numbers.count(),
        "epochs": numbers.count(),
        "parameters": 1000 * numbers.count(),
        "data": {
            "counts": counts,
            "on_conflict": "drop",
            "kept_out": [{"name": "a.png", "reason": "a copy"}] * numbers.count(),
            "audit": {kind: numbers.count() for kind in (*kinds, "label conflict across splits")},
        },
        "versions": {"medkit": f"{numbers.count()}.0", "numpy": f"{numbers.count()}.5"},
        "files": {"model.keras": {"bytes": 10**5 * numbers.count(), "sha256": f"{start:x}f" * 8}},
        "exports": {
            "model-int8.onnx": {"bytes": 10**5 * numbers.count(), "metrics": exported},
        },
    }


def numbers_in(text: str, task: Task) -> list[str]:
    """Return the numbers of a card that are no part of a name or of the task's own words."""
    shown = text[text.index("# Model card") :]
    for words in (*traps(task), task.source, task.title):
        shown = re.sub(re.escape(words), "", shown, flags=re.IGNORECASE)
    shown = re.sub(r"\*\*Not for\*\*.*?\n- ", "", shown, flags=re.DOTALL)  # known misuse
    shown = re.sub(r"\| licence of the weights .*", "", shown)
    shown = re.sub(r"from [\dx ]+ uint8 pixels", "", shown)  # the contract's
    shown = re.sub(r"SHA-256 `\w+`", "", shown)
    return re.findall(r"(?<![\w.-])\d[\d,.]*(?<![.,])", shown)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the way to every number in a nest of dictionaries and lists."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    elif isinstance(value, int | float):
        yield path


def changed(manifest: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """Return a copy with another number in one place."""
    twin = copy.deepcopy(manifest)
    place = twin
    for key in path[:-1]:
        place = place[key]
    value = place[path[-1]]
    place[path[-1]] = value + 10**6 if isinstance(value, int) else value + 0.4
    return twin


def row_of(text: str, name: str) -> str:
    """Return the one row of a table that begins with a name."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return line


# Numbers


@BOTH
def test_a_card_holds_no_number_of_its_own(task: Task) -> None:
    first, second = (numbers_in(render_card(task, made(task, start)), task) for start in (0, 41))
    assert len(first) == len(second) > 50
    same = {one for one, other in zip(first, second, strict=True) if one == other}
    assert same <= FIXED


@BOTH
def test_a_number_that_changes_in_the_manifest_changes_the_card(task: Task) -> None:
    manifest = made(task)
    text = render_card(task, manifest)
    paths = [path for path in leaves(manifest) if path[0] not in ("metrics", "exports")]
    paths += [
        ("exports", "model-int8.onnx", "bytes"),
        ("exports", "model-int8.onnx", "metrics", "test", BALANCED, "calibration_error"),
        ("exports", "model-int8.onnx", "metrics", UNTWINNED, BALANCED, "accuracy"),
        ("metrics", "test", BALANCED, "accuracy"),
        ("metrics", "test", BALANCED, "intervals", "auc", 1),
        ("metrics", "test", BALANCED, "confusion", 0, 1),
        ("metrics", "test", BALANCED, "intervals", "specificity", task.labels[0], 0),
        ("metrics", "test", HIGH_SENSITIVITY, "threshold"),
        ("metrics", "test", HIGH_SENSITIVITY, "specificity", task.alert),
        ("metrics", UNTWINNED, BALANCED, "images"),
        ("metrics", UNTWINNED, BALANCED, "auc"),
    ]
    assert len(paths) > 30
    for path in paths:
        assert render_card(task, changed(manifest, path)) != text, path
    manifest["data"]["kept_out"].pop()
    assert render_card(task, manifest) != text


@BOTH
def test_each_figure_stands_in_its_row_and_column(task: Task) -> None:
    manifest = made(task)
    text = render_card(task, manifest)
    own = manifest["metrics"]["test"][BALANCED]
    exported = manifest["exports"]["model-int8.onnx"]["metrics"]["test"][BALANCED]
    for key in ("accuracy", "balanced_accuracy", "calibration_error"):
        name = key.replace("calibration", "expected calibration").replace("_", " ")
        cells = [with_interval(each[key], each["intervals"][key]) for each in (own, exported)]
        assert row_of(text, name) == f"| {name} | {cells[0]} | {cells[1]} |"
    megabytes = [
        manifest[part][name]["bytes"] / 1e6
        for part, name in (("files", "model.keras"), ("exports", "model-int8.onnx"))
    ]
    assert row_of(text, "size") == f"| size | {megabytes[0]:.2f} MB | {megabytes[1]:.2f} MB |"
    label = task.labels[0]
    cells = [
        str(sum(own["confusion"][0])),
        *(
            with_interval(own[key][label], own["intervals"][key][label])
            for key in ("sensitivity", "specificity")
        ),
    ]
    if not task.binary:
        cells.append(f"{own['class_auc'][label]:.3f}")
    lines = [line.strip() for line in text.splitlines()]
    assert f"| {label} | {' | '.join(cells)} |" in lines
    cell = manifest["by_source"][0]
    found = [f"{cell[key]['found']} of {cell[key]['images']}" for key in ("validation", "test")]
    assert f"| {label} | hospital | {cell['train']} | {found[0]} | {found[1]} |" in lines


@BOTH
def test_every_table_has_as_many_cells_in_each_row(task: Task) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", render_card(task, made(task)), re.MULTILINE)
    assert len(tables) == 5
    for table in tables:
        lines = [line.strip() for line in table.splitlines()]
        assert len({line.count("|") for line in lines}) == 1, table
        assert re.fullmatch(r"\|(-+:?\|)+", lines[1])
        assert len(lines) > 2


def test_a_threshold_is_told_with_its_label() -> None:
    rows = point_rows(SKIN, made(SKIN))
    threshold = made(SKIN)["metrics"]["test"][HIGH_SENSITIVITY]["threshold"]
    assert [(row["name"], row["rule"]) for row in rows] == [
        (BALANCED, "the likeliest label"),
        (HIGH_SENSITIVITY, f"melanoma from {threshold:.3f}"),
    ]


def test_the_classes_that_are_mostly_missed_are_named() -> None:
    manifest = made(SKIN)
    sensitivity = manifest["metrics"]["test"][BALANCED]["sensitivity"]
    sensitivity.update(dict.fromkeys(SKIN.labels, 0.5))
    assert "Weakest" not in render_card(SKIN, manifest)
    sensitivity.update({"melanoma": 0.25, "nevus": 0.499, "vascular lesion": None})
    text = render_card(SKIN, manifest)
    assert "Weakest: melanoma (25% found), nevus (50% found)." in text


def test_the_seeds_figures_stand_before_the_originals() -> None:
    columns = figure_columns(made(PNEUMONIA), made(PNEUMONIA, 41))
    assert [column["name"] for column in columns] == ["seed", "original", "`model-int8.onnx`"]
    cells = next(
        row["cells"] for row in figure_rows(PNEUMONIA, columns) if row["name"] == "accuracy"
    )
    accuracies = [column["metrics"]["test"][BALANCED]["accuracy"] for column in columns]
    assert [cell.split()[0] for cell in cells] == [f"{value:.3f}" for value in accuracies]


# Missing values


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
    row = class_rows(SKIN, manifest)[SKIN.labels.index("nevus")]
    assert row == {
        "label": "nevus",
        "images": "0",
        "sensitivity": "-",
        "specificity": "-",
        "auc": "-",
    }
    assert "| nevus | 0 | - | - | - |" in render_card(SKIN, manifest)
    assert "None" not in render_card(SKIN, manifest)


@BOTH
def test_a_manifest_without_validation_exports_twins_or_sources_gives_a_card(task: Task) -> None:
    manifest = made(task)
    del manifest["data"]["counts"]["validation"]
    del manifest["metrics"][UNTWINNED]
    manifest["by_source"] = []
    manifest["exports"] = {"model-fp16.tflite": {"bytes": 1}}  # exported without data
    manifest["data"]["on_conflict"] = None
    text = render_card(task, manifest)
    assert " 0 validation, " in text
    assert "trained on all as it lies" in text
    assert "By source" not in text
    assert "twin" not in text
    assert "model-fp16" not in text
    assert re.search(r"^\| \| original \| *$", text, re.MULTILINE)


def test_an_export_without_the_untwinned_figures_has_dashes_there() -> None:
    manifest = made(PNEUMONIA)
    del manifest["exports"]["model-int8.onnx"]["metrics"][UNTWINNED]
    assert row_of(render_card(PNEUMONIA, manifest), "AUC on them").endswith(") | - |")


def test_a_card_does_not_say_what_was_not_done() -> None:
    manifest = made(PNEUMONIA)
    del manifest["data"]["counts"]["validation"]
    manifest["chosen_on"] = "nothing: fixed"
    text = render_card(PNEUMONIA, manifest).lower()
    assert "chosen on validation" not in text


@BOTH
@pytest.mark.parametrize("key", ["temperature", "versions", "seed", "epochs"])
def test_a_manifest_without_a_needed_value_fails(task: Task, key: str) -> None:
    manifest = made(task)
    del manifest[key]
    with pytest.raises(jinja2.UndefinedError, match=key):
        render_card(task, manifest)


# Words


@BOTH
def test_a_card_says_what_it_is_not_for(task: Task) -> None:
    text = render_card(task, made(task))
    assert "A prediction is not a diagnosis." in text
    for trap in traps(task):
        assert f"- {trap}\n" in text
    assert ("adult" in text) == (task is PNEUMONIA)
    assert ("misses melanomas" in text) == (task is SKIN)
    assert ("research only" in text) == (task is SKIN)


def test_a_card_is_no_html_and_escapes_nothing() -> None:
    manifest = made(PNEUMONIA)
    manifest["by_source"][0]["source"] = "St. Mary's & <Sons>"
    assert "| St. Mary's & <Sons> |" in render_card(PNEUMONIA, manifest)


def test_the_commands_of_a_card_repeat_the_run() -> None:
    manifest = made(PNEUMONIA)
    manifest["recipe"]["name"] = "seed"
    text = render_card(PNEUMONIA, manifest)
    (line,) = [line for line in text.splitlines() if line.startswith("medkit train")]
    assert f"--seed {manifest['seed']} " in line
    assert "--recipe seed" in line


# Files


def test_a_card_is_written_beside_the_manifest(tmp_path: Path) -> None:
    manifest = made(SKIN)
    path = write_card(Bundle(tmp_path, SKIN, manifest))
    assert path == tmp_path / "MODEL_CARD.md"
    assert path.read_text(encoding="utf-8") == render_card(SKIN, manifest)
    assert path.read_text(encoding="utf-8").endswith(".\n")


@BOTH
def test_the_shipped_card_is_that_of_the_shipped_manifest(task: Task) -> None:
    folder = ROOT / "trained" / task.name
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert (folder / CARD_FILE).read_text(encoding="utf-8") == render_card(task, manifest)
