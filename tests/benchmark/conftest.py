"""Images that are measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three grey images, and a file that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        pixels = np.full((40, 50), 60 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    return folder
