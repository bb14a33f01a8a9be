"""Training runs on the small made data sets, and what they leave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.datasets.conflicts import resolve_conflicts
from medkit.datasets.layout import read_dataset
from medkit.datasets.sampling import split_validation
from medkit.models.recipe import Stage
from medkit.models.runtimes.base import both_classes
from medkit.tasks import PNEUMONIA, Task
from medkit.training import RECIPES, TrainOptions, train_model

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
    """Return what a saved original computes, at temperature 1."""
    import keras

    model = keras.saving.load_model(path)
    return both_classes(np.asarray(model.predict(images, batch_size=64, verbose=0)))


def little_network(x: Any, weights: Any) -> Any:
    """Stand in for a backbone if a test is about the loop around it."""
    import keras

    x = keras.layers.Rescaling(1 / 255, name="to_unit_range")(x)
    for stage in (2, 3):
        x = keras.layers.Conv2D(4, 3, strides=4, name=f"conv{stage}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"conv{stage}_bn")(x)
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


def build(task: Task, recipe: str) -> Any:
    """Build a recipe's network without pretrained weights."""
    from medkit.training import networks

    return networks.build_network(task, RECIPES[task.name, recipe], None)


def pixels(task: Task, count: int = 2) -> Any:
    shape = (count, *task.contract.shape)
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
