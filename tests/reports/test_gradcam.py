"""Heat maps lie where the evidence for a label lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from medkit.reports.gradcam import heat_maps  # noqa: E402

SIDE = 32


def network(outputs: int) -> Any:
    """Build a network whose first map is red and whose second is blue; red speaks for label 1."""
    pixels = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    maps = keras.layers.Conv2D(2, 1, use_bias=False, name="maps")
    x = keras.layers.GlobalAveragePooling2D()(maps(x))
    head = keras.layers.Dense(outputs, "sigmoid" if outputs == 1 else "softmax")
    model = keras.Model(pixels, head(x))
    maps.set_weights([np.array([[[[1, 0], [0, 0], [0, 1]]]], np.float32)])
    weights = {1: [[4.0], [-4.0]], 3: [[0, 4.0, 0], [4.0, 0, 0]]}[outputs]
    head.set_weights([np.array(weights, np.float32), np.zeros(outputs, np.float32)])
    return model


def spots() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return one image with a red spot at the upper left and a blue one at the lower right."""
    image = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    image[0, 4:10, 4:10, 0] = 255
    image[0, 22:28, 22:28, 2] = 255
    return image


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(("label", "place"), [(1, (7, 7)), (0, (25, 25))])
def test_heat_lies_on_what_speaks_for_the_label(
    outputs: int, label: int, place: tuple[int, int]
) -> None:
    (heat,) = heat_maps(network(outputs), spots(), np.array([label]))
    assert heat.shape == (SIDE, SIDE)
    assert heat.dtype == np.float32
    assert heat[place] == pytest.approx(1, abs=0.01)
    assert heat[SIDE - 1 - place[0], SIDE - 1 - place[1]] == 0
    assert heat[16, 16] == 0


def test_layers_that_are_not_trained_any_more_count_as_well() -> None:
    frozen = network(3)
    frozen.trainable = False
    expected = heat_maps(network(3), spots(), np.array([1]))
    assert expected is not None
    assert heat_maps(frozen, spots(), np.array([1])) == pytest.approx(expected)


@pytest.mark.parametrize("first", ["Rescaling", "Flatten"])
def test_a_network_whose_maps_are_its_pixels_has_nothing_to_show(first: str) -> None:
    layers = {
        "Rescaling": [keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling2D()],
        "Flatten": [keras.layers.Flatten()],
    }[first]
    pixels = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    model = keras.Sequential([pixels, *layers, keras.layers.Dense(3, "softmax")])
    assert heat_maps(model, spots(), np.array([1])) is None
    functional = keras.Model(model.inputs, model.outputs)
    assert heat_maps(functional, spots(), np.array([1])) is None


def test_each_image_is_explained_for_its_own_label() -> None:
    images = np.concatenate([spots(), spots()])
    first, second = heat_maps(network(3), images, np.array([1, 0]))
    assert (first[7, 7], first[25, 25]) == pytest.approx((1, 0), abs=0.01)
    assert (second[7, 7], second[25, 25]) == pytest.approx((0, 1), abs=0.01)


def test_an_image_in_which_nothing_speaks_for_the_label_stays_cold() -> None:
    black = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    assert not heat_maps(network(1), black, np.array([1])).any()


def test_a_sequential_network_is_explained_as_well(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    keras.Sequential(network(1).layers).save(path)
    model = keras.saving.load_model(path)
    assert isinstance(model, keras.Sequential)
    expected = heat_maps(network(1), spots(), np.array([1]))
    assert heat_maps(model, spots(), np.array([1])) == pytest.approx(expected)
