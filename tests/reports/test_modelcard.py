"""Model cards: every number is the manifest's, and the shipped cards are up to date."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mademanifests import made, typed
from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.errors import ModelFileError
from medkit.evaluation.metrics import DEDUPLICATED
from medkit.models.bundle import Bundle
from medkit.models.manifest import MANIFEST_NAME, read_manifest
from medkit.reports.modelcard import CARD_FILE, render_card, write_card
from medkit.reports.tables import with_interval
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task, TaskNotes

ROOT = Path(__file__).resolve().parents[2]
BOTH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)

# Of the rule by which every interval is computed: the same in every card.
FIXED = {"95"}


def card(task: Task, manifest: dict[str, Any]) -> str:
    """Return the card of a stored manifest."""
    return render_card(task, typed(manifest))


def numbers_in(text: str, task: Task) -> list[str]:
    """Return the numbers of a card that are no part of a name or of the task's own words."""
    shown = text[text.index("# Model card") :]
    for words in (*task.notes.traps, task.published.source, task.title):
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
    first, second = (numbers_in(card(task, made(task, start)), task) for start in (0, 41))
    assert len(first) == len(second) > 50
    same = {one for one, other in zip(first, second, strict=True) if one == other}
    assert same <= FIXED


@BOTH
def test_a_number_that_changes_in_the_manifest_changes_the_card(task: Task) -> None:
    manifest = made(task)
    text = card(task, manifest)
    elsewhere = ("metrics", "exports", "contract", "recipe")  # other tests, or not in a card
    paths = [path for path in leaves(manifest) if path[0] not in elsewhere]
    paths += [
        ("exports", "model-int8.onnx", "bytes"),
        ("exports", "model-int8.onnx", "metrics", "test", BALANCED, "calibration_error"),
        ("exports", "model-int8.onnx", "metrics", DEDUPLICATED, BALANCED, "accuracy"),
        ("metrics", "test", BALANCED, "accuracy"),
        ("metrics", "test", BALANCED, "intervals", "auc", 1),
        ("metrics", "test", BALANCED, "confusion", 0, 1),
        ("metrics", "test", BALANCED, "intervals", "specificity", task.labels[0], 0),
        ("metrics", "test", HIGH_SENSITIVITY, "threshold"),
        ("metrics", "test", HIGH_SENSITIVITY, "specificity", task.alert),
        ("metrics", DEDUPLICATED, BALANCED, "images"),
        ("metrics", DEDUPLICATED, BALANCED, "auc"),
    ]
    assert len(paths) > 30
    for path in paths:
        assert card(task, changed(manifest, path)) != text, path
    manifest["data"]["kept_out"].pop()
    assert card(task, manifest) != text


@BOTH
def test_each_figure_stands_in_its_row_and_column(task: Task) -> None:
    manifest = made(task)
    text = card(task, manifest)
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
    tables = re.findall(r"(?:^\|.*\n)+", card(task, made(task)), re.MULTILINE)
    assert len(tables) == 5
    for table in tables:
        lines = [line.strip() for line in table.splitlines()]
        assert len({line.count("|") for line in lines}) == 1, table
        assert re.fullmatch(r"\|(-+:?\|)+", lines[1])
        assert len(lines) > 2


def test_the_classes_that_are_mostly_missed_are_named() -> None:
    manifest = made(SKIN)
    sensitivity = manifest["metrics"]["test"][BALANCED]["sensitivity"]
    sensitivity.update(dict.fromkeys(SKIN.labels, 0.5))
    assert "Weakest" not in card(SKIN, manifest)
    sensitivity.update({"melanoma": 0.25, "nevus": 0.499, "vascular lesion": None})
    text = card(SKIN, manifest)
    assert "Weakest: melanoma (25% found), nevus (50% found)." in text


# Missing values


@BOTH
def test_a_manifest_without_validation_exports_twins_or_sources_gives_a_card(task: Task) -> None:
    manifest = made(task)
    del manifest["data"]["counts"]["validation"]
    del manifest["metrics"][DEDUPLICATED]
    manifest["by_source"] = []
    entry = {"bytes": 1, "sha256": "ab" * 32, "precision": "fp16"}  # exported without data
    manifest["exports"] = {"model-fp16.tflite": entry}
    manifest["data"]["on_conflict"] = None
    text = card(task, manifest)
    assert " 0 validation, " in text
    assert "trained on all as it lies" in text
    assert "By source" not in text
    assert "twin" not in text
    assert "model-fp16" not in text
    assert re.search(r"^\| \| original \| *$", text, re.MULTILINE)


