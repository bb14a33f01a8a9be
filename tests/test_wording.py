"""Words that messages have in common."""

from __future__ import annotations

import pytest

from medkit.wording import counted, nearest, unknown

NAMES = ("pneumonia", "skin", "high-sensitivity", "onnx")


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "error", "0 errors"),
        (1, "error", "1 error"),
        (2, "error", "2 errors"),
        (1200, "image", "1,200 images"),
    ],
)
def test_a_number_has_the_right_form_of_its_noun(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


def test_a_plural_of_its_own_is_used_for_several() -> None:
    assert counted(1, "class", "classes") == "1 class"
    assert counted(9, "class", "classes") == "9 classes"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pnuemonia", "pneumonia"),
        ("Pneumonia", "pneumonia"),
        ("SKIN", "skin"),
        ("high_sensitivity", "high-sensitivity"),
        ("pneu", "pneumonia"),
        ("onxn", "onnx"),
        ("brain", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_found_if_one_is_near(typed: str, meant: str | None) -> None:
    assert nearest(typed, NAMES) == meant


def test_nothing_is_near_if_there_is_nothing() -> None:
    assert nearest("skin", ()) is None


def test_a_name_is_returned_as_it_is_written() -> None:
    assert nearest("melanom", ["Melanoma", "Nevus"]) == "Melanoma"


def test_a_message_about_a_name_tells_what_is_accepted() -> None:
    assert unknown("task", "brain", NAMES[:2]) == "unknown task 'brain'; accepted: pneumonia, skin"
    assert unknown("task", "skinn", NAMES[:2], of="training") == (
        "unknown task 'skinn' for training; did you mean skin? accepted: pneumonia, skin"
    )
