"""The folder of an unfinished run: what is kept, and which run may continue it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("keras")

import keras

from medkit.errors import MedkitError, TrainingError
from medkit.models.manifest import EpochRecord
from medkit.training import RECIPES
from medkit.training.checkpoint import Checkpoint, Identity, State
from trainingruns import MakeRecorder, Shorten, contents, stages, train


def identity(**changes: Any) -> Identity:
    given = {"task": "pneumonia", "recipe": RECIPES["pneumonia", "default"], "seed": 3}
    return Identity(**{**given, "data": {"train": "ab"}, "compute_type": "float32", **changes})


def kept(folder: Path) -> State:
    """Save the state of a run after its second epoch."""
    records = tuple(EpochRecord(n, 0, 0.7, 1e-3, 0.5 / n, 0.8, 0.9) for n in (1, 2))
    state = State(stage=0, epoch=2, history=records, best_loss=0.25, best_epoch=2)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    Checkpoint(folder, identity()).save(model, state, is_best=True)
    return state


def test_a_state_is_read_as_it_was_saved(tmp_path: Path) -> None:
    state = kept(tmp_path / "unfinished")
    checkpoint = Checkpoint(tmp_path / "unfinished", identity())
    assert checkpoint.load() == state
    assert sorted(path.name for path in (tmp_path / "unfinished").iterdir()) == [
        "best-2.weights.h5",
        "last-2.keras",
        "state.json",
    ]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"task": "skin"}, "task"),
        ({"recipe": RECIPES["pneumonia", "seed"]}, "recipe"),
        ({"seed": 4}, "seed"),
        ({"data": {"train": "cd"}}, "data"),
        ({"compute_type": "mixed_bfloat16"}, "compute type"),
    ],
)
def test_a_run_with_another_identity_is_not_continued(
    tmp_path: Path, changes: dict[str, Any], name: str
) -> None:
    kept(tmp_path)
    with pytest.raises(
        TrainingError, match=f"started with another {name}; give the same"
    ) as caught:
        Checkpoint(tmp_path, identity(**changes)).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"seed": 3', '"seed": "3"', "identity.seed is '3', not a whole number"),
        ('"best_epoch": 2', '"best": 2, "best_epoch": 2.5', "state.best_epoch is 2.5"),
        ('"watched_auc": 0.9', '"auc": 0.9', r"state.history\[0\] has no field 'watched_auc'"),
        ('"identity"', '"identities"', "has no field 'identity'"),
        ("{", "[", "Expecting"),
    ],
)
def test_a_damaged_state_file_is_refused_with_the_field_that_is_wrong(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    kept(tmp_path)
    path = tmp_path / "state.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    message = f"checkpoint .*state.json cannot be read .*{problem}.*; start anew with --overwrite"
    with pytest.raises(TrainingError, match=message) as caught:
        Checkpoint(tmp_path, identity()).load()
    assert "\n" not in str(caught.value)


def test_a_state_file_of_a_version_with_more_fields_is_read(tmp_path: Path) -> None:
    state = kept(tmp_path)
    path = tmp_path / "state.json"
    path.write_text(path.read_text().replace('"patience"', '"average": false, "patience"'))
    assert Checkpoint(tmp_path, identity()).load() == state


def test_a_run_is_not_resumed_with_other_arguments_nor_from_damaged_files(
    tiny_xrays: Path, unfinished: Path, tmp_path: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    before = contents(unfinished)

    def refused(data: Path, message: str, **options: Any) -> None:
        with pytest.raises(TrainingError, match=message):
            train(data, unfinished, recorder(), resume=True, **options)

    # Another seed also splits the data elsewhere.
    refused(tiny_xrays, "started with another seed, data; give the same arguments", seed=1)
    data = shutil.copytree(tiny_xrays, tmp_path / "data")
    next((data / "test/NORMAL").iterdir()).unlink()
    refused(data, "started with another data;")
    small(stages=stages(2))
    refused(tiny_xrays, "started with another recipe;")
    small()
    assert contents(unfinished) == before

    checkpoint = unfinished / "pneumonia/unfinished"
    (checkpoint / "last-1.keras").write_bytes(b"PK no archive")
    refused(tiny_xrays, "last-1.keras cannot be read")
    (checkpoint / "state.json").write_text("{")
    refused(tiny_xrays, "state.json cannot be read .*; start anew with --overwrite")


def test_missing_best_weights_are_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, identity())
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(TrainingError, match="best weights .*best-4.weights.h5 cannot be read"):
        checkpoint.load_best(model, State(best_epoch=4))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checkpoint = Checkpoint(tmp_path / "file" / "checkpoint", identity())
    with pytest.raises(MedkitError, match="checkpoint cannot be written: Not a directory"):
        checkpoint.save(None, State(), is_best=False)
