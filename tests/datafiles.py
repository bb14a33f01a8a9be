"""Small data sets and labelled images, as several tests make them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from medkit.datasets.layout import Item
from medkit.tasks import Task


def picture(path: Path, seed: int) -> None:
    """Write a tiny image that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")


def lay_out(root: Path, task: Task, per_class: int = 1) -> Path:
    """Lay out a data set of ``task`` in which all images differ."""
    seed = 0
    for split in (task.published.train, task.published.test):
        for label in task.labels:
            for number in range(per_class):
                picture(root / split / label / f"{split}_{number}.png", seed)
                seed += 1
    return root


def item(
    label: int, name: str = "", *, content: str | None = None, group: str | None = None
) -> Item:
    """Return a labelled image that is nowhere on the disk; its name stands for its content."""
    return Item(Path(name), name, label, content or name, group or name)
