"""Folders with the problems that an audit finds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medkit.datasets.audit import PROBLEMS, REMARKS, Audit

KINDS = [*PROBLEMS, *REMARKS]


def drawn(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """Draw blots, as fine as the perceptual hash looks, that no other seed gives."""
    blots = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    return Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC)


def drawing(path: Path, seed: int, size: tuple[int, int] = (96, 80), **options: Any) -> Path:
    """Write the image of a seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(seed, size).save(path, **options)
    return path


def copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, target))


def broken(path: Path, content: bytes = b"no image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def clean(root: Path) -> Path:
    """Lay out two classes of two images that have nothing in common."""
    for seed, name in enumerate(("cat/1.png", "cat/2.jpg", "dog/1.png", "dog/2.jpg")):
        drawing(root / name, seed)
    return root


def everything(root: Path) -> Path:
    """Lay out a data set with one finding of each kind."""
    clean(root / "train")
    broken(root / "train/cat/broken.png")
    copy(root / "train/cat/1.png", root / "test/dog/copy.png")
    drawing(root / "test/dog/again.jpg", 2, quality=60)
    drawing(root / "train/dog/person5_virus_1.png", 5)
    drawing(root / "test/dog/person5_virus_2.png", 6)
    return root


def found(audit: Audit) -> dict[str, int]:
    """Count the findings of each kind that occurred."""
    return {kind: len(audit.of(kind)) for kind in KINDS if audit.of(kind)}
