"""The labels that names of class folders stand for, and the map of other spellings."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from medkit.datasets.labels import Labels, fold, near_miss, read_labels_map
from medkit.errors import UsageError
from medkit.system import names
from medkit.tasks import PNEUMONIA, SKIN, TASKS


def refusal(*given: str, tasks: bool = True) -> str:
    """Return why a map is refused."""
    with pytest.raises(UsageError) as caught:
        read_labels_map(given, list(TASKS.values()) if tasks else [])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("--labels-map ")
    return message


@pytest.mark.parametrize("spelling", ["NORMAL", "normal", "Normal"])
def test_case_is_no_matter(spelling: str) -> None:
    assert Labels.of(PNEUMONIA).label_of(spelling) == "NORMAL"


def test_both_forms_of_unicode_are_one_name() -> None:
    labels = Labels(("nævus é",))
    for form in ("NFC", "NFD"):
        assert labels.label_of(unicodedata.normalize(form, "NÆVUS É")) == "nævus é"
    assert fold("é") == fold("e\u0301") == fold("É")


@pytest.mark.parametrize("name", ["basal_cell_carcinoma", "NORMALS", "x", ""])
def test_other_spellings_stand_for_nothing(name: str) -> None:
    assert Labels.of(SKIN).label_of(name) is None
    assert name not in Labels.of(SKIN)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("basal_cell_carcinoma", "basal cell carcinoma"),
        ("melanom", "melanoma"),
        ("Vascular-Lesions", "vascular lesion"),
        ("cat", None),
    ],
)
def test_a_near_miss_is_answered_with_what_was_meant(name: str, meant: str | None) -> None:
    assert near_miss(name, SKIN.labels) == (f"; did you mean {meant!r}?" if meant else "")


def test_a_map_is_pairs_and_files_of_pairs(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("\ufeff# what we call them\n\nKrank = pneumonia\na=b=NORMAL\nrest=\n")
    found = read_labels_map([str(file), "mole=nevus"], list(TASKS.values()))
    assert found == {"krank": "pneumonia", "a=b": "NORMAL", "rest": "", "mole": "nevus"}
    xrays = Labels.of(PNEUMONIA, found)
    assert [xrays.label_of(name) for name in ("KRANK", "a=b", "rest", "normal", "mole")] == [
        "PNEUMONIA", "NORMAL", "", "NORMAL", None,
    ]  # fmt: skip
    assert Labels.of(SKIN, found).label_of("mole") == "nevus"


def test_a_map_comes_before_the_name_itself() -> None:
    assert Labels.of(PNEUMONIA, read_labels_map(["normal="])).label_of("NORMAL") == ""


def test_what_is_no_map_is_refused(tmp_path: Path) -> None:
    assert "'no_pair' is no pair and no file; accepted: spelling=label" in refusal("no_pair")
    assert "'=NORMAL' is no pair" in refusal("=NORMAL")
    message = refusal("sick=PNEUMONA")
    assert "no task here has the label 'PNEUMONA'" in message
    assert message.endswith("did you mean 'PNEUMONIA'?")
    assert "'SICK' is 'NORMAL' already" in refusal("sick=NORMAL", "SICK=PNEUMONIA")
    assert read_labels_map(["sick=NORMAL", "SICK=normal"]) == {"sick": "NORMAL"}
    file = tmp_path / "labels.txt"
    file.write_text("sick=PNEUMONIA\nwrong\n")
    assert f"{file}, line 2: 'wrong' is no pair" in refusal(str(file))
    file.write_bytes(b"\xff\xfe=NORMAL")
    assert "is no UTF-8 text" in refusal(str(file))


def test_without_a_task_any_label_is_accepted() -> None:
    labels = Labels(None, read_labels_map(["kitten=cat"]))
    assert [labels.label_of(name) for name in ("kitten", "dog")] == ["cat", "dog"]


def test_a_spelling_counts_with_its_spaces() -> None:
    labels = Labels.of(PNEUMONIA, read_labels_map(["NORMAL =PNEUMONIA"], [PNEUMONIA]))
    assert (labels.label_of("NORMAL "), labels.label_of("NORMAL")) == ("PNEUMONIA", "NORMAL")


def test_quotes_in_a_file_hold_what_else_would_be_lost(tmp_path: Path) -> None:
    lines = ("# a remark", '"#sick"=PNEUMONIA', '"NORMAL "=NORMAL', "  well = NORMAL")
    (tmp_path / "map").write_text("\n".join(lines))
    assert read_labels_map([str(tmp_path / "map")], [PNEUMONIA]) == {
        "#sick": "PNEUMONIA", "normal ": "NORMAL", "well": "NORMAL",
    }  # fmt: skip


def test_the_locale_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an ASCII locale, Python makes a lone surrogate of each byte of a name in UTF-8."""
    monkeypatch.setattr(names, "_UTF_8", False)
    seen = "Gesünder".encode().decode("ascii", "surrogateescape")
    labels = Labels.of(PNEUMONIA, {"gesünder": "NORMAL"})
    assert labels.label_of(seen) == "NORMAL"
    assert labels.remarks() == []
    assert read_labels_map([f"{seen}=NORMAL"]) == {"gesünder": "NORMAL"}
    assert Labels(None).label_of(seen) == "Gesünder"


def test_what_is_probably_meant_is_told_for_each_folder() -> None:
    told = Labels.of(PNEUMONIA).probably(["Norml", "pnuemonia", "results"])
    assert told == (
        "; if these are misspelt, rename them or give --labels-map 'Norml=NORMAL' "
        "--labels-map 'pnuemonia=PNEUMONIA'"
    )
    assert Labels.of(SKIN).how_to_name(["nevi"]).endswith("; did you mean 'nevus'?")
