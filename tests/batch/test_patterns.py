"""Which names the patterns of ``--include`` and ``--exclude`` match, and what they bring in."""

from __future__ import annotations

import pytest

from medkit.batch.patterns import Patterns

APART, ONE = "bru\u0308che.png", "br\u00fcche.png"


@pytest.mark.parametrize("name", [APART, ONE, f"sub/{APART}", f"sub/{ONE}", ONE.upper()])
@pytest.mark.parametrize("pattern", ["bru\u0308*", "br\u00fc*", "BR\u00dcCHE.PNG", "br[u\u00fc]*"])
def test_accents_match_whether_they_are_one_with_their_letter_or_apart(
    name: str, pattern: str
) -> None:
    assert not Patterns(exclude=(pattern,)).let_through(name)
    assert Patterns(include=(pattern,)).let_through(name)
    assert not Patterns(include=("other*",)).let_through(name)


def test_a_name_that_is_matched_as_it_is_written_is_matched() -> None:
    assert Patterns(include=("bru?che.png",)).let_through(APART)
    assert Patterns(include=("br?che.png",)).let_through(APART)
    assert not Patterns(include=("br?che.png",)).let_through("brauche.png")


@pytest.mark.parametrize(
    ("pattern", "name", "suffix", "brought"),
    [
        ("*.dcm", "a.dcm", ".dcm", True),
        ("*.DCM", "sub/a.dcm", ".dcm", True),
        ("*.dc?", "a.dcm", ".dcm", True),
        ("a.dcm", "a.dcm", ".dcm", True),
        ("sub/*.dcm", "sub/a.dcm", ".dcm", True),
        ("*", "a.dcm", ".dcm", False),
        ("sub/*", "sub/a.dcm", ".dcm", False),
        ("person1*", "person1.json", ".json", False),
        ("scan.*", "scan.json", ".json", False),
        ("IM_*", "IM_0007", "", True),
        ("*", "IM_0007", "", False),
        ("1.2.*", "1.2.840", "", True),
        ("*.png", "._a.png", ".png", False),
        (".*", "._a.png", ".png", True),
        (".*.png", "sub/._a.png", ".png", True),
        ("*.png", "a.dcm", ".dcm", False),
    ],
)
def test_a_pattern_brings_in_what_it_spells(
    pattern: str, name: str, suffix: str, brought: bool
) -> None:
    assert Patterns(include=(pattern,)).bring_in(name, suffix) is brought
    assert not Patterns(exclude=(pattern,)).bring_in(name, suffix)


def test_a_hidden_folder_is_looked_into_if_a_pattern_names_it() -> None:
    assert Patterns(include=(".cache/*.png",)).lead_into(".cache")
    assert Patterns(include=("__MACOSX/*",)).lead_into("__MACOSX")
    assert not Patterns(include=("*/*.png", "cache/*", ".*")).lead_into(".cache")
