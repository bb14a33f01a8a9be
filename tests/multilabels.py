"""Multi-label tasks, images of them, and bundles with a small network that tells their labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.images.contract import InputContract
from medkit.tasks import Task

SIDE = 32

LUNGS = Task(
    name="lungs",
    title="three findings, each in its corner",
    labels=("Effusion", "Mass", "No lung"),
    contract=InputContract(width=SIDE, height=SIDE, channels=1),
    positive=None,
    multi_label=True,
)

PAIR = Task(
    name="pair",
    title="two findings, each in its corner",
    labels=("Effusion", "Mass"),
    contract=InputContract(width=SIDE, height=SIDE, channels=1),
    positive=None,
    alert="Mass",
    multi_label=True,
)

TASKS = (LUNGS, PAIR)


def drawn(task: Task, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw grey noise in which each label brightens a corner, some hardly.

    Returns
    -------
    images, truth
        uint8 of shape (n, 32, 32, 1), and 0 and 1 of shape (n, labels).
    """
    rng = np.random.default_rng(seed)
    truth = (rng.random((count, len(task.labels))) < 0.4).astype(np.int64)
    images = rng.normal(90, 20, (count, SIDE, SIDE, 1))
    half = SIDE // 2
    for label, (row, column) in enumerate([(0, 0), (0, half), (half, 0)][: len(task.labels)]):
        light = truth[:, label] * rng.uniform(12, 60, count) + rng.normal(0, 6, count)
        images[:, row : row + half, column : column + half] += light[:, None, None, None]
    return np.clip(images, 0, 255).astype(np.uint8), truth


def write_images(
    folder: Path, task: Task, images: NDArray[np.uint8], truth: NDArray[np.int64]
) -> Path:
    """Write images and their table ``labels.csv``; return the folder."""
    (folder / "img").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["image", *task.labels])
        for number, (image, labels) in enumerate(zip(images, truth.tolist(), strict=True)):
            name = f"img/{number:03}.png"
            Image.fromarray(image[..., 0]).save(folder / name)
            rows.writerow([name, *labels])
    return folder


def write_bundle(trained: Path, task: Task, data: Path) -> Path:
    """Write a bundle of a network that is fitted to images of :func:`drawn`; return its folder.

    Its images are those of ``data``, of which 40 % are for validation and 30 %
    for the test.
    """
    import keras
    from sklearn.linear_model import LogisticRegression

    from medkit.datasets.division import SPLITS_NAME, divide, write_splits
    from medkit.datasets.own import read_own_images
    from medkit.datasets.sampling import load_tensors
    from medkit.evaluation.metrics import evaluate_points
    from medkit.models.bundle import KERAS_NAME, file_record
    from medkit.models.card import ModelCard
    from medkit.models.decisions import apply_temperature, choose_points, fit_temperature
    from medkit.models.manifest import Manifest, write_manifest
    from medkit.tasks import write_task
    from medkit.training.archive import save_archive
    from medkit.version import __version__

    keras.utils.set_random_seed(0)
    layers = keras.layers
    body = keras.Sequential(
        [
            keras.Input(task.contract.shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.AveragePooling2D(SIDE // 2),
            layers.Flatten(),
        ]
    )
    head = layers.Dense(len(task.labels), activation="sigmoid")
    network = keras.Sequential([*body.layers, head])
    network.build((None, *task.contract.shape))
    images, truth = drawn(task, 300, 1)
    features = body.predict(images, verbose=0)
    fits = [LogisticRegression(C=30, max_iter=5000).fit(features, each) for each in truth.T]
    # Its logits are twice what they should be, so that there is something to calibrate.
    head.set_weights(
        [
            2 * np.concatenate([fit.coef_ for fit in fits]).T,
            2 * np.concatenate([fit.intercept_ for fit in fits]),
        ]
    )
    splits = divide(read_own_images(task, data), validation=0.4, test=0.3)
    images, truth = load_tensors(task, splits.validation, task.contract)
    raw = network.predict(images, verbose=0)
    temperature = fit_temperature(truth, raw)
    calibrated = apply_temperature(raw, temperature, multi_label=True)
    points = choose_points(task, truth, calibrated)
    folder = trained / task.name
    folder.mkdir(parents=True)
    write_task(folder, task)
    card = ModelCard(
        task.name, task.labels, task.contract, temperature, points, "original", __version__
    )
    save_archive(network, card, folder / KERAS_NAME)
    write_splits(folder, splits)
    images, truth = load_tensors(task, splits.test, task.contract)
    raw = network.predict(images, verbose=0)
    tested = apply_temperature(raw, temperature, multi_label=True)
    write_manifest(
        folder,
        Manifest(
            task=task.name,
            labels=task.labels,
            contract=task.contract,
            temperature=temperature,
            operating_points=points,
            chosen_on="the validation images",
            metrics={"test": evaluate_points(task, truth, tested, points)},
            files={name: file_record(folder / name) for name in (KERAS_NAME, SPLITS_NAME)},
        ),
    )
    return folder
