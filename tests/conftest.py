"""Made data sets, and models trained on them and exported, shared by the tests."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medkit.models.manifest import EpochRecord
from medkit.tasks import PNEUMONIA, SKIN, Task

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else TensorFlow's greetings fill the report


@pytest.fixture(scope="session", autouse=True)
def _no_models_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the models of whoever runs the tests out."""
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="session", autouse=True)
def _no_models_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the models of whoever runs the tests out."""
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("user"))


class Recorder:
    """Keeps what a training run tells, and can interrupt it.

    Parameters
    ----------
    stop
        Epoch and step, both from 1, after which Ctrl-C is pressed.
    """

    def __init__(self, stop: tuple[int, int] | None = None) -> None:
        self.stop = stop
        self.notes: list[str] = []
        self.begun: list[tuple[int, int, int]] = []
        self.losses: list[float] = []
        self.ended: list[tuple[EpochRecord, bool]] = []
        self._step = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def epoch_begins(self, epoch: int, epochs: int, steps: int) -> None:
        self.begun.append((epoch, epochs, steps))
        self._step = 0

    def step(self, loss: float) -> None:
        self.losses.append(loss)
        self._step += 1
        if (self.begun[-1][0], self._step) == self.stop:
            raise KeyboardInterrupt

    def epoch_ends(self, record: EpochRecord, best: bool) -> None:
        self.ended.append((record, best))


def _xray(rng: np.random.Generator, sick: bool) -> Image.Image:
    """Draw a bright or a dark spot on grey noise."""
    rows, columns = np.mgrid[:64, :64]
    centre = rng.uniform(26, 38, size=2)
    spot = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / 180)
    level = rng.uniform(105, 135) + (80 if sick else -80) * spot
    noise = rng.normal(0, 6, spot.shape)
    return Image.fromarray((level + noise).clip(0, 255).astype(np.uint8))


def _lesion(rng: np.random.Generator, label: int) -> Image.Image:
    """Draw a disc on skin whose colour and size tell the class."""
    rows, columns = np.mgrid[:64, :64]
    disc = (rows - 32) ** 2 + (columns - 32) ** 2 < (10 + 2 * label) ** 2
    pixels = np.full((64, 64, 3), (215, 170, 150), dtype=np.float64)
    pixels[disc] = (90 + 15 * label, 140 - 14 * label, 40 + 60 * (label % 3))
    pixels += rng.normal(0, 6, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of the real data sets; without one, say what was not checked."""
    folder = os.environ.get("MEDKIT_DATA")
    if not folder:
        pytest.skip("the real data sets were not checked: MEDKIT_DATA does not name their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a small easy data set for each task; not to be changed.

    The X-rays have two images a patient. Three conflicts lie among those of
    the training split: ``copy.jpeg`` is a duplicate, ``both.jpeg`` lies under
    two labels, ``leak.jpeg`` lies in the test split.
    """
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    chest, skin = root / "chest_xray", root / "skin_cancer_isic"
    for split, count in (("train", 20), ("test", 10)):
        for label, name in enumerate(PNEUMONIA.labels):
            folder = chest / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                patient = index // 2 + (500 if split == "test" else 0)
                stem = (f"IM-{patient:04}-{index:04}", f"person{patient}_virus_{index}")[label]
                _xray(rng, sick=label == 1).save(folder / f"{stem}.jpeg", quality=95)
    train, test = chest / "train", chest / "test"
    shutil.copy(train / "NORMAL/IM-0000-0000.jpeg", train / "NORMAL/copy.jpeg")
    shutil.copy(test / "NORMAL/IM-0500-0000.jpeg", train / "NORMAL/leak.jpeg")
    for name in PNEUMONIA.labels:
        Image.new("L", (64, 64), 77).save(train / name / "both.jpeg")
    for split, count in (("Train", 7), ("Test", 2)):
        for label, name in enumerate(SKIN.labels):
            folder = skin / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                _lesion(rng, label).save(folder / f"ISIC_{split}{label}{index:04}.png")
    return root


@pytest.fixture(scope="session")
def tiny_xrays(tiny_data: Path) -> Path:
    """Return the X-rays of the made data."""
    return tiny_data / "chest_xray"


def shorten(monkeypatch: pytest.MonkeyPatch, key: tuple[str, str], **changes: Any) -> None:
    """Replace a recipe by one that learns the made data in few steps, and has ``changes``."""
    from medkit.models.recipe import Augmentation, Stage
    from medkit.training import RECIPES

    short = {
        "stages": (Stage(epochs=5, learning_rate=3e-3),),
        "batch_size": 4,
        "augmentation": Augmentation(rotation=5, flip_horizontal=True, noise=4, erase=0.2),
    }
    monkeypatch.setitem(RECIPES, key, dataclasses.replace(RECIPES[key], **{**short, **changes}))


@pytest.fixture
def short_recipe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give :func:`shorten`, undone after the test."""
    return lambda key=("pneumonia", "default"), **changes: shorten(monkeypatch, key, **changes)


@pytest.fixture
def recorder() -> Callable[..., Recorder]:
    """Give the class of training observers."""
    return Recorder


@pytest.fixture(scope="session")
def tiny_trained(tiny_xrays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the shortened default recipe on the made X-rays; not to be changed."""
    from medkit.training import TrainOptions, train_model

    out = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten(monkeypatch, ("pneumonia", "default"))
        options = TrainOptions(PNEUMONIA, tiny_xrays, out=out, on_conflict="drop")
        train_model(options, Recorder())
    return out


@pytest.fixture(scope="session")
def tiny_exported(
    tiny_trained: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Export a copy of the trained model to every format and precision; not to be changed."""
    from medkit_exporters import ExportOptions, export_models
    from medkit_exporters.ladder import LADDERS

    out = tmp_path_factory.mktemp("exported") / "trained"
    shutil.copytree(tiny_trained, out)
    options = ExportOptions(
        (PNEUMONIA,),
        precisions=tuple(LADDERS),
        data=tiny_data,
        trained=out,
        calibration_images=12,
    )
    export_models(options)
    return out


@pytest.fixture
def trained_copy(tiny_trained: Path, tmp_path: Path) -> Path:
    """Copy the trained bundle to where a test may change it."""
    return Path(shutil.copytree(tiny_trained, tmp_path / "trained"))


@pytest.fixture
def exported_copy(tiny_exported: Path, tmp_path: Path) -> Path:
    """Copy the exported bundle to where a test may change it."""
    return Path(shutil.copytree(tiny_exported, tmp_path / "exported"))


@pytest.fixture(scope="session")
def tiny_test_split(tiny_xrays: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the made X-rays' test split as a model sees it."""
    from medkit.datasets.layout import read_dataset
    from medkit.datasets.sampling import load_tensors

    return load_tensors(PNEUMONIA, read_dataset(PNEUMONIA, tiny_xrays).test, PNEUMONIA.contract)


@pytest.fixture(scope="session")
def pooled_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of bundles with untrained models of three layers; not to be changed.

    Beside each original lie its fp32 exports and, as what is used by default,
    a copy of one under the name of the int8 export. The temperature is 1.5.
    """
    from medkit.tasks import TASKS

    return _pooled(tmp_path_factory.mktemp("pooled"), TASKS.values(), named_int8=True)


@pytest.fixture(scope="session")
def own_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of bundles as ``pooled_models``, of tasks that are not built in.

    ``hues`` has nine labels and takes RGB images of 96x64, ``brightness`` has
    two and takes grey ones of 64x64. There is no file that is named int8.
    """
    from medkit.tasks import write_task
    from owntasks import OWN

    trained = _pooled(tmp_path_factory.mktemp("own"), OWN)
    for task in OWN:
        write_task(trained / task.name, task)
    return trained


def _pooled(trained: Path, tasks: Iterable[Task], *, named_int8: bool = False) -> Path:
    import keras

    from medkit.defaults import BALANCED, HIGH_SENSITIVITY
    from medkit.files import sha256_of
    from medkit.models.bundle import file_record
    from medkit.models.card import ModelCard
    from medkit.models.formats import export_name
    from medkit.models.manifest import DataRecord, ExportEntry, Manifest, write_manifest
    from medkit.models.points import OperatingPoint
    from medkit.training.archive import save_archive
    from medkit_exporters.formats.registry import known_exporters
    from medkit_exporters.quantize.source import open_source
    from medkit_exporters.settings import Settings

    rng = np.random.default_rng(0)
    for task in tasks:
        contract = task.contract
        units, activation = (1, "sigmoid") if task.binary else (len(task.labels), "softmax")
        model = keras.Sequential(
            [
                keras.Input(contract.shape, dtype="uint8"),
                keras.layers.Rescaling(1 / 255),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(units, activation),
            ]
        )
        weights = rng.normal(0, 4, (task.channels, units)), rng.normal(0, 1, units)
        model.layers[-1].set_weights(weights)
        likeliest = OperatingPoint(BALANCED)
        points = {
            BALANCED: OperatingPoint(BALANCED, task.alert, 0.5) if task.binary else likeliest,
            HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, task.alert, 0.125),
        }
        card = ModelCard(task.name, task.labels, contract, 1.5, points, "original", "0.1.0")
        folder = trained / task.name
        original = folder / "model.keras"
        save_archive(model, card, original)
        source = open_source(original)
        exported = dataclasses.replace(card, precision="fp32", source_sha256=sha256_of(original))
        for name, known in known_exporters().items():
            exporter = known.load()
            content = exporter.attach_card(
                exporter.convert(source, Settings("fp32"), None), exported
            )
            (folder / export_name(name, "fp32")).write_bytes(content)
        if named_int8:
            default = folder / export_name("tflite", "int8")
            shutil.copy(folder / export_name("tflite", "fp32"), default)
        files = {path.name: file_record(path) for path in sorted(folder.iterdir())}
        manifest = Manifest(
            labels=task.labels,
            contract=contract,
            temperature=card.temperature,
            operating_points=points,
            data=DataRecord(on_conflict="drop"),
            files={original.name: files.pop(original.name)},
            exports={
                name: ExportEntry(record.bytes, record.sha256, "fp32")
                for name, record in files.items()
            },
        )
        write_manifest(folder, manifest)
    return trained
