"""A training run from its arguments to the files of a bundle, on a small made data set."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras")

import keras

from medkit.datasets.layout import read_dataset
from medkit.datasets.sampling import load_tensors
from medkit.defaults import BALANCED
from medkit.errors import (
    DatasetConflictError,
    DatasetLayoutError,
    MissingExtraError,
    TrainingError,
    UsageError,
    WeightsUnavailableError,
)
from medkit.evaluation.metrics import DEDUPLICATED, evaluate_points
from medkit.models.bundle import load_bundle
from medkit.models.decisions import apply_temperature
from medkit.models.runtimes.loading import load_model
from medkit.reports.plots import save_png
from medkit.tasks import PNEUMONIA, SKIN
from medkit.training import TrainOptions, networks, outcome, run, train_model
from trainingruns import (
    MakeRecorder,
    Shorten,
    contents,
    is_picture,
    keras_probabilities,
    manifest_of,
    stages,
    train,
    weights_hash,
)


def test_a_run_leaves_the_bundle_and_nothing_else(tiny_trained: Path) -> None:
    assert sorted(contents(tiny_trained)) == [
        "pneumonia/MODEL_CARD.md",
        "pneumonia/confusion.png",
        "pneumonia/curves.png",
        "pneumonia/manifest.json",
        "pneumonia/model.keras",
        "pneumonia/reliability.png",
        "pneumonia/roc.png",
    ]


def test_the_bundle_can_be_opened(tiny_trained: Path) -> None:
    bundle = load_bundle("pneumonia", tiny_trained)
    bundle.verify(bundle.keras_path)
    assert bundle.manifest.exports == {}
    assert 0 < (bundle.operating_points[BALANCED].threshold or 0) < 1


def test_images_kept_out_of_training_are_listed_with_reasons(tiny_trained: Path) -> None:
    kept_out = manifest_of(tiny_trained)["data"]["kept_out"]
    assert [(entry["name"], entry["reason"]) for entry in kept_out] == [
        ("train/NORMAL/both.jpeg", "same bytes under labels NORMAL and PNEUMONIA"),
        ("train/NORMAL/copy.jpeg", "exact duplicate of train/NORMAL/IM-0000-0000.jpeg"),
        (
            "train/NORMAL/leak.jpeg",
            "same bytes in the test split: test/NORMAL/IM-0500-0000.jpeg",
        ),
        ("train/PNEUMONIA/both.jpeg", "same bytes under labels NORMAL and PNEUMONIA"),
    ]


# Repeating and continuing


def test_the_same_seed_gives_the_same_files_and_another_seed_other_weights(
    tiny_xrays: Path, whole: Path, tmp_path: Path, recorder: MakeRecorder
) -> None:
    train(tiny_xrays, tmp_path / "again", recorder(), seed=0)
    assert contents(tmp_path / "again") == contents(whole)
    train(tiny_xrays, tmp_path / "other", recorder(), seed=4)
    assert weights_hash(tmp_path / "other") != weights_hash(whole)


def test_an_interrupted_run_keeps_the_best_so_far_and_resumes_to_the_same_weights(
    tiny_xrays: Path, whole: Path, unfinished: Path, recorder: MakeRecorder
) -> None:
    manifest = manifest_of(unfinished)
    assert manifest["interrupted"] is True
    assert manifest["epochs"] == manifest["kept_epoch"] == 1
    assert manifest["history"] == manifest_of(whole)["history"][:1]
    bundle = load_bundle("pneumonia", unfinished)
    bundle.verify(bundle.keras_path)
    images = np.zeros((1, 128, 128, 1), dtype=np.uint8)
    assert load_model(bundle.keras_path).predict(images).shape == (1, 2)

    continued = recorder()
    result = train(tiny_xrays, unfinished, continued, resume=True)
    assert not result.interrupted
    assert "continuing after epoch 1" in continued.notes
    assert [epoch for epoch, _, _ in continued.begun] == [2, 3]
    assert contents(unfinished) == contents(whole)


def test_the_network_that_ships_resumes_to_the_same_weights(
    tiny_xrays: Path,
    tiny_trained: Path,
    tmp_path: Path,
    short_recipe: Shorten,
    recorder: MakeRecorder,
) -> None:
    short_recipe()
    result = train(tiny_xrays, tmp_path, recorder(stop=(3, 1)))
    assert result.interrupted
    best = result.manifest.kept_epoch
    assert sorted(path.name for path in (tmp_path / "pneumonia/unfinished").iterdir()) == [
        f"best-{best}.weights.h5",
        "last-2.keras",
        "state.json",
    ]
    train(tiny_xrays, tmp_path, recorder(), resume=True)
    assert contents(tmp_path) == contents(tiny_trained)


def test_a_run_interrupted_while_it_saves_resumes_from_the_epoch_before(
    tiny_xrays: Path,
    whole: Path,
    tmp_path: Path,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save, saved = keras.Model.save, []

    def interrupted(model: Any, path: Path, *rest: Any, **options: Any) -> None:
        saved.append(path)
        if len(saved) == 2:
            path.write_bytes(b"half of a file")
            raise KeyboardInterrupt
        save(model, path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save", interrupted)
        result = train(tiny_xrays, tmp_path, recorder())
    assert result.interrupted
    assert result.manifest.epochs == 1
    train(tiny_xrays, tmp_path, recorder(), resume=True)
    assert contents(tmp_path) == contents(whole)


def test_a_run_interrupted_in_its_first_epoch_leaves_no_model(
    tiny_xrays: Path, tmp_path: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    result = train(tiny_xrays, tmp_path / "out", recorder(stop=(1, 2)))
    assert result.interrupted
    assert result.manifest is None
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_is_replaced_only_with_overwrite(
    tiny_xrays: Path, unfinished: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    before = contents(unfinished)
    with pytest.raises(UsageError, match="--resume continues it, --overwrite replaces it"):
        train(tiny_xrays, unfinished, recorder())
    assert contents(unfinished) == before
    small(stages=stages(1))
    result = train(tiny_xrays, unfinished, recorder(), overwrite=True)
    assert result.manifest.epochs == 1
    assert not (unfinished / "pneumonia/unfinished").exists()


def test_resume_without_an_unfinished_run_is_refused(
    tiny_xrays: Path, tiny_trained: Path, tmp_path: Path, recorder: MakeRecorder
) -> None:
    for out in (tmp_path, tiny_trained):
        with pytest.raises(UsageError, match="no unfinished run .*; leave --resume out"):
            train(tiny_xrays, out, recorder(), resume=True)


def test_a_model_and_its_exports_are_replaced_only_with_overwrite(
    tiny_xrays: Path, exported_copy: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    before = contents(exported_copy)
    with pytest.raises(UsageError, match=r"manifest.json exists: --overwrite replaces it, --out"):
        train(tiny_xrays, exported_copy, recorder())
    assert contents(exported_copy) == before
    small(stages=stages(1))
    train(tiny_xrays, exported_copy, recorder(), overwrite=True)
    assert manifest_of(exported_copy)["epochs"] == 1
    assert sorted(contents(exported_copy)) == [
        name for name in sorted(before) if "model-" not in name
    ]


# Runs that cannot be


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True, "overwrite": True}, "give one of them"),
        ({"seed": -1}, "seed -1; accepted: 0 to"),
        ({"recipe": "best"}, "unknown recipe 'best'"),
        ({"weights": Path("missing.h5")}, "no file missing.h5"),
    ],
)
def test_arguments_that_cannot_be_obeyed_are_refused_before_data_are_read(
    tiny_xrays: Path,
    tmp_path: Path,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(run, "read_training_data", None)
    with pytest.raises(UsageError, match=message):
        train(tiny_xrays, tmp_path / "out", recorder(), **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", run.MODULES)
def test_an_absent_package_is_named_before_anything_is_read(
    tmp_path: Path, recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"is needed to train a model.*edge\[train\]"):
        train(tmp_path / "missing", tmp_path / "out", recorder())
    assert not (tmp_path / "out").exists()


def test_errors_of_arguments_and_data_come_before_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "half/train/NORMAL").mkdir(parents=True)
    (tmp_path / "half/test").mkdir()
    script = """