def test_an_export_without_the_deduplicated_figures_has_dashes_there() -> None:
    manifest = made(PNEUMONIA)
    del manifest["exports"]["model-int8.onnx"]["metrics"][DEDUPLICATED]
    assert row_of(card(PNEUMONIA, manifest), "AUC on them").endswith(") | - |")


def test_a_card_does_not_say_what_was_not_done() -> None:
    manifest = made(PNEUMONIA)
    del manifest["data"]["counts"]["validation"]
    manifest["chosen_on"] = "nothing: fixed"
    text = card(PNEUMONIA, manifest).lower()
    assert "chosen on validation" not in text


@BOTH
@pytest.mark.parametrize("key", ["temperature", "labels", "contract", "operating_points", "files"])
def test_a_manifest_without_a_needed_value_fails(task: Task, key: str) -> None:
    manifest = made(task)
    del manifest[key]
    with pytest.raises(ModelFileError, match=f"has no field '{key}'"):
        card(task, manifest)


@BOTH
def test_a_card_of_a_model_that_was_trained_elsewhere_leaves_out_what_is_not_known(
    task: Task,
) -> None:
    stored = made(task)
    needed = ("labels", "contract", "temperature", "operating_points", "files")
    manifest = {key: stored[key] for key in needed}
    unknown = dataclasses.replace(task, name="other", layout=None, notes=TaskNotes())
    text = card(unknown, manifest)
    assert "A prediction is not a diagnosis." in text
    assert "| network | trained elsewhere |" in text
    assert f"SHA-256 `{stored['files']['model.keras']['sha256']}`.\n" in text
    headings = re.findall("^#+ (.*)$", text, re.MULTILINE)
    assert headings == ["Model card: other", "Intended use, and misuse", "Network and data"]
    for word in ("None", "medkit train", "licence of the weights", "kept out", "0.00"):
        assert word not in text, word


def test_a_source_without_validation_has_a_dash_there() -> None:
    manifest = made(SKIN)
    del manifest["by_source"][0]["validation"]
    found = manifest["by_source"][0]
    counts = f"{found['test']['found']} of {found['test']['images']}"
    assert f"| hospital | {found['train']} | - | {counts} |" in card(SKIN, manifest)


# Words


@BOTH
def test_a_card_says_what_it_is_not_for(task: Task) -> None:
    text = card(task, made(task))
    assert "A prediction is not a diagnosis." in text
    for trap in task.notes.traps:
        assert f"- {trap}\n" in text
    assert ("adult" in text) == (task is PNEUMONIA)
    assert ("misses melanomas" in text) == (task is SKIN)
    assert ("research only" in text) == (task is SKIN)


def test_a_card_is_no_html_and_escapes_nothing() -> None:
    manifest = made(PNEUMONIA)
    manifest["by_source"][0]["source"] = "St. Mary's & <Sons>"
    assert "| St. Mary's & <Sons> |" in card(PNEUMONIA, manifest)


def test_the_commands_of_a_card_repeat_the_run() -> None:
    manifest = made(PNEUMONIA)
    manifest["recipe"]["name"] = "seed"
    text = card(PNEUMONIA, manifest)
    (line,) = [line for line in text.splitlines() if line.startswith("medkit train")]
    assert f"--seed {manifest['seed']} " in line
    assert "--recipe seed" in line


# Files


def test_a_card_is_written_beside_the_manifest(tmp_path: Path) -> None:
    manifest = made(SKIN)
    path = write_card(Bundle(tmp_path, SKIN, typed(manifest)))
    assert path == tmp_path / "MODEL_CARD.md"
    assert path.read_text(encoding="utf-8") == card(SKIN, manifest)
    assert path.read_text(encoding="utf-8").endswith(".\n")


@BOTH
def test_the_shipped_card_is_that_of_the_shipped_manifest(task: Task) -> None:
    folder = ROOT / "trained" / task.name
    manifest = read_manifest(folder / MANIFEST_NAME)
    assert (folder / CARD_FILE).read_text(encoding="utf-8") == render_card(task, manifest)


@BOTH
def test_a_card_of_ones_own_data_says_nothing_of_the_published_ones(task: Task) -> None:
    manifest = made(task)
    published = card(task, manifest)
    manifest["data"]["sha256"]["test"] = "0" * 64
    manifest["data"]["source"] = task.published.source  # as older runs wrote it down
    own = card(task, manifest)
    notes = task.notes
    for known in ("official", task.published.source, notes.licence, notes.misuse, *notes.traps):
        assert known in published
        assert known not in own
    assert "On the test split of its data (" in own


@BOTH
def test_the_shipped_models_are_known_to_be_of_the_published_data(task: Task) -> None:
    stored = read_manifest(ROOT / "trained" / task.name / MANIFEST_NAME)
    assert task.published.test_sha256 == stored.data.sha256["test"]
