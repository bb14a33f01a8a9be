"""The student project's own way of working, on its X-rays: parity with its pipeline.

Images come from Keras' ``ImageDataGenerator`` with its default resize and
``rescale=1/255``, and the model is saved as an ``.h5``.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import medkit
from commandruns import run
from medkit.models.bundle import load_bundle
from medkit.models.decisions import apply_temperature

keras = pytest.importorskip("keras")

SIDE, EACH = 128, 200

LABELS = ("NORMAL", "PNEUMONIA")


def generated(folder: Path, *, shuffle: bool) -> Any:
    """Return Keras' own generator of images."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    return ImageDataGenerator(rescale=1 / 255).flow_from_directory(
        folder,
        target_size=(SIDE, SIDE),
        batch_size=32,
        class_mode="binary",
        shuffle=shuffle,
        seed=1,
    )


@pytest.fixture(scope="module")
def pipeline(
    real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str], NDArray[np.float32]]:
    """Train the model; return its folder, the test images, and what the pipeline gives them."""
    folder = tmp_path_factory.mktemp("student")
    for split in ("train", "test"):
        for label in LABELS:
            place = folder / "xrays" / split / label
            place.mkdir(parents=True)
            source = real_data / "chest_xray" / split / label
            for path in sorted(source.iterdir())[:EACH]:
                (place / path.name).symlink_to(path)
    layers = keras.layers
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(32, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generator is old, and Keras says so
        model.fit(generated(folder / "xrays" / "train", shuffle=True), epochs=8, verbose=0)
        held_out = generated(folder / "xrays" / "test", shuffle=False)
        scores = model.predict(held_out, verbose=0)[:, 0]
    model.save(folder / "student.h5")
    (folder / "labels.txt").write_text("NORMAL\nPNEUMONIA\n")
    return folder, list(held_out.filenames), scores


@pytest.mark.data
def test_the_adopted_model_gives_what_the_students_pipeline_gives(
    pipeline: tuple[Path, list[str], NDArray[np.float32]],
) -> None:
    folder, names, scores = pipeline
    out = folder / "mine"
    done = run(
        *("adopt", folder / "student.h5", "--name", "student", "--data", folder / "xrays"),
        *("--resize", "squash:pillow-nearest", "--out", out),
    )
    assert done.exit_code == 0, done.output
    bundle = load_bundle("student", out)
    assert bundle.manifest.adoption is not None
    assert bundle.manifest.adoption.pixels == "0..1"
    done = run("export", "student", "--fp32", "--trained", out)
    assert done.exit_code == 0, done.output
    expected = apply_temperature(
        np.stack([1 - scores, scores], axis=1), bundle.temperature, multi_label=False
    )
    assert len(names) == 2 * EACH
    images = np.stack(
        [medkit.load_tensor(folder / "xrays" / "test" / name, bundle.contract) for name in names]
    )
    for file in ("model.keras", "model-fp32.tflite", "model-fp32.onnx"):
        model = medkit.load_model(bundle.folder / file)
        found = np.concatenate(
            [model.predict(images[start : start + 50]) for start in range(0, len(images), 50)]
        )
        assert np.abs(found - expected).max() < 1e-4
