"""Augmented batches: what decides them, and that each range changes its own aspect only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("keras")

from medkit.models.recipe import Augmentation
from medkit.training.batches import Batches, augment
from medkit.training.recipes import RECIPES

EVERYTHING = (
    RECIPES["pneumonia", "default"].augmentation,
    RECIPES["skin", "default"].augmentation,
)
KEYS = [(5, 1, index) for index in range(40)]

SIDE = 64
CENTRE = (SIDE - 1) / 2

Images = NDArray[np.uint8]


def noise(count: int, channels: int = 3, side: int = SIDE) -> Images:
    shape = (count, side, side, channels)
    return np.random.default_rng(9).integers(0, 256, shape, dtype=np.uint8)


def ramps() -> Images:
    """Make an image whose channels tell the pixel's column and row."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    pixels = np.stack([4 * columns, 4 * rows, np.full_like(rows, 128)], axis=-1)
    return pixels.astype(np.uint8)


def one_level_each(image: Images) -> dict[int, int]:
    """Map each grey level in ``LEVELS`` to what became of it; fail if pixels disagree."""
    table: dict[int, int] = {}
    for before, after in zip(LEVELS.ravel().tolist(), image.ravel().tolist(), strict=True):
        assert table.setdefault(before, after) == after
    return table


LEVELS = np.repeat(np.arange(256, dtype=np.uint8), 16).reshape(SIDE, SIDE, 1)
"""An image that holds every grey level."""


def toned(ranges: Augmentation) -> list[list[int]]:
    """Return, for each key, what becomes of the 256 grey levels."""
    tables = map(one_level_each, augment(np.stack([LEVELS] * len(KEYS)), ranges, KEYS))
    return [[table[level] for level in range(256)] for table in tables]


