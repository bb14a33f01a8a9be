"""What a run leaves: the manifest, the figures and the plots."""

from __future__ import annotations

import hashlib
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")

from medkit.datasets.layout import Dataset, Item
from medkit.datasets.sampling import load_tensors
from medkit.defaults import BALANCED
from medkit.evaluation.metrics import DEDUPLICATED, evaluate_points
from medkit.models.bundle import load_bundle
from medkit.models.decisions import apply_temperature
from medkit.models.manifest import FoundCount, SourceCount
from medkit.models.points import OperatingPoint
from medkit.tasks import PNEUMONIA, SKIN
from medkit.training import outcome
from medkit.training.data import TrainingData
from medkit.version import __version__
from trainingruns import is_picture, keras_probabilities, manifest_of, splits_of


def test_the_manifest_says_what_was_trained_on_what(tiny_trained: Path, tiny_xrays: Path) -> None:
    manifest = manifest_of(tiny_trained)
    assert manifest["task"] == "pneumonia"
    assert manifest["labels"] == ["NORMAL", "PNEUMONIA"]
    assert manifest["contract"] == PNEUMONIA.contract.to_dict()
    assert manifest["seed"] == 0
    assert manifest["recipe"]["name"] == "default"
    assert manifest["recipe"]["network"] == "compact-cnn"
    assert [stage["epochs"] for stage in manifest["recipe"]["stages"]] == [5]
    assert manifest["interrupted"] is False
    assert manifest["exports"] == {}
    assert manifest["data"]["source"] == ""  # these images are not the published ones
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
    manifest = load_bundle(PNEUMONIA, tiny_trained).manifest
    splits = splits_of(tiny_xrays)
    for name in ("validation", "test"):
        images, labels = load_tensors(PNEUMONIA, splits[name], PNEUMONIA.contract)
        raw = keras_probabilities(tiny_trained / "pneumonia/model.keras", images)
        scores = apply_temperature(raw, manifest.temperature, multi_label=False)
        measured = evaluate_points(PNEUMONIA, labels, scores, manifest.operating_points)
        assert measured == manifest.metrics[name]
    assert set(manifest.metrics) == {"validation", "test", DEDUPLICATED}
    assert manifest.chosen_on == "validation"


def test_deduplicated_figures_leave_out_the_test_image_that_is_in_training(
    tiny_trained: Path,
) -> None:
    metrics = manifest_of(tiny_trained)["metrics"]
    assert metrics["test"][BALANCED]["images"] == 20
    assert metrics[DEDUPLICATED][BALANCED]["images"] == 19


def test_plots_are_pictures(tiny_trained: Path) -> None:
    for name in ("curves", "roc", "confusion", "reliability"):
        assert is_picture(tiny_trained / f"pneumonia/{name}.png")


def test_the_manifest_has_the_fields_of_the_shipped_one_in_the_same_order(
    tiny_trained: Path,
) -> None:
    made = manifest_of(tiny_trained)
    shipped = manifest_of(Path(__file__).parents[2] / "trained")
    assert list(made) == list(shipped)
    assert made["data"].pop("compared_by") == "pixels"
    assert "compared_by" not in shipped["data"]  # by bytes, as before pixels were compared
    for part in ("contract", "recipe", "data"):
        assert list(made[part]) == list(shipped[part])
    assert list(made["history"][0]) == list(shipped["history"][0])
    balanced = (each["metrics"]["test"][BALANCED] for each in (made, shipped))
    first, second = map(list, balanced)
    assert first == second


def test_images_are_counted_by_class_and_source_and_how_many_are_found() -> None:
    def lesions(label: int, name: str, count: int) -> list[Item]:
        return [Item(Path(f"{name}{n}.jpg"), f"{name}{n}", label, "", "") for n in range(count)]

    splits = {
        "train": (*lesions(3, "ISIC_000000", 2), *lesions(4, "ISIC_002500", 1)),
        "validation": (*lesions(3, "ISIC_000000", 3), *lesions(3, "scan", 1)),
        "test": tuple(lesions(4, "ISIC_000100", 2)),
    }
    data = TrainingData(Dataset(SKIN, Path(), (), ()), splits, None, (), {})
    decided = {"validation": [3, 3, 0, 3], "test": [4, 8]}
    scores = {name: np.eye(9, dtype=np.float32)[labels] for name, labels in decided.items()}
    measured = outcome.Measured(1.0, {BALANCED: OperatingPoint(BALANCED)}, scores, {})
    none = FoundCount(0, 0)
    assert outcome.count_by_source(SKIN, data, measured) == tuple(
        SourceCount(label=label, source=source, train=train, validation=validation, test=test)
        for label, source, train, validation, test in (
            ("melanoma", "ISIC_0000xxx", 2, FoundCount(3, 2), none),
            ("nevus", "HAM10000", 1, none, none),
            ("nevus", "ISIC_0001xxx", 0, none, FoundCount(2, 1)),
        )
    )


def test_without_validation_images_are_counted_in_training_and_test_alone() -> None:
    lesion = Item(Path("ISIC_0000001.jpg"), "a", 0, "", "")
    data = TrainingData(
        Dataset(SKIN, Path(), (), ()), {"train": (lesion,), "test": (lesion,)}, None, (), {}
    )
    scores = {"test": np.eye(9, dtype=np.float32)[[0]]}
    measured = outcome.Measured(1.0, {BALANCED: OperatingPoint(BALANCED)}, scores, {})
    (counted,) = outcome.count_by_source(SKIN, data, measured)
    assert (counted.train, counted.validation, counted.test) == (1, None, FoundCount(1, 1))
