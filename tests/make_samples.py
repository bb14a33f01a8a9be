"""Draw the sample images of ``tests/samples``: made by a model, not taken of a patient.

Each class's training images are reduced to a mean, to few principal
components, and to the statistics of what those leave over. A sample is the
mean, plus the components with scores drawn from the class's Gaussian, plus
random texture with the spectrum of the residuals. A sample that comes out
closer to any training image than training images commonly are to one another
is refused and drawn again.

Usage: ``python tests/make_samples.py DATA [--out tests/samples] [--seed 0]``
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from medkit.datasets.conflicts import resolve_conflicts
from medkit.datasets.layout import Item, read_dataset
from medkit.datasets.location import locate_dataset
from medkit.datasets.sampling import read_pixels
from medkit.images.contract import InputContract
from medkit.tasks import PNEUMONIA, SKIN, Task

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

MIN_IMAGES = 40
"""A class with fewer clean images than this is fitted to its conflicting ones as well."""

IMAGES_PER_COMPONENT = 6
"""Training images for each component: too many for a draw from the components to be any of them."""

MAX_COMPONENTS = 220
"""Beyond it, another component adds no sharpness that the eye sees."""

TRUNCATION = 2.0
"""Largest score, in standard deviations; larger ones make lungs and lesions look unnatural."""

COARSE = 24
"""Side in pixels at which closeness is judged.