def maps(ranges: Augmentation) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return, for each key, matrix and shift from output to input pixels about the centre."""
    found = []
    near = slice(SIDE // 2 - 8, SIDE // 2 + 8)  # no reflection at the border gets here
    rows, columns = np.mgrid[near, near] - CENTRE
    known = np.stack([columns.ravel(), rows.ravel(), np.ones(columns.size)], axis=1)
    for image in augment(np.stack([ramps()] * len(KEYS)), ranges, KEYS):
        assert (image[..., 2] == 128).all(), "a geometric change altered grey levels"
        source = image[near, near, :2].reshape(-1, 2) / 4 - CENTRE
        solution = np.linalg.lstsq(known, source, rcond=None)[0]
        found.append((solution[:2].T, solution[2]))
    return found


def assert_varied(values: list[float]) -> None:
    assert len({round(value, 3) for value in values}) > len(values) // 2


@pytest.mark.parametrize("ranges", EVERYTHING, ids=["pneumonia", "skin"])
def test_the_same_key_gives_the_same_image_and_another_key_another(ranges: Augmentation) -> None:
    images = np.repeat(noise(1), 3, axis=0)
    first = augment(images, ranges, [(1, 2, 3), (1, 2, 4), (1, 3, 3)])
    again = augment(images, ranges, [(1, 2, 3), (1, 2, 4), (1, 3, 3)])
    np.testing.assert_array_equal(first, again)
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(first[left], first[right])


@pytest.mark.parametrize("ranges", EVERYTHING, ids=["pneumonia", "skin"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_does_not_depend_on_the_batch_it_is_in(
    ranges: Augmentation, channels: int
) -> None:
    images = noise(6, channels)
    together = augment(images, ranges, KEYS[:6])
    assert together.dtype == np.uint8
    assert together.shape == images.shape
    for index in range(6):
        alone = augment(images[index : index + 1], ranges, KEYS[index : index + 1])
        np.testing.assert_array_equal(alone[0], together[index])
    backwards = augment(images[::-1], ranges, KEYS[5::-1])
    np.testing.assert_array_equal(backwards[::-1], together)


@pytest.mark.parametrize("ranges", EVERYTHING, ids=["pneumonia", "skin"])
def test_the_given_images_stay_as_they_are(ranges: Augmentation) -> None:
    images = noise(4)
    before = images.copy()
    augment(images, ranges, KEYS[:4])
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("shape", [(64, 64, 1), (64, 64, 3), (33, 50, 3)])
def test_ranges_of_zero_change_nothing(shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(2).integers(0, 256, (8, *shape), dtype=np.uint8)
    np.testing.assert_array_equal(augment(images, Augmentation(), KEYS[:8]), images)


@pytest.mark.parametrize(
    ("ranges", "axis"),
    [
        (Augmentation(flip_horizontal=True), 2),
        (Augmentation(flip_vertical=True), 1),
    ],
    ids=["horizontal", "vertical"],
)
def test_a_flip_mirrors_about_half_of_the_images_and_nothing_else(
    ranges: Augmentation, axis: int
) -> None:
    images = noise(len(KEYS))
    mirrored = np.flip(images, axis)
    changed = augment(images, ranges, KEYS)
    flipped = [np.array_equal(image, other) for image, other in zip(changed, mirrored, strict=True)]
    kept = [np.array_equal(image, other) for image, other in zip(changed, images, strict=True)]
    assert [a != b for a, b in zip(flipped, kept, strict=True)] == [True] * len(KEYS)
    assert 10 <= sum(flipped) <= 30


def test_rotation_turns_about_the_centre_by_at_most_its_range() -> None:
    angles = []
    for matrix, shift in maps(Augmentation(rotation=20)):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(2), atol=0.02)
        assert np.linalg.det(matrix) > 0
        np.testing.assert_allclose(shift, 0, atol=0.1)
        angles.append(float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))))
    assert max(np.abs(angles)) <= 20.5
    assert min(angles) < -10
    assert max(angles) > 10
    assert_varied(angles)


def test_zoom_scales_both_axes_alike() -> None:
    scales = []
    for matrix, shift in maps(Augmentation(zoom=0.3)):
        np.testing.assert_allclose(matrix, matrix[0, 0] * np.eye(2), atol=0.02)
        np.testing.assert_allclose(shift, 0, atol=0.1)
        scales.append(float(np.log(matrix[0, 0])))
    assert max(np.abs(scales)) <= 0.31
    assert min(scales) < -0.15
    assert max(scales) > 0.15
    assert_varied(scales)


def test_stretch_changes_the_aspect_and_keeps_the_area() -> None:
    ratios = []
    for matrix, shift in maps(Augmentation(stretch=0.3)):
        np.testing.assert_allclose([matrix[0, 1], matrix[1, 0]], 0, atol=0.02)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=0.02)
        np.testing.assert_allclose(shift, 0, atol=0.1)
        ratios.append(float(np.log(matrix[0, 0] / matrix[1, 1])))
    assert max(np.abs(ratios)) <= 0.31
    assert min(ratios) < -0.15
    assert max(ratios) > 0.15
    assert_varied(ratios)


def test_shift_moves_by_at_most_its_share_of_the_side() -> None:
    shifts = []
    for matrix, shift in maps(Augmentation(shift=0.1)):
        np.testing.assert_allclose(matrix, np.eye(2), atol=0.02)
        shifts.append(shift / SIDE)
    assert np.abs(shifts).max() <= 0.105
    assert (np.min(shifts, axis=0) < -0.05).all()
    assert (np.max(shifts, axis=0) > 0.05).all()
    assert_varied([float(x) for x, _ in shifts])


def test_brightness_moves_all_levels_in_one_direction() -> None:
    moves = []
    for table in toned(Augmentation(brightness=0.4)):
        assert sorted(table) == table
        inner = {after - before for before, after in enumerate(table) if 0 < after < 255}
        assert max(inner) - min(inner) <= 1
        moves.append(sum(inner) / len(inner) / 255)
    assert max(np.abs(moves)) <= 0.21
    assert min(moves) < -0.1
    assert max(moves) > 0.1


def test_contrast_pivots_on_middle_grey() -> None:
    spans = []
    for table in toned(Augmentation(contrast=0.4)):
        assert sorted(table) == table
        assert table[127] in (126, 127, 128)
        spans.append((table[160] - table[96]) / 64)
    assert 0.58 <= min(spans) < 0.8
    assert 1.2 < max(spans) <= 1.42


def test_gamma_keeps_black_and_white() -> None:
    middles = []
    for table in toned(Augmentation(gamma=0.5)):
        assert sorted(table) == table
        assert (table[0], table[255]) == (0, 255)
        middles.append(table[128])
    assert min(middles) < 115
    assert max(middles) > 140


def test_colour_gains_differ_between_channels() -> None:
    grey = np.full((len(KEYS), 16, 16, 3), 100, dtype=np.uint8)
    changed = augment(grey, Augmentation(colour=0.2), KEYS)
    assert (changed == changed[:, :1, :1]).all(), "a gain depends on the place"
    gains = changed[:, 0, 0] / 100
    assert gains.min() >= 0.79
    assert gains.max() <= 1.21
    assert (np.ptp(gains, axis=1) > 0.02).mean() > 0.8


def test_noise_leaves_the_mean_and_stays_in_its_range() -> None:
    grey = np.full((len(KEYS), 64, 64, 1), 128, dtype=np.uint8)
    changed = augment(grey, Augmentation(noise=10), KEYS).astype(float) - 128
    sigmas = changed.std(axis=(1, 2, 3))
    assert sigmas.max() < 10.5
    assert sigmas.max() - sigmas.min() > 5
    np.testing.assert_allclose(changed.mean(axis=(1, 2, 3)), 0, atol=0.8)


def test_erasing_paints_one_grey_rectangle_on_its_share_of_the_images() -> None:
    images = np.random.default_rng(4).integers(0, 256, (len(KEYS), 64, 64, 3), dtype=np.uint8)
    always = augment(images, Augmentation(erase=1.0), KEYS)
    for before, after in zip(images, always, strict=True):
        rows, columns = np.nonzero((before != after).any(axis=-1))
        box = after[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert len(np.unique(box)) == 1, "the rectangle is not one grey"
        tall, wide = box.shape[:2]
        assert 4 <= tall <= 26
        assert 4 <= wide <= 26
    half = augment(images, Augmentation(erase=0.5), KEYS)
    touched = sum(not np.array_equal(a, b) for a, b in zip(images, half, strict=True))
    assert 10 <= touched <= 30


def batches(seed: int, epoch: int, size: int = 4, ranges: Augmentation | None = None) -> Any:
    """Make the batches of ten images whose targets are their positions."""
    positions = np.arange(10, dtype=np.float32)
    return Batches(noise(10, 1, 16), positions, positions + 100, size, ranges, seed, epoch)


def order(dataset: Batches) -> list[int]:
    return [int(i) for index in range(len(dataset)) for i in dataset[index][1]]


def test_an_epoch_shows_every_image_once_with_its_target_and_weight() -> None:
    dataset = batches(seed=0, epoch=1)
    assert [len(dataset[index][0]) for index in range(len(dataset))] == [4, 4, 2]
    assert sorted(order(dataset)) == list(range(10))
    images = noise(10, 1, 16)
    for index in range(len(dataset)):
        shown, targets, weights = dataset[index]
        np.testing.assert_array_equal(shown, images[targets.astype(int)])
        np.testing.assert_array_equal(weights, targets + 100)


def test_the_order_is_that_of_the_seed_and_differs_by_epoch() -> None:
    assert order(batches(seed=7, epoch=1)) == order(batches(seed=7, epoch=1))
    assert order(batches(seed=7, epoch=1)) != order(batches(seed=7, epoch=2))
    assert order(batches(seed=7, epoch=1)) != order(batches(seed=8, epoch=1))


def test_changes_depend_on_seed_and_epoch_and_not_on_the_batch_size() -> None:
    ranges = EVERYTHING[0]

    def shown(seed: int, epoch: int, size: int) -> Images:
        dataset = batches(seed, epoch, size, ranges)
        found: dict[int, Images] = {}
        for index in range(len(dataset)):
            images, targets, _ = dataset[index]
            found |= {int(i): image for i, image in zip(targets, images, strict=True)}
        return np.stack([found[i] for i in range(10)])

    np.testing.assert_array_equal(shown(1, 1, size=4), shown(1, 1, size=7))
    for other in (shown(1, 2, size=4), shown(2, 1, size=4)):
        same = [np.array_equal(a, b) for a, b in zip(shown(1, 1, size=4), other, strict=True)]
        assert not any(same)


# Sharpness and rim


def test_resolution_blurs_about_half_of_the_images_and_leaves_the_others() -> None:
    images = noise(len(KEYS), 3)
    changed = augment(images, Augmentation(resolution=0.4), KEYS)
    blurred = [not np.array_equal(a, b) for a, b in zip(changed, images, strict=True)]
    assert 10 <= sum(blurred) <= 30

    def detail(image: NDArray[np.uint8]) -> float:
        return float(np.abs(np.diff(image.astype(float), axis=1)).mean())

    for before, after, softer in zip(images, changed, blurred, strict=True):
        if softer:
            assert detail(after) < detail(before)
            assert after.mean() == pytest.approx(before.mean(), abs=3)


def test_a_vignette_darkens_the_corners_and_not_the_centre() -> None:
    images = np.full((len(KEYS), SIDE, SIDE, 3), 200, np.uint8)
    changed = augment(images, Augmentation(vignette=0.5), KEYS)
    rimmed = (changed != images).any(axis=(1, 2, 3))
    assert 10 <= rimmed.sum() <= 30
    centre = slice(SIDE // 2 - 4, SIDE // 2 + 4)
    assert (changed[:, centre, centre] >= 198).all()
    corners = changed[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=(1, 2))
    assert (corners[rimmed] < 199).all()
    assert (corners[rimmed] < 60).sum() > 5
    assert len({int(count) for count in (changed[rimmed] < 100).sum(axis=(1, 2, 3))}) > 5


# Mixed images


def mixing(share: float, count: int = 60, weights: Any = None) -> tuple[Any, Any, Any]:
    """Return all of an epoch's images, targets and weights; image ``i`` is grey ``4 * i``."""
    images = np.stack([np.full((16, 16, 1), 4 * index, np.uint8) for index in range(count)])
    targets = np.eye(count, dtype=np.float32)
    given = np.ones(count, np.float32) if weights is None else weights
    batches = Batches(images, targets, given, count, Augmentation(mix=share), 3, 1)
    mixed, labels, heavy = batches[0]
    order = batches._order
    back = np.argsort(order)
    return mixed[back], labels[back], heavy[back]


