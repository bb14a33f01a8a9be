"""The notes of a row: few words, in one order, each explained."""

from __future__ import annotations

from pathlib import Path

from medkit.images.notes import ALPHA_IGNORED, DEPTH_GUESSED, NOTES, joined


def test_notes_stand_in_one_order_whichever_came_first() -> None:
    both = "depth guessed;alpha ignored"
    assert joined((ALPHA_IGNORED, DEPTH_GUESSED)) == both
    assert joined((DEPTH_GUESSED, ALPHA_IGNORED, DEPTH_GUESSED)) == both
    assert joined(()) == ""


def test_each_note_is_explained_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "input.md").read_text(encoding="utf-8")
    part = page.split("\n## Notes\n")[1].split("\n## ")[0]
    explained = [line.split("`")[1] for line in part.splitlines() if line.startswith("| `")]
    assert explained == list(NOTES)


def test_no_note_holds_what_separates_two() -> None:
    assert not any(";" in note for note in NOTES)
