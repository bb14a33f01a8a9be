"""Other tools on the same folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medkit.benchmark.peers import PEERS
from medkit.tasks import PNEUMONIA


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


@pytest.mark.parametrize(
    "name", ["LiteRT, one image at a time", "ONNX Runtime, one image at a time", "Keras"]
)
def test_each_tool_classifies_every_image(tiny_exported: Path, images: Path, name: str) -> None:
    peer = PEERS[name]
    for package in peer.modules:
        pytest.importorskip(package)
    (images / "torn.jpg").unlink()
    assert peer.run(images, tiny_exported / "pneumonia" / peer.file, PNEUMONIA.contract, 1) == 3