It still shows what a picture is of. At full size the random texture would
make every sample look far from everything.
"""

MAX_DRAWS = 200
"""Draws for one sample before the script gives up."""


@dataclass(frozen=True)
class Plan:
    """How the samples of one task are made.

    Attributes
    ----------
    task
        The task.
    per_class
        Samples of each class.
    fit_size, size
        Sides, in pixels, of the images of the model and of those written.
    texture
        Share of the residuals' strength that goes into the random texture.
    lesion
        Whether there is a lesion, to be centred and turned before the fit
        and turned at random after it.
    """

    task: Task
    per_class: int
    fit_size: int
    size: int
    texture: float
    lesion: bool


PLANS = (
    # What the components leave over is grain in part only: the rest is ribs, and they scramble.
    Plan(PNEUMONIA, per_class=3, fit_size=192, size=256, texture=0.3, lesion=False),
    Plan(SKIN, per_class=2, fit_size=144, size=192, texture=0.8, lesion=True),
)


@dataclass(frozen=True)
class ClassModel:
    """Statistics of one class's images.

    Attributes
    ----------
    mean
        Mean image, shape (side, side, channels).
    components
        Principal components times their standard deviations, shape (components, pixels).
    colour_axes
        Uncorrelated directions of the residuals' colours, one a column.
    spectra
        Amplitude spectrum of the residuals along each axis, shape (channels, side, side).
    strength
        How strong the residuals are at each pixel; 1 on average.
    """

    mean: Floats
    components: Floats
    colour_axes: Floats
    spectra: Floats
    strength: Floats

    def draw(self, rng: np.random.Generator, texture: float) -> Floats:
        """Return one random image of the shape of ``mean``, values 0..255."""
        scores = _truncated_normal(rng, len(self.components))
        smooth = self.mean + (scores @ self.components).reshape(self.mean.shape)
        noise = np.fft.fft2(rng.standard_normal(self.spectra.shape))
        grain = np.fft.ifft2(noise * self.spectra).real * self.strength * texture
        image = smooth + np.moveaxis(grain, 0, -1) @ self.colour_axes.T
        return np.clip(image, 0, 255).astype(np.float32)


def fit(images: Floats, components: int) -> ClassModel:
    """Fit a model to the images of one class.

    Parameters
    ----------
    images
        Shape (n, side, side, channels).
    components
        How many principal components to keep.
    """
    count, side, _, channels = images.shape
    mean = images.mean(axis=0)
    centred = (images - mean).reshape(count, -1)
    # With fewer images than pixels, the images' Gram matrix is the short way to the components.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = values[-components:], vectors[:, -components:]
    basis = (vectors / np.sqrt(values)).T @ centred
    # The sign of an eigenvector is arbitrary; the samples must not hang on the library's choice.
    largest = np.abs(basis).argmax(axis=1)
    basis *= np.sign(np.take_along_axis(basis, largest[:, None], axis=1))

    residuals = (centred - (centred @ basis.T) @ basis).reshape(images.shape)
    colours = residuals.reshape(-1, channels)
    axes = np.linalg.eigh(colours.T @ colours)[1]
    strength = _smooth(np.sqrt((residuals**2).mean(axis=(0, 3))))
    strength /= strength.mean()
    # Without a window, the jumps from edge to opposite edge would put a cross in the spectrum.
    window = np.outer(np.hanning(side), np.hanning(side))
    window /= np.sqrt((window**2).mean())
    power = np.zeros((channels, side, side))
    for residual in residuals:
        along_axes = np.moveaxis(residual @ axes, -1, 0)
        power += np.abs(np.fft.fft2(along_axes * window / strength)) ** 2
    return ClassModel(
        mean=mean,
        components=basis * np.sqrt(values / (count - 1))[:, None],
        colour_axes=axes,
        spectra=np.sqrt(power / (count * side**2)).astype(np.float32),
        strength=strength,
    )


def centre_lesion(pixels: Pixels) -> Pixels:
    """Move the lesion to the middle of the image, and its long axis to the horizontal.

    The lesion is what differs in colour from the skin around it. Without
    this, a class's mean is a blot and its components move the blot about.
    """
    side = len(pixels)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius = np.hypot(y, x) / side
    # Farther out, many images show the dermatoscope's black rim.
    skin = np.median(pixels[(radius > 0.36) & (radius < 0.46)], axis=0)
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(side / 48))
    difference = np.abs(np.asarray(blurred) - skin).sum(axis=2)
    difference *= (radius < 0.46) * np.exp(-5 * radius**2)
    weight = np.clip(difference - np.percentile(difference, 70), 0, None)
    weight /= weight.sum()
    middle_y, middle_x = (weight * y).sum(), (weight * x).sum()
    y, x = y - middle_y, x - middle_x
    angle = np.arctan2(2 * (weight * x * y).sum(), (weight * (x**2 - y**2)).sum()) / 2
    return _turn(pixels, angle, middle_x, middle_y)


def closeness(images: Floats, others: Floats, mean: Floats) -> Floats:
    """Correlate images with others, coarsened and with the class's mean taken away.

    Returns
    -------
    numpy.ndarray
        Shape (images, others); 1 where both show the same.
    """
    return _pattern(images - mean) @ _pattern(others - mean).T


def common_closeness(images: Floats, groups: Sequence[str], mean: Floats) -> float:
    """Return the median over images of the closeness to the nearest image of another group."""
    patients = np.array(groups)
    between = closeness(images, images, mean)
    between[patients[:, None] == patients] = -1
    return float(np.median(between.max(axis=1)))


def training_items(task: Task, root: Path) -> list[list[Item]]:
    """Return each class's training images, in label order."""
    dataset = read_dataset(task, root)
    clean, _ = resolve_conflicts(dataset, "drop")
    in_test = {item.sha256 for item in dataset.test}
    classes = []
    for label in range(len(task.labels)):
        items = [item for item in clean if item.label == label]
        if len(items) < MIN_IMAGES:
            # All but two seborrheic keratoses also lie, byte for byte, under melanoma. That bars
            # them from training, but a sample need only look like its class, not prove it.
            unique = {item.sha256: item for item in dataset.train if item.label == label}
            items = [item for sha256, item in unique.items() if sha256 not in in_test]
        classes.append(items)
    return classes


