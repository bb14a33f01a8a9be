"""Which task an image is for."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import make_golden as golden
from medkit.batch.routing import (
    ByColour,
    OneTask,
    Route,
    colourfulness,
    colours_of,
    is_coloured,
    least_side,
)
from medkit.images.contract import FULL_SCALE, InputContract
from medkit.images.pixels import image_to_tensor
from medkit.tasks import PNEUMONIA, SKIN, Task

BY_COLOUR = ByColour(*(Route(task.name, task.contract) for task in (PNEUMONIA, SKIN)))


def flat(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (8, 8), colour)


def chest() -> Image.Image:
    """Draw a bright spine between two dark lungs on a grey body."""
    image = Image.new("L", (128, 128), 120)
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 30, 50, 100), fill=40)
    draw.rectangle((78, 30, 108, 100), fill=40)
    draw.rectangle((56, 0, 72, 128), fill=200)
    return image


def lesion() -> Image.Image:
    """Draw a dark spot of two hues on skin."""
    image = Image.new("RGB", (128, 128), (215, 165, 140))
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 25, 105, 110), fill=(120, 70, 60))
    draw.ellipse((45, 40, 100, 90), fill=(70, 60, 90))
    return image


def seen(image: Image.Image) -> NDArray[np.uint8]:
    return image_to_tensor(image, SKIN.contract)


def lit(red: float, green: float, blue: float) -> Image.Image:
    """Return a chest in the light of one colour."""
    grey = np.asarray(chest().convert("RGB"))
    return Image.fromarray((grey * np.array([red, green, blue])).round().astype(np.uint8))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_grey_image_goes_to_the_x_rays_in_one_channel_or_three(mode: str) -> None:
    grey = chest()
    routed = BY_COLOUR.choose(grey.convert(mode))
    assert (routed.task, routed.notes) == (PNEUMONIA.name, ())
    np.testing.assert_array_equal(routed.tensor, image_to_tensor(grey, PNEUMONIA.contract))


def test_a_coloured_image_goes_to_dermoscopy() -> None:
    coloured = lesion()
    routed = BY_COLOUR.choose(coloured)
    assert (routed.task, routed.notes) == (SKIN.name, ())
    np.testing.assert_array_equal(routed.tensor, image_to_tensor(coloured, SKIN.contract))


@pytest.mark.parametrize(
    "light", [(1, 1, 0.96), (1, 1, 0.94), (0.8, 0.92, 1), (0.5, 0.7, 1), (1, 0.93, 0.8)],
    ids=["4 %", "6 %", "blue film", "strong blue film", "sepia"],
)  # fmt: skip
def test_a_tint_does_not_make_an_x_ray_dermoscopy_and_is_noted(
    light: tuple[float, float, float],
) -> None:
    routed = BY_COLOUR.choose(lit(*light))
    assert (routed.task, routed.notes) == (PNEUMONIA.name, ("colour unexpected",))


@pytest.mark.parametrize("box", [(25, 38, 64, 77), (0, 0, 128, 7)], ids=["red box", "bar"])
def test_an_annotation_does_not_make_an_x_ray_dermoscopy(box: tuple[int, int, int, int]) -> None:
    image = chest().convert("RGB")
    draw = ImageDraw.Draw(image)
    draw.rectangle(box, outline=(255, 0, 0), width=2, fill=(0, 90, 180) if box[0] == 0 else None)
    assert BY_COLOUR.choose(image).task == PNEUMONIA.name


def test_a_picture_of_one_strong_hue_and_no_chest_is_dermoscopy_by_a_guess() -> None:
    routed = BY_COLOUR.choose(flat((200, 80, 40)))
    assert (routed.task, routed.notes) == (SKIN.name, ("task guessed",))


@pytest.mark.parametrize("share", [0.1, 0.12])
def test_bars_at_the_borders_do_not_make_an_x_ray_dermoscopy(share: float) -> None:
    image = chest().convert("RGB")
    draw = ImageDraw.Draw(image)
    wide = int(128 * share)
    for left in (0, 128 - wide):
        draw.rectangle((left, 0, left + wide, 128), fill=(0, 90, 180))
    routed = BY_COLOUR.choose(image)
    assert (routed.task, routed.notes) == (PNEUMONIA.name, ("colour unexpected",))


@pytest.mark.parametrize("change", [5, 10, 20])
def test_a_tint_that_changes_from_side_to_side_does_not_either(change: int) -> None:
    pixels = np.asarray(chest().convert("RGB")).astype(float)
    warmer = np.linspace(-change, change, 128)
    pixels[..., 0] += warmer
    pixels[..., 2] -= warmer
    routed = BY_COLOUR.choose(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    assert (routed.task, routed.notes) == (PNEUMONIA.name, ("colour unexpected",))


def test_colours_in_the_shape_of_a_chest_are_a_guess() -> None:
    pixels = np.asarray(chest().convert("RGB")).astype(float)
    coloured = np.asarray(Image.fromarray(golden.pattern()).resize((128, 128))).astype(float)
    mixed = Image.fromarray((0.6 * pixels + 0.4 * coloured).astype(np.uint8))
    routed = BY_COLOUR.choose(mixed)
    assert (routed.task, routed.notes) == (SKIN.name, ("task guessed",))


def test_a_colour_that_the_model_has_not_seen_is_noted() -> None:
    grey, coloured = Image.fromarray(golden.grey_pattern()), Image.fromarray(golden.pattern())
    xray, skin = OneTask(BY_COLOUR.grey), OneTask(BY_COLOUR.coloured)
    noted = ("colour unexpected",)
    assert (xray.choose(grey).notes, xray.choose(grey.convert("RGB")).notes) == ((), ())
    assert xray.choose(coloured).notes == noted
    assert xray.choose(lit(1, 1, 0.9)).notes == noted
    assert (skin.choose(grey).notes, skin.choose(grey.convert("RGB")).notes) == (noted, noted)
    assert skin.choose(coloured).notes == ()


def test_colourfulness_is_the_mean_chroma() -> None:
    assert colourfulness(seen(flat((200, 120, 50)))) == 150.0
    assert colourfulness(seen(Image.fromarray(golden.grey_pattern()).convert("RGB"))) == 0.0


def test_noise_of_single_pixels_is_not_taken_for_colour() -> None:
    noise = np.random.default_rng(0).normal(120, 2, (128, 128, 3)).astype(np.uint8)
    assert not is_coloured(noise, chest=False)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_grey_image_that_shows_no_chest_is_noted(mode: str) -> None:
    blob = Image.new("L", (128, 128), 180)
    ImageDraw.Draw(blob).ellipse((40, 40, 88, 88), fill=60)
    for image in (blob, Image.new("L", (20, 20), 9)):
        routed = BY_COLOUR.choose(image.convert(mode))
        assert (routed.task, routed.notes) == (PNEUMONIA.name, ("task guessed",))


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "most", "least"),
    [("chest_xray/test", 0.03, 0.0), ("skin_cancer_isic/Test", 1.0, 0.95)],
)
def test_dermoscopy_in_grey_is_noted_and_x_rays_are_not(
    real_data: Path, folder: str, most: float, least: float
) -> None:
    paths = sorted((real_data / folder).rglob("*.jp*g"))
    noted = [
        "task guessed" in BY_COLOUR.choose(Image.open(path).convert("L")).notes for path in paths
    ]
    assert least <= np.mean(noted) <= most


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "light", "task"),
    [
        ("chest_xray/test", (1, 1, 1), PNEUMONIA),
        ("chest_xray/test", (1, 1, 0.96), PNEUMONIA),
        ("chest_xray/test", (0.8, 0.92, 1), PNEUMONIA),
        ("chest_xray/test", (0.5, 0.7, 1), PNEUMONIA),
        ("chest_xray/test", (1, 0.93, 0.8), PNEUMONIA),
        ("skin_cancer_isic/Test", (1, 1, 1), SKIN),
    ],
)
def test_colour_tells_the_real_data_sets_apart_in_any_light(
    real_data: Path, folder: str, light: tuple[float, float, float], task: Task
) -> None:
    paths = sorted(path for path in (real_data / folder).rglob("*.jp*g"))[::5]
    assert len(paths) > 20
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB")) * np.array(light)
        image = Image.fromarray(pixels.round().astype(np.uint8))
        assert BY_COLOUR.choose(image).task == task.name, path


def test_one_task_takes_every_image_in_its_own_size() -> None:
    routing = OneTask(Route("mine", InputContract(width=64, height=32, channels=3)))
    routed = routing.choose(flat((1, 2, 3)))
    assert (routed.task, routed.tensor.shape) == ("mine", (32, 64, 3))
    assert least_side(routing) == 128


COLOURED_PIXELS = np.stack(np.meshgrid(np.arange(64), np.arange(64)), axis=-1).astype(np.uint8) * 4
COLOURED_PIXELS = np.concatenate([COLOURED_PIXELS, COLOURED_PIXELS[::-1, :, :1]], axis=-1)
GREY_PIXELS = np.repeat(COLOURED_PIXELS[..., :1], 3, axis=-1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("images", "noted"),
    [("", None), ("grey", ["coloured"]), ("coloured", ["grey"]), ("any", [])],
)
def test_a_task_says_which_images_are_unexpected(
    channels: int, images: str, noted: list[str] | None
) -> None:
    """A model of RGB input may be one of X-rays, and a grey one may have seen photographs."""
    contract = InputContract(width=64, height=64, channels=channels)
    given = {
        "grey": Image.fromarray(GREY_PIXELS),
        "coloured": Image.fromarray(COLOURED_PIXELS),
    }
    routing = OneTask(Route("mine", contract, images))
    found = [name for name, image in given.items() if routing.choose(image).notes]
    assert found == (noted if noted is not None else ["coloured" if channels == 1 else "grey"])


def test_what_a_task_s_images_are_is_told_from_some_of_them() -> None:
    grey, coloured = (np.stack([each] * 50) for each in (GREY_PIXELS, COLOURED_PIXELS))
    assert colours_of(grey) == "grey"
    assert colours_of(coloured) == "coloured"
    assert colours_of(np.concatenate([grey, coloured[:10]])) == "any"
    assert colours_of(np.concatenate([coloured] * 2 + [grey[:1]])) == "coloured"
    assert colours_of(grey[..., :1]) == ""


def test_a_decoder_leaves_enough_pixels_for_the_larger_of_two_tasks() -> None:
    large = Route("mine", InputContract(width=200, height=300, channels=3))
    assert least_side(ByColour(BY_COLOUR.grey, large)) == 600


def test_one_task_that_needs_every_pixel_forbids_the_decoder_to_scale() -> None:
    rule = {"decoder": FULL_SCALE, "resize": "squash:pillow-nearest"}
    exact = Route("mine", InputContract(width=64, height=64, channels=3, **rule))
    assert least_side(OneTask(exact)) is None
    assert least_side(ByColour(BY_COLOUR.grey, exact)) is None


def test_sides_of_an_odd_number_of_pixels_have_a_colour_too() -> None:
    assert colourfulness(np.full((33, 35, 3), (200, 120, 50), np.uint8)) == 150.0


def test_a_routing_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(BY_COLOUR)) == BY_COLOUR
