"""Models that are known functions of the pixels, and images for them."""

from __future__ import annotations

import random
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.batch.observers import Silent
from medkit.batch.options import ClassifyOptions
from medkit.batch.rows import Row
from medkit.defaults import BALANCED, HIGH_SENSITIVITY
from medkit.images.reading import open_image
from medkit.models.card import ModelCard
from medkit.models.points import OperatingPoint, OperatingPoints
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task

NOT_A_NUMBER = 251
"""Grey level of an image for which the models give no number."""

DIGEST = "0" * 64
"""SHA-256 that stands for that of a model file."""


def points_of(task: Task) -> OperatingPoints:
    """Return one point that takes the likeliest label, and one that takes the alert's for all."""
    return {
        BALANCED: OperatingPoint(BALANCED),
        HIGH_SENSITIVITY: OperatingPoint(HIGH_SENSITIVITY, task.alert, 0.01),
    }


class FakeModel:
    """A model whose probabilities can be told from the mean grey level of an image."""

    runtime = "fake"

    def __init__(self, task: Task, points: OperatingPoints | None = None) -> None:
        contract = task.contract
        self.path = Path(f"{task.name}.tflite")
        self.card = ModelCard(
            task.name, task.labels, contract, 1.0, points or points_of(task), "int8", "0"
        )
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def another(self) -> FakeModel:
        """Return a model for another thread; the batches of all are listed together."""
        other = FakeModel(TASKS[self.card.task], self.card.operating_points)
        other.batches = self.batches
        return other

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.threads.add(get_ident())
        assert len(self.threads) == 1, "one model in two threads"
        self.batches.append(len(images))
        levels = images.reshape(len(images), -1).mean(axis=1)
        classes = len(self.card.labels)
        raw = np.full((len(images), classes), 0.1 / (classes - 1), np.float32)
        raw[np.arange(len(images)), levels.astype(int) % classes] = 0.9
        raw[:, -1] += levels / 10_000
        raw[levels == NOT_A_NUMBER, 0] = np.nan
        return raw


Models = dict[str, FakeModel]


class Watcher(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.rows: list[Row] = []

    def total(self, count: int) -> None:
        self.totals.append(count)

    def row(self, row: Row) -> None:
        self.rows.append(row)


def grey(path: Path, level: int, size: tuple[int, int] = (16, 16)) -> None:
    Image.new("L", size, level).save(path)


def coloured(path: Path, red: int, size: tuple[int, int] = (16, 16)) -> None:
    Image.new("RGB", size, (red, 100, 100 - red // 2)).save(path)


def broken(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n no image follows")


def expected(path: Path, task: Task) -> dict[str, float]:
    """Compute the probabilities of a file alone."""
    tensor = np.asarray(open_image(path).convert("L" if task.channels == 1 else "RGB"))
    (values,) = FakeModel(task).predict(tensor[None])
    return dict(zip(task.labels, values.tolist(), strict=True))


def mixture(folder: Path, count: int, seed: int) -> list[tuple[str, Task | None]]:
    """Make files of all kinds; return each one's name and task, ``None`` for a broken one."""
    rng = random.Random(seed)
    made: list[tuple[str, Task | None]] = []
    for index in range(count):
        name = f"{index:03}.png"
        kind = rng.choice([PNEUMONIA, SKIN, SKIN, None])
        size = (rng.randrange(3, 300), rng.randrange(3, 300))
        if kind is None:
            broken(folder / name)
        elif kind is SKIN:
            coloured(folder / name, rng.randrange(120, 200), size)
        else:
            grey(folder / name, rng.randrange(250), size)
        made.append((name, kind))
    return made


def options(*inputs: Path, **others: Any) -> ClassifyOptions:
    return ClassifyOptions(inputs=inputs, **others)
