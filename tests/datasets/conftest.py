"""The real data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkit.datasets.layout import Dataset, read_dataset
from medkit.datasets.location import locate_dataset
from medkit.tasks import PNEUMONIA, SKIN


@pytest.fixture(scope="session")
def xrays(real_data: Path) -> Dataset:
    """Read the real X-rays."""
    return read_dataset(PNEUMONIA, locate_dataset(PNEUMONIA, real_data))


@pytest.fixture(scope="session")
def skin(real_data: Path) -> Dataset:
    """Read the real skin images."""
    return read_dataset(SKIN, locate_dataset(SKIN, real_data))