import sys
from medkit.cli.app import app

for arguments in (
    ["pneumonia", "--data", "missing"],
    ["pneumonia", "--data", "empty"],
    ["pneumonia", "--data", "half"],
    ["skin", "--data", "half"],
    ["brain", "--data", "half"],
    ["skin", "--data", "half", "--recipe", "best"],
):
    try:
        app(["train", *arguments, "--out", "out"])
    except SystemExit as end:
        print(end.code, *{"tensorflow", "keras"} & set(sys.modules))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines() == ["2"] * 6
    lines = ended.stderr.splitlines()
    assert len(lines) == 6
    assert all(line.startswith("medkit: error: ") for line in lines)
    assert not (tmp_path / "out").exists()


def test_conflicts_without_a_policy_are_refused_before_tensorflow_is_imported(
    tiny_xrays: Path, tmp_path: Path, recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "import_tensorflow", lambda purpose: pytest.fail("too late"))
    for on_conflict in (None, "error"):
        options = TrainOptions(PNEUMONIA, tiny_xrays, out=tmp_path, on_conflict=on_conflict)
        with pytest.raises(DatasetConflictError, match=r"1 image under two labels and 1"):
            train_model(options, recorder())
    with pytest.raises(UsageError, match="unknown policy 'guess' for conflicts; accepted: error"):
        train(tiny_xrays, tmp_path, recorder(), on_conflict="guess")
    assert not any(tmp_path.iterdir())


