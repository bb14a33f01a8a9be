"""A training run from its arguments to the files of a bundle, on a small made data set."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medkit.bundles import ModelCard, load_bundle
from medkit.datasets import (
    Item,
    load_tensors,
    read_dataset,
    resolve_conflicts,
    split_validation,
)
from medkit.decisions import BALANCED, OperatingPoint, apply_temperature, points_from
from medkit.errors import (
    DatasetConflictError,
    DatasetLayoutError,
    MedkitError,
    TrainingError,
    UsageError,
    WeightsUnavailableError,
)
from medkit.images import contract_for
from medkit.metrics import UNTWINNED, evaluate_points
from medkit.runtimes import both_classes, load_model
from medkit.tasks import PNEUMONIA, SKIN
from medkit.training import RECIPES, TrainOptions, train_model
from medkit.training.recipes import Augmentation, Stage
from medkit.version import __version__

keras = pytest.importorskip("keras")

from medkit.training import archive, networks  # noqa: E402
from medkit.training import fit as loop  # noqa: E402
from medkit.training import run as module  # noqa: E402
from medkit.training.batches import Batches  # noqa: E402
from medkit.training.calibrate import changed_views, fit_rules  # noqa: E402

SAVE_PLOT = module.save_png

Shorten = Callable[..., None]
MakeRecorder = Callable[..., Any]


def stages(epochs: int, learning_rate: float = 3e-3, **options: Any) -> tuple[Stage, ...]:
    return (Stage(epochs, learning_rate, **options),)


def train(data: Path, out: Path, observer: Any, task: Any = PNEUMONIA, **options: Any) -> Any:
    """Train on the made data, whose conflicts are dropped unless asked otherwise."""
    options.setdefault("on_conflict", None if options.get("recipe") == "seed" else "drop")
    return train_model(TrainOptions(task, data, out=out, **options), observer)


def weights_hash(out: Path, task: str = "pneumonia") -> str:
    return hashlib.sha256((out / task / "model.keras").read_bytes()).hexdigest()


def manifest_of(out: Path, task: str = "pneumonia") -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((out / task / "manifest.json").read_text())
    return manifest


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def is_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        picture.load()
        colours = picture.convert("RGB").getcolors(1 << 24) or []
        return picture.format == "PNG" and len(colours) > 10


def splits_of(data: Path) -> dict[str, Any]:
    """Make the splits again from the data, as seed 0 of the default recipe cuts them."""
    dataset = read_dataset(PNEUMONIA, data)
    kept, _ = resolve_conflicts(dataset, "drop")
    fraction = RECIPES["pneumonia", "default"].validation_fraction
    training, validation = split_validation(kept, fraction, 0)
    return {"train": training, "validation": validation, "test": dataset.test}


def keras_probabilities(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    model = keras.saving.load_model(path)
    return both_classes(np.asarray(model.predict(images, batch_size=64, verbose=0)))


def little_network(x: Any, weights: Any) -> Any:
    """Stand in for a backbone where only the loop around it matters."""
    x = keras.layers.Rescaling(1 / 255, name="to_unit_range")(x)
    for stage in (2, 3):
        x = keras.layers.Conv2D(4, 3, strides=4, name=f"conv{stage}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"conv{stage}_bn")(x)
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


@pytest.fixture
def small(short_recipe: Shorten, monkeypatch: pytest.MonkeyPatch) -> Shorten:
    """Give recipes of a few steps in a little network, and empty plots.

    By itself it is the recipe that made ``whole``.
    """
    monkeypatch.setattr(module, "save_png", lambda figure, path: path.touch())
    for name in networks._BACKBONES:
        monkeypatch.setitem(networks._BACKBONES, name, little_network)

    def shorten(key: tuple[str, str] = ("pneumonia", "default"), **changes: Any) -> None:
        short_recipe(key, **{"stages": stages(3), "batch_size": 8, **changes})

    shorten()
    return shorten


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uninterrupted")


@pytest.fixture
def whole(uninterrupted: Path, tiny_xrays: Path, small: Shorten, recorder: MakeRecorder) -> Path:
    """Train the small recipe from end to end, once; not to be changed."""
    if not any(uninterrupted.iterdir()):
        train(tiny_xrays, uninterrupted, recorder())
    return uninterrupted


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interrupted")


@pytest.fixture
def unfinished(
    interrupted: Path, tiny_xrays: Path, tmp_path: Path, small: Shorten, recorder: MakeRecorder
) -> Path:
    """Interrupt the small recipe in its second epoch, once; give a copy."""
    if not any(interrupted.iterdir()):
        train(tiny_xrays, interrupted, recorder(stop=(2, 3)))
    return Path(shutil.copytree(interrupted, tmp_path / "unfinished"))


# What a finished run leaves behind


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


def test_the_manifest_says_what_was_trained_on_what(tiny_trained: Path, tiny_xrays: Path) -> None:
    manifest = manifest_of(tiny_trained)
    assert manifest["task"] == "pneumonia"
    assert manifest["labels"] == ["NORMAL", "PNEUMONIA"]
    assert manifest["contract"] == contract_for(PNEUMONIA).to_dict()
    assert manifest["seed"] == 0
    assert manifest["recipe"]["name"] == "default"
    assert manifest["recipe"]["network"] == "compact-cnn"
    assert [stage["epochs"] for stage in manifest["recipe"]["stages"]] == [5]
    assert manifest["interrupted"] is False
    assert manifest["exports"] == {}
    assert manifest["data"]["source"] == PNEUMONIA.source
    assert len(manifest["data"]["kept_out"]) == 4
    assert manifest["data"]["on_conflict"] == "drop"
    assert manifest["data"]["audit"]["label conflict"] == 1
    assert manifest["data"]["audit"]["split leak"] == 1
    splits = splits_of(tiny_xrays)
    for name, items in splits.items():
        counts = [sum(item.label == label for item in items) for label in (0, 1)]
        assert list(manifest["data"]["counts"][name].items()) == [
            ("NORMAL", counts[0]),
            ("PNEUMONIA", counts[1]),
        ]
    assert sum(sum(counts.values()) for counts in manifest["data"]["counts"].values()) == 60


def test_the_manifest_pins_the_images_of_every_split(tiny_trained: Path, tiny_xrays: Path) -> None:
    digests = manifest_of(tiny_trained)["data"]["sha256"]
    splits = splits_of(tiny_xrays)
    assert set(digests) == set(splits)
    for name, items in splits.items():
        lines = sorted(f"{item.sha256}  {item.name}\n" for item in items)
        assert digests[name] == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_patients_and_images_are_in_one_split_only(tiny_trained: Path, tiny_xrays: Path) -> None:
    splits = splits_of(tiny_xrays)
    assert min(map(len, splits.values())) > 0
    names = list(splits)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            for attribute in ("group", "sha256"):
                first, second = (
                    {getattr(item, attribute) for item in splits[split]} for split in (name, other)
                )
                assert not first & second


def test_the_manifest_lists_every_file_by_its_hash(tiny_trained: Path) -> None:
    folder = tiny_trained / "pneumonia"
    listed = manifest_of(tiny_trained)["files"]
    made_from_it = {"manifest.json", "MODEL_CARD.md"}
    assert set(listed) == {path.name for path in folder.iterdir()} - made_from_it
    for name, record in listed.items():
        content = (folder / name).read_bytes()
        assert record == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_the_manifest_names_the_versions_that_made_it(tiny_trained: Path) -> None:
    versions = manifest_of(tiny_trained)["versions"]
    assert versions["medkit"] == __version__
    for package in ("keras", "numpy", "pillow", "scikit-learn"):
        assert versions[package] == metadata.version(package)
    assert versions["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert any(name.startswith("tensorflow") for name in versions)


def test_the_manifest_holds_a_record_of_every_epoch_and_the_one_kept(tiny_trained: Path) -> None:
    manifest = manifest_of(tiny_trained)
    history = manifest["history"]
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5]
    assert manifest["epochs"] == 5
    losses = [record["watched_loss"] for record in history]
    assert manifest["kept_epoch"] == 1 + losses.index(min(losses))
    assert history[-1]["learning_rate"] == pytest.approx(3e-5)


def test_the_files_weights_are_those_that_were_measured(
    tiny_trained: Path, tiny_xrays: Path
) -> None:
    manifest = manifest_of(tiny_trained)
    points = points_from(manifest["operating_points"], PNEUMONIA)
    splits = splits_of(tiny_xrays)
    for name in ("validation", "test"):
        images, labels = load_tensors(splits[name], contract_for(PNEUMONIA))
        raw = keras_probabilities(tiny_trained / "pneumonia/model.keras", images)
        scores = apply_temperature(raw, manifest["temperature"])
        measured = evaluate_points(PNEUMONIA, labels, scores, points)
        assert measured == manifest["metrics"][name]
    assert set(manifest["metrics"]) == {"validation", "test", UNTWINNED}
    assert manifest["chosen_on"] == "validation"


def test_figures_of_images_without_a_twin_in_training_leave_the_leaked_one_out(
    tiny_trained: Path,
) -> None:
    metrics = manifest_of(tiny_trained)["metrics"]
    assert metrics["test"][BALANCED]["images"] == 20
    assert metrics[UNTWINNED][BALANCED]["images"] == 19


def test_temperature_and_points_come_from_validation_images_seen_as_they_are_and_changed(
    tiny_trained: Path, tiny_xrays: Path
) -> None:
    manifest = manifest_of(tiny_trained)
    images, labels = load_tensors(splits_of(tiny_xrays)["validation"], contract_for(PNEUMONIA))
    together = changed_views(
        images, Augmentation(rotation=5, flip_horizontal=True, noise=4, erase=0.2), 0
    )

    def predict(views: NDArray[np.uint8]) -> Any:
        return keras_probabilities(tiny_trained / "pneumonia/model.keras", views)

    temperature, points = fit_rules(PNEUMONIA, labels, predict, together)
    assert temperature == manifest["temperature"]
    assert points == points_from(manifest["operating_points"], PNEUMONIA)
    assert len(together) == 5 * len(images)
    np.testing.assert_array_equal(together[: len(images)], images)
    assert all((copy != images).any() for copy in np.split(together, 5)[1:])


def test_conflicting_data_are_refused_before_anything_heavy_unless_told_what_to_do(
    tiny_xrays: Path, tmp_path: Path, recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "import_tensorflow", lambda purpose: pytest.fail("too late"))
    for on_conflict in (None, "error"):
        options = TrainOptions(PNEUMONIA, tiny_xrays, out=tmp_path, on_conflict=on_conflict)
        with pytest.raises(DatasetConflictError, match=r"1 images lie under two labels and 1"):
            train_model(options, recorder())
    with pytest.raises(UsageError, match="unknown way 'guess' with conflicts; accepted: error"):
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

    monkeypatch.setattr(module, "import_tensorflow", reached)
    with pytest.raises(TrainingError, match="the data were accepted"):
        train(data, tmp_path / "out", recorder())


def test_a_recipe_resolves_the_conflicts_that_it_knows(tiny_xrays: Path) -> None:
    dataset = read_dataset(PNEUMONIA, tiny_xrays)
    options = TrainOptions(PNEUMONIA, tiny_xrays)
    recipe = RECIPES["pneumonia", "default"]
    assert module._policy(options, recipe, dataset) == "error"
    known = dataclasses.replace(
        recipe,
        known_conflicts=module.find_conflicts(dataset).digest,
        on_known_conflicts="keep-rarer",
    )
    assert module._policy(options, known, dataset) == "keep-rarer"
    asked = dataclasses.replace(options, on_conflict="drop")
    assert module._policy(asked, known, dataset) == "drop"


def test_every_weight_is_exact_in_half_precision(tiny_trained: Path) -> None:
    model = keras.saving.load_model(tiny_trained / "pneumonia/model.keras")
    assert model.count_params() == manifest_of(tiny_trained)["parameters"]
    for weight in model.get_weights():
        np.testing.assert_array_equal(weight, weight.astype(np.float16).astype(np.float32))


def test_the_archive_is_deflated_and_dated_alike(tiny_trained: Path) -> None:
    with zipfile.ZipFile(tiny_trained / "pneumonia/model.keras") as members:
        for member in members.infolist():
            assert member.compress_type == zipfile.ZIP_DEFLATED
            assert member.date_time == (1980, 1, 1, 0, 0, 0)
        assert "date_saved" in json.loads(members.read("metadata.json"))
        assert json.loads(members.read("metadata.json"))["date_saved"] == ""
    manifest = manifest_of(tiny_trained)
    assert manifest["files"]["model.keras"]["bytes"] < 0.6 * 4 * manifest["parameters"]


def test_a_lone_original_knows_what_it_is(
    tiny_trained: Path, tiny_test_split: Any, tmp_path: Path
) -> None:
    shutil.copy(tiny_trained / "pneumonia/model.keras", tmp_path / "renamed.keras")
    model = load_model(tmp_path / "renamed.keras")
    manifest = manifest_of(tiny_trained)
    assert model.card == ModelCard(
        task="pneumonia",
        labels=("NORMAL", "PNEUMONIA"),
        contract=contract_for(PNEUMONIA).to_dict(),
        temperature=manifest["temperature"],
        operating_points=points_from(manifest["operating_points"], PNEUMONIA),
        precision="original",
        version=__version__,
        source_sha256="",
    )
    images, _ = tiny_test_split
    original = keras_probabilities(tiny_trained / "pneumonia/model.keras", images)
    calibrated = apply_temperature(original, manifest["temperature"])
    np.testing.assert_allclose(model.predict(images), calibrated, atol=1e-6)


def test_the_bundle_can_be_opened(tiny_trained: Path) -> None:
    bundle = load_bundle("pneumonia", tiny_trained)
    bundle.verify(bundle.keras_path)
    assert bundle.manifest["exports"] == {}
    assert 0 < (bundle.operating_points[BALANCED].threshold or 0) < 1


def test_plots_are_pictures(tiny_trained: Path) -> None:
    for name in ("curves", "roc", "confusion", "reliability"):
        assert is_picture(tiny_trained / f"pneumonia/{name}.png")


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


def test_every_epoch_is_augmented_anew_and_told_of(
    tiny_xrays: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def batches(*arguments: Any) -> Any:
        made.append(arguments[4:])
        return Batches(*arguments)

    monkeypatch.setattr(loop, "Batches", batches)
    observer = recorder()
    result = train(tiny_xrays, tmp_path, observer, seed=5)
    assert not result.interrupted
    images = sum(result.manifest["data"]["counts"]["train"].values())
    steps = -(-images // 8)
    assert observer.begun == [(1, 3, steps), (2, 3, steps), (3, 3, steps)]
    assert len(observer.losses) == 3 * steps
    assert np.isfinite(observer.losses).all()
    assert [record for record, _ in observer.ended] == result.manifest["history"]
    assert "4 of 44 training images kept out" in observer.notes
    augmentation = RECIPES["pneumonia", "default"].augmentation
    assert made == [(augmentation, 5, 1), (augmentation, 5, 2), (augmentation, 5, 3)]


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
    best = result.manifest["kept_epoch"]
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
    assert result.manifest["epochs"] == 1
    train(tiny_xrays, tmp_path, recorder(), resume=True)
    assert contents(tmp_path) == contents(whole)


def test_a_run_interrupted_in_its_first_epoch_leaves_no_model(
    tiny_xrays: Path, tmp_path: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    result = train(tiny_xrays, tmp_path / "out", recorder(stop=(1, 2)))
    assert result.interrupted
    assert result.manifest is None
    assert not (tmp_path / "out").exists()


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


def test_an_unfinished_run_is_neither_forgotten_nor_in_the_way(
    tiny_xrays: Path, unfinished: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    before = contents(unfinished)
    with pytest.raises(UsageError, match="--resume continues it, --overwrite replaces it"):
        train(tiny_xrays, unfinished, recorder())
    assert contents(unfinished) == before
    small(stages=stages(1))
    result = train(tiny_xrays, unfinished, recorder(), overwrite=True)
    assert result.manifest["epochs"] == 1
    assert not (unfinished / "pneumonia/unfinished").exists()


def test_resuming_nothing_is_refused(
    tiny_xrays: Path, tiny_trained: Path, tmp_path: Path, recorder: MakeRecorder
) -> None:
    for out in (tmp_path, tiny_trained):
        with pytest.raises(UsageError, match="no unfinished run .*; leave --resume out"):
            train(tiny_xrays, out, recorder(), resume=True)


def test_a_model_is_replaced_only_when_asked_and_takes_its_exports_along(
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
    monkeypatch.setattr(module, "read_dataset", None)
    with pytest.raises(UsageError, match=message):
        train(tiny_xrays, tmp_path / "out", recorder(), **options)
    assert not (tmp_path / "out").exists()


def test_errors_of_arguments_and_data_come_before_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "half/train/NORMAL").mkdir(parents=True)
    (tmp_path / "half/test").mkdir()
    script = """
