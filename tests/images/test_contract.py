"""The input contract: its hash, and which ones are refused."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import pytest

from medkit.errors import ContractMismatchError
from medkit.images.contract import FULL_SCALE, RULES, SCALED, InputContract, decoder_for
from medkit.images.resize import GEOMETRIES, KERNELS, RESIZE_RULES
from medkit.tasks import PNEUMONIA, SKIN

GREY, RGB = PNEUMONIA.contract, SKIN.contract


@pytest.mark.parametrize("field", [field.name for field in fields(InputContract)])
def test_every_field_of_the_contract_is_in_its_hash(field: str) -> None:
    value = getattr(RGB, field)
    changed = replace(RGB, **{field: value + 1 if isinstance(value, int) else f"{value}-2"})
    assert changed.hash != RGB.hash
    assert changed.to_dict() == {**RGB.to_dict(), field: getattr(changed, field)} | {
        "hash": changed.hash
    }


def test_the_hashes_that_model_files_carry() -> None:
    refused = "every model file in use is refused from now on: export them again"
    contracts = {task.name: task.contract for task in (PNEUMONIA, SKIN)}
    before = {
        name: replace(contract, colour="depth-by-maximum:alpha-on-black:luma-601")
        for name, contract in contracts.items()
    }
    assert {name: contract.hash for name, contract in before.items()} == {
        "pneumonia": "6b74df69fa5bb7ac",
        "skin": "9dd38a0dc38ecdc5",
    }, refused
    for name, contract in before.items():
        assert InputContract.from_dict(contract.to_dict(), name) == contract, refused
    assert {name: contract.hash for name, contract in contracts.items()} == {
        "pneumonia": "cd3f39b31f386a2e",
        "skin": "4e9e40c661fdda6e",
    }, refused


def test_a_contract_accepts_its_own_record() -> None:
    assert InputContract.from_dict(GREY.to_dict(), "model.tflite") == GREY


def test_a_contract_of_another_size_is_accepted() -> None:
    wide = InputContract(width=224, height=160, channels=3)
    assert InputContract.from_dict(wide.to_dict(), "model.tflite") == wide
    assert wide.shape == (160, 224, 3)
    assert wide.least_side == 448


@pytest.mark.parametrize("rule", RESIZE_RULES)
def test_every_rule_of_resize_is_accepted_with_the_decoder_that_suits_it(rule: str) -> None:
    contract = replace(RGB, width=299, height=1024, resize=rule, decoder=decoder_for(rule))
    assert InputContract.from_dict(contract.to_dict(), "model.tflite") == contract


@pytest.mark.parametrize("rule", RESIZE_RULES)
def test_a_decoder_that_does_not_scale_suits_every_rule(rule: str) -> None:
    contract = replace(RGB, resize=rule, decoder=FULL_SCALE)
    assert InputContract.from_dict(contract.to_dict(), "model.tflite").least_side is None


def test_a_kernel_that_sees_single_pixels_must_see_those_of_the_file() -> None:
    changed = {"resize": "crop:tf-bilinear", "decoder": SCALED}
    problem = (
        "resize 'crop:tf-bilinear' has no antialiasing, so decoder must be "
        "'pillow:first-frame:full-scale' instead of 'pillow:first-frame:jpeg-scale-to-2x'"
    )
    with pytest.raises(ValueError, match=re.escape(problem)):
        replace(RGB, **changed)  # type: ignore[arg-type]
    with pytest.raises(ContractMismatchError) as caught:
        InputContract.from_dict({**RGB.to_dict(), **changed}, "task.toml")
    assert str(caught.value) == (
        f"task.toml was made for other preprocessing ({problem}); "
        "export it again with this version of medkit"
    )


def test_antialiased_kernels_may_be_shown_a_smaller_scale() -> None:
    scaled = {rule.partition(":")[2] for rule in RESIZE_RULES if decoder_for(rule) == SCALED}
    assert scaled == {
        "pillow-bilinear-antialias",
        "pillow-bicubic-antialias",
        "tf-bilinear-antialias",
        "opencv-area",
    }


def test_a_foreign_contract_is_refused_and_both_sides_are_named() -> None:
    stored = replace(RGB, resize="crop", decoder="mine").to_dict()
    with pytest.raises(ContractMismatchError) as caught:
        InputContract.from_dict(stored, "model.tflite")
    assert str(caught.value) == (
        "model.tflite was made for other preprocessing (decoder 'mine' instead of "
        "'pillow:first-frame:jpeg-scale-to-2x' or 'pillow:first-frame:full-scale'; "
        "resize 'crop' instead of GEOMETRY:KERNEL with a geometry of "
        f"{', '.join(GEOMETRIES)} and a kernel of {', '.join(KERNELS)}); "
        "export it again with this version of medkit"
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"channels": 2}, "channels 2 instead of 1 or 3"),
        ({"width": 16}, "a side of 16 instead of 32 to 1024 pixels"),
        ({"height": 2048}, "a side of 2048 instead of 32 to 1024 pixels"),
    ],
)
def test_a_contract_that_cannot_be_performed_is_refused(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ContractMismatchError, match=problem):
        InputContract.from_dict(replace(RGB, **changes).to_dict(), "model.tflite")


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        ({**RGB.to_dict(), "hash": "0"}, "hash '0' instead of"),
        ({}, "has no field 'width'"),
        ({"hash": RGB.hash}, "has no field 'width'"),
        ({**RGB.to_dict(), "width": "128"}, "width is '128', not a whole number"),
        ([], "is \\[\\], not an object"),
    ],
)
def test_a_record_that_is_incomplete_or_false_is_refused(stored: Any, problem: str) -> None:
    with pytest.raises(ContractMismatchError, match=problem):
        InputContract.from_dict(stored, "model.tflite")


def test_every_rule_has_one_name_that_is_the_default() -> None:
    for name, known in RULES.items():
        assert getattr(RGB, name) == known[0]