def test_a_share_of_the_images_is_mixed_and_the_others_are_not() -> None:
    images, targets, _ = mixing(0.5)
    alone = targets.max(axis=1) == 1
    assert 0.3 < alone.mean() < 0.75
    for index in np.flatnonzero(alone):
        assert (images[index] == 4 * index).all()
    assert (mixing(0.0)[1] == np.eye(60)).all()


def test_the_target_of_a_mixed_image_has_the_shares_of_both_images() -> None:
    images, targets, _ = mixing(1.0)
    expected = targets @ (4.0 * np.arange(60))
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), expected, atol=0.5)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    # Its own label keeps at least half.
    assert (targets[np.arange(60), np.arange(60)] >= 0.5 - 1e-6).all()
    levels = [len(np.unique(image)) for image in images]
    assert min(levels) == 1, "some are faded into one another"
    assert max(levels) == 2, "some have a patch"


def test_images_of_more_weight_add_more_of_their_label() -> None:
    weights = np.where(np.arange(60) < 30, 1.0, 3.0).astype(np.float32)
    plain, heavy = mixing(1.0), mixing(1.0, weights=weights)
    np.testing.assert_array_equal(plain[0], heavy[0])
    shares = plain[1]
    np.testing.assert_allclose(heavy[2], shares @ weights, rtol=1e-5)
    np.testing.assert_allclose(heavy[1], shares * weights / heavy[2][:, None], atol=1e-6)


def test_mixing_is_the_same_for_the_same_seed_and_epoch() -> None:
    for first, second in zip(mixing(0.7), mixing(0.7), strict=True):
        np.testing.assert_array_equal(first, second)
