"""Other tools on the same folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkit.benchmark.peers import PEERS
from medkit.tasks import PNEUMONIA


@pytest.mark.parametrize(
    "name", ["LiteRT, one image at a time", "ONNX Runtime, one image at a time", "Keras"]
)
def test_each_tool_classifies_every_image(tiny_exported: Path, images: Path, name: str) -> None:
    peer = PEERS[name]
    for package in peer.modules:
        pytest.importorskip(package)
    (images / "torn.jpg").unlink()
    assert peer.run(images, tiny_exported / "pneumonia" / peer.file, PNEUMONIA.contract, 1) == 3
