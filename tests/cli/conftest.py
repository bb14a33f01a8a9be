"""What the tests of the command line have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's environment out."""
    for name in ("MEDKIT_DATA", "MEDKIT_TRAINED", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    """Make a folder with three grey images."""
    folder = tmp_path / "xrays"
    folder.mkdir()
    for index in range(3):
        Image.new("L", (50, 40), 60 * index).save(folder / f"{index}.png")
    return folder