import sys
from medkit.cli import app

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


def test_an_image_that_cannot_be_read_ends_the_run_with_its_name(
    tiny_xrays: Path, tmp_path: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    data = shutil.copytree(tiny_xrays, tmp_path / "data")
    (data / "train/NORMAL/IM-9999-0001.jpeg").write_bytes(b"no image")
    with pytest.raises(DatasetLayoutError, match=r"1 of 65 .*IM-9999-0001.jpeg; remove"):
        train(data, tmp_path / "out", recorder())
    assert not (tmp_path / "out").exists()


def test_numbers_that_leave_the_finite_end_the_run(
    tiny_xrays: Path, tmp_path: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    small(stages=stages(2, 1e30, cosine=False))
    with pytest.raises(TrainingError, match="lower"):
        train(tiny_xrays, tmp_path / "out", recorder())
    assert not (tmp_path / "out/pneumonia/manifest.json").exists()


def test_a_loss_that_is_no_number_ends_the_run(
    tiny_xrays: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "_targets", lambda *_: np.full((40, 1), np.nan, dtype=np.float32))
    monkeypatch.setattr(
        loop, "_watch", lambda *_: {"watched_loss": 0.5, "watched_accuracy": 1, "watched_auc": 1}
    )
    with pytest.raises(TrainingError, match="the loss of epoch 1 is not finite"):
        train(tiny_xrays, tmp_path / "out", recorder())
    assert not (tmp_path / "out").exists()


def test_weights_beyond_half_precision_keep_their_size_and_eleven_digits() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, name="wide")])
    values = np.array([[1.0003], [70001.0], [-3e9], [1e-9]], dtype=np.float32)
    model.get_layer("wide").set_weights([values, np.zeros(1)])
    archive.round_weights(model)
    rounded, _ = model.get_layer("wide").get_weights()
    assert rounded[0] == np.float32(np.float16(1.0003))
    np.testing.assert_allclose(rounded[1:3], values[1:3], rtol=2**-11)
    assert rounded[3] == 0
    for value in rounded.ravel():
        mantissa, _ = np.frexp(value)
        assert (mantissa * 2**11).is_integer()