def test_folders_beside_the_splits_do_not_stop_a_run(
    tiny_xrays: Path, tmp_path: Path, recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Kaggle's archive holds the X-rays a second time, one folder deeper, and a third split.
    data = Path(shutil.copytree(tiny_xrays, tmp_path / "data"))
    shutil.copytree(tiny_xrays, data / "chest_xray")
    shutil.copytree(tiny_xrays / "test", data / "val")

    def reached(purpose: str) -> None:
        raise TrainingError("the data were accepted")

    monkeypatch.setattr(run, "import_tensorflow", reached)
    with pytest.raises(TrainingError, match="the data were accepted"):
        train(data, tmp_path / "out", recorder())


def test_an_image_that_cannot_be_read_ends_the_run_with_its_name(
    tiny_xrays: Path, tmp_path: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    data = shutil.copytree(tiny_xrays, tmp_path / "data")
    (data / "train/NORMAL/IM-9999-0001.jpeg").write_bytes(b"no image")
    with pytest.raises(DatasetLayoutError, match=r"1 of 65 .*IM-9999-0001.jpeg; remove"):
        train(data, tmp_path / "out", recorder())
    assert not (tmp_path / "out").exists()


def test_without_imagenet_weights_the_run_says_where_to_get_them(
    tiny_data: Path, tmp_path: Path, recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(**options: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    with pytest.raises(WeightsUnavailableError, match=f"fetch {networks.IMAGENET_WEIGHTS_FILE}"):
        train(tiny_data / "skin_cancer_isic", tmp_path / "out", recorder(), SKIN)
    assert not (tmp_path / "out").exists()


# Other recipes


def test_nine_classes_have_thresholds_for_melanoma_and_all_their_figures(
    tiny_data: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outcome, "save_png", save_png)
    small(("skin", "default"), network="compact-cnn", stages=stages(2), batch_size=16)
    data = tiny_data / "skin_cancer_isic"
    manifest = train(data, tmp_path, recorder(), SKIN).manifest
    assert manifest.labels == SKIN.labels
    assert {point.label for point in manifest.operating_points.values()} == {"melanoma"}
    assert list(manifest.data.counts["test"].values()) == [2] * 9
    figures = manifest.metrics["test"][BALANCED]
    assert list(figures.sensitivity) == list(SKIN.labels)
    assert np.sum(figures.confusion, axis=1).tolist() == [2] * 9
    assert list(figures.specificity) == list(SKIN.labels)
    for name in ("curves", "roc", "confusion", "reliability"):
        assert is_picture(tmp_path / f"skin/{name}.png")
    images, labels = load_tensors(SKIN, read_dataset(SKIN, data).test, SKIN.contract)
    scores = keras_probabilities(tmp_path / "skin/model.keras", images)
    assert scores.shape == (18, 9)
    scores = apply_temperature(scores, manifest.temperature, multi_label=False)
    measured = evaluate_points(SKIN, labels, scores, manifest.operating_points)
    assert measured == manifest.metrics["test"]


def test_a_recipe_without_validation_keeps_its_last_epoch_and_chooses_nothing_on_the_test_split(
    tiny_xrays: Path, tmp_path: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    small(("pneumonia", "seed"), stages=stages(2), augmentation=None)
    observer = recorder()
    train(tiny_xrays, tmp_path, observer, recipe="seed")
    assert observer.notes[0] == (
        "trained on as it lies: 1 image under two labels, 1 training image in the test split"
    )
    manifest = manifest_of(tmp_path)
    assert manifest["operating_points"] == {BALANCED: {"label": "PNEUMONIA", "threshold": 0.5}}
    assert (manifest["temperature"], manifest["chosen_on"]) == (1.0, "nothing: fixed")
    assert manifest["kept_epoch"] == manifest["epochs"] == 2
    assert set(manifest["metrics"]) == {"test", DEDUPLICATED}
    assert manifest["data"]["kept_out"] == []
    assert manifest["data"]["counts"]["train"] == {"NORMAL": 23, "PNEUMONIA": 21}
    assert [best for _, best in observer.ended] == [False, False]