def draw_class(plan: Plan, items: Sequence[Item], rng: np.random.Generator) -> Iterator[Pixels]:
    """Fit one class, print the figures of the check, and yield its samples.

    Raises
    ------
    SystemExit
        If a sample that is far enough from every training image is not found.
    """
    side = plan.fit_size
    contract = InputContract(width=side, height=side, channels=plan.task.channels)
    pixels = read_pixels(items, contract)
    if plan.lesion:
        pixels = np.stack([centre_lesion(image) for image in pixels])
    images = pixels.astype(np.float32)
    components = min(MAX_COMPONENTS, len(images) // IMAGES_PER_COMPONENT)
    model = fit(images, components)
    limit = common_closeness(images, [item.group for item in items], model.mean)
    print(f"  {len(images)} images, {components} components, closeness below {limit:.3f}")
    for _ in range(plan.per_class):
        for _ in range(MAX_DRAWS):
            sample = model.draw(rng, plan.texture)
            nearest = closeness(sample[None], images, model.mean).max()
            print(f"  closeness {nearest:.3f}, {'kept' if nearest < limit else 'refused'}")
            if nearest < limit:
                break
        else:
            raise SystemExit(f"{MAX_DRAWS} draws, all too close to a training image")
        drawn = np.rint(sample).astype(np.uint8)
        yield _turn(drawn, rng.uniform(0, 2 * np.pi)) if plan.lesion else drawn


def main() -> None:
    """Write all samples."""
    parser = argparse.ArgumentParser(description="Draw the sample images of tests/samples.")
    parser.add_argument("data", type=Path, help="folder that holds both data sets")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "samples")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for plan in PLANS:
        folder = arguments.out / plan.task.name
        folder.mkdir(parents=True, exist_ok=True)
        classes = training_items(plan.task, locate_dataset(plan.task, arguments.data))
        for index, (label, items) in enumerate(zip(plan.task.labels, classes, strict=True)):
            print(f"{plan.task.name}: {label}")
            # A generator for each class, so that none depends on the draws of those before it.
            rng = np.random.default_rng([arguments.seed, plan.task.channels, index])
            for number, sample in enumerate(draw_class(plan, items, rng), start=1):
                image = Image.fromarray(sample if plan.task.channels == 3 else sample[..., 0])
                image = image.resize((plan.size, plan.size), Image.Resampling.BICUBIC)
                name = f"{label.replace(' ', '-')}-{number}.png"
                image.save(folder / name, optimize=True)


def _truncated_normal(rng: np.random.Generator, count: int) -> Floats:
    scores = rng.standard_normal(count)
    while (outside := np.abs(scores) > TRUNCATION).any():
        scores[outside] = rng.standard_normal(outside.sum())
    return scores.astype(np.float32)


def _pattern(images: Floats) -> Floats:
    """Coarsen images and bring each to mean 0 and length 1, so that products are correlations."""
    count, side, _, channels = images.shape
    block = side // COARSE
    blocks = images.reshape(count, COARSE, block, COARSE, block, channels)
    flat: Floats = blocks.mean(axis=(2, 4)).reshape(count, -1)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    return flat


def _smooth(values: Floats) -> Floats:
    """Blur a map until no outline of a single image can be in it."""
    image = Image.fromarray(values)
    return np.array(image.resize((8, 8), Image.Resampling.BOX).resize(image.size))


def _turn(pixels: Pixels, angle: float, x: float = 0.0, y: float = 0.0) -> Pixels:
    """Bring the point ``x``, ``y`` off the middle to the middle, and turn about it."""
    side = len(pixels)
    # What comes in over the edges is the image's own reflection, which reads as more skin.
    mirrored = np.pad(pixels, ((side, side), (side, side), (0, 0)), mode="symmetric")
    half = side / 2
    cosine, sine = np.cos(angle), np.sin(angle)
    left = side + half + x - half * (cosine - sine)
    top = side + half + y - half * (sine + cosine)
    turned = Image.fromarray(mirrored).transform(
        (side, side),
        Image.Transform.AFFINE,
        (cosine, -sine, left, sine, cosine, top),
        Image.Resampling.BICUBIC,
    )
    return np.asarray(turned)


if __name__ == "__main__":
    main()
