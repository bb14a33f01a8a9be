"""The file of the Keras original: its weights, its bytes, and what it says of itself."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras")

import keras

from medkit.defaults import BALANCED
from medkit.models.bundle import load_bundle
from medkit.models.card import ModelCard
from medkit.models.decisions import apply_temperature
from medkit.models.points import OperatingPoint
from medkit.models.runtimes.loading import load_model
from medkit.tasks import PNEUMONIA
from medkit.training import RECIPES, archive, networks
from medkit.version import __version__
from trainingruns import keras_probabilities, manifest_of


def test_every_weight_is_exact_in_half_precision(tiny_trained: Path) -> None:
    model = keras.saving.load_model(tiny_trained / "pneumonia/model.keras")
    assert model.count_params() == manifest_of(tiny_trained)["parameters"]
    for weight in model.get_weights():
        np.testing.assert_array_equal(weight, weight.astype(np.float16).astype(np.float32))


def test_weights_beyond_half_precision_keep_their_magnitude_and_eleven_bits() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, name="wide")])
    values = np.array([[1.0003], [70001.0], [-3e9], [1e-9]], dtype=np.float32)
    model.get_layer("wide").set_weights([values, np.zeros(1)])
    archive.round_weights(model)
    rounded, _ = model.get_layer("wide").get_weights()
    assert rounded[0] == np.float32(np.float16(1.0003))
    np.testing.assert_allclose(rounded[1:3], values[1:3], rtol=2**-11)
    assert rounded[3] == 0
    for value in rounded.ravel():
        mantissa, _ = np.frexp(value)
        assert (mantissa * 2**11).is_integer()


def test_the_archive_is_deflated_and_its_dates_are_fixed(tiny_trained: Path) -> None:
    with zipfile.ZipFile(tiny_trained / "pneumonia/model.keras") as members:
        for member in members.infolist():
            assert member.compress_type == zipfile.ZIP_DEFLATED
            assert member.date_time == (1980, 1, 1, 0, 0, 0)
        assert "date_saved" in json.loads(members.read("metadata.json"))
        assert json.loads(members.read("metadata.json"))["date_saved"] == ""
    manifest = manifest_of(tiny_trained)
    assert manifest["files"]["model.keras"]["bytes"] < 0.6 * 4 * manifest["parameters"]


def test_an_original_without_its_manifest_holds_its_card(
    tiny_trained: Path, tiny_test_split: Any, tmp_path: Path
) -> None:
    shutil.copy(tiny_trained / "pneumonia/model.keras", tmp_path / "renamed.keras")
    model = load_model(tmp_path / "renamed.keras")
    bundle = load_bundle(PNEUMONIA, tiny_trained)
    assert model.card == ModelCard(
        task="pneumonia",
        labels=("NORMAL", "PNEUMONIA"),
        contract=PNEUMONIA.contract,
        temperature=bundle.temperature,
        operating_points=bundle.operating_points,
        precision="original",
        version=__version__,
        source_sha256="",
    )
    images, _ = tiny_test_split
    original = keras_probabilities(tiny_trained / "pneumonia/model.keras", images)
    calibrated = apply_temperature(original, bundle.temperature, multi_label=False)
    np.testing.assert_allclose(model.predict(images), calibrated, atol=1e-6)


def test_the_same_weights_give_the_same_bytes_at_other_memory_addresses(
    tmp_path: Path,
) -> None:
    points = {BALANCED: OperatingPoint(BALANCED)}
    card = ModelCard(
        "pneumonia", PNEUMONIA.labels, PNEUMONIA.contract, 1.0, points, "original", "0"
    )
    recipe = RECIPES["pneumonia", "default"]
    policy = keras.config.dtype_policy()
    try:
        for name in ("first", "second"):
            keras.config.set_dtype_policy(keras.DTypePolicy("float32"))
            keras.utils.set_random_seed(1)
            model = networks.build_network(PNEUMONIA, recipe, None)
            archive.save_archive(model, card, tmp_path / f"{name}.keras")
    finally:
        keras.config.set_dtype_policy(policy)
    first, second = ((tmp_path / f"{name}.keras").read_bytes() for name in ("first", "second"))
    assert first == second
