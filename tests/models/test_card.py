"""Model cards: what is believed, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bundles import BOTH, NO_POINTS, NO_TEMPERATURES, WHERE, points
from medkit.defaults import BALANCED
from medkit.errors import ContractMismatchError, ModelFileError
from medkit.models.card import ModelCard
from medkit.models.points import OperatingPoint
from medkit.tasks import PNEUMONIA, SKIN, Task


def card(task: Task = PNEUMONIA) -> ModelCard:
    return ModelCard(
        task.name, task.labels, task.contract, 1.25, points(task), "int8", "0.1.0", "ab12"
    )


def edited(**changes: Any) -> str:
    """Return the JSON of a card with other values; ``None`` takes a key away."""
    values = {**json.loads(card().to_json()), **changes}
    return json.dumps({key: value for key, value in values.items() if value is not None})


@BOTH
def test_a_card_survives_json(task: Task) -> None:
    assert ModelCard.from_json(card(task).to_json(), WHERE) == card(task)
    assert ModelCard.from_json(card(task).to_json().encode(), WHERE) == card(task)


@BOTH
def test_a_card_knows_its_contract(task: Task) -> None:
    read = ModelCard.from_json(card(task).to_json(), WHERE)
    assert read.contract == read.input_contract == task.contract


def test_the_same_card_gives_the_same_json() -> None:
    assert card().to_json() == replace(card()).to_json()
    assert "\n" not in card().to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"card"',
        b"\xff\xfe",
        "{}",
        card().to_json()[:-9],
        "[" * 100_000,
        edited(labels=None),
        edited(labels=7),
        edited(task=None),
        edited(task=["pneumonia"]),
        edited(contract=None),
        edited(contract="none"),
        edited(contract=[1]),
        edited(version=None),
        edited(colour="red"),
        edited(temperature=None),
        edited(operating_points=None),
        *(edited(temperature=value) for value in NO_TEMPERATURES),
        *(edited(operating_points=value) for value in NO_POINTS),
    ],
)
def test_a_damaged_card_is_refused_in_one_line(text: str | bytes) -> None:
    with pytest.raises(ModelFileError, match=r"^model\.tflite: its medkit card .*") as caught:
        ModelCard.from_json(text, WHERE)
    assert "cannot be read" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_foreign_labels_are_refused_and_both_sides_are_named() -> None:
    for labels in (["healthy", "sick"], list(reversed(PNEUMONIA.labels)), list(SKIN.labels), []):
        with pytest.raises(ModelFileError) as caught:
            ModelCard.from_json(edited(labels=labels), WHERE)
        assert f"its labels {labels} are not those of task pneumonia" in str(caught.value)
        assert str(list(PNEUMONIA.labels)) in str(caught.value)


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (replace(PNEUMONIA.contract, width=2240).to_dict(), "a side of 2240 instead of 32 to 1024"),
        (replace(PNEUMONIA.contract, channels=2).to_dict(), "channels 2 instead of 1"),
        (replace(PNEUMONIA.contract, resize="crop").to_dict(), "resize 'crop' instead of"),
        ({**PNEUMONIA.contract.to_dict(), "hash": "0"}, "hash '0' instead of"),
        ({}, "has no field 'width'"),
    ],
)
def test_a_foreign_contract_is_refused(contract: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractMismatchError, match=rf"^model\.tflite was made for .*{message}"):
        ModelCard.from_json(edited(contract=contract), WHERE)


def test_a_card_of_the_first_version_is_read_with_its_threshold() -> None:
    values = json.loads(edited(temperature=None, operating_points=None))
    for threshold, label in ((0.25, "PNEUMONIA"), (None, None)):
        old = ModelCard.from_json(json.dumps({**values, "threshold": threshold}), WHERE)
        assert old.temperature == 1
        assert old.operating_points == {BALANCED: OperatingPoint(BALANCED, label, threshold)}
        assert old.source_sha256 == "ab12"


@pytest.mark.parametrize("threshold", ["high", 1.5, []])
def test_a_threshold_of_the_first_version_that_cannot_be_obeyed_is_refused(threshold: Any) -> None:
    values = json.loads(edited(temperature=None, operating_points=None))
    with pytest.raises(ModelFileError, match="its medkit card cannot be read"):
        ModelCard.from_json(json.dumps({**values, "threshold": threshold}), WHERE)