def test_without_imagenet_weights_and_network_the_run_says_where_to_get_them(
    tiny_data: Path, tmp_path: Path, recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(**options: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    with pytest.raises(WeightsUnavailableError, match=f"fetch {networks.IMAGENET_WEIGHTS_FILE}"):
        train(tiny_data / "skin_cancer_isic", tmp_path / "out", recorder(), SKIN)
    assert not (tmp_path / "out").exists()


def test_best_weights_that_are_gone_are_named(tmp_path: Path) -> None:
    checkpoint = loop.Checkpoint(tmp_path, {})
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(MedkitError, match="best weights .*best-4.weights.h5 cannot be read"):
        loop.load_best(model, checkpoint, loop.State(best_epoch=4))


# Other recipes


def test_nine_classes_have_thresholds_for_melanoma_and_all_their_figures(
    tiny_data: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "save_png", SAVE_PLOT)
    small(("skin", "default"), network="compact-cnn", stages=stages(2), batch_size=16)
    data = tiny_data / "skin_cancer_isic"
    manifest = train(data, tmp_path, recorder(), SKIN).manifest
    assert manifest["labels"] == list(SKIN.labels)
    assert {point["label"] for point in manifest["operating_points"].values()} == {"melanoma"}
    assert list(manifest["data"]["counts"]["test"].values()) == [2] * 9
    figures = manifest["metrics"]["test"][BALANCED]
    assert list(figures["sensitivity"]) == list(SKIN.labels)
    assert np.sum(figures["confusion"], axis=1).tolist() == [2] * 9
    assert list(figures["specificity"]) == list(SKIN.labels)
    for name in ("curves", "roc", "confusion", "reliability"):
        assert is_picture(tmp_path / f"skin/{name}.png")
    images, labels = load_tensors(read_dataset(SKIN, data).test, contract_for(SKIN))
    scores = keras_probabilities(tmp_path / "skin/model.keras", images)
    assert scores.shape == (18, 9)
    scores = apply_temperature(scores, manifest["temperature"])
    points = points_from(manifest["operating_points"], SKIN)
    assert evaluate_points(SKIN, labels, scores, points) == manifest["metrics"]["test"]


def test_a_pretrained_backbone_is_freed_by_stages_and_resumed_in_the_second(
    tiny_data: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
) -> None:
    def backbone(model: Any) -> dict[str, list[Any]]:
        return {
            layer.name: layer.get_weights()
            for layer in model.layers
            if networks.is_backbone(layer) and layer.weights
        }

    two_stages = (
        Stage(epochs=1, learning_rate=1e-3, free_from=None),
        Stage(epochs=2, learning_rate=1e-3, free_from="conv3", cosine=False),
    )
    small(("skin", "default"), stages=two_stages, batch_size=16)
    data = tiny_data / "skin_cancer_isic"
    whole = train(data, tmp_path / "whole", recorder(), SKIN).manifest
    assert [record["stage"] for record in whole["history"]] == [0, 1, 1]

    out = tmp_path / "stopped"
    train(data, out, recorder(stop=(3, 1)), SKIN)
    freed = backbone(keras.saving.load_model(out / "skin/unfinished/last-2.keras"))
    train(data, out, recorder(), SKIN, resume=True)
    assert contents(out) == contents(tmp_path / "whole")
    keras.utils.set_random_seed(0)
    fresh = backbone(networks.build_network(SKIN, RECIPES["skin", "default"], None))

    def moved(before: Any, after: Any) -> set[str]:
        return {
            name
            for name in before
            if any(not np.array_equal(a, b) for a, b in zip(before[name], after[name], strict=True))
        }

    assert moved(fresh, freed) == {"conv3_conv"}


def test_an_averaging_stage_judges_and_keeps_the_mean_of_its_epochs(
    tiny_xrays: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    averaging = Stage(epochs=3, learning_rate=1e-3, cosine=False, average=True)
    small(stages=(*stages(1), averaging))
    out = tmp_path / "stopped"
    train(tiny_xrays, out, recorder(stop=(4, 1)))
    train(tiny_xrays, out, recorder(), resume=True)

    judged, ends = [], []
    watch = loop._watch

    def watching(model: Any, *others: Any) -> dict[str, float]:
        judged.append(model.get_weights())
        return watch(model, *others)

    def collecting(checkpoint: loop.Checkpoint, state: loop.State) -> None:
        ends.append(checkpoint.load_model(state).get_weights())

    monkeypatch.setattr(loop, "_watch", watching)
    monkeypatch.setattr(loop.Checkpoint, "tidy", collecting)
    whole = tmp_path / "whole"
    manifest = train(tiny_xrays, whole, recorder()).manifest
    for epochs, first, last in ((1, 0, 1), (2, 1, 2), (3, 1, 3), (4, 1, 4)):
        for index, weights in enumerate(judged[epochs - 1]):
            mean = np.mean([end[index] for end in ends[first:last]], axis=0)
            np.testing.assert_allclose(weights, mean, rtol=1e-5, atol=1e-7)
    assert any(not np.allclose(a, b) for a, b in zip(judged[3], ends[3], strict=True))
    assert contents(out) == contents(whole)
    best = judged[manifest["kept_epoch"] - 1]
    model = keras.saving.load_model(whole / "pneumonia/model.keras")
    for weights, kept_weights in zip(best, model.get_weights(), strict=True):
        np.testing.assert_allclose(kept_weights, weights, rtol=1e-3, atol=1e-6)


def test_an_averaging_stage_starts_from_the_best_epoch(
    tiny_xrays: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses, kernels = iter([0.1, 0.5, 0.6]), []

    def watch(model: Any, *_: Any) -> dict[str, float]:
        kernels.append(model.get_layer("conv3_conv").get_weights()[0])
        return {"watched_loss": next(losses), "watched_accuracy": 1.0, "watched_auc": 1.0}

    monkeypatch.setattr(loop, "_watch", watch)
    small(stages=(*stages(2), Stage(epochs=1, learning_rate=0.0, cosine=False, average=True)))
    train(tiny_xrays, tmp_path, recorder())
    first, second, third = kernels
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(third, first)


def test_a_recipe_without_validation_keeps_its_last_epoch_and_chooses_nothing_on_the_test_split(
    tiny_xrays: Path, tmp_path: Path, small: Shorten, recorder: MakeRecorder
) -> None:
    small(("pneumonia", "seed"), stages=stages(2), augmentation=None)
    observer = recorder()
    manifest = train(tiny_xrays, tmp_path, observer, recipe="seed").manifest
    assert manifest["operating_points"] == {BALANCED: {"label": "PNEUMONIA", "threshold": 0.5}}
    assert (manifest["temperature"], manifest["chosen_on"]) == (1.0, "nothing: fixed")
    assert manifest["kept_epoch"] == manifest["epochs"] == 2
    assert set(manifest["metrics"]) == {"test", UNTWINNED}
    assert manifest["data"]["kept_out"] == []
    assert manifest["data"]["counts"]["train"] == {"NORMAL": 23, "PNEUMONIA": 21}
    assert [best for _, best in observer.ended] == [True, True]


def test_a_stage_ends_when_its_patience_does(
    tiny_xrays: Path,
    tmp_path: Path,
    small: Shorten,
    recorder: MakeRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = iter([0.5, 0.4, 0.6, 0.7, 0.1])
    monkeypatch.setattr(
        loop,
        "_watch",
        lambda *_: {"watched_loss": next(losses), "watched_accuracy": 1.0, "watched_auc": 1.0},
    )
    small(stages=stages(5, patience=2))
    manifest = train(tiny_xrays, tmp_path, recorder()).manifest
    assert (manifest["epochs"], manifest["kept_epoch"]) == (4, 2)


def items(*cells: tuple[int, str, int]) -> list[Item]:
    """Make items from label, beginning of the file name, and number."""
    return [
        Item(Path(f"{begin}{index}.jpg"), "", label, "", "")
        for label, begin, count in cells
        for index in range(count)
    ]


def test_rare_classes_weigh_more_up_to_the_cap() -> None:
    recipe = dataclasses.replace(RECIPES["pneumonia", "default"], weight_cap=10.0)
    rare = loop.image_weights(recipe, items((0, "a", 2), (1, "b", 60)))
    assert rare.dtype == np.float32
    assert rare[0] / rare[-1] == pytest.approx(10)
    assert rare.mean() == pytest.approx(1)
    even = loop.image_weights(recipe, items((0, "a", 20), (1, "b", 60)))
    assert even[:20].sum() == pytest.approx(even[20:].sum())
    seed = loop.image_weights(RECIPES["pneumonia", "seed"], items((0, "a", 2), (1, "b", 60)))
    assert set(seed.tolist()) == {1}


def test_every_class_of_every_source_counts_alike_if_sources_are_balanced() -> None:
    cells = [(0, "ISIC_002500", 8), (0, "ISIC_000001", 4), (1, "ISIC_002500", 2)]
    recipe = dataclasses.replace(RECIPES["skin", "default"], weight_cap=100.0)
    balanced, not_so = (
        loop.image_weights(dataclasses.replace(recipe, balance_sources=on), items(*cells))
        for on in (True, False)
    )
    sums = [balanced[:8].sum(), balanced[8:12].sum(), balanced[12:].sum()]
    assert sums == pytest.approx([14 / 3] * 3)
    assert not_so[:12].sum() == pytest.approx(not_so[12:].sum())
    assert len(set(not_so[:12].tolist())) == 1


def test_the_same_weights_give_the_same_bytes_whatever_the_memory_looks_like(
    tmp_path: Path,
) -> None:
    points = {BALANCED: OperatingPoint(BALANCED)}
    card = ModelCard("pneumonia", PNEUMONIA.labels, {}, 1.0, points, "original", "0")
    recipe = RECIPES["pneumonia", "default"]
    policy = keras.config.dtype_policy()
    try:
        for name in ("first", "second"):
            keras.config.set_dtype_policy(keras.DTypePolicy("float32"))
            keras.utils.set_random_seed(1)
            model = networks.build_network(PNEUMONIA, recipe, None)
            archive.save_archive(model, card, tmp_path / f"{name}.keras")
    finally:
        keras.config.set_dtype_policy(policy)
    first, second = ((tmp_path / f"{name}.keras").read_bytes() for name in ("first", "second"))
    assert first == second
