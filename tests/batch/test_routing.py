"""Which task an image is for."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import make_golden as golden
from medkit.batch.routing import (
    COLOUR_THRESHOLD,
    ByColour,
    OneTask,
    Route,
    colourfulness,
    least_side,
)
from medkit.images.contract import InputContract
from medkit.images.pixels import image_to_tensor
from medkit.tasks import PNEUMONIA, SKIN

BY_COLOUR = ByColour(*(Route(task.name, task.contract) for task in (PNEUMONIA, SKIN)))


def flat(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (8, 8), colour)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_grey_image_goes_to_the_x_rays_in_one_channel_or_three(mode: str) -> None:
    grey = Image.fromarray(golden.grey_pattern())
    task, tensor = BY_COLOUR.choose(grey.convert(mode))
    assert task == PNEUMONIA.name
    np.testing.assert_array_equal(tensor, image_to_tensor(grey, PNEUMONIA.contract))


def test_a_coloured_image_goes_to_dermoscopy() -> None:
    coloured = Image.fromarray(golden.pattern())
    task, tensor = BY_COLOUR.choose(coloured)
    assert task == SKIN.name
    np.testing.assert_array_equal(tensor, image_to_tensor(coloured, SKIN.contract))


def test_colourfulness_is_the_mean_chroma() -> None:
    assert colourfulness(seen(flat((200, 120, 50)))) == 150.0
    assert colourfulness(seen(Image.fromarray(golden.grey_pattern()).convert("RGB"))) == 0.0


def test_noise_of_single_pixels_is_not_taken_for_colour() -> None:
    noise = np.random.default_rng(0).normal(120, 2, (128, 128, 3)).astype(np.uint8)
    plain = float((noise.max(axis=2) - noise.min(axis=2)).mean())
    assert colourfulness(noise) < 0.6 * plain < COLOUR_THRESHOLD


def test_a_faint_tint_is_below_the_threshold_of_colour() -> None:
    assert 0 < colourfulness(seen(flat((120, 119, 117)))) < COLOUR_THRESHOLD
    assert BY_COLOUR.choose(flat((120, 119, 117)))[0] == PNEUMONIA.name


def seen(image: Image.Image) -> NDArray[np.uint8]:
    return image_to_tensor(image, SKIN.contract)


def test_one_task_takes_every_image_in_its_own_size() -> None:
    routing = OneTask(Route("mine", InputContract(width=64, height=32, channels=3)))
    task, tensor = routing.choose(flat((1, 2, 3)))
    assert (task, tensor.shape) == ("mine", (32, 64, 3))
    assert least_side(routing) == 128


def test_a_decoder_leaves_enough_pixels_for_the_larger_of_two_tasks() -> None:
    large = Route("mine", InputContract(width=200, height=300, channels=3))
    assert least_side(ByColour(BY_COLOUR.grey, large)) == 600


def test_sides_of_an_odd_number_of_pixels_have_a_colour_too() -> None:
    assert colourfulness(np.full((33, 35, 3), (200, 120, 50), np.uint8)) == 150.0


def test_a_routing_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(BY_COLOUR)) == BY_COLOUR
