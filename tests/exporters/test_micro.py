"""The shipped pneumonia file on a microcontroller's interpreter, in a microcontroller's memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medkit.datasets.layout import read_dataset
from medkit.datasets.location import locate_dataset
from medkit.datasets.sampling import read_pixels, stratified_sample
from medkit.images.reading import load_tensor
from medkit.models.bundle import load_bundle
from medkit.models.decisions import decide
from medkit.models.runtimes.base import finish
from medkit.models.runtimes.loading import load_model
from medkit.tasks import PNEUMONIA

micro = pytest.importorskip(
    "tflite_micro.python.tflite_micro.runtime",
    reason="TFLite Micro was not checked: its interpreter has no wheel for this machine",
)

ARENA = 512 * 1024
"""Bytes of working memory: what a larger microcontroller has."""

LARGEST_FILE = 400_000
"""Bytes, so that the file fits such a microcontroller's flash."""

SAMPLES = Path(__file__).parents[1] / "samples" / "pneumonia"


@pytest.fixture(scope="module")
def shipped() -> Path:
    return load_bundle(PNEUMONIA).export_path("tflite", "int8")


def on_micro(path: Path, images: NDArray[np.uint8], arena: int = ARENA) -> NDArray[np.float32]:
    """Return the probabilities that TFLite Micro's reference kernels compute, image by image."""
    interpreter = micro.Interpreter.from_file(str(path), arena_size=arena)
    raw = []
    for image in images:
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        raw.append(interpreter.get_output(0)[0].copy())
    return finish(load_model(path).card, np.array(raw, dtype=np.float32))


def test_the_file_fits_a_microcontrollers_flash(shipped: Path) -> None:
    assert shipped.stat().st_size <= LARGEST_FILE


def test_samples_are_decided_as_by_litert_in_an_arena_of_half_a_megabyte(shipped: Path) -> None:
    contract = PNEUMONIA.contract
    images = np.stack([load_tensor(path, contract) for path in sorted(SAMPLES.glob("*.png"))])
    assert_same_decisions(shipped, images)


@pytest.mark.data
def test_real_xrays_are_decided_as_by_litert(shipped: Path, real_data: Path) -> None:
    dataset = read_dataset(PNEUMONIA, locate_dataset(PNEUMONIA, real_data))
    images = read_pixels(stratified_sample(dataset.test, 60, 0), PNEUMONIA.contract)
    assert_same_decisions(shipped, images)


def test_an_arena_that_is_too_small_is_noticed(shipped: Path) -> None:
    image = np.zeros((1, *PNEUMONIA.contract.shape), np.uint8)
    with pytest.raises(RuntimeError):
        on_micro(shipped, image, arena=64 * 1024)


def assert_same_decisions(path: Path, images: NDArray[np.uint8]) -> None:
    """Compare both interpreters at every operating point of the file."""
    model = load_model(path)
    found, expected = on_micro(path, images), model.predict(images)
    # The reference kernels round otherwise than the fast ones.
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert len({int(label) for label in expected.argmax(axis=1)}) == 2, "one label tells nothing"
    for point in model.card.operating_points.values():
        np.testing.assert_array_equal(
            decide(PNEUMONIA, found, point), decide(PNEUMONIA, expected, point)
        )
